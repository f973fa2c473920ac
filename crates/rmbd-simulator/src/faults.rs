//! Counts of faults, so that a test knows that its faults were real.

use std::ops::AddAssign;

macro_rules! faults {
    ($($field:ident: $name:literal,)*) => {
        /// Numbers of faults, each with a name.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct Faults {
            $(pub $field: u64,)*
        }

        impl Faults {
            pub fn named(&self) -> Vec<(&'static str, u64)> {
                vec![$(($name, self.$field),)*]
            }
        }

        impl AddAssign for Faults {
            fn add_assign(&mut self, other: Self) {
                $(self.$field += other.$field;)*
            }
        }
    };
}

faults! {
    // Faults of the network.
    sent: "datagrams sent",
    lost: "lost",
    doubled: "doubled",
    held_back: "held back",
    corrupted: "corrupted",
    replayed: "replayed",
    misdelivered: "misdelivered",
    cut: "cut off",
    overflowed: "dropped by a full socket",
    misdelivered_to_all: "misdelivered to everybody",
    // Faults of nodes.
    crashes: "crashes",
    restarts: "restarts",
    restarts_as_another: "restarts as another node",
    moves: "moves to another address",
    seed_moves: "moves of a seed, whose name follows",
    leaves: "leaves",
    pauses: "pauses",
    floods: "floods that pause the reading",
    clock_jumps: "clock jumps",
    wall_clock_jumps: "wall clock jumps",
    drifts: "clocks that drift",
    twins: "second nodes of one id",
    shadows: "second processes of one address",
    // Disks.
    files: "snapshot files written",
    files_taken_over: "snapshot files taken over",
    files_set_aside: "snapshot files set aside",
    clean_ends: "clean ends",
    clean_starts: "starts that go on from a clean end",
    power_cuts: "power cuts",
    lost_disks: "lost disks",
    torn_files: "torn files",
    old_copies: "starts on an old copy of a disk",
    new_writers: "names given up for new ones",
    // Other nodes and processes.
    strangers: "strangers",
    apart: "members with another sketch",
    several_sketches: "clusters with several sketches",
    apart_in_one: "members that lack one of several sketches, or have it otherwise",
    one_way_peers: "one-way peers",
    // Limits and settings.
    memory_limits: "nodes with a memory limit",
    origin_limits: "nodes with a limit of slices",
    slices_refused: "slices refused for want of room",
    binding_rates: "clusters whose rate binds",
    small_bounds: "clusters with small bounds",
    long_digests: "clusters with more slices than a round's lines",
    many_sections: "sketches of several sections",
    wide_slices: "slices with totals that 32 bits do not hold",
    // Trials after quiet.
    late_replays: "replays after quiet",
    late_forgeries: "forgeries after quiet",
    replays_to_one_alone: "replays to one that is alone",
    hand_overs: "hand-overs looked at",
    lives_before_contact: "lives that ended before the first contact",
    joins: "joins looked at until ready",
    lone_hearers: "writers heard by one only",
    lone_heirs: "writers dead after one had heard",
    // Clients.
    clients: "clients",
    adds_confirmed: "adds confirmed to a client",
    adds_uncertain: "adds left uncertain",
    adds_repeated: "requests that came again",
}
