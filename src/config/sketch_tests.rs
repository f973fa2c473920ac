//! Tests of sketches and their windows, as they stand on the command line.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;

use clap::Parser;

use super::levels::OptionsOnly;
use super::*;

const FAMILY: HashFamily = HashFamily::Xxh3 { seed: 7 };

fn wish(text: &str) -> SketchWish {
    text.parse().unwrap()
}

fn config(words: &[&str]) -> Result<NodeConfig, String> {
    let words = std::iter::once(&"rmbd").chain(words);
    let line = OptionsOnly::try_parse_from(words).map_err(|error| error.to_string())?;
    NodeConfig::from_options(line.node).map_err(|error| error.to_string())
}

#[test]
fn a_sketch_has_the_size_and_windows_that_are_said() {
    let plan = |text| wish(text).plan(FAMILY).unwrap();
    let logins = plan("name=logins,windows=60s/5s+1h/5m@271829,epsilon=1e-5");
    let size = (logins.geometry.width(), logins.geometry.depth());
    assert_eq!(size, (271_829, 4), "98 % is the default of the confidence");
    let windows: Vec<_> = logins
        .windows
        .iter()
        .map(|it| (it.span_ms(), it.step_ms()))
        .collect();
    assert_eq!(windows, [(60_000, 5_000), (3_600_000, 300_000)]);
    let folded = plan("name=a,windows=1h/5m@65536+1d@4096+500ms").windows;
    let widths: Vec<_> = folded.iter().map(rmbd_store::WindowPlan::width).collect();
    assert_eq!(widths, [65_536, 4_096, 131_072]);
    assert_eq!(
        plan("name=a").windows.len(),
        1,
        "a minute, as the default sketch has"
    );
    assert!(plan("name=a,windows=none").windows.is_empty());
    for (text, width, depth) in [
        ("name=a,width=100", 100, 4),
        ("name=a,depth=7", 1_048_576, 7),
        ("name=a,confidence=0.999", 1_048_576, 7),
        ("name=a,epsilon=0.001,confidence=0.99", 2_719, 5),
    ] {
        let geometry = plan(text).geometry;
        assert_eq!(
            (geometry.width(), geometry.depth()),
            (width, depth),
            "{text}"
        );
    }
}

#[test]
fn what_cannot_be_is_said_with_the_cure() {
    let many = (1..=33)
        .map(|span| format!("{span}s"))
        .collect::<Vec<_>>()
        .join("+");
    let many = format!("name=a,windows={many}");
    for (text, told) in [
        ("", "\"\" is not KEY=VALUE"),
        (
            "logins",
            "\"logins\" is not KEY=VALUE: write such as name=logins",
        ),
        ("width=5", "a sketch needs a name"),
        ("name=", "1 to 64 characters, not 0"),
        ("name=Logins", "no 'L': use the characters a to z"),
        ("name=a,name=b", "name is given twice"),
        ("name=a,widht=5", "no key \"widht\": do you mean `width`?"),
        ("name=a,window=60s", "do you mean `windows`?"),
        ("name=a,width=many", "width=\"many\" is not a number"),
        ("name=a,epsilon=", "epsilon=\"\" is not a number"),
        (
            "name=a,windows=60",
            "whole milliseconds: write a number and ms, s, m, h or d",
        ),
        ("name=a,windows=60s/", "not a length of time"),
        ("name=a,windows=60s+", "not a length of time"),
        ("name=a,windows=60s@", "\"\" is not a number of columns"),
        (
            "name=a,windows=60s@x",
            "\"x\" is not a number of columns: write SPAN/STEP@WIDTH",
        ),
        (
            "name=a,width=0",
            "sketch a: a sketch needs a width of at least 1",
        ),
        ("name=a,depth=33", "limit of 32 rows"),
        (
            "name=a,width=18446744073709551615",
            "choose a smaller width",
        ),
        ("name=a,epsilon=nan", "epsilon must lie between 0 and 1"),
        (
            "name=a,width=5,epsilon=0.1",
            "the size of sketch a is given twice",
        ),
        (
            "name=a,windows=60s/7s",
            "sketch a: a window of 60000 ms is no multiple",
        ),
        ("name=a,windows=60s@3", "cannot fold 1048576 columns to 3"),
        ("name=a,windows=60s+1m/1s", "sketch a has two windows of 1m"),
        ("name=a,windows=32d", "50 ms to 31 days"),
        (&many, "33 windows, above the limit of 32"),
        ("name=a,top=1001", "choose 0 to 1000, 0 is no list"),
    ] {
        let error = text
            .parse::<SketchWish>()
            .and_then(|wish| wish.plan(FAMILY));
        let error = error.unwrap_err().to_string();
        assert!(error.contains(told), "{text}: {error}");
        assert!(!error.contains('\n'), "{text}: {error}");
        let of_line = config(&["--sketch", text]).unwrap_err();
        assert!(of_line.contains(told), "{text}: {of_line}");
    }
}

#[test]
fn windows_of_fnv_do_not_fold() {
    let error = config(&["--compat", "--sketch", "name=a,windows=60s@64"]).unwrap_err();
    assert!(
        error.contains("sketch a: the columns of the hash fnv do not fold"),
        "{error}"
    );
    let compat = config(&["--compat", "--sketch", "name=a,width=64"]).unwrap();
    let sketches = compat.all_sketches().unwrap();
    assert!(sketches.iter().all(|sketch| sketch.windows[0].fold() == 1));
}

#[test]
fn the_default_sketch_comes_first_and_is_one() {
    let sketches = NodeConfig::default().all_sketches().unwrap();
    assert_eq!(sketches.len(), 1);
    assert_eq!(sketches[0].name.as_str(), "default");
    assert_eq!(sketches[0].windows[0].width(), 1 << 17);
    assert_eq!(sketches[0].windows[0].memory_bytes(), 28 << 20);
    assert_eq!(sketches[0].memory_bytes(false), (3 * 16 + 28) << 20);
    // A smaller size has windows that fit it.
    let small = NodeConfig {
        geometry: Geometry::new(100, 2).unwrap(),
        ..NodeConfig::default()
    };
    assert_eq!(small.all_sketches().unwrap()[0].windows[0].width(), 100);
    let windows = config(&["-x", "4096", "--sketch", "name=default,windows=1h/5m@1024"]).unwrap();
    let sketches = windows.all_sketches().unwrap();
    assert_eq!((sketches.len(), sketches[0].windows[0].fold()), (1, 4));
    let own_size = config(&["--sketch", "name=default,width=64"]).unwrap();
    assert_eq!(own_size.geometry.width(), 64);
    for twice in [
        &["-x", "5"][..],
        &["--epsilon", "0.1", "--confidence", "0.9"],
        &["--compat"],
    ] {
        let words = [twice, &["--sketch", "name=default,width=64"]].concat();
        let error = config(&words).unwrap_err();
        assert!(
            error.contains("the size of sketch default is given twice"),
            "{error}"
        );
    }
}

#[test]
fn names_and_numbers_are_different() {
    let error = config(&["--sketch", "name=a;name=a,width=5"]).unwrap_err();
    assert!(error.contains("two sketches of the name a"), "{error}");
    let error = config(&["--sketch", "name=default", "--sketch", "name=default"]).unwrap_err();
    assert!(
        error.contains("two sketches of the name default"),
        "{error}"
    );
    // Some two of so many names have the same 32 bits.
    let mut numbers = HashMap::new();
    let same = (0..1_000_000).find_map(|i| {
        let name: SketchName = format!("s{i}").parse().unwrap();
        let other = numbers.insert(name.number().0, name.clone())?;
        Some((other, name))
    });
    let (one, other) = same.unwrap();
    let sketches = format!("name={one};name={other}");
    let error = config(&["--sketch", &sketches]).unwrap_err();
    let told = "have the same number in messages";
    let names_both = error.contains(one.as_str()) && error.contains(other.as_str());
    assert!(error.contains(told) && names_both, "{error}");
}

#[test]
fn sketches_are_bounded() {
    let names = |n: usize| {
        (1..n)
            .map(|i| format!("name=s{i}"))
            .collect::<Vec<_>>()
            .join(";")
    };
    assert_eq!(
        config(&["--sketch", &names(SKETCHES_MAX)])
            .unwrap()
            .sketches
            .len(),
        255
    );
    for n in [SKETCHES_MAX + 1, 10_000] {
        let error = config(&["--sketch", &names(n)]).unwrap_err();
        assert!(
            error.contains(&format!("{n} sketches are above the limit of 256")),
            "{error}"
        );
    }
}

#[test]
fn a_sketch_lists_as_many_keys_as_it_says_or_all_do() {
    let tops = |words: &[&str]| -> Vec<usize> {
        let sketches = config(words).unwrap().all_sketches().unwrap();
        sketches.iter().map(|sketch| sketch.top).collect()
    };
    let others = ["--sketch", "name=a,top=0;name=b,top=1000;name=c"];
    assert_eq!(tops(&others), [100, 0, 1_000, 100]);
    assert_eq!(
        tops(&[&["--top", "7"][..], &others].concat()),
        [7, 0, 1_000, 7]
    );
    assert_eq!(tops(&["--top", "0"]), [0]);
    let own = ["--top", "7", "--sketch", "name=default,top=9;name=a"];
    assert_eq!(tops(&own), [9, 7]);
    // FNV with more than 4 rows cannot, so it does only where it is asked to, and says that it cannot.
    assert_eq!(
        tops(&["--compat", "--sketch", "name=a,depth=4;name=b,depth=5"]),
        [0, 100, 0]
    );
    assert_eq!(tops(&["--compat", "--top", "5"]), [5]);
    let asked = config(&["--compat", "--top", "5"]).unwrap();
    let plan = |config: &NodeConfig| {
        let sketches = config.all_sketches().unwrap();
        let plan = sketches[0].top_plan(config.family, 2);
        (plan.has_lists(), plan.memory_bytes() > 0)
    };
    assert_eq!(plan(&asked), (false, false));
    assert_eq!(plan(&NodeConfig::default()), (true, true));
    for (words, told) in [
        (&["--top", "1001"][..], "0..=1000"),
        (&["--top", "-1"], "invalid value '-1'"),
        (
            &["--sketch", "name=a,top=1001"],
            "sketch a: 1001 largest keys are above the limit of 1000",
        ),
        (
            &["--sketch", "name=default,top=9999"],
            "above the limit of 1000",
        ),
        (
            &["--sketch", "name=a,top=many"],
            "top=\"many\" is not a number",
        ),
    ] {
        let error = config(words).unwrap_err();
        assert!(error.contains(told), "{words:?}: {error}");
    }
}
