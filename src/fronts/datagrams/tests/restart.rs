//! Requests through clean ends of the node, and through a crash.

use super::*;
use rmbd_proto::compact::Info;

const FROM: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

impl Thread {
    /// The next start, a second after this one ended cleanly: a new table takes back what was saved.
    fn restarted(&self, boot: Boot) -> Self {
        let next = OnceTable::new(CLIENTS_MAX, &[8; 32]);
        for piece in self.once().save(self.now) {
            let restored = next.restore(&piece, Duration::ZERO, Duration::from_secs(1));
            assert_eq!(restored.unwrap().refused, 0);
        }
        self.followed_by(boot, next)
    }

    /// The next start where this one did not save its table.
    fn after_a_crash(&self, boot: Boot) -> Self {
        self.followed_by(boot, OnceTable::new(CLIENTS_MAX, &[8; 32]))
    }

    fn followed_by(&self, boot: Boot, once: OnceTable) -> Self {
        let chain = self.port.shared().engine().chain().write();
        let earlier = BootChain::read(&chain).unwrap();
        // Its clock begins anew.
        Self::of(port(boot, earlier, once), Duration::from_millis(3))
    }

    fn once(&self) -> &Arc<OnceTable> {
        self.port.shared().engine().once()
    }

    /// The reply to a once-request of client 1 that names this boot.
    fn once_more(&mut self, boot: Boot, sequence: u64, operation: Operation<'_>) -> Vec<u8> {
        let cookie = self.once().cookie(FROM, self.now);
        self.writer
            .start(&Header {
                once: Some(Once {
                    boot,
                    client: 1,
                    sequence,
                }),
                cookie: (sequence == 0).then_some(&cookie[..]),
                ..Header::default()
            })
            .unwrap();
        self.writer.operation(operation).unwrap();
        let datagram = self.writer.finish().to_vec();
        self.ask(FROM, &datagram)
    }

    fn boot(&mut self) -> Boot {
        self.writer.start(&Header::default()).unwrap();
        self.writer.info().unwrap();
        let datagram = self.writer.finish().to_vec();
        let answer = self.ask(FROM, &datagram);
        let answer = reply(&answer).unwrap().answers().next();
        let Some(Ok(Answer::Info(Info { boot, .. }))) = answer else {
            panic!("{answer:?}");
        };
        boot
    }
}

/// Whether a reply says that its request is a repeat, and whether what it took was over its limit.
fn verdict(bytes: &[u8]) -> (bool, Option<bool>) {
    let reply = reply(bytes).unwrap();
    assert_eq!((reply.head.problem(), reply.head.done), (None, 1));
    let over = match reply.answers().next() {
        Some(Ok(Answer::Limits(verdict))) => Some(verdict.over),
        None => None,
        other => panic!("{other:?}"),
    };
    (reply.head.repeated, over)
}

fn problem_of(bytes: &[u8]) -> Option<Problem> {
    reply(bytes).unwrap().head.problem().map(Option::unwrap)
}

const ADD: Operation<'_> = Operation::Add {
    key: KEY,
    weight: 1,
};

/// Takes of one key, of which the first is within its limit.
fn take(parts: &mut Vec<u8>) -> Operation<'_> {
    let part = LimitPart {
        sketch: SketchNumber::DEFAULT,
        key: b"taken",
        weight: 1,
        limit: 1,
        window_ms: 0,
    };
    Operation::Limits(Limits::write(true, false, &[part], parts).unwrap())
}

#[test]
fn a_clean_restart_is_not_noticed_and_a_crash_is() {
    let boots = [BOOT, Boot(78), Boot(5)];
    let mut bytes = Vec::new();
    let take = take(&mut bytes);
    let mut thread = Thread::new();
    // The sequences 0 to 2 add, and of the takes 3 and 4 the first one gets something.
    let mut done = Vec::new();
    for sequence in 0..3 {
        assert_eq!(
            verdict(&thread.once_more(BOOT, sequence, ADD)),
            (false, None)
        );
        done.push((BOOT, sequence, ADD, None));
    }
    for (sequence, over) in [(3, false), (4, true)] {
        let told = verdict(&thread.once_more(BOOT, sequence, take));
        assert_eq!(told, (false, Some(over)));
        done.push((BOOT, sequence, take, Some(over)));
    }
    let mut next = 5;
    for boot in &boots[1..] {
        let mut before = thread;
        thread = before.restarted(*boot);
        assert_eq!(thread.boot(), *boot);
        for &(named, sequence, operation, over) in &done {
            let told = thread.once_more(named, sequence, operation);
            assert_eq!(verdict(&told), (true, over), "{named} {sequence}");
            if over.is_none() {
                // All bytes are those that the start before would have sent.
                assert_eq!(told, before.once_more(named, sequence, operation));
            }
        }
        assert_eq!(thread.total_weight(), 0, "nothing was added again");
        // Old boots go on to be good for new requests, beside the present one.
        for named in boots
            .into_iter()
            .take_while(|named| named != boot)
            .chain([*boot])
        {
            for repeated in [false, true] {
                let told = thread.once_more(named, next, ADD);
                assert_eq!(verdict(&told), (repeated, None), "{named} {next}");
            }
            done.push((named, next, ADD, None));
            next += 1;
        }
        for wrong in [Boot(0), Boot(79), Boot(u64::MAX)] {
            let told = thread.once_more(wrong, next, ADD);
            assert_eq!(problem_of(&told), Some(Problem::WrongBoot));
        }
    }
    assert_eq!(thread.total_weight(), 3, "one for each boot");

    // A client that the table does not know is asked for a cookie, whatever boot it names.
    assert_eq!(
        thread.add(FROM, 2, 1, None).problem,
        Some(Problem::AddressUnproven)
    );
    let cookie = thread.once().cookie(FROM, thread.now);
    assert_eq!(thread.add(FROM, 2, 1, Some(&cookie)), applied(false));

    let mut crashed = thread.after_a_crash(Boot(6));
    for (named, sequence, operation, _) in done {
        let told = crashed.once_more(named, sequence, operation);
        assert_eq!(
            problem_of(&told),
            Some(Problem::WrongBoot),
            "{named} {sequence}"
        );
    }
    assert_eq!(crashed.total_weight(), 0);
    assert_eq!(verdict(&crashed.once_more(Boot(6), 0, ADD)), (false, None));
}
