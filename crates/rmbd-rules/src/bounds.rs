//! How much is read. Whoever writes rules is trusted with limits, but not with the memory or the time of a node.

/// Largest number of files that are read at once.
///
/// Each is a domain of its own. A folder with more of them is hardly one of rules.
pub const FILES_MAX: usize = 1024;

/// Largest size of a file, in bytes.
///
/// It is that of a ConfigMap, in which such files come to most nodes.
pub const FILE_BYTES_MAX: usize = 1 << 20;

/// Largest size of all files together, in bytes; and of what they stand for: the nodes that anchors stand for are
/// counted each time, with the bytes of their words, and so are the bytes of the rules' paths.
///
/// Without it an anchor lets a file of a kilobyte stand for gigabytes.
pub const READ_BYTES_MAX: usize = 1 << 25;

/// Largest number of descriptors in all files, with and without a rule.
///
/// Each takes about a kilobyte where its words are short, so all of them take some tens of megabytes.
pub const DESCRIPTORS_MAX: usize = 1 << 16;

/// Largest number of levels of descriptors, one below the other.
///
/// A descriptor of a request has as many pairs. Requests have one to five.
pub const LEVELS_MAX: usize = 16;

/// Largest depth of lists and mappings of YAML, one in the other.
///
/// A level of descriptors takes two, so that [`LEVELS_MAX`] of them fit, and `metadata` below the last of them.
pub const NESTING_MAX: usize = 64;

/// Largest size of a domain, of a key, of a value, and of a name, in bytes.
///
/// A longer one would not fit into the key under which it is counted, which has [`crate::COUNTER_KEY_BYTES_MAX`].
pub const PART_BYTES_MAX: usize = 1024;

/// Largest number of values with `*` for one key at one place of the tree.
///
/// All of them may be tried for each request; values without `*` are found at once, whatever their number.
pub const WILDCARDS_MAX: usize = 256;

/// Largest number of names in one `replaces`.
///
/// Each name is looked for among the rules of a request.
pub const REPLACES_MAX: usize = 64;
