//! The commands.

mod connection;
mod counts;
mod limits;
mod node;
mod top;

use super::answers::{Slot, TRY_AGAIN};
use super::client::Client;
use super::port::RespPort;
use super::{Answers, Desk};
use crate::engine::{Admitted, Answer, Limit, Refusal, Session};
use rmbd_io::Then;
use rmbd_proto::compact::KEY_BYTES_MAX;
use rmbd_proto::resp::{Command, ReplyWriter};
use rmbd_store::SketchIndex;

/// Every count is within it, so that nothing is done about those that are not.
const NO_LIMIT: Limit = Limit::total(u64::MAX);
/// Bytes of a word that an error repeats at most, as in Redis.
const SHOWN_BYTES_MAX: usize = 128;

/// Why a command is refused: what follows the `-` of its reply.
type Refused = Vec<u8>;
/// How a command ends.
type Outcome = Result<Then, Refused>;

/// A command that there is.
pub(super) struct Entry {
    /// In lower case.
    name: &'static str,
    /// Number of words with its name; where it is below 0, at least so many.
    arity: i32,
    /// Whether a client that has not shown the password may use it.
    is_for_strangers: bool,
    perform: fn(&mut Call<'_>, Command<'_>) -> Outcome,
}

const fn entry(
    name: &'static str,
    arity: i32,
    perform: fn(&mut Call<'_>, Command<'_>) -> Outcome,
) -> Entry {
    Entry {
        name,
        arity,
        is_for_strangers: false,
        perform,
    }
}

const fn for_strangers(entry: Entry) -> Entry {
    Entry {
        is_for_strangers: true,
        ..entry
    }
}

/// All commands; those that come most often first.
pub(super) const COMMANDS: &[Entry] = &[
    entry("cms.incrby", -4, counts::increase),
    entry("cms.query", -3, counts::query),
    entry("cl.throttle", -1, limits::throttle),
    entry("rmbd.take", 6, limits::take),
    entry("rmbd.hit", 6, limits::hit),
    entry("cms.info", 2, counts::info),
    entry("cms.initbydim", 4, counts::init),
    entry("cms.initbyprob", 4, counts::init),
    entry("cms.merge", -4, node::refuse),
    entry("topk.add", -3, top::add),
    entry("topk.incrby", -4, top::increase),
    entry("topk.list", -2, top::list),
    entry("topk.query", -3, top::query),
    entry("topk.count", -3, top::count),
    entry("topk.info", 2, top::info),
    entry("topk.reserve", -3, top::reserve),
    for_strangers(entry("hello", -1, connection::hello)),
    for_strangers(entry("auth", -2, connection::auth)),
    for_strangers(entry("quit", -1, connection::quit)),
    for_strangers(entry("reset", 1, connection::reset)),
    entry("ping", -1, connection::ping),
    entry("echo", 2, connection::echo),
    entry("select", 2, connection::select),
    entry("client", -2, connection::client),
    entry("command", -1, node::command),
    entry("info", -1, node::info),
    entry("config", -2, node::config),
    entry("dbsize", 1, node::dbsize),
    entry("exists", -2, node::exists),
    entry("type", 2, node::kind),
    entry("ttl", 2, node::time_to_live),
    entry("pttl", 2, node::time_to_live),
    entry("del", -2, node::refuse),
    entry("unlink", -2, node::refuse),
    entry("expire", -3, node::refuse),
    entry("pexpire", -3, node::refuse),
    entry("flushall", -1, node::refuse),
    entry("flushdb", -1, node::refuse),
];

/// One command of one client.
pub(super) struct Call<'c> {
    desk: &'c mut Desk,
    port: &'c RespPort,
    client: &'c mut Client,
    /// Where replies go that have all their answers.
    out: &'c mut Vec<u8>,
}

impl<'c> Call<'c> {
    pub(super) fn new(
        desk: &'c mut Desk,
        port: &'c RespPort,
        client: &'c mut Client,
        out: &'c mut Vec<u8>,
    ) -> Self {
        Self {
            desk,
            port,
            client,
            out,
        }
    }

    /// Does what a command says, and writes its reply, or keeps a place for it.
    #[inline]
    pub(super) fn perform(&mut self, command: Command<'_>) -> Then {
        self.desk.tally.commands += 1;
        let performed = self
            .find(command)
            .and_then(|entry| (entry.perform)(self, command));
        performed.unwrap_or_else(|refused| {
            self.reply().error(&refused);
            match self.client.wrong_passwords > super::client::WRONG_PASSWORDS_MAX {
                true => Then::End,
                false => Then::More,
            }
        })
    }

    #[inline]
    fn find(&self, command: Command<'_>) -> Result<&'static Entry, Refused> {
        let name = command.word(0);
        let mut entries = COMMANDS.iter();
        let found = entries.find(|entry| name.eq_ignore_ascii_case(entry.name.as_bytes()));
        let entry = found.ok_or_else(|| unknown(command))?;
        let words = command.len() as i32;
        if words != entry.arity && (entry.arity > 0 || words < -entry.arity) {
            return Err(wrong_arity(entry.name));
        }
        if !self.client.is_known && !entry.is_for_strangers {
            return Err(b"NOAUTH Authentication required.".to_vec());
        }
        Ok(entry)
    }

    /// Writes what is known.
    #[inline]
    fn reply(&mut self) -> ReplyWriter<'_> {
        self.desk.answers.reply(self.client.version)
    }

    /// The session, and where its answers go.
    #[inline(always)]
    fn parts(&mut self) -> (&mut Session<Slot>, &mut Answers) {
        (&mut self.desk.session, &mut self.desk.answers)
    }

    /// The sketch of this name.
    #[inline]
    fn sketch(&self, name: &[u8], refused: &str) -> Result<SketchIndex, Refused> {
        self.port.find(name).ok_or_else(|| refused.into())
    }

    /// Adds `weight` to a key; its count afterwards is the next reply.
    #[inline]
    fn add_and_count(&mut self, sketch: SketchIndex, key: &[u8], weight: u64) {
        let (session, answers) = self.parts();
        let slot = answers.await_number();
        let asked = session.weigh(weight).and_then(|weight| {
            let admitted = Admitted::to(sketch);
            let mut answer = |slot, answer: Answer| answers.fill(slot, &answer);
            let hit = session.hit(admitted, key, weight, NO_LIMIT, slot, &mut answer);
            hit.map_err(Refusal::from)
        });
        if asked.is_err() {
            answers.fail_last();
        }
        self.make_room();
    }

    /// Adds `weight` to a key, of which nobody is told.
    fn add(&mut self, sketch: SketchIndex, key: &[u8], weight: u64) {
        let (session, answers) = self.parts();
        let mut answer = |slot, answer: Answer| answers.fill(slot, &answer);
        // Both were looked at before.
        if let Ok(weight) = session.weigh(weight) {
            let _ = session.add(Admitted::to(sketch), key, weight, &mut answer);
        }
    }

    /// The counts of all items behind the sketch's name are the next reply.
    fn count_all(&mut self, sketch: SketchIndex, command: Command<'_>) -> Outcome {
        let items = command.iter().skip(2);
        items.clone().try_for_each(check_key)?;
        self.reply().array(items.len());
        items.for_each(|item| self.count(sketch, item));
        Ok(Then::More)
    }

    /// A key's count is the next reply.
    #[inline]
    fn count(&mut self, sketch: SketchIndex, key: &[u8]) {
        let (session, answers) = self.parts();
        let slot = answers.await_number();
        let mut answer = |slot, answer: Answer| answers.fill(slot, &answer);
        session.count(sketch, key, slot, &mut answer);
        self.make_room();
    }

    /// Awaits what was asked, where that is much.
    #[inline]
    fn make_room(&mut self) {
        if self.desk.answers.are_many() {
            self.desk.finish(self.out);
        }
    }

    /// Makes sure that so much weight may be added, if it is not more than may be under way at once.
    fn provide(&mut self, sketch: SketchIndex, weight: u64) -> Result<(), Refused> {
        let provided = self.desk.session.provide(sketch, weight, || weight);
        if provided.is_ok() {
            return Ok(());
        }
        // What was added so far is in the cells only then, and a pass gives it back.
        self.desk.finish(self.out);
        self.port.shared().call_control_if_due();
        let provided = self.desk.session.provide(sketch, weight, || weight);
        provided.map_err(|refusal| match refusal {
            Refusal::Exhausted(_) => TRY_AGAIN.to_vec(),
            refusal => format!("ERR {refusal}").into(),
        })
    }

    /// The largest weight of one item.
    fn weight_max(&self) -> u64 {
        self.desk.session.max_weight().into()
    }
}

/// Checks the length of a key.
#[inline]
fn check_key(key: &[u8]) -> Result<(), Refused> {
    match key.len() <= KEY_BYTES_MAX {
        true => Ok(()),
        false => Err(format!("ERR an item has at most {KEY_BYTES_MAX} bytes").into()),
    }
}

fn unknown(command: Command<'_>) -> Refused {
    let mut text = b"ERR unknown command '".to_vec();
    text.extend_from_slice(shown(command.word(0), SHOWN_BYTES_MAX));
    text.extend_from_slice(b"', with args beginning with: ");
    let mut left = SHOWN_BYTES_MAX;
    for word in command.iter().skip(1) {
        if left == 0 {
            break;
        }
        let word = shown(word, left);
        text.push(b'\'');
        text.extend_from_slice(word);
        text.extend_from_slice(b"' ");
        left = left.saturating_sub(word.len() + 3);
    }
    text
}

/// The beginning of a word, up to its first zero.
fn shown(word: &[u8], most: usize) -> &[u8] {
    let text = word.split(|&byte| byte == 0).next().unwrap_or_default();
    &text[..text.len().min(most)]
}

fn unknown_subcommand(command: Command<'_>) -> Refused {
    let mut text = b"ERR unknown subcommand '".to_vec();
    text.extend_from_slice(shown(command.word(1), SHOWN_BYTES_MAX));
    text.extend_from_slice(b"'. Try ");
    text.extend(command.word(0).to_ascii_uppercase());
    text.extend_from_slice(b" HELP.");
    text
}

fn wrong_arity(name: &str) -> Refused {
    format!("ERR wrong number of arguments for '{name}' command").into()
}

fn not_an_integer() -> Refused {
    b"ERR value is not an integer or out of range".to_vec()
}

/// Whether a word is this one, which is in lower case.
fn is(word: &[u8], lower: &str) -> bool {
    word.eq_ignore_ascii_case(lower.as_bytes())
}
