//! Bounds of what a node keeps, asks for and says at once.

/// Bounds of a [`Cluster`](super::Cluster): of its memory, and of the work that others can make for it, for all
/// sketches together. The defaults are what a node runs with; tests draw small ones, so that every bound is met.
/// What is beyond a bound waits or is dropped, and whoever needs it asks again; so any value from 1 on is right,
/// and a small one slow. Only of what is urgent there may be nothing at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClusterLimits {
    /// Peers that are remembered, those that are down included.
    pub peers: usize,
    /// Addresses that have a channel.
    pub channels: usize,
    /// Targets that are pushed to one way.
    pub targets: usize,
    /// Questions and answers that wait for one peer. More are dropped: whoever asked asks again.
    pub questions: usize,
    /// Groups that wait to be sent to a peer that asked for them: some requests' worth.
    pub groups_served: usize,
    /// Lines of one digest frame; 20 of them fit a datagram together, which is the most.
    pub digest_lines: usize,
    /// Lines of a digest in one round, of all sketches together; the next round goes on where it ended.
    pub digest_lines_a_round: usize,
    /// Sums of sketches at rest in one round; the next round goes on with others.
    pub sketch_sums_a_round: usize,
    /// Slices that are pulled at the same time.
    pub pulls: usize,
    /// Sections whose hashes are asked for at the same time.
    pub sections_asked: usize,
    /// Groups that are asked for at the same time: about 128 KiB, a modest part of a receive buffer.
    pub groups_asked: usize,
    /// Groups known to differ before more hashes are asked for.
    pub groups_wanted: usize,
    /// Keys of all sketches that others are told ahead of the next version in one round, because they would pass a
    /// limit: half a MiB of cells to each peer. With 0 they are told nothing ahead.
    pub urgent_keys_a_round: usize,
    /// Cells of such keys that wait for one peer.
    pub urgent_cells: usize,
    /// Slices about which somebody else seems to know more; further ones wait for another digest.
    pub claims: usize,
}

impl Default for ClusterLimits {
    fn default() -> Self {
        Self {
            peers: 2_048,
            channels: 4_096,
            targets: 256,
            questions: 64,
            groups_served: 1_024,
            digest_lines: DIGEST_LINES_MAX,
            digest_lines_a_round: 240,
            sketch_sums_a_round: 8,
            pulls: 4,
            sections_asked: 8,
            groups_asked: 128,
            groups_wanted: 1_024,
            urgent_keys_a_round: 16_384,
            urgent_cells: 65_536,
            claims: 4_096,
        }
    }
}

/// Lines of the longest digest frame: they fit a datagram together.
const DIGEST_LINES_MAX: usize = 20;

impl ClusterLimits {
    /// No bound is 0 but those of what is urgent, and a digest frame fits a datagram.
    pub(super) fn in_range(self) -> Self {
        let Self {
            peers,
            channels,
            targets,
            questions,
            groups_served,
            digest_lines,
            digest_lines_a_round,
            sketch_sums_a_round,
            pulls,
            sections_asked,
            groups_asked,
            groups_wanted,
            urgent_keys_a_round,
            urgent_cells,
            claims,
        } = self;
        Self {
            peers: peers.max(1),
            channels: channels.max(1),
            targets: targets.max(1),
            questions: questions.max(1),
            groups_served: groups_served.max(1),
            digest_lines: digest_lines.clamp(1, DIGEST_LINES_MAX),
            digest_lines_a_round: digest_lines_a_round.max(1),
            sketch_sums_a_round: sketch_sums_a_round.max(1),
            pulls: pulls.max(1),
            sections_asked: sections_asked.max(1),
            groups_asked: groups_asked.max(1),
            groups_wanted: groups_wanted.max(1),
            urgent_keys_a_round,
            urgent_cells,
            claims: claims.max(1),
        }
    }
}
