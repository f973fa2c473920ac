//! Requests that name an earlier start.

use super::*;

const EARLIER: [Boot; 2] = [Boot(0xB006), Boot(0xB005)];

fn chain(oldest_first: impl IntoIterator<Item = Boot>) -> BootChain {
    let mut chain = BootChain::default();
    oldest_first.into_iter().for_each(|boot| chain.push(boot));
    chain
}

/// An engine that was started after those of the chain, with so many places for clients.
fn restarted(clients: usize) -> Engine {
    let replica = Replica::try_new(Geometry::new(64, 4).unwrap(), XXH3, 1).unwrap();
    let options = EngineOptions {
        boot: BOOT,
        earlier: chain(EARLIER.into_iter().rev()),
        max_weight: Weight::MAX,
        once: Arc::new(OnceTable::new(clients, &[9; 32])),
    };
    Engine::new(Registry::of_default(Arc::new(replica)), &options)
}

/// A table in which the clients 0 and 1 had a request applied each.
fn saved() -> Vec<u8> {
    let engine = engine(64, XXH3, MAX);
    let mut session = Session::<()>::new(Arc::clone(&engine));
    for client in [0, 1] {
        let cookie = session.cookie(address(client), Duration::ZERO);
        let request = numbered(client, 7, Some(&cookie));
        assert_eq!(session.admit(request, Duration::ZERO), Ok(Turn::First));
    }
    let pieces: Vec<_> = engine.once().save(Duration::ZERO).collect();
    pieces.concat()
}

/// What is said to a repeat, and to a request that is new, where they name this boot.
fn said(engine: Engine, boot: Boot) -> [Result<Turn, Refusal>; 2] {
    let mut session = Session::<()>::new(Arc::new(engine));
    [7, 8].map(|sequence| {
        let request = Numbered {
            boot,
            ..numbered(1, sequence, None)
        };
        session.admit(request, Duration::ZERO)
    })
}

#[test]
fn earlier_starts_are_known_with_their_table_only() {
    let piece = saved();
    let restore = |engine: &Engine, piece: &[u8]| {
        engine
            .once()
            .restore(piece, Duration::ZERO, Duration::from_secs(1))
    };
    let whole = || {
        let engine = restarted(100);
        restore(&engine, &piece).unwrap();
        engine
    };
    let known = [Ok(Turn::Repeat), Ok(Turn::First)];
    for boot in EARLIER.into_iter().chain([BOOT]) {
        assert_eq!(said(whole(), boot), known, "{boot}");
    }
    assert_eq!(whole().chain(), chain([EARLIER[1], EARLIER[0], BOOT]));
    assert_eq!(whole().info(SketchIndex::DEFAULT).boot, BOOT);
    let unknown = [Err(Refusal::WrongBoot); 2];
    for boot in [Boot(0), Boot(0xB004), Boot(u64::MAX)] {
        assert_eq!(said(whole(), boot), unknown, "{boot}");
    }

    // The table did not come back, was cut off, or has no place for somebody.
    let cut = || {
        let engine = restarted(100);
        restore(&engine, &piece[..piece.len() - 1]).unwrap_err();
        engine
    };
    let small = || {
        let engine = restarted(1);
        assert_eq!(restore(&engine, &piece).unwrap().refused, 1);
        engine
    };
    for without in [&(|| restarted(100)) as &dyn Fn() -> Engine, &cut, &small] {
        for boot in EARLIER {
            assert_eq!(said(without(), boot), unknown, "{boot}");
        }
        assert_eq!(without().chain(), chain([BOOT]));
    }
}
