//! A DNS server on 127.0.0.1, by UDP and TCP on one port, and its messages. They are written byte by
//! byte after RFC 1035, not by the library that reads them.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::ask::settings::Settings;

/// Types of records.
pub(crate) const A: u16 = 1;
pub(crate) const CNAME: u16 = 5;
pub(crate) const SOA: u16 = 6;
pub(crate) const AAAA: u16 = 28;
/// Codes of replies.
pub(crate) const SERVFAIL: u8 = 2;
pub(crate) const NXDOMAIN: u8 = 3;
pub(crate) const REFUSED: u8 = 5;

/// The name of the question, as a pointer to it.
pub(crate) const QUESTION: &str = "@";

/// A question that has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) id: u16,
    /// As it was spelt.
    pub(crate) name: String,
    pub(crate) kind: u16,
    pub(crate) is_tcp: bool,
    /// Port of the client.
    pub(crate) port: u16,
}

impl Asked {
    fn parse(message: &[u8], is_tcp: bool, port: u16) -> Self {
        let word = |at: usize| u16::from_be_bytes([message[at], message[at + 1]]);
        // one question, nothing else, and the wish that the server resolves (RD)
        assert_eq!(message[2..12], [1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        let (mut at, mut name) = (12, Vec::new());
        while message[at] != 0 {
            let label = &message[at + 1..][..usize::from(message[at])];
            name.push(String::from_utf8(label.to_vec()).unwrap());
            at += 1 + label.len();
        }
        assert_eq!(word(at + 3), 1, "of class IN");
        assert_eq!(message.len(), at + 5);
        let (id, name, kind) = (word(0), name.join("."), word(at + 1));
        Self {
            id,
            name,
            kind,
            is_tcp,
            port,
        }
    }

    /// An answer without records.
    pub(crate) fn reply(&self) -> Reply {
        let (id, name, kind) = (self.id, self.name.clone(), self.kind);
        // an answer, recursion desired and available
        let flags = 0x8180;
        Reply {
            id,
            flags,
            name,
            kind,
            has_question: true,
            answers: Vec::new(),
            authority: Vec::new(),
        }
    }

    /// The question that a client would send, for tests without a server.
    pub(crate) fn about(id: u16, name: &str, kind: u16) -> Self {
        let name = name.to_owned();
        Self {
            id,
            name,
            kind,
            is_tcp: false,
            port: 0,
        }
    }
}

/// A message of a server.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) id: u16,
    pub(crate) flags: u16,
    pub(crate) name: String,
    pub(crate) kind: u16,
    pub(crate) has_question: bool,
    answers: Vec<Vec<u8>>,
    authority: Vec<Vec<u8>>,
}

impl Reply {
    pub(crate) fn code(mut self, code: u8) -> Self {
        self.flags = self.flags & 0xfff0 | u16::from(code);
        self
    }

    pub(crate) fn truncated(mut self) -> Self {
        self.flags |= 0x0200;
        self
    }

    /// Adds an address of its type.
    pub(crate) fn address(mut self, owner: &str, ttl: u32, address: &str) -> Self {
        let (kind, data) = match address.parse().unwrap() {
            std::net::IpAddr::V4(four) => (A, four.octets().to_vec()),
            std::net::IpAddr::V6(six) => (AAAA, six.octets().to_vec()),
        };
        self.answers.push(record(owner, kind, 1, ttl, &data));
        self
    }

    /// Adds so many IPv4 addresses from 10.0.0.1 on.
    pub(crate) fn addresses(mut self, count: u32) -> Self {
        for number in 1..=count {
            let address = std::net::Ipv4Addr::from(0x0a00_0000 + number);
            self = self.address(QUESTION, 60, &address.to_string());
        }
        self
    }

    pub(crate) fn alias(mut self, owner: &str, ttl: u32, to: &str) -> Self {
        self.answers.push(record(owner, CNAME, 1, ttl, &name(to)));
        self
    }

    /// Adds any record.
    pub(crate) fn record(mut self, owner: &str, kind: u16, class: u16, data: &[u8]) -> Self {
        self.answers.push(record(owner, kind, class, 60, data));
        self
    }

    /// Says that the zone has no such record (RFC 2308).
    pub(crate) fn no_data(mut self) -> Self {
        let data = [name("ns.example"), name("root.example"), vec![0; 20]].concat();
        self.authority.push(record("example", SOA, 1, 60, &data));
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let counts = [
            u16::from(self.has_question),
            self.answers.len() as u16,
            self.authority.len() as u16,
            0,
        ];
        let mut bytes = [self.id.to_be_bytes(), self.flags.to_be_bytes()].concat();
        bytes.extend(counts.iter().flat_map(|count| count.to_be_bytes()));
        if self.has_question {
            bytes.extend(name(&self.name));
            bytes.extend(self.kind.to_be_bytes());
            bytes.extend([0, 1]);
        }
        bytes.extend(self.answers.iter().chain(&self.authority).flatten());
        bytes
    }
}

fn name(text: &str) -> Vec<u8> {
    if text == QUESTION {
        // a pointer behind the header
        return vec![0xc0, 12];
    }
    let labels = text.split('.').filter(|label| !label.is_empty());
    let mut bytes: Vec<u8> = labels
        .flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat())
        .collect();
    bytes.push(0);
    bytes
}

fn record(owner: &str, kind: u16, class: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = name(owner);
    bytes.extend(kind.to_be_bytes());
    bytes.extend(class.to_be_bytes());
    bytes.extend(ttl.to_be_bytes());
    bytes.extend((data.len() as u16).to_be_bytes());
    bytes.extend(data);
    bytes
}

/// A server, which runs until the test ends.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    /// Answers each question with the messages that `answer` gives, none to many.
    pub(crate) fn new(answer: impl Fn(&Asked) -> Vec<Vec<u8>> + Send + Sync + 'static) -> Self {
        let (udp, tcp) = (0..100)
            .find_map(|_| both())
            .expect("a port for UDP and TCP");
        let address = udp.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let answer = Arc::new(answer);
        let (heard, answers) = (Arc::clone(&asked), Arc::clone(&answer));
        thread::spawn(move || serve_udp(&udp, &heard, &*answers));
        let heard = Arc::clone(&asked);
        thread::spawn(move || serve_tcp(&tcp, &heard, &*answer));
        Self { address, asked }
    }

    /// Answers each question with one message.
    pub(crate) fn simple(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        Self::new(move |asked| vec![answer(asked).bytes()])
    }

    /// What it was asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// Settings with this server alone, which has a second.
    pub(crate) fn settings(&self) -> Settings {
        settings([self.address])
    }
}

/// Settings with these servers, each of which has a second, once.
pub(crate) fn settings(servers: impl IntoIterator<Item = SocketAddr>) -> Settings {
    Settings {
        servers: servers.into_iter().collect(),
        timeout: Duration::from_secs(1),
        attempts: 1,
        rotate: false,
        only_tcp: false,
        no_ipv6: false,
    }
}

fn both() -> Option<(UdpSocket, TcpListener)> {
    let udp = UdpSocket::bind("127.0.0.1:0").ok()?;
    let tcp = TcpListener::bind(udp.local_addr().ok()?).ok()?;
    Some((udp, tcp))
}

fn serve_udp(
    socket: &UdpSocket,
    heard: &Mutex<Vec<Asked>>,
    answer: &dyn Fn(&Asked) -> Vec<Vec<u8>>,
) {
    let mut buffer = [0; 512];
    while let Ok((bytes, client)) = socket.recv_from(&mut buffer) {
        let asked = Asked::parse(&buffer[..bytes], false, client.port());
        heard.lock().unwrap().push(asked.clone());
        for message in answer(&asked) {
            // larger than a datagram: as a server must not send it
            let _ = socket.send_to(&message, client);
        }
    }
}

fn serve_tcp(
    listener: &TcpListener,
    heard: &Mutex<Vec<Asked>>,
    answer: &dyn Fn(&Asked) -> Vec<Vec<u8>>,
) {
    while let Ok((mut stream, client)) = listener.accept() {
        let Some(message) = receive(&mut stream) else {
            continue;
        };
        let asked = Asked::parse(&message, true, client.port());
        heard.lock().unwrap().push(asked.clone());
        for message in answer(&asked) {
            let length = (message.len() as u16).to_be_bytes();
            // a client that has what it needs may be gone
            let _ = stream.write_all(&[&length, message.as_slice()].concat());
        }
    }
}

fn receive(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).ok()?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message).ok()?;
    Some(message)
}
