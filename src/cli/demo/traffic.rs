//! The traffic of the demonstration: many clients who ask now and then, and one who floods.

use std::net::SocketAddr;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::super::CliError;
use super::{LIMIT, PAGES};
use rmbd_client::{Client, ClientOptions};

/// Clients besides the abuser. Their names are addresses for documentation.
pub(super) const CLIENTS: u32 = 400;
/// Who floods.
pub(super) const ABUSER: &str = "203.0.113.66";
/// How often the abuser asks in a step.
pub(super) const ABUSES: u32 = 6;
/// How often the others ask one node in a step, on average.
const HITS: u32 = 8;
/// Steps of one wave of the others' traffic: half a minute.
const WAVE: u32 = 600;
const PAGE_NAMES: [&str; 8] = [
    "/", "/login", "/search", "/cart", "/help", "/news", "/about", "/jobs",
];
/// How long one answer may take; what takes longer is left.
const TIMEOUT: Duration = Duration::from_secs(1);

pub(super) struct Traffic {
    /// One client of each node.
    clients: [Client; 3],
    random: SmallRng,
    step: u32,
    asked: u64,
    over: u64,
    silent: u64,
}

impl Traffic {
    pub(super) fn new(nodes: [SocketAddr; 3]) -> Result<Self, CliError> {
        let connect = |node: SocketAddr| {
            let options = ClientOptions {
                timeout: TIMEOUT,
                ..ClientOptions::default()
            };
            Client::connect(node, options)
        };
        let [first, second, third] = nodes;
        Ok(Self {
            clients: [connect(first)?, connect(second)?, connect(third)?],
            random: SmallRng::seed_from_u64(1),
            step: 0,
            asked: 0,
            over: 0,
            silent: 0,
        })
    }

    /// Does what the clients do in one step.
    pub(super) fn step(&mut self) {
        let wave = f64::from(self.step % WAVE) / f64::from(WAVE) * std::f64::consts::TAU;
        self.step = self.step.wrapping_add(1);
        for node in 0..self.clients.len() {
            // The nodes are not busy at the same time.
            let busy = 1.0 + 0.6 * (wave + node as f64).sin();
            let hits = f64::from(HITS) * busy * self.random.random_range(0.6..1.4);
            for _ in 0..hits as u32 {
                let name = self.somebody();
                self.hit(node, &name);
                let page = PAGE_NAMES[self.low(PAGE_NAMES.len() as u32) as usize];
                self.view(node, page);
            }
            let name = self.somebody();
            let told = self.clients[node].count(&name);
            self.silent += u64::from(told.is_err());
        }
        for _ in 0..ABUSES {
            self.hit(self.clients.len() - 1, ABUSER);
        }
    }

    /// One of the clients. Some ask more often than others.
    fn somebody(&mut self) -> String {
        let number = self.low(CLIENTS);
        format!("192.0.{}.{}", 2 + number / 250, 1 + number % 250)
    }

    /// A number below this, small ones more often.
    fn low(&mut self, below: u32) -> u32 {
        let part: f64 = self.random.random();
        (part * part * f64::from(below)) as u32
    }

    fn hit(&mut self, node: usize, key: &str) {
        let told = self.clients[node].hit_by_name(LIMIT, key, 1);
        self.asked += 1;
        match told {
            Ok(verdict) => self.over += u64::from(verdict.over),
            Err(_) => self.silent += 1,
        }
    }

    fn view(&mut self, node: usize, page: &str) {
        let client = &mut self.clients[node];
        let added = client.sketch(PAGES).map(|mut sketch| sketch.add(page, 1));
        self.silent += u64::from(!matches!(added, Ok(Ok(()))));
    }

    /// What was done, in one line.
    pub(super) fn sum(&self) -> String {
        format!(
            "\nThe demonstration is over: {} hits were asked, {} of them were over the limit, and {} questions had no \
             answer.\n",
            self.asked, self.over, self.silent
        )
    }
}
