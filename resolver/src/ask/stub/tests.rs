use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use super::*;
use crate::ask::fake::{A, AAAA, NXDOMAIN, QUESTION, REFUSED, SERVFAIL, Server, settings};

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn ask(server: &Server) -> Answer {
    resolve(&name("www.example"), Family::Four, &server.settings())
}

fn one(address: &str, ttl: u32) -> Answer {
    Ok(vec![(address.parse().unwrap(), ttl)])
}

#[test]
fn an_address_of_each_family() {
    let server = Server::simple(|asked| match asked.kind {
        A => asked.reply().address(QUESTION, 60, "192.0.2.1"),
        AAAA => asked.reply().address(QUESTION, 70, "2001:db8::1"),
        other => panic!("asked for {other}"),
    });
    assert_eq!(ask(&server), one("192.0.2.1", 60));
    let six = resolve(&name("www.example"), Family::Six, &server.settings());
    assert_eq!(six, one("2001:db8::1", 70));
    let asked = server.asked();
    assert!(
        asked
            .iter()
            .all(|asked| asked.name == "www.example" && !asked.is_tcp)
    );
    // a forger must not know the port from the question before
    assert_ne!(asked[0].port, asked[1].port);
}

#[test]
fn ids_and_ports_are_random() {
    let server = Server::simple(|asked| asked.reply().address(QUESTION, 60, "192.0.2.1"));
    for _ in 0..50 {
        ask(&server).unwrap();
    }
    let distinct = |mut numbers: Vec<u16>| {
        numbers.sort_unstable();
        numbers.dedup();
        numbers.len()
    };
    let asked = server.asked();
    assert!(distinct(asked.iter().map(|asked| asked.id).collect()) > 45);
    assert!(distinct(asked.iter().map(|asked| asked.port).collect()) > 40);
}

#[test]
fn a_thousand_addresses_come_by_tcp() {
    let server = Server::simple(|asked| match asked.is_tcp {
        true => asked.reply().addresses(1000),
        // as many as 512 bytes hold
        false => asked.reply().addresses(20).truncated(),
    });
    let addresses = ask(&server).unwrap();
    assert_eq!(addresses.len(), 1000);
    assert_eq!(addresses[999], ("10.0.3.232".parse().unwrap(), 60));
    let kinds: Vec<bool> = server.asked().iter().map(|asked| asked.is_tcp).collect();
    assert_eq!(kinds, [false, true]);
}

#[test]
fn as_many_addresses_as_a_message_can_have() {
    // 65,535 bytes (RFC 1035 section 4.2.2), of which each address takes 16
    let server = Server::simple(|asked| match asked.is_tcp {
        true => asked.reply().addresses(4000),
        false => asked.reply().truncated(),
    });
    assert_eq!(ask(&server).unwrap().len(), 4000);
}

#[test]
fn tcp_alone_if_resolv_conf_says_so() {
    let server = Server::simple(|asked| asked.reply().address(QUESTION, 60, "192.0.2.1"));
    let mut settings = server.settings();
    settings.only_tcp = true;
    let answer = resolve(&name("www.example"), Family::Four, &settings);
    assert_eq!(answer, one("192.0.2.1", 60));
    assert!(server.asked().iter().all(|asked| asked.is_tcp));
}

#[test]
fn a_chain_of_aliases_in_several_answers() {
    let server = Server::simple(|asked| match asked.name.as_str() {
        "www.example" => asked.reply().alias(QUESTION, 30, "b.example"),
        "b.example" => asked.reply().alias(QUESTION, 300, "c.example"),
        "c.example" => asked.reply().address(QUESTION, 60, "192.0.2.1"),
        other => panic!("asked for {other}"),
    });
    assert_eq!(ask(&server), one("192.0.2.1", 30));
}

#[test]
fn a_circle_of_aliases_in_several_answers_ends() {
    let server = Server::simple(|asked| match asked.name.as_str() {
        "www.example" => asked.reply().alias(QUESTION, 60, "b.example"),
        _ => asked.reply().alias(QUESTION, 60, "www.example"),
    });
    assert_eq!(ask(&server), Err(Failure::AliasLoop));
    assert_eq!(server.asked().len(), 1 + MOST_ALIASES as usize);
}

#[test]
fn what_the_owner_says_is_not_asked_of_others() {
    for (code, failure) in [(NXDOMAIN, Failure::NoSuchName), (0, Failure::NoAddress)] {
        let first = Server::simple(move |asked| asked.reply().code(code).no_data());
        let second = Server::simple(|asked| asked.reply().address(QUESTION, 60, "192.0.2.1"));
        let both = settings([first.address, second.address]);
        assert_eq!(
            resolve(&name("www.example"), Family::Four, &both),
            Err(failure)
        );
        assert_eq!(second.asked(), []);
    }
}

#[test]
fn another_server_is_asked_when_one_fails() {
    let good = || Server::simple(|asked| asked.reply().address(QUESTION, 60, "192.0.2.1"));
    let bad = [
        Server::simple(|asked| asked.reply().code(SERVFAIL)),
        Server::simple(|asked| asked.reply().code(REFUSED)),
        // silence
        Server::new(|_| Vec::new()),
        Server::simple(|asked| asked.reply().record(QUESTION, A, 1, &[1, 2, 3])),
        // truncated by TCP, too
        Server::simple(|asked| asked.reply().truncated()),
    ];
    for bad in bad {
        let both = settings([bad.address, good().address]);
        assert_eq!(
            resolve(&name("www.example"), Family::Four, &both),
            one("192.0.2.1", 60)
        );
    }
    let nobody: SocketAddr = UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let both = settings([nobody, good().address]);
    assert_eq!(
        resolve(&name("www.example"), Family::Four, &both),
        one("192.0.2.1", 60)
    );
}

#[test]
fn all_servers_are_asked_as_often_as_resolv_conf_says() {
    let servers = [0, 1].map(|_| Server::simple(|asked| asked.reply().code(SERVFAIL)));
    let mut both = settings([servers[0].address, servers[1].address]);
    both.attempts = 3;
    let answer = resolve(&name("www.example"), Family::Four, &both);
    assert_eq!(answer, Err(Failure::ServerFailure));
    assert!(servers.iter().all(|server| server.asked().len() == 3));
}

#[test]
fn the_reason_is_what_a_server_has_said() {
    let silent = Server::new(|_| Vec::new());
    assert_eq!(ask(&silent), Err(Failure::Timeout));
    let failing = Server::simple(|asked| asked.reply().code(SERVFAIL));
    let both = settings([failing.address, silent.address]);
    let answer = resolve(&name("www.example"), Family::Four, &both);
    assert_eq!(answer, Err(Failure::ServerFailure));
    assert_eq!(
        resolve(&name("a.example"), Family::Four, &settings([])),
        Err(Failure::Unreachable)
    );
}

#[test]
fn wrong_answers_before_the_right_one_are_passed_over() {
    let server = Server::new(|asked| {
        let evil = asked.reply().address(QUESTION, 60, "192.0.2.66");
        let (mut id, mut other, mut kind) = (evil.clone(), evil.clone(), evil);
        id.id ^= 0x5555;
        other.name = "evil.example".to_owned();
        kind.kind = AAAA;
        let right = asked.reply().address(QUESTION, 60, "192.0.2.1");
        let mut messages = [id, other, kind].map(|reply| reply.bytes()).to_vec();
        messages.extend([Vec::new(), vec![0], vec![0xff; 512], right.bytes()]);
        messages
    });
    assert_eq!(ask(&server), one("192.0.2.1", 60));
}

#[test]
fn a_flood_of_wrong_answers_moves_the_question_to_tcp() {
    let server = Server::new(|asked| {
        let mut reply = asked.reply().address(QUESTION, 60, "192.0.2.66");
        if asked.is_tcp {
            return vec![asked.reply().address(QUESTION, 60, "192.0.2.1").bytes()];
        }
        let guesses = (1..100).map(|guess| {
            reply.id = asked.id.wrapping_add(guess);
            reply.bytes()
        });
        guesses.collect()
    });
    assert_eq!(ask(&server), one("192.0.2.1", 60));
}

#[test]
fn other_hosts_are_not_listened_to() {
    // the answer comes from another port than the question went to
    let other = UdpSocket::bind("127.0.0.1:0").unwrap();
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 512];
        let (bytes, client) = server.recv_from(&mut buffer).unwrap();
        // NXDOMAIN
        let mut forged = buffer[..bytes].to_vec();
        forged[2..4].copy_from_slice(&[0x81, 0x83]);
        other.send_to(&forged, client).unwrap();
    });
    let answer = resolve(&name("www.example"), Family::Four, &settings([address]));
    assert_ne!(answer, Err(Failure::NoSuchName));
}

#[test]
fn rotating_answers_come_as_they_are() {
    let turn = AtomicU32::new(0);
    let server = Server::simple(move |asked| {
        let turn = turn.fetch_add(1, Ordering::Relaxed) + 1;
        asked
            .reply()
            .address(QUESTION, 0, &format!("192.0.2.{turn}"))
    });
    for turn in 1..4 {
        assert_eq!(ask(&server), one(&format!("192.0.2.{turn}"), 0));
    }
}

#[test]
fn servers_take_turns() {
    let servers: Vec<Server> = (0..3)
        .map(|_| Server::simple(|asked| asked.reply().code(NXDOMAIN)))
        .collect();
    let mut all = settings(servers.iter().map(|server| server.address));
    all.rotate = true;
    for _ in 0..100 {
        assert!(resolve(&name("www.example"), Family::Four, &all).is_err());
    }
    let counts: Vec<usize> = servers.iter().map(|server| server.asked().len()).collect();
    assert!(counts.iter().all(|count| *count > 5), "{counts:?}");
}

/// A server by TCP alone, which does that with a connection.
fn by_tcp(serve: impl Fn(&mut std::net::TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let kept = Mutex::new(Vec::new());
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut buffer = [0; 512];
            let _ = stream.read(&mut buffer);
            serve(&mut stream);
            // stays open
            kept.lock().unwrap().push(stream);
        }
    });
    address
}

#[test]
fn a_server_cannot_hold_up_a_question_by_tcp() {
    let ask = |address| {
        let mut settings = settings([address]);
        settings.only_tcp = true;
        let begin = Instant::now();
        let answer = resolve(&name("www.example"), Family::Four, &settings);
        (answer, begin.elapsed())
    };
    // says nothing, half a length, and more than it sends
    for says in [&b""[..], b"\x00", b"\xff\xffabc"] {
        let address = by_tcp(move |stream| stream.write_all(says).unwrap());
        let (answer, time) = ask(address);
        assert_eq!(answer, Err(Failure::Timeout));
        assert!(time < Duration::from_secs(20), "{time:?}");
    }
    // a byte now and then, each before a timeout
    let address = by_tcp(|stream| {
        stream.write_all(b"\xff\xff").unwrap();
        while stream.write_all(b"x").is_ok() {
            thread::sleep(Duration::from_millis(100));
        }
    });
    let (answer, time) = ask(address);
    assert_eq!(answer, Err(Failure::Timeout));
    assert!(time < Duration::from_secs(20), "{time:?}");
    // nothing at all
    let address = by_tcp(|stream| stream.write_all(b"\x00\x00").unwrap());
    assert_eq!(ask(address).0, Err(Failure::Malformed));
    let address = by_tcp(|stream| stream.shutdown(std::net::Shutdown::Both).unwrap());
    assert_eq!(ask(address).0, Err(Failure::ServerFailure));
}
