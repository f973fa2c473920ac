//! Nodes that are started again, while requests are under way.

use super::*;

impl World {
    /// Lets so many things happen, or all that is left.
    fn go_on(&mut self, steps: u64) {
        for _ in 0..steps {
            if !self.core.is_idle() {
                self.step();
            }
        }
    }

    /// What is on its way to a node that is down is lost.
    fn lose_requests(&mut self) {
        self.network.retain(|_, (to_node, _)| !*to_node);
    }
}

#[test]
fn after_clean_ends_all_is_acknowledged() {
    const ADDS: u64 = 20_000;
    let (mut repeats, mut named_earlier) = (0, 0);
    for seed in 0..30 {
        let mut world = World::new(seed, if seed % 3 == 0 { NONE } else { MUCH });
        (0..ADDS).for_each(|token| world.add(token, 1));
        world.core.flush();
        for _ in 0..10 {
            let steps = 20 + world.random.below(100);
            world.go_on(steps);
            world.node.restart_cleanly();
            world.lose_requests();
            if world.random.below(2) == 0 {
                // As a client that has lost sight of the node: the next ones name its new boot.
                world.core.distrust();
            }
        }
        world.settle();
        assert_eq!(world.check_adds(ADDS), (ADDS, 0), "seed {seed}");
        assert_eq!(
            world.node.clients.len(),
            1,
            "it is the same client, seed {seed}"
        );
        repeats += world.node.repeats;
        named_earlier += world.node.named_earlier;
    }
    assert!(
        repeats > 100 && named_earlier > 1_000,
        "{repeats} {named_earlier}"
    );
}

/// A crash in between is said: what is confirmed was applied, and nothing was twice.
#[test]
fn a_crash_among_clean_ends_is_uncertain() {
    const ADDS: u64 = 20_000;
    let mut seen_uncertain = false;
    for seed in 0..30 {
        let mut world = World::new(seed, MUCH);
        (0..ADDS).for_each(|token| world.add(token, 1));
        world.core.flush();
        for n in 0..6 {
            let steps = 50 + world.random.below(100);
            world.go_on(steps);
            match n {
                3 => world.node.restart(),
                _ => world.node.restart_cleanly(),
            }
            world.lose_requests();
        }
        world.settle();
        let (confirmed, uncertain) = world.check_adds(ADDS);
        assert_eq!(confirmed + uncertain, ADDS, "seed {seed}");
        assert!(confirmed > ADDS / 2, "seed {seed}: {confirmed}");
        seen_uncertain |= uncertain > 0;
    }
    assert!(seen_uncertain);
}

#[test]
fn after_another_boot_adds_are_uncertain_and_never_doubled() {
    const ADDS: u64 = 20_000;
    let mut seen_uncertain = false;
    for seed in 0..30 {
        let mut world = World::new(seed, MUCH);
        (0..ADDS).for_each(|token| world.add(token, 1));
        world.core.flush();
        let restarts = 1 + seed % 3;
        for _ in 0..restarts {
            for _ in 0..100 + world.random.below(300) {
                if !world.core.is_idle() {
                    world.step();
                }
            }
            world.node.restart();
        }
        world.settle();
        let (confirmed, uncertain) = world.check_adds(ADDS);
        assert!(confirmed > ADDS / 2, "seed {seed}: {confirmed}");
        assert_eq!(confirmed + uncertain, ADDS, "seed {seed}");
        seen_uncertain |= uncertain > 0;
        let wrong_boot = Reason::Code(Problem::WrongBoot.code());
        assert!(world.results.values().all(|result| match result {
            Result_::Failed(failure) => failure.reason == wrong_boot,
            _ => true,
        }));
        // The next one meets the new boot at the latest, the one after it knows it.
        for token in [ADDS, ADDS + 1] {
            world.add(token, 1);
            world.settle();
        }
        assert_eq!(world.results[&(ADDS + 1)], Result_::Added, "seed {seed}");
        world.check_adds(ADDS + 2);
    }
    assert!(seen_uncertain);
}

#[test]
fn after_a_silence_the_boot_is_asked_for_again() {
    let mut world = World::new(1, NONE);
    world.add(0, 1);
    world.settle();
    world.node.restart();
    world.now += BOOT_TRUSTED;
    world.add(1, 1);
    world.settle();
    assert_eq!(world.check_adds(2), (2, 0));
    // Not yet silent for long: only the node knows that it is another boot.
    world.node.restart();
    world.now += BOOT_TRUSTED / 2;
    world.add(2, 1);
    world.settle();
    assert_eq!(world.check_adds(3), (2, 1));
}
