//! Commands about the node and its keys, which are its sketches.

use super::{COMMANDS, Call, Entry, Outcome, Then, is, unknown_subcommand, wrong_arity};
use rmbd_proto::resp::{Command, ReplyWriter};

/// The version of Redis by whose name clients know what is here: the latest that answers these commands as we do.
const REDIS_VERSION: &str = "7.2.0";

/// `EXISTS key [key ...]`: how many of them there are.
pub(super) fn exists(call: &mut Call<'_>, command: Command<'_>) -> Outcome {
    let mut keys = command.iter().skip(1).map(|key| call.port.find(key));
    let there = keys.by_ref().flatten().count();
    drop(keys);
    call.reply().integer(there as u64);
    Ok(Then::More)
}

/// `TYPE key`.
pub(super) fn kind(call: &mut Call<'_>, command: Command<'_>) -> Outcome {
    let kind = match call.port.find(command.word(1)) {
        Some(_) => "CMSk-TYPE",
        None => "none",
    };
    call.reply().simple(kind);
    Ok(Then::More)
}

/// `TTL key` and `PTTL key`: no sketch expires.
pub(super) fn time_to_live(call: &mut Call<'_>, command: Command<'_>) -> Outcome {
    let time = match call.port.find(command.word(1)) {
        Some(_) => -1,
        None => -2,
    };
    call.reply().signed(time);
    Ok(Then::More)
}

/// `DBSIZE`.
pub(super) fn dbsize(call: &mut Call<'_>, _: Command<'_>) -> Outcome {
    let sketches = call.port.sketches() as u64;
    call.reply().integer(sketches);
    Ok(Then::More)
}

/// What cannot be done.
pub(super) fn refuse(_: &mut Call<'_>, command: Command<'_>) -> Outcome {
    let why = match command.word(0).to_ascii_lowercase().as_slice() {
        b"cms.merge" => {
            "the nodes of a cluster merge what they count by themselves, and a count that was replaced would come \
             back from them"
        }
        b"expire" | b"pexpire" => {
            "sketches do not expire: a window of a sketch forgets by itself, ask it with RMBD.HIT, RMBD.TAKE or \
             CL.THROTTLE"
        }
        _ => {
            "counts only grow, since other nodes have them, too: a window of a sketch forgets by itself, ask it with \
             RMBD.HIT, RMBD.TAKE or CL.THROTTLE"
        }
    };
    let name = command.word(0).to_ascii_uppercase();
    let name = String::from_utf8_lossy(&name);
    Err(format!("ERR {name} is not possible: {why}").into())
}

/// `INFO [section ...]`: one text for all sections.
pub(super) fn info(call: &mut Call<'_>, _: Command<'_>) -> Outcome {
    let now = call.port.shared().now();
    let text = format!(
        "# Server\r\nredis_version:{REDIS_VERSION}\r\nredis_mode:standalone\r\nserver_name:rmbd\r\n\
         rmbd_version:{}\r\nuptime_in_seconds:{}\r\n# Persistence\r\nloading:0\r\n# Replication\r\nrole:master\r\n\
         # Keyspace\r\ndb0:keys={},expires=0,avg_ttl=0\r\n",
        env!("CARGO_PKG_VERSION"),
        now.as_secs(),
        call.port.sketches(),
    );
    call.reply().text(text.as_bytes());
    Ok(Then::More)
}

/// `CONFIG GET pattern [pattern ...]`: nothing of Redis's is here.
pub(super) fn config(call: &mut Call<'_>, command: Command<'_>) -> Outcome {
    if !is(command.word(1), "get") {
        return Err(unknown_subcommand(command));
    }
    if command.len() < 3 {
        return Err(wrong_arity("config|get"));
    }
    call.reply().map(0);
    Ok(Then::More)
}

/// `COMMAND [COUNT|DOCS|INFO|LIST]`.
pub(super) fn command(call: &mut Call<'_>, command: Command<'_>) -> Outcome {
    let mut reply = call.reply();
    let word = command.word(1);
    if command.len() == 1 {
        reply.array(COMMANDS.len());
        COMMANDS
            .iter()
            .for_each(|entry| describe(entry, &mut reply));
    } else if is(word, "count") {
        if command.len() > 2 {
            return Err(wrong_arity("command|count"));
        }
        reply.integer(COMMANDS.len() as u64);
    } else if is(word, "docs") {
        // Clients have their own.
        reply.map(0);
    } else if is(word, "list") {
        reply.array(COMMANDS.len());
        COMMANDS
            .iter()
            .for_each(|entry| reply.bulk(entry.name.as_bytes()));
    } else if is(word, "info") {
        reply.array(command.len() - 2);
        for name in command.iter().skip(2) {
            match COMMANDS.iter().find(|entry| is(name, entry.name)) {
                Some(entry) => describe(entry, &mut reply),
                None => reply.null(),
            }
        }
    } else {
        return Err(unknown_subcommand(command));
    }
    Ok(Then::More)
}

/// Its name, its number of words, its flags, and where its keys stand.
fn describe(entry: &Entry, reply: &mut ReplyWriter<'_>) {
    let has_key = entry.name.starts_with("cms.") || entry.name.starts_with("topk.");
    let key = u64::from(has_key);
    reply.array(6);
    reply.bulk(entry.name.as_bytes());
    reply.signed(entry.arity.into());
    reply.array(0);
    (0..3).for_each(|_| reply.integer(key));
}
