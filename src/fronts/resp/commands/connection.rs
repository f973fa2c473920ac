//! Commands about the connection itself.

use super::super::client::NAME_BYTES_MAX;
use super::{
    Call, Outcome, Refused, Then, is, not_an_integer, shown, unknown_subcommand, wrong_arity,
};
use rmbd_proto::resp::{Command, Version, integer};

/// The only user.
const USER: &[u8] = b"default";
const WRONG_PASSWORD: &str = "WRONGPASS invalid username-password pair or user is disabled.";
const NO_PASSWORD: &str = "ERR AUTH <password> called without any password configured for the default user. Are you \
     sure your configuration is correct?";
const HELLO_WITHOUT_PASSWORD: &str = "NOAUTH HELLO must be called with the client already authenticated, otherwise \
     the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol \
     version at the same time";
const OUT_OF_RANGE: &str =
    "ERR value is out of range, value must between -2147483648 and 2147483647";
const WRONG_NAME: &str = "ERR Client names cannot contain spaces, newlines or special characters.";

impl Call<'_> {
    /// Notes whether the client knows the password.
    fn show_password(&mut self, user: &[u8], password: &[u8]) -> Result<(), Refused> {
        let is_right = self.port.password().is_none_or(|it| it.is(password));
        if user == USER && is_right {
            self.client.is_known = true;
            return Ok(());
        }
        self.desk.tally.wrong_passwords += 1;
        self.client.wrong_passwords += 1;
        Err(WRONG_PASSWORD.into())
    }

    fn set_name(&mut self, name: &[u8]) {
        self.client.name.clear();
        self.client.name.extend_from_slice(name);
    }

    fn ok(&mut self) -> Outcome {
        self.reply().simple("OK");
        Ok(Then::More)
    }
}

/// `AUTH [user] password`.
pub(super) fn auth(call: &mut Call<'_>, command: Command<'_>) -> Outcome {
    match command.len() {
        2 if call.port.password().is_none() => return Err(NO_PASSWORD.into()),
        2 => call.show_password(USER, command.word(1))?,
        3 => call.show_password(command.word(1), command.word(2))?,
        _ => return Err(b"ERR syntax error".to_vec()),
    }
    call.ok()
}

/// What `HELLO` asks for.
#[derive(Default)]
struct Hello<'w> {
    version: Option<Version>,
    login: Option<(&'w [u8], &'w [u8])>,
    name: Option<&'w [u8]>,
}

impl<'w> Hello<'w> {
    fn read(command: Command<'w>) -> Result<Self, Refused> {
        let mut hello = Self::default();
        if command.len() > 1 {
            let version = integer(command.word(1))
                .ok_or("ERR Protocol version is not an integer or out of range")?;
            hello.version = Some(match version {
                2 => Version::Resp2,
                3 => Version::Resp3,
                _ => return Err(b"NOPROTO unsupported protocol version".to_vec()),
            });
        }
        let mut at = 2;
        while at < command.len() {
            let (option, left) = (command.word(at), command.len() - at - 1);
            if is(option, "auth") && left >= 2 {
                hello.login = Some((command.word(at + 1), command.word(at + 2)));
                at += 3;
            } else if is(option, "setname") && left >= 1 {
                let name = command.word(at + 1);
                hello.name = Some(check_name(name)?);
                at += 2;
            } else {
                let mut text = b"ERR Syntax error in HELLO option '".to_vec();
                text.extend_from_slice(shown(option, super::SHOWN_BYTES_MAX));
                text.push(b'\'');
                return Err(text);
            }
        }
        Ok(hello)
    }
}

/// `HELLO [version [AUTH user password] [SETNAME name]]`.
pub(super) fn hello(call: &mut Call<'_>, command: Command<'_>) -> Outcome {
    let hello = Hello::read(command)?;
    if let Some((user, password)) = hello.login {
        call.show_password(user, password)?;
    }
    if !call.client.is_known {
        return Err(HELLO_WITHOUT_PASSWORD.into());
    }
    if let Some(name) = hello.name {
        call.set_name(name);
    }
    if let Some(version) = hello.version {
        call.client.version = version;
    }
    let (id, version) = (call.client.id, call.client.version);
    let mut reply = call.reply();
    reply.map(7);
    for (field, value) in [("server", "rmbd"), ("version", env!("CARGO_PKG_VERSION"))] {
        reply.bulk(field.as_bytes());
        reply.bulk(value.as_bytes());
    }
    reply.bulk(b"proto");
    reply.integer(if version == Version::Resp2 { 2 } else { 3 });
    reply.bulk(b"id");
    reply.integer(id);
    for (field, value) in [("mode", "standalone"), ("role", "master")] {
        reply.bulk(field.as_bytes());
        reply.bulk(value.as_bytes());
    }
    reply.bulk(b"modules");
    reply.array(0);
    Ok(Then::More)
}

/// `PING [message]`.
pub(super) fn ping(call: &mut Call<'_>, command: Command<'_>) -> Outcome {
    match command.len() {
        1 => call.reply().simple("PONG"),
        2 => call.reply().bulk(command.word(1)),
        _ => return Err(wrong_arity("ping")),
    }
    Ok(Then::More)
}

/// `ECHO message`.
pub(super) fn echo(call: &mut Call<'_>, command: Command<'_>) -> Outcome {
    call.reply().bulk(command.word(1));
    Ok(Then::More)
}

/// `QUIT`.
pub(super) fn quit(call: &mut Call<'_>, _: Command<'_>) -> Outcome {
    call.ok()?;
    Ok(Then::End)
}

/// `RESET`: the connection is as if it were new.
pub(super) fn reset(call: &mut Call<'_>, _: Command<'_>) -> Outcome {
    call.client.version = Version::Resp2;
    call.client.is_known = call.port.password().is_none();
    call.set_name(b"");
    call.reply().simple("RESET");
    Ok(Then::More)
}

/// `SELECT 0`: there is one database.
pub(super) fn select(call: &mut Call<'_>, command: Command<'_>) -> Outcome {
    match integer(command.word(1)).map(i32::try_from) {
        Some(Ok(0)) => call.ok(),
        Some(Ok(_)) => Err(b"ERR DB index is out of range".to_vec()),
        Some(Err(_)) => Err(OUT_OF_RANGE.into()),
        None => Err(not_an_integer()),
    }
}

/// `CLIENT ID|GETNAME|SETNAME|SETINFO`.
pub(super) fn client(call: &mut Call<'_>, command: Command<'_>) -> Outcome {
    let (word, words) = (command.word(1), command.len());
    let subcommands = [("id", 2), ("getname", 2), ("setname", 3), ("setinfo", 4)];
    let found = subcommands.iter().find(|(name, _)| is(word, name));
    let &(name, arity) = found.ok_or_else(|| unknown_subcommand(command))?;
    if words != arity {
        return Err(wrong_arity(&format!("client|{name}")));
    }
    match name {
        "id" => {
            let id = call.client.id;
            call.reply().integer(id);
        }
        "getname" => {
            let name = std::mem::take(&mut call.client.name);
            match name.is_empty() {
                true => call.reply().null(),
                false => call.reply().bulk(&name),
            }
            call.client.name = name;
        }
        "setname" => {
            let name = check_name(command.word(2))?;
            call.set_name(name);
            return call.ok();
        }
        _ if ["lib-name", "lib-ver"]
            .iter()
            .any(|it| is(command.word(2), it)) =>
        {
            check_name(command.word(3))?;
            return call.ok();
        }
        _ => {
            let mut text = b"ERR Unrecognized option '".to_vec();
            text.extend_from_slice(shown(command.word(2), super::SHOWN_BYTES_MAX));
            text.push(b'\'');
            return Err(text);
        }
    }
    Ok(Then::More)
}

/// A name that a client gives itself.
fn check_name(name: &[u8]) -> Result<&[u8], Refused> {
    if name.len() > NAME_BYTES_MAX {
        return Err(format!("ERR Client names have at most {NAME_BYTES_MAX} bytes").into());
    }
    let is_possible = name.iter().all(|byte| (b'!'..=b'~').contains(byte));
    if is_possible {
        Ok(name)
    } else {
        Err(WRONG_NAME.into())
    }
}
