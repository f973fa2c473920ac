//! Clients that add exactly once: the real state machine of clients on the simulated network.

use std::time::Duration;

use rmbd_client::{ClientOptions, Detached, Fate};
use rmbd_proto::Boot;

use super::super::machine::Machine;
use super::super::network::{CLIENTS_FROM, Datagram, Place};
use super::World;
use super::events::Event;

/// One client, and what it was told.
pub struct Client {
    core: Detached,
    /// The server's place, which was looked up once.
    server: Place,
    /// The adds. Each has its own key, so that the number of times that it was counted is known.
    pub adds: Vec<Add>,
    train: Vec<u8>,
}

/// An add, and what its client knows about it.
#[derive(Debug, Clone)]
pub struct Add {
    pub key: Vec<u8>,
    pub weight: u32,
    /// What the client was told; `None` while the add is under way.
    pub told: Option<Result<(), Fate>>,
}

/// The boot of datagrams that clients send.
const NO_BOOT: Boot = Boot(0);

impl<M: Machine> World<M> {
    pub fn client(&mut self, server: Place, options: ClientOptions) {
        self.network.faults.clients += 1;
        let (number, first_id) = (self.random.next(), self.random.next() as u32);
        self.clients.push(Client {
            core: Detached::new(options, number, first_id),
            server,
            adds: Vec::new(),
            train: Vec::new(),
        });
    }

    pub fn clients(&self) -> &[Client] {
        &self.clients
    }

    pub fn are_clients_idle(&self) -> bool {
        self.clients.iter().all(|client| client.core.is_idle())
    }

    /// Makes a client add `count` keys of its own, in as few datagrams as possible.
    pub fn client_adds(&mut self, number: usize, count: usize) {
        let now = self.now;
        let weights: Vec<u32> = (0..count)
            .map(|_| self.random.between(1, 1_000) as u32)
            .collect();
        let Some(client) = self.clients.get_mut(number) else {
            return;
        };
        for weight in weights {
            let token = client.adds.len();
            let key = format!("client {number} add {token}").into_bytes();
            if client.core.add(now, &key, weight, token as u64) {
                let told = None;
                client.adds.push(Add { key, weight, told });
            }
        }
        client.core.flush();
        self.settle_client(number);
    }

    pub(super) fn tick(&mut self, number: usize) {
        let now = self.now;
        let Client { core, adds, .. } = &mut self.clients[number];
        core.tick(now, |token, told| note(adds, token, told));
        self.settle_client(number);
    }

    /// Gives a client a datagram that has come for it.
    pub(super) fn reply(&mut self, datagram: &Datagram) {
        let now = self.now;
        let number = datagram.to - CLIENTS_FROM;
        let Some(Client { core, adds, .. }) = self.clients.get_mut(number) else {
            return;
        };
        let told = |token, told| note(adds, token, told);
        core.receive(now, &datagram.bytes, told);
        self.settle_client(number);
    }

    fn settle_client(&mut self, number: usize) {
        let now = self.now;
        let client = &mut self.clients[number];
        let mut train = std::mem::take(&mut client.train);
        let (from, to) = (CLIENTS_FROM + number, client.server);
        while let Some(bytes) = self.clients[number].core.transmit(now, &mut train) {
            for datagram in train.chunks(usize::from(bytes).max(1)) {
                self.send(Datagram {
                    from,
                    to,
                    sender: NO_BOOT,
                    bytes: datagram.to_vec(),
                });
            }
        }
        let client = &mut self.clients[number];
        client.train = train;
        if let Some(at) = client.core.next_tick() {
            let at = at.max(now + Duration::from_micros(100));
            self.queue.push(at, Event::Tick { client: number });
        }
    }
}

fn note(adds: &mut [Add], token: u64, told: Result<(), Fate>) {
    if let Some(add) = adds.get_mut(token as usize) {
        assert!(add.told.is_none(), "{add:?} is told of twice");
        add.told = Some(told);
    }
}
