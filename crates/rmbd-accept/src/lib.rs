//! Accepting connections where some errors pass and others last.
//!
//! Some errors of accept(2) are about one connection: its client has gone, and the next one may be fine. Others last,
//! such as a want of descriptors. An [`Acceptor`] passes over the first kind, and for the second it pauses and tries
//! again. It says so once, and says once when it is over.
//!
//! ```
//! # fn main() -> std::io::Result<()> {
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! use rmbd_accept::Acceptor;
//! use tokio::net::{TcpListener, TcpStream};
//!
//! let listener = TcpListener::bind("127.0.0.1:0").await?;
//! let address = listener.local_addr()?;
//! let mut acceptor = Acceptor::new(listener, "--http");
//! let client = TcpStream::connect(address).await?;
//! let (_stream, from) = acceptor.next().await;
//! assert_eq!(from, client.local_addr()?);
//! # Ok(())
//! # })
//! # }
//! ```

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

/// Pause after an accept that failed for want of descriptors or memory.
const PAUSE: Duration = Duration::from_millis(500);

/// A listener whose errors end nothing.
#[derive(Debug)]
pub struct Acceptor {
    listener: TcpListener,
    /// What its users know it by, in the log.
    name: &'static str,
    has_complained: bool,
}

/// What came of an accept.
#[derive(Debug, PartialEq, Eq)]
enum Judged<T> {
    Accepted(T),
    /// The next one may be fine.
    Passes,
    Lasts,
}

impl Acceptor {
    /// Accepts on `listener`, which the log calls `name`.
    #[must_use]
    pub fn new(listener: TcpListener, name: &'static str) -> Self {
        Self {
            listener,
            name,
            has_complained: false,
        }
    }

    /// Waits for the next connection. It is cancel safe: a connection is not lost where the future is dropped.
    ///
    /// # Panics
    ///
    /// Panics if it is not awaited inside a tokio runtime with time and I/O enabled.
    pub async fn next(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            let accepted = self.listener.accept().await;
            match self.judge(accepted) {
                Judged::Accepted(accepted) => return accepted,
                Judged::Passes => {}
                Judged::Lasts => sleep(PAUSE).await,
            }
        }
    }

    /// Says which kind an error is, and tells of a lasting one.
    fn judge<T>(&mut self, accepted: io::Result<T>) -> Judged<T> {
        let error = match accepted {
            Ok(accepted) => {
                if std::mem::take(&mut self.has_complained) {
                    tracing::info!("{} takes connections again", self.name);
                }
                return Judged::Accepted(accepted);
            }
            Err(error) if is_of_one_connection(&error) => return Judged::Passes,
            Err(error) => error,
        };
        if !std::mem::replace(&mut self.has_complained, true) {
            tracing::warn!(
                "{} takes no connections: accept: {error}; counting goes on, and it is tried again every {} ms. If it \
                 lasts, raise the limit of open files (RLIMIT_NOFILE, ulimit -n)",
                self.name,
                PAUSE.as_millis()
            );
        }
        Judged::Lasts
    }
}

/// Whether an error of accept(2) is about the connection at the head of the queue only, so that the next one may be
/// fine.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable, Interrupted,
        NetworkDown, NetworkUnreachable, TimedOut,
    };
    matches!(
        error.kind(),
        ConnectionAborted
            | ConnectionRefused
            | ConnectionReset
            | HostUnreachable
            | Interrupted
            | NetworkDown
            | NetworkUnreachable
            | TimedOut
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const OF_ONE: [i32; 4] = [
        libc::ECONNABORTED,
        libc::ECONNRESET,
        libc::EHOSTUNREACH,
        libc::EINTR,
    ];
    const LASTING: [i32; 5] = [
        libc::EMFILE,
        libc::ENFILE,
        libc::ENOBUFS,
        libc::ENOMEM,
        libc::EINVAL,
    ];

    #[test]
    fn only_what_lasts_is_complained_of_and_until_it_is_over() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build();
        runtime.unwrap().block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let mut acceptor = Acceptor::new(listener, "test");
            let failed = |errno| Err::<(), _>(io::Error::from_raw_os_error(errno));
            for errno in OF_ONE {
                assert_eq!(acceptor.judge(failed(errno)), Judged::Passes);
                assert!(!acceptor.has_complained, "{errno}");
            }
            for errno in LASTING {
                assert_eq!(acceptor.judge(failed(errno)), Judged::Lasts);
                assert!(acceptor.has_complained, "{errno}");
                // A client that goes meanwhile changes nothing, and the next one does not wait.
                assert_eq!(acceptor.judge(failed(libc::ECONNABORTED)), Judged::Passes);
                assert!(acceptor.has_complained, "{errno}");
                assert_eq!(acceptor.judge(Ok(())), Judged::Accepted(()));
                assert!(!acceptor.has_complained, "{errno}");
            }
        });
    }
}
