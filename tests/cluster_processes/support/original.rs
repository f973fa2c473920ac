//! A process that speaks the Python program's protocol (`original.py`), which is ended when dropped.

use std::io::{BufRead, BufReader, ErrorKind};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use rmbd_client::legacy::{Client, ClientOptions};

pub(crate) struct Original {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Original {
    /// Starts it on a free port; `None` if there is no Python.
    pub(crate) fn start() -> Option<Self> {
        let program = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/cluster_processes/support/original.py"
        );
        let mut command = Command::new("python3");
        command.args([program, "127.0.0.1:0"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = match command.spawn() {
            Err(error) if error.kind() == ErrorKind::NotFound => return None,
            child => child.unwrap(),
        };
        let mut address = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut address).unwrap();
        let address = address.trim_end().parse().unwrap();
        Some(Self { child, address })
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.address, ClientOptions::default()).unwrap()
    }
}

impl Drop for Original {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
