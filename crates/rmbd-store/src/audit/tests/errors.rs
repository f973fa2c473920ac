//! Errors are those that an exact count of all keys finds.

use super::*;

/// What a random run is made of.
#[derive(Debug, Clone, Copy)]
struct Run {
    shape: Shape,
    way: Way,
    keys: u64,
    adds: u64,
}

/// Batches come and go, and take turns in adding.
fn play(run: Run, seed: u64) {
    let Run { shape, way, .. } = run;
    let replica = replica(shape);
    let mut slices = Slices::try_new(Arc::clone(&replica)).unwrap();
    let mut random = Random(seed);
    let mut truth = Truth::default();
    let batch = || Batch::with_way(Arc::clone(&replica), way);
    let mut batches: Vec<_> = (0..shape.threads).map(|_| batch()).collect();
    for number in 0..run.adds {
        let at = random.below(shape.threads as u64) as usize;
        // Half of the adds are of few keys.
        let keys = if random.below(2) == 0 { run.keys } else { 64 };
        let key = random.below(keys).to_le_bytes();
        let weight = random.below(4);
        add(&mut batches[at], &key, weight as u32, random.next());
        truth.add(&key, weight);
        match random.below(4_096) {
            0 => batches[at].finish(&mut no_answer),
            1 => {
                drop(batches.remove(at));
                batches.push(batch());
            }
            2 => {
                slices.publish(usize::MAX);
            }
            _ => {}
        }
        if number % (run.adds / 4) == 0 {
            check(&replica, &mut batches, &truth);
        }
    }
    check(&replica, &mut batches, &truth);
}

fn check(replica: &Replica, batches: &mut [Batch<()>], truth: &Truth) {
    for batch in batches {
        batch.finish(&mut no_answer);
    }
    let figures = look(replica).unwrap();
    truth.check(replica, &figures);
}

#[test]
fn errors_are_those_of_exact_counts() {
    let run = Run {
        shape: SHAPE,
        way: Way::Direct,
        keys: 3_000,
        adds: 20_000,
    };
    let shapes = [
        SHAPE,
        Shape {
            width: 1 << 12,
            depth: 4,
            threads: 2,
            ..SHAPE
        },
        // Without lanes, and with lists.
        Shape {
            width: 100,
            threads: 9,
            top: 10,
            ..SHAPE
        },
        Shape {
            depth: 1,
            top: 10,
            ..SHAPE
        },
        Shape {
            family: HashFamily::Fnv,
            depth: 4,
            ..SHAPE
        },
    ];
    for (seed, shape) in (0x0A0D_1700..).zip(shapes) {
        for way in [Way::Direct, Way::Pipelined] {
            eprintln!("seed {seed:#x}, {shape:?}, {way:?}");
            play(Run { shape, way, ..run }, seed);
        }
    }
}

/// More keys than the tables take, twice and more over: the sample becomes smaller, and what remains is exact.
#[test]
fn a_sample_that_was_halved_is_exact() {
    for threads in [1, 2] {
        let shape = Shape {
            width: 1 << 10,
            threads,
            ..SHAPE
        };
        let run = Run {
            shape,
            way: Way::Pipelined,
            keys: 300_000,
            adds: 400_000,
        };
        let seed = 0x0A0D_1800 + threads as u64;
        eprintln!("seed {seed:#x}");
        play(run, seed);
    }
}

#[test]
fn few_keys_have_no_errors_in_a_large_sketch() {
    let replica = replica(Shape {
        width: 1 << 20,
        depth: 4,
        ..SHAPE
    });
    let mut batch = Batch::new(Arc::clone(&replica));
    for key in 0..10_000_u64 {
        add(&mut batch, &key.to_le_bytes(), 1, 3);
    }
    batch.finish(&mut no_answer);
    let figures = look(&replica).unwrap();
    assert!((100..250).contains(&figures.keys), "{figures:?}");
    let nothing = (
        figures.mean,
        figures.quantile,
        figures.largest,
        figures.above_epsilon,
    );
    assert_eq!(nothing, (0.0, 0, 0, 0));
    assert!(!replica.wants_audit());
    add(&mut batch, b"key", 1_000, 3);
    batch.finish(&mut no_answer);
    assert!(replica.wants_audit());
}
