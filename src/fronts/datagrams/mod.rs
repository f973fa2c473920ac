//! Datagrams at the client port. A data thread adds and counts what they ask for, and hands over what is rare. It
//! allocates nothing after it was made.

mod answers;
mod compact;
mod hand_off;
mod operations;
mod port;
mod probe;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use self::answers::{Answers, ReplySlot};
pub(crate) use self::hand_off::Parcel;
pub(crate) use self::port::ClientPort;
pub(crate) use self::probe::{is_probe_answer, probe_key};
use crate::engine::{self, Admitted, Allowed, Answer, Session};
use crate::shared::Access;
use crate::status::{ObservedThread, Tally, TurnedAway};
use rmbd_io::{self as io, Replies};
use rmbd_proto::compact::{INFO_ANSWER_BYTES_MAX, REPLY_HEAD_BYTES, is_reply, is_request};
use rmbd_proto::legacy::{self, Layout, Message};
use rmbd_sketch::Exhausted;
use rmbd_store::{Seen, SketchIndex};
use rmbd_udp::Train;

/// Time between two looks whether a pass has come that adds wait for.
const PASS_WAIT: Duration = Duration::from_millis(1);
/// Looks at most while the node ends.
const PASS_LOOKS_AT_END: u32 = 1_000;

/// How all legacy messages are applied.
const LEGACY: Admitted = Admitted::to(SketchIndex::DEFAULT);

/// A data thread's handler.
pub(crate) struct DataHandler {
    port: Arc<ClientPort>,
    thread: Arc<ObservedThread>,
    desk: Desk,
}

/// What a data thread has of its own.
struct Desk {
    layout: Layout,
    /// Questions are answered with the slot of their reply in `answers`.
    session: Session<ReplySlot>,
    /// What a byte of a compact request may weigh.
    byte_weight: u64,
    answers: Answers,
    /// Who may do what, as it was with the latest train.
    access: Seen<Access>,
    /// The answer to info for each sketch; its cookie is that of the latest who asked.
    infos: Box<[Box<[u8]>]>,
    /// Where the train at hand is from.
    from: IpAddr,
    /// When the train at hand came; read from the clock when it is first needed.
    now: Option<Duration>,
    tally: Tally,
}

impl DataHandler {
    /// `thread` is what others see of the thread that will run it.
    pub(crate) fn new(port: Arc<ClientPort>, thread: Arc<ObservedThread>) -> Self {
        let desk = Desk::new(&port);
        Self { port, thread, desk }
    }

    /// What it has done so far.
    #[inline]
    pub(crate) fn done(&self) -> &engine::Tally {
        self.desk.session.tally()
    }
}

impl io::Handler for DataHandler {
    fn train(&mut self, train: &Train<'_>, replies: &mut Replies) {
        let (port, desk) = (&*self.port, &mut self.desk);
        let from = train.from();
        if !desk.access.current(port.access()).may_use(from.ip()) {
            let datagrams = train.datagrams().count() as u64;
            desk.tally.received += datagrams;
            return desk.tally.turn_away(TurnedAway::NotAllowed, datagrams);
        }
        desk.begin(from.ip());
        for datagram in train.datagrams() {
            desk.datagram(port, datagram, from);
        }
        // Adds that nobody is told of may stay in the batch until the pause: the longer it is, the more of
        // them are of keys that it has already. But who has a reply must find all that it rests on.
        if !desk.answers.is_empty() {
            desk.finish();
            desk.answers.send(replies);
        }
    }

    fn pause(&mut self) {
        let desk = &mut self.desk;
        desk.finish();
        self.port.shared().call_control_if_due();
        desk.tally.take_over(desk.session.tally());
        self.thread.publish(&desk.tally);
    }
}

impl Desk {
    fn new(port: &ClientPort) -> Self {
        let (layout, engine) = (port.layout(), port.shared().engine());
        Self {
            layout,
            session: Session::new(Arc::clone(engine)),
            byte_weight: compact::byte_weight(engine.max_weight()),
            answers: Answers::new(layout.dialect),
            access: Seen::default(),
            infos: operations::encode_infos(port),
            from: Ipv4Addr::UNSPECIFIED.into(),
            now: None,
            tally: Tally::default(),
        }
    }

    /// A train from there is at hand.
    #[inline]
    fn begin(&mut self, from: IpAddr) {
        self.from = from;
        self.now = None;
    }

    #[inline]
    fn datagram(&mut self, port: &ClientPort, datagram: &[u8], from: SocketAddr) {
        self.tally.received += 1;
        match datagram.first() {
            Some(&first) if is_request(first) => self.compact(port, datagram),
            _ => self.legacy(port, datagram, from),
        }
    }

    fn legacy(&mut self, port: &ClientPort, datagram: &[u8], from: SocketAddr) {
        // Nobody is told of a legacy add, so that none may be refused: while no more may be added this thread takes
        // nothing, and what comes waits in the socket.
        if !self.may_add(port, datagram.len() as u64) {
            return self.tally.turn_away(TurnedAway::NodeEnds, 1);
        }
        for message in legacy::messages(datagram, self.layout) {
            match message {
                Ok(Message::Add { key }) => {
                    // There is room for it: each of them has more than one byte.
                    let _ = self.add(LEGACY, key, Allowed::ONE);
                }
                Ok(Message::Count { key }) => {
                    let slot = self.answers.reserve_legacy(key);
                    self.count(SketchIndex::DEFAULT, key, slot);
                }
                Ok(Message::Sync(_)) => {
                    self.tally.sync += 1;
                    self.hand_off_if_trusted(port, datagram, from);
                }
                Ok(Message::Peer(_)) => {
                    self.tally.peer += 1;
                    self.hand_off_if_trusted(port, datagram, from);
                }
                Ok(Message::Ack) => {
                    self.tally.ack += 1;
                    // Its length is the sender's whim; what it says is in the first byte.
                    self.hand_off(port, &legacy::ACK, from);
                }
                // No legacy message begins like a reply, so it costs them nothing that it is
                // looked for last.
                Err(_) if datagram.first().is_some_and(|&first| is_reply(first)) => {
                    self.reply_of_another(port, datagram, from);
                }
                // Nor does one like an answer to a count that we ask for.
                Err(_) if port.awaits_answers() && is_probe_answer(datagram) => {
                    self.hand_off(port, datagram, from);
                }
                Err(reason) => self.tally.malformed(reason),
            }
        }
        self.answers.end_legacy();
    }

    /// Perhaps what the control thread has asked another node.
    fn reply_of_another(&mut self, port: &ClientPort, datagram: &[u8], from: SocketAddr) {
        let is_short = datagram.len() <= REPLY_HEAD_BYTES + INFO_ANSWER_BYTES_MAX;
        if is_short && port.awaits_answers() {
            self.hand_off(port, datagram, from);
        } else {
            self.tally.turn_away(TurnedAway::Unsolicited, 1);
        }
    }

    fn hand_off_if_trusted(&mut self, port: &ClientPort, datagram: &[u8], from: SocketAddr) {
        if self.access.current(port.access()).is_trusted(from.ip()) {
            self.hand_off(port, datagram, from);
        } else {
            self.tally.turn_away(TurnedAway::NotTrusted, 1);
        }
    }

    fn hand_off(&mut self, port: &ClientPort, datagram: &[u8], from: SocketAddr) {
        if !port.rare().offer(from, datagram) {
            self.tally.turn_away(TurnedAway::QueueFull, 1);
        }
    }

    /// Whether so much weight may be added, perhaps after a wait for a pass: false only where the node ends.
    #[inline]
    fn may_add(&mut self, port: &ClientPort, weight: u64) -> bool {
        self.session
            .provide(SketchIndex::DEFAULT, weight, || weight)
            .is_ok()
            || self.wait_for_pass(port, weight)
    }

    #[cold]
    fn wait_for_pass(&mut self, port: &ClientPort, weight: u64) -> bool {
        let mut looks_at_end = 0;
        loop {
            // What is in the batch is given back by a pass only when it is in the cells.
            self.finish();
            port.shared().call_control_if_due();
            if self
                .session
                .provide(SketchIndex::DEFAULT, weight, || weight)
                .is_ok()
            {
                return true;
            }
            if port.shared().is_ending() {
                looks_at_end += 1;
                if looks_at_end > PASS_LOOKS_AT_END {
                    return false;
                }
            }
            std::thread::sleep(PASS_WAIT);
        }
    }

    #[inline]
    fn add(&mut self, admitted: Admitted, key: &[u8], weight: Allowed) -> Result<(), Exhausted> {
        let (session, mut answer) = self.parts();
        session.add(admitted, key, weight, &mut answer)
    }

    #[inline]
    fn count(&mut self, sketch: SketchIndex, key: &[u8], slot: ReplySlot) {
        let (session, mut answer) = self.parts();
        session.count(sketch, key, slot, &mut answer);
    }

    /// Answers what asks, and brings every add into the sketch.
    fn finish(&mut self) {
        let (session, mut answer) = self.parts();
        session.finish(&mut answer);
    }

    /// The session, and where its answers go.
    #[inline(always)]
    fn parts(&mut self) -> (&mut Session<ReplySlot>, impl FnMut(ReplySlot, Answer)) {
        let Self {
            session, answers, ..
        } = self;
        (session, |slot, answer| answers.fill(slot, answer))
    }
}
