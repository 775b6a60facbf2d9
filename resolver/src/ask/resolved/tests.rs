use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use serde_json::Value;

use super::*;

/// A socket that answers calls as systemd-resolved does, until the test ends.
fn resolved(answer: impl Fn(&Value) -> Vec<u8> + Send + 'static) -> PathBuf {
    let path = path();
    let listener = UnixListener::bind(&path).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let (mut call, mut byte) = (Vec::new(), [0]);
            while stream.read_exact(&mut byte).is_ok() && byte != [0] {
                call.extend(byte);
            }
            let call = serde_json::from_slice(&call).unwrap();
            // a client that has heard enough may be gone
            let _ = stream.write_all(&answer(&call));
        }
    });
    path
}

fn path() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = format!("resolved-{}-{number}", std::process::id());
    let path = std::env::temp_dir().join(path);
    let _ = std::fs::remove_file(&path);
    path
}

fn text(reply: &Value) -> Vec<u8> {
    format!("{reply}\0").into_bytes()
}

fn call(path: &Path, family: Family) -> Option<Answer> {
    let answer = ask(path, &Name::parse("www.example").unwrap(), family);
    let _ = std::fs::remove_file(path);
    answer
}

#[test]
fn addresses_of_the_family_that_was_asked_for() {
    let answer = |asked: &Value| {
        assert_eq!(asked["method"], "io.systemd.Resolve.ResolveHostname");
        let expected = json!({ "name": "www.example", "family": 2, "flags": 257 });
        assert_eq!(asked["parameters"], expected);
        text(&json!({ "parameters": {
            "addresses": [
                { "ifindex": 2, "family": 2, "address": [192, 0, 2, 1] },
                { "family": 2, "address": [192, 0, 2, 2] },
                { "family": 10, "address": [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1] },
                { "family": 2, "address": [192, 0, 2] },
            ],
            "name": "www.example", "flags": 1048577,
        }}))
    };
    let expected = ["192.0.2.1", "192.0.2.2"].map(|a| (a.parse().unwrap(), NO_TTL));
    assert_eq!(
        call(&resolved(answer), Family::Four),
        Some(Ok(expected.to_vec()))
    );
}

#[test]
fn ipv6_and_five_thousand_addresses() {
    let answer = |asked: &Value| {
        assert_eq!(asked["parameters"]["family"], 10);
        let one = |n: u32| {
            let address: Vec<u8> =
                [[0x20, 1, 0xd, 0xb8].as_slice(), &[0; 8], &n.to_be_bytes()].concat();
            json!({ "family": 10, "address": address })
        };
        let addresses: Vec<Value> = (0..5000).map(one).collect();
        text(
            &json!({ "parameters": { "addresses": addresses, "name": "www.example", "flags": 1 } }),
        )
    };
    let answer = call(&resolved(answer), Family::Six).unwrap().unwrap();
    assert_eq!(answer.len(), 5000);
    assert_eq!(answer[4999].0, "2001:db8::1387".parse::<IpAddr>().unwrap());
}

#[test]
fn errors_have_their_reasons() {
    let dns = |code: i64| (json!({ "rcode": code }), "DNSError");
    let bare = |error| (json!({}), error);
    for ((parameters, error), failure) in [
        (dns(3), Failure::NoSuchName),
        (dns(2), Failure::ServerFailure),
        (dns(5), Failure::Refused),
        (bare("NoSuchResourceRecord"), Failure::NoAddress),
        (bare("QueryTimedOut"), Failure::Timeout),
        (bare("MaxAttemptsReached"), Failure::Timeout),
        (bare("NoNameServers"), Failure::Unreachable),
        (bare("NetworkDown"), Failure::Unreachable),
        (bare("CNAMELoop"), Failure::AliasLoop),
        (bare("DNSSECValidationFailed"), Failure::Dnssec),
        (bare("InvalidReply"), Failure::Malformed),
        (bare("SomethingNew"), Failure::ServerFailure),
    ] {
        let reply =
            json!({ "error": format!("io.systemd.Resolve.{error}"), "parameters": parameters });
        let path = resolved(move |_| text(&reply));
        assert_eq!(call(&path, Family::Four), Some(Err(failure)), "{error}");
    }
    let path = resolved(|_| text(&json!({ "error": "org.varlink.service.MethodNotFound" })));
    assert_eq!(call(&path, Family::Four), Some(Err(Failure::ServerFailure)));
}

#[test]
fn a_reply_of_another_shape_is_malformed() {
    for reply in [
        &b"\0"[..],
        b"{\0",
        b"[]\0",
        b"{\"parameters\":{\"addresses\":3}}\0",
        b"{\"parameters\":{\"addresses\":[{\"address\":[300]}]}}\0",
        b"\xff\xfe\0",
    ] {
        let path = resolved(move |_| reply.to_vec());
        assert_eq!(
            call(&path, Family::Four),
            Some(Err(Failure::Malformed)),
            "{reply:?}"
        );
    }
    let path = resolved(|_| text(&json!({ "parameters": { "addresses": [] } })));
    assert_eq!(call(&path, Family::Four), Some(Err(Failure::NoAddress)));
    // more than any answer has
    let path = resolved(|_| vec![b' '; MOST_BYTES + (1 << 20)]);
    assert_eq!(call(&path, Family::Four), Some(Err(Failure::Malformed)));
}

#[test]
fn dns_is_asked_where_it_is_missing_or_ends() {
    assert_eq!(call(&path(), Family::Four), None);
    // nobody listens any more
    let stale = path();
    drop(UnixListener::bind(&stale).unwrap());
    assert_eq!(call(&stale, Family::Four), None);
    // it ends in the middle of its reply
    let path = resolved(|_| b"{\"parameters\":".to_vec());
    assert_eq!(call(&path, Family::Four), None);
}

#[test]
fn a_full_queue_does_not_hold_up_the_process() {
    let path = path();
    let listener = UnixListener::bind(&path).unwrap();
    // nothing accepts
    let waiting: Vec<UnixStream> = std::iter::from_fn(|| open(&path).ok())
        .take(10_000)
        .collect();
    assert!(waiting.len() < 10_000, "the queue never fills");
    assert_eq!(call(&path, Family::Four), Some(Err(Failure::Timeout)));
    drop(listener);
}
