//! The server that a command asks, and the protocol that it speaks.

use std::io::Write;
use std::time::Duration;

use clap::Args;
use clap::builder::BoolishValueParser;

use super::{CliError, Streams};
use crate::config::{self, HostPort, number};
use rmbd_client::{Client, ClientOptions, Server, legacy};
use rmbd_proto::legacy::Dialect;
use rmbd_proto::{SketchName, SketchNumber};

/// How long a server may take to show that it speaks the compact format: long enough for a few losses on a slow path.
const PROBE_TIMEOUT_MAX: Duration = Duration::from_secs(1);
/// Number of tries of the legacy client for each question.
const LEGACY_TRIES: u32 = 3;

/// Which server, and how patiently.
#[derive(Debug, Clone, Args)]
pub struct ServerOptions {
    /// Whom to ask
    #[arg(
        long, value_name = "HOST:PORT", env = "RMBD_SERVER",
        default_value = config::DEFAULT_ADDRESS, value_parser = HostPort::target
    )]
    pub(super) server: HostPort,

    /// How long to wait for an answer, which is asked for again and again meanwhile
    #[arg(
        long, value_name = "MILLISECONDS", env = "RMBD_TIMEOUT_MS", default_value_t = 3_000,
        value_parser = number::whole::<u64>(1..=120_000)
    )]
    timeout_ms: u64,
}

/// Which protocol.
#[derive(Debug, Clone, Args)]
pub struct ProtocolOptions {
    /// Speak the Python program's protocol; without this it is tried after a second of silence
    #[arg(long, env = "RMBD_LEGACY", value_parser = BoolishValueParser::new())]
    legacy: bool,
}

/// A client of a server, in the protocol that the server speaks.
pub(super) enum Speaker {
    Compact {
        client: Box<Client>,
        /// The largest weight of one add.
        weight_max: u32,
    },
    Legacy(Box<legacy::Client>),
}

impl ServerOptions {
    pub(super) fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    pub(super) fn legacy(&self, dialect: Dialect) -> Result<legacy::Client, CliError> {
        let options = legacy::ClientOptions {
            timeout: self.timeout() / LEGACY_TRIES,
            tries: LEGACY_TRIES,
            dialect,
        };
        Ok(legacy::Client::connect(&self.server, options)?)
    }

    /// A client of the compact format. It has asked nothing yet if the name has one address.
    pub(super) fn compact(&self) -> Result<Client, CliError> {
        self.compact_within(self.timeout())
    }

    /// A client in whichever protocol the server speaks.
    pub(super) fn connect(
        &self,
        protocol: &ProtocolOptions,
        streams: &mut Streams<'_>,
    ) -> Result<Speaker, CliError> {
        if protocol.legacy {
            return Ok(Speaker::Legacy(Box::new(self.legacy(Dialect::default())?)));
        }
        let probe_timeout = (self.timeout() / 3).min(PROBE_TIMEOUT_MAX);
        let asked = self.compact_within(probe_timeout).and_then(|mut probe| {
            let info = probe.info()?;
            Ok((probe.server(), info))
        });
        match asked {
            Ok((server, info)) => {
                let options = self.options(self.timeout());
                // The address that has answered comes first, but not for ever: if it falls silent, the name is looked
                // up again.
                let named = Server::from(&self.server).first_at(server);
                let client = Box::new(Client::connect(named, options)?);
                let weight_max = info.weight_max;
                Ok(Speaker::Compact { client, weight_max })
            }
            Err(CliError::Client(error)) if error.is_silence() => self.fall_back(streams),
            Err(error) => Err(error),
        }
    }

    /// Tries the legacy protocol, since nobody spoke the compact format: a server that does not know it stays silent.
    fn fall_back(&self, streams: &mut Streams<'_>) -> Result<Speaker, CliError> {
        let mut client = self.legacy(Dialect::default())?;
        // Any count will do: its answer shows that a server is there.
        client.count("")?;
        let _ = writeln!(
            streams.notes,
            "note: {} speaks the Python program's protocol only: an add that the network loses is lost (--legacy saves the wait)",
            self.server
        );
        Ok(Speaker::Legacy(Box::new(client)))
    }

    fn compact_within(&self, timeout: Duration) -> Result<Client, CliError> {
        Ok(Client::connect(&self.server, self.options(timeout))?)
    }

    fn options(&self, timeout: Duration) -> ClientOptions {
        ClientOptions {
            timeout,
            ..ClientOptions::default()
        }
    }
}

impl Speaker {
    /// Whether the protocol can name this sketch.
    pub(super) fn check_sketch(&self, sketch: &SketchName) -> Result<(), CliError> {
        match self {
            Self::Legacy(_) if sketch.number() != SketchNumber::DEFAULT => {
                Err(CliError::NeedsCompact { what: "--sketch" })
            }
            _ => Ok(()),
        }
    }

    pub(super) fn key_bytes_max(&self) -> usize {
        match self {
            Self::Compact { .. } => rmbd_client::KEY_BYTES_MAX,
            Self::Legacy(_) => rmbd_proto::legacy::KEY_BYTES_MAX,
        }
    }
}
