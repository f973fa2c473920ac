//! What a data thread does with a client's request, without its buffers: it parses the request, asks the table of
//! clients, applies it in a batch, and replies. The real code is in `src/fronts/datagrams/compact.rs`.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use rmbd_proto::Boot;
use rmbd_proto::compact::{
    Info, Once, Operation, Problem, REPLY_HEAD_BYTES, ReplyHead, Request, encode_cookie,
    encode_info, request, write_reply_head,
};
use rmbd_sketch::{MAX_WEIGHT, Weight};
use rmbd_store::once::{Admission, BootChain, COOKIE_SECRET_BYTES, Caller, OnceTable};
use rmbd_store::{Batch, Replica};

use super::keeping::{Clients, Kept};
use super::machine::Setup;

/// The address of all clients.
const CLIENTS_IP: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Largest number of clients, which is more than a test has.
const CLIENTS_MAX: usize = 1_024;

pub struct Desk {
    boot: Boot,
    /// The boots whose requests the table knows.
    chain: BootChain,
    once: Arc<OnceTable>,
    batch: Batch<()>,
    pub repeats: u64,
}

impl Desk {
    /// A desk that has just been opened, with the clients that an earlier one has known.
    pub fn new(replica: Arc<Replica>, setup: &Setup, kept: &Kept, now: Duration) -> Self {
        let secret = [setup.seed as u8; COOKIE_SECRET_BYTES];
        let once = OnceTable::new(CLIENTS_MAX, &secret);
        let mut chain = kept.take_back(&once, now);
        chain.push(setup.boot);
        Self {
            boot: setup.boot,
            chain,
            once: Arc::new(once),
            batch: Batch::new(replica),
            repeats: 0,
        }
    }

    pub fn clients(&self) -> Clients<'_> {
        (&self.once, &self.chain)
    }

    /// Takes a datagram, and returns the reply.
    pub fn serve(&mut self, now: Duration, datagram: &[u8]) -> Option<Vec<u8>> {
        match request(datagram) {
            Ok(request) => {
                let admitted = self.provide(&request).and_then(|()| {
                    (request.once).map_or(Ok(false), |once| self.admit(now, once, request.cookie))
                });
                match admitted {
                    Ok(is_repeated) => Some(self.perform(now, &request, is_repeated)),
                    Err(problem @ Problem::AddressUnproven) => {
                        let cookie = self.once.cookie(CLIENTS_IP, now);
                        Some(refusal(request.id, problem, &encode_cookie(&cookie)))
                    }
                    Err(problem) => Some(refusal(request.id, problem, &[])),
                }
            }
            Err(rejected) => Some(refusal(rejected.id?, rejected.problem, &[])),
        }
    }

    /// Takes the request's weight before the request is marked as applied: all of it, or nothing.
    fn provide(&mut self, request: &Request<'_>) -> Result<(), Problem> {
        let weights = request
            .operations()
            .flatten()
            .map(|operation| match operation {
                Operation::Add { weight, .. } => weight,
                _ => 0,
            });
        let provided = self.batch.provide(weights.sum());
        provided.map_err(|_| Problem::Busy)
    }

    fn admit(&mut self, now: Duration, once: Once, cookie: Option<&[u8]>) -> Result<bool, Problem> {
        if !self.chain.contains(once.boot) {
            return Err(Problem::WrongBoot);
        }
        let caller = Caller {
            client: once.client,
            ip: CLIENTS_IP,
            cookie,
        };
        match self.once.admit(caller, once.sequence, now) {
            Admission::New => Ok(false),
            Admission::Repeat => {
                self.repeats += 1;
                Ok(true)
            }
            Admission::TooOld => Err(Problem::SequenceTooOld),
            Admission::Unproven => Err(Problem::AddressUnproven),
            Admission::NetworkFull => Err(Problem::OnceNetworkFull),
            Admission::Full => Err(Problem::OnceTableFull),
        }
    }

    fn perform(&mut self, now: Duration, request: &Request<'_>, is_repeated: bool) -> Vec<u8> {
        let mut answers = Vec::new();
        let mut head = ReplyHead {
            id: request.id,
            repeated: is_repeated,
            ..ReplyHead::default()
        };
        for operation in request.operations() {
            let outcome = match operation {
                Ok(Operation::Add { key, weight }) => self.add(key, weight, is_repeated),
                Ok(Operation::Info) => {
                    answers.extend(self.info(now));
                    Ok(())
                }
                // Clients of the simulator ask for nothing else.
                Ok(_) => Err(Problem::UnknownOperation),
                Err(stopped) => Err(stopped.problem),
            };
            if let Err(problem) = outcome {
                head.code = problem.code();
                break;
            }
            head.done += 1;
        }
        // A client with a reply must find all adds that the reply rests on.
        self.batch.finish(&mut |(), _| {});
        reply(head, &answers)
    }

    fn add(&mut self, key: &[u8], weight: u64, is_repeated: bool) -> Result<(), Problem> {
        let weight = u32::try_from(weight).map_err(|_| Problem::WeightTooLarge)?;
        let weight = Weight::new(weight).map_err(|_| Problem::WeightTooLarge)?;
        if !is_repeated {
            let added = self.batch.add(key, weight, &mut |(), _| {});
            return added.map_err(|_| Problem::Busy);
        }
        Ok(())
    }

    fn info(&self, now: Duration) -> Vec<u8> {
        let replica = self.batch.replica();
        let cookie = self.once.cookie(CLIENTS_IP, now);
        let geometry = replica.own().geometry();
        encode_info(&Info {
            boot: self.boot,
            fingerprint: rmbd_store::fingerprint(geometry, replica.own().family()),
            width: geometry.width() as u64,
            max_weight: MAX_WEIGHT,
            depth: geometry.depth() as u8,
            hash: 0,
            version: b"simulator",
            cluster_port: 8001,
            cookie: &cookie,
            writer: replica.own_slice().writer,
        })
    }
}

fn refusal(id: u32, problem: Problem, answers: &[u8]) -> Vec<u8> {
    let head = ReplyHead {
        id,
        code: problem.code(),
        ..ReplyHead::default()
    };
    reply(head, answers)
}

fn reply(head: ReplyHead, answers: &[u8]) -> Vec<u8> {
    let mut bytes = [0; REPLY_HEAD_BYTES];
    write_reply_head(head, &mut bytes);
    let mut reply = bytes.to_vec();
    reply.extend_from_slice(answers);
    reply
}
