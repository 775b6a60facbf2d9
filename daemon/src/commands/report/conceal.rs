//! Input: a text for others. Output: the same without secrets, or without addresses. Pure.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// Stands in place of a secret.
const STARS: &str = "********";
/// A secret of fewer characters is no valid one, and may be a part of any word.
const LEAST: usize = 8;

/// The text without the value of `seed` of a file, however it is written there. The file in the
/// text has lost it already; this is for all other parts.
pub(super) fn secrets(text: &str, file: &str) -> String {
    let table: Option<toml::Table> = file.parse().ok();
    let seed = table.as_ref().and_then(|table| table.get("seed")?.as_str());
    match seed.filter(|seed| seed.chars().count() >= LEAST) {
        Some(seed) => text.replace(seed, STARS),
        None => text.to_owned(),
    }
}

/// The text with a word in place of each IP and hardware address: `ipv4-1`, `ipv6-1`, `mac-1`.
/// Those that say nothing about a network stay: unspecified, loopback, broadcast.
pub(super) fn addresses(text: &str) -> String {
    let mut words = Words::default();
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | ':' | '_');
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(begin) = rest.find(is_part) {
        out.push_str(&rest[..begin]);
        rest = &rest[begin..];
        let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        out.push_str(&words.replace(&rest[..end]));
        rest = &rest[end..];
    }
    out + rest
}

/// The words so far, by what they stand for.
#[derive(Default)]
struct Words(BTreeMap<String, String>);

impl Words {
    fn replace(&mut self, token: &str) -> String {
        // the end of a sentence
        let bare = token.trim_end_matches(['.', ':']);
        let end = &token[bare.len()..];
        // "::" ends an address, too
        for (address, end) in [(token, ""), (bare, end)] {
            if let Some(word) = self.word(address) {
                return word + end;
            }
        }
        token.to_owned()
    }

    fn word(&mut self, token: &str) -> Option<String> {
        if let Ok(address) = token.parse::<IpAddr>() {
            return self.ip(address);
        }
        if let Ok(socket) = token.parse::<SocketAddr>() {
            return Some(format!("{}:{}", self.ip(socket.ip())?, socket.port()));
        }
        is_mac(token).then(|| self.named("mac", token))
    }

    fn ip(&mut self, address: IpAddr) -> Option<String> {
        let is_broadcast = address == IpAddr::from([255; 4]);
        if address.is_loopback() || address.is_unspecified() || is_broadcast {
            return None;
        }
        let kind = if address.is_ipv4() { "ipv4" } else { "ipv6" };
        Some(self.named(kind, &address.to_string()))
    }

    fn named(&mut self, kind: &str, address: &str) -> String {
        let count = self.0.values().filter(|it| it.starts_with(kind)).count();
        let fresh = || format!("{kind}-{}", count + 1);
        self.0
            .entry(address.to_lowercase())
            .or_insert_with(fresh)
            .clone()
    }
}

/// Six bytes, and neither all zeros nor all ones.
fn is_mac(token: &str) -> bool {
    let bytes: Vec<&str> = token.split(':').collect();
    let is_byte = |byte: &&str| byte.len() == 2 && byte.bytes().all(|c| c.is_ascii_hexdigit());
    let is_common = ["00", "ff"].iter().any(|it| bytes.iter().all(|b| b == it));
    bytes.len() == 6 && bytes.iter().all(is_byte) && !is_common
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_is_the_same_word_everywhere() {
        let text = "to 192.0.2.10 port 6080, [2001:db8::1]:80, 2001:DB8::1/64, 192.0.2.10:80.\n\
                    link/ether 02:00:5e:00:53:01 brd ff:ff:ff:ff:ff:ff via fe80::1%eth0: 192.0.2.11.";
        let shown = "to ipv4-1 port 6080, [ipv6-1]:80, ipv6-1/64, ipv4-1:80.\n\
                     link/ether mac-1 brd ff:ff:ff:ff:ff:ff via ipv6-2%eth0: ipv4-2.";
        assert_eq!(addresses(text), shown);
    }

    #[test]
    fn what_is_no_address_stays() {
        for text in [
            "12:43:10+01:00 in foo::bar, 0.0.0.0/0, ::1, 127.0.0.1, ::, 6.18.0-1, a.b.c, dead:beef",
            "",
            "äöü: 1.2.3",
        ] {
            assert_eq!(addresses(text), text);
        }
    }

    #[test]
    fn a_seed_stands_nowhere() {
        let text = "the log has 0123456789abcdef";
        for file in [
            "seed = \"0123456789abcdef\"",
            "\"s\\u0065ed\" = '0123456789abcdef'",
        ] {
            assert_eq!(secrets(text, file), "the log has ********");
        }
        for file in ["", "seed = \"the\"", "not toml", "seed = 1"] {
            assert_eq!(secrets(text, file), text);
        }
    }
}
