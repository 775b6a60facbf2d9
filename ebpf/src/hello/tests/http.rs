use std::format;
use std::string::String;
use std::vec;

use super::hellos::{Random, request};
use super::{assert_final, found, nameless, oracle, search, search_prefixes};
use crate::hello::Outcome;

#[test]
fn host_is_found_however_it_is_written() {
    let written = [
        ("Host: a.test", "a.test"),
        ("host:a.test", "a.test"),
        ("HOST:   a.test  ", "a.test"),
        ("hOsT:\ta.test\t", "a.test"),
        ("Host: a.test:8080", "a.test"),
        ("Host: a.test:", "a.test"),
        ("Host: A.Test", "A.Test"),
        ("Host: a.test.", "a.test."),
        ("Host: 192.0.2.1:80", "192.0.2.1"),
        ("Host: [2001:db8::1]:80", "2001:db8::1"),
        ("Host: [2001:db8::1]", "2001:db8::1"),
    ];
    for (line, name) in written {
        // the third is a vertical tab, which differs from a line feed in its last bit
        let lines = [
            "Accept: */*",
            "X-Host: b.test",
            "\u{b}Host: c.test",
            "X: Host: d.test",
        ];
        for before in 0..=lines.len() {
            let lines = [&lines[..before], &[line, "Cookie: e=f"]].concat();
            let stream = request("GET /a?b=http://g.test/ HTTP/1.1", &lines);
            assert_eq!(search_prefixes(&stream), found(name, false), "{line}");
            // with bare LF, and one empty line before
            let bare = String::from_utf8(stream).unwrap().replace('\r', "");
            assert_eq!(search_prefixes(bare.as_bytes()), found(name, false));
            let later = format!("\r\n{bare}");
            assert_eq!(search_prefixes(later.as_bytes()), found(name, false));
        }
    }
}

#[test]
fn heads_without_a_host_have_no_name() {
    let heads = [
        request("GET / HTTP/1.0", &[]),
        request("GET / HTTP/1.1", &["Accept: */*"]),
        request("GET / HTTP/1.1", &["Host:"]),
        request("GET / HTTP/1.1", &["Host:   "]),
        request("GET / HTTP/1.1", &["Host: :80"]),
        request("GET / HTTP/1.1", &["Host: []:80"]),
        request("GET / HTTP/1.1", &["Host: [::1"]),
        request("GET / HTTP/1.1", &["Host : a.test"]),
        request("GET / HTTP/1.1", &[&format!("Host: {}", "a".repeat(256))]),
        request("GET / HTTP/1.1", &[&format!("Host: {}", "a".repeat(400))]),
        request("GET http:///a HTTP/1.1", &["Host: a.test"]),
        request("GET http://@ HTTP/1.1", &["Host: a.test"]),
        request("CONNECT :443 HTTP/1.1", &["Host: a.test"]),
    ];
    for head in heads {
        assert_eq!(search_prefixes(&head), nameless(Outcome::NoName));
    }
    let name = "a".repeat(255);
    let head = request("GET / HTTP/1.1", &[&format!("Host: {name}")]);
    assert_eq!(search_prefixes(&head), found(&name, false));
}

/// RFC 9112 sections 3.2.2 and 3.2.3.
#[test]
fn the_target_counts_more_than_host() {
    let targets = [
        ("GET http://a.test/b HTTP/1.1", "a.test"),
        ("GET HTTP://a.test HTTP/1.1", "a.test"),
        ("GET https://a.test:8443?b HTTP/1.1", "a.test"),
        ("GET http://user:word@a.test:80/ HTTP/1.1", "a.test"),
        ("GET http://b.test@a.test/ HTTP/1.1", "a.test"),
        ("GET http://[2001:db8::1]:80/ HTTP/1.1", "2001:db8::1"),
        ("GET http://a.test#b HTTP/1.1", "a.test"),
        ("CONNECT a.test:443 HTTP/1.1", "a.test"),
        ("CONNECT [2001:db8::1]:443 HTTP/1.1", "2001:db8::1"),
    ];
    for (first, name) in targets {
        let head = request(first, &["Host: b.test"]);
        assert_eq!(search_prefixes(&head), found(name, false), "{first}");
    }
    let hosts = [
        "OPTIONS * HTTP/1.1",
        "GET /http://a.test/ HTTP/1.1",
        "GET ftp://a.test/ HTTP/1.1",
        "CONNECTED a.test:443 HTTP/1.1",
        "VERSION-CONTROL /a b HTTP/1.1",
    ];
    for first in hosts {
        let head = request(first, &["Host: b.test", "Host: c.test"]);
        assert_eq!(search_prefixes(&head), found("b.test", false), "{first}");
    }
}

#[test]
fn other_protocols_are_no_requests() {
    let other = [
        "GET / HTTP/1.x\r\n",
        "GET / HTTP/0.9\r\n",
        "GET  HTTP/1.1\r\n",
        "GET /\r\n",
        "GET /\ta HTTP/1.1\r\n",
        "GET / HTTP/1.1\ra",
        "GET / HTTP/1.1\0",
        "GeT / HTTP/1.1\r\n",
        "get / HTTP/1.1\r\n",
        "-GET / HTTP/1.1\r\n",
        " GET / HTTP/1.1\r\n",
        "EHLO a.test\r\n",
        "PING\r\n",
        "HTTP/1.1 200 OK\r\n",
        "ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFGH / HTTP/1.1\r\n",
    ];
    for stream in other {
        let reading = search_prefixes(stream.as_bytes());
        assert_eq!(reading, nameless(Outcome::Other), "{stream}");
    }
}

/// RFC 9113 section 3.4.
#[test]
fn http2_without_tls_is_told() {
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    assert_eq!(search_prefixes(preface), nameless(Outcome::Http2));
}

#[test]
fn long_heads_are_searched_to_the_end() {
    let cookie = |bytes: usize| format!("Cookie: {}", "a".repeat(bytes));
    let fixed = request("GET / HTTP/1.1", &[&cookie(0), "Host: a.test"]).len();
    // without the second line end
    for (bytes, want) in [
        (4096, found("a.test", false)),
        (4100, nameless(Outcome::TooLong)),
    ] {
        let head = request(
            "GET / HTTP/1.1",
            &[&cookie(bytes + 2 - fixed), "Host: a.test"],
        );
        assert_eq!(search(&head), want);
        assert_eq!(oracle::read(&head), want);
    }
    assert_eq!(search(&[b'G'; 4096]), nameless(Outcome::Other));
    let target = [&b"GET /"[..], &[b'a'; 4096]].concat();
    assert_eq!(search(&target), nameless(Outcome::TooLong));
    assert_eq!(search(&target[..4095]), nameless(Outcome::More));
    for (lines, want) in [(100, Outcome::Found), (700, Outcome::TooLong)] {
        let mut lines = vec!["a:"; lines];
        lines.push("Host: a.test");
        let head = request("GET / HTTP/1.1", &lines);
        assert_eq!(search_prefixes(&head).outcome, want);
    }
}

/// The bytes of requests in any order, and any other byte between them.
#[test]
fn both_readers_say_the_same_of_anything() {
    let mut random = Random(3);
    let words: [&[u8]; 24] = [
        b"GET",
        b"CONNECT",
        b" ",
        b" ",
        b"/",
        b"http://",
        b"https://",
        b"HTTP/1.1",
        b"HTTP/2.0",
        b"\r\n",
        b"\r\n",
        b"\n",
        b"\r",
        b"Host:",
        b"host: ",
        b"a.test",
        b":80",
        b"[",
        b"]",
        b"@",
        b"\x0b",
        b"\x01",
        b"\t",
        b"X: y",
    ];
    let mut founds = 0;
    for _ in 0..20_000 {
        let mut stream = vec![];
        if random.below(2) == 0 {
            stream.extend_from_slice(b"GET / HTTP/1.1\r\n");
        }
        for _ in 0..random.below(12) {
            stream.extend_from_slice(words[random.below(words.len())]);
        }
        let early = random.below(stream.len() + 1);
        let (early, whole) = (search(&stream[..early]), search(&stream));
        assert_eq!(whole, oracle::read(&stream), "{stream:?}");
        assert_final(&early, &whole);
        founds += usize::from(whole.outcome == Outcome::Found);
    }
    assert!(founds > 300, "{founds}");
}
