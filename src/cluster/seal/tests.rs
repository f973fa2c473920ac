#![allow(clippy::unwrap_used)]

use super::openers::accepts;

#[test]
fn this_version_and_the_one_before_are_accepted() {
    let accepted = |ours| (0..=255).filter(move |&theirs| accepts(ours, theirs));
    assert!(accepted(1).eq([1]));
    assert!(accepted(2).eq([1, 2]));
    assert!(accepted(255).eq([254, 255]));
}
