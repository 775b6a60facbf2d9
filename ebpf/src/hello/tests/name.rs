use std::collections::HashMap;
use std::vec::Vec;

use super::filled;
use super::hellos::Random;
use crate::hello::Plain;
use crate::hello::name::{Keys, Match, Names, exact, look_up, pattern, suffix};

fn keys() -> Keys {
    let mut random = Random(77);
    Keys {
        exact: random.bits(),
        suffix: random.bits(),
        bytes: core::array::from_fn(|_| random.bits()),
    }
}

struct Table<'a>(&'a HashMap<u64, u32>, &'a mut Vec<u64>);

impl Names for Table<'_> {
    fn find(&mut self, hash: u64) -> u32 {
        self.1.push(hash);
        self.0.get(&hash).copied().unwrap_or(0)
    }
}

/// The number of the pattern that `name` finds, from 1, and the hashes that are searched.
fn find(patterns: &[&str], name: &[u8]) -> (Match, Vec<u64>) {
    let keys = keys();
    let table: HashMap<u64, u32> = patterns
        .iter()
        .zip(1..)
        .map(|(text, class)| (pattern(&keys, text.as_bytes()), class))
        .collect();
    assert_eq!(table.len(), patterns.len());
    let buffer = filled(&[b"......", name, b".after"].concat(), b".");
    let mut asked = Vec::new();
    let place = (6, name.len() as u16);
    let found = look_up(&Plain, &buffer, &keys, Table(&table, &mut asked), place);
    (found, asked)
}

fn class(patterns: &[&str], name: &str) -> u32 {
    find(patterns, name.as_bytes()).0.class
}

#[test]
fn a_name_is_found_whatever_the_case() {
    let patterns = ["shop.example.com", "Cart.Example.COM", "b.test."];
    for (name, want) in [
        ("shop.example.com", 1),
        ("SHOP.EXAMPLE.COM", 1),
        ("shop.example.com.", 1),
        ("cart.example.com", 2),
        ("b.test", 3),
        ("B.TEST.", 3),
        ("example.com", 0),
        ("a.shop.example.com", 0),
        ("shop.example.comm", 0),
        ("xshop.example.com", 0),
        (".shop.example.com", 0),
        ("shop.example.com..", 0),
        ("shop.example.com\0", 0),
        ("\0shop.example.com", 0),
        ("shop.example.co", 0),
        ("com", 0),
        (".", 0),
    ] {
        assert_eq!(class(&patterns, name), want, "{name:?}");
    }
}

#[test]
fn a_wildcard_stands_for_any_depth_below() {
    let patterns = [
        "*.shop.example.com",
        "*.example.com",
        "shop.example.com",
        "*.org",
    ];
    for (name, want) in [
        ("a.shop.example.com", 1),
        ("c.b.a.shop.example.com", 1),
        ("C.B.A.Shop.Example.Com.", 1),
        // the name itself, and else the longest suffix
        ("shop.example.com", 3),
        ("xshop.example.com", 2),
        ("a.xshop.example.com", 2),
        ("example.com", 0),
        ("com", 0),
        ("a.org", 4),
        ("org", 0),
        ("a.organisation", 0),
    ] {
        assert_eq!(class(&patterns, name), want, "{name}");
    }
}

#[test]
fn each_depth_of_a_long_name_is_searched() {
    let keys = keys();
    let name = "a.".repeat(127) + "b";
    let (found, asked) = find(&[], name.as_bytes());
    assert_eq!((name.len(), asked.len()), (255, 128));
    assert_eq!(found.hash, exact(&keys, name.as_bytes()));
    for (depth, hash) in asked[..127].iter().enumerate() {
        let rest = &name.as_bytes()[name.len() - 1 - 2 * depth..];
        assert_eq!(*hash, suffix(&keys, rest));
    }
    assert_eq!(asked[127], found.hash);
    let longest: &str = &name[2..];
    assert_eq!(class(&[&std::format!("*.{longest}")], &name), 1);
}

/// Hash of a whole name and of a suffix, of names of which one ends with the other, or that differ
/// in one bit.
#[test]
fn different_names_have_different_hashes() {
    let keys = keys();
    let mut seen = HashMap::new();
    let mut random = Random(8);
    for _ in 0..20_000 {
        let count = 1 + random.below(20);
        let name: Vec<u8> = (0..count).map(|_| b"ab.\0"[random.below(4)]).collect();
        let stripped = name.strip_suffix(b".").unwrap_or(&name).to_vec();
        for (kind, hash) in [exact(&keys, &name), suffix(&keys, &name)]
            .iter()
            .enumerate()
        {
            let before = seen.insert(*hash, (kind, stripped.clone()));
            assert!(before.is_none_or(|before| before == (kind, stripped.clone())));
        }
    }
    assert!(seen.len() > 10_000);
    let other = Keys { suffix: 1, ..keys };
    assert_ne!(suffix(&keys, b"a"), suffix(&other, b"a"));
}

/// What makes the proof of the module: each byte has a key of its own, on which its part of the sum
/// depends.
#[test]
fn each_byte_has_its_key() {
    let one = keys();
    let name = [b'a'; 255];
    for at in 0..255 {
        let mut other = one;
        other.bytes[at] ^= 1 << 40;
        assert_ne!(exact(&one, &name), exact(&other, &name), "{at}");
        let short = &name[..at];
        assert_eq!(exact(&one, short), exact(&other, short), "{at}");
    }
}
