//! The key under which a descriptor is counted.

use rmbd_rules::counter_key;
use rmbd_testkit::random::Random;

use super::pairs;

fn key(domain: &str, entries: &[(&str, &str)]) -> String {
    let mut key = b"what was there before".to_vec();
    counter_key(domain, &pairs(entries), &mut key);
    String::from_utf8(key).unwrap()
}

#[test]
fn a_key_can_be_written_by_hand() {
    assert_eq!(key("shop", &[]), "shop");
    assert_eq!(key("shop", &[("ip", "192.0.2.7")]), "shop/ip=192.0.2.7");
    assert_eq!(
        key("a/b", &[("path", "/x?y=1%"), ("k", "")]),
        "a%2Fb/path=%2Fx?y%3D1%25/k="
    );
    assert_eq!(key("", &[("ä", "\n\x7f \u{80}")]), "/ä=%0A%7F \u{80}");
}

/// Takes a key apart again, by the definition of its form.
fn taken_apart(key: &str) -> (String, Vec<(String, String)>) {
    let decode = |part: &str| {
        let mut bytes = Vec::new();
        let mut rest = part.as_bytes();
        while let Some((first, behind)) = rest.split_first() {
            if *first == b'%' {
                let digits = std::str::from_utf8(&behind[..2]).unwrap();
                assert_eq!(digits, digits.to_uppercase());
                bytes.push(u8::from_str_radix(digits, 16).unwrap());
                rest = &behind[2..];
            } else {
                bytes.push(*first);
                rest = behind;
            }
        }
        String::from_utf8(bytes).unwrap()
    };
    let mut parts = key.split('/');
    let domain = decode(parts.next().unwrap());
    let entries = parts.map(|part| {
        let (key, value) = part.split_once('=').unwrap();
        assert!(!value.contains('='), "{part}");
        (decode(key), decode(value))
    });
    (domain, entries.collect())
}

/// What can be taken apart again is the key of one descriptor only.
#[test]
fn no_two_descriptors_have_the_same_key() {
    const LETTERS: [char; 12] = [
        '%',
        '/',
        '=',
        '2',
        '5',
        'F',
        'a',
        '\0',
        '\n',
        '\x7f',
        'ä',
        '\u{1F600}',
    ];
    for seed in 0..4000 {
        let mut random = Random(seed);
        let mut word = || -> String {
            let length = random.below(5);
            (0..length)
                .map(|_| LETTERS[random.below(12) as usize])
                .collect()
        };
        let domain = word();
        let entries: Vec<_> = (0..seed % 4).map(|_| (word(), word())).collect();
        let borrowed: Vec<_> = entries
            .iter()
            .map(|(key, value)| (&**key, &**value))
            .collect();
        let key = key(&domain, &borrowed);
        assert!(
            !key.bytes().any(|byte| byte.is_ascii_control()),
            "seed {seed}: {key:?}"
        );
        assert_eq!(taken_apart(&key), (domain, entries), "seed {seed}: {key:?}");
    }
}
