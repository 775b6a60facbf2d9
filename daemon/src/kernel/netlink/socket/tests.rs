use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::thread;

use netlink_packet_core::NLM_F_MULTIPART;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::LinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};

use super::*;

/// Asks a kernel that answers the nth attempt with the nth of `answers`.
fn ask(answers: Vec<Vec<Vec<u8>>>) -> Result<Vec<Vec<u8>>, Error> {
    let flags = SockFlag::empty();
    let (ours, kernel) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).expect("socketpair");
    setsockopt(&ours, sockopt::ReceiveTimeout, &TimeVal::milliseconds(50)).expect("timeout");
    // SAFETY: the descriptor is open and has no other owner.
    let socket = unsafe { Socket::from_raw_fd(ours.into_raw_fd()) };
    let mut requests = RequestSocket {
        socket,
        protocol: NETLINK_ROUTE,
        sequence: 0,
        buffer: buffer(),
    };
    let server = thread::spawn(move || serve(&kernel, answers));
    let message = RouteNetlinkMessage::GetLink(LinkMessage::default());
    let result = requests.dump(&"ask", message);
    drop(requests);
    server.join().expect("the kernel");
    result.map(|answers| answers.into_iter().map(|answer| answer.payload).collect())
}

fn serve(kernel: &OwnedFd, mut answers: Vec<Vec<Vec<u8>>>) {
    let mut request = [0; 4096];
    while recv(kernel.as_raw_fd(), &mut request, MsgFlags::empty()).is_ok_and(|length| length > 0) {
        for datagram in answers.drain(..answers.len().min(1)).flatten() {
            send(kernel.as_raw_fd(), &datagram, MsgFlags::empty()).expect("send");
        }
    }
}

fn message(kind: u16, flags: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let length = 16 + u32::try_from(payload.len()).expect("short");
    let mut bytes = [length.to_ne_bytes(), [0; 4], sequence.to_ne_bytes(), [0; 4]].concat();
    bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
    bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
    bytes.extend(payload);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn link(sequence: u32, payload: &[u8]) -> Vec<u8> {
    message(libc::RTM_NEWLINK, NLM_F_MULTIPART, sequence, payload)
}

fn done(sequence: u32) -> Vec<u8> {
    message(NLMSG_DONE, NLM_F_MULTIPART, sequence, &[0; 4])
}

#[test]
fn an_answer_of_several_datagrams_is_whole() {
    let first = [link(1, b"one"), link(1, b"three")].concat();
    let answer = ask(vec![vec![first, link(1, b"four"), done(1)]]).expect("an answer");
    assert_eq!(answer, [&b"one"[..], b"three", b"four"]);
}

#[test]
fn a_socket_that_fails_is_opened_anew() {
    let mut requests = RequestSocket::open(NETLINK_ROUTE).expect("a socket");
    let nowhere = std::net::UdpSocket::bind("127.0.0.1:0").expect("another socket");
    assert_eq!(
        // SAFETY: both descriptors are open; the second still belongs to its owner.
        unsafe { libc::dup2(nowhere.as_raw_fd(), requests.raw()) },
        requests.raw()
    );
    let links = requests
        .dump(&"ask", RouteNetlinkMessage::GetLink(LinkMessage::default()))
        .expect("an answer");
    assert!(!links.is_empty(), "not even lo");
}

#[test]
fn answers_to_others_are_passed_over() {
    let stale = [link(0, b"stale"), done(0)].concat();
    let answer = ask(vec![vec![stale, link(1, b"one"), done(1)]]).expect("an answer");
    assert_eq!(answer, [b"one"]);
}

#[test]
fn a_torn_answer_is_asked_for_again() {
    let torn = message(
        libc::RTM_NEWLINK,
        NLM_F_MULTIPART | NLM_F_DUMP_INTR,
        1,
        b"torn",
    );
    let answer = ask(vec![vec![torn, done(1)], vec![link(2, b"two"), done(2)]]).expect("an answer");
    assert_eq!(answer, [b"two"]);
}

#[test]
fn a_lost_answer_is_asked_for_again() {
    let oversized = link(2, &vec![0; BUFFER_BYTES]);
    let answers = vec![
        vec![link(1, b"one")],
        vec![oversized, done(2)],
        vec![done(3)],
    ];
    assert_eq!(ask(answers).expect("an answer"), Vec::<Vec<u8>>::new());
    assert_eq!(
        ask(vec![]).unwrap_err().to_string(),
        "cannot ask: no complete answer after 8 attempts"
    );
}

#[test]
fn a_refusal_carries_the_text_of_the_kernel() {
    let code = (-libc::EBUSY).to_ne_bytes();
    let text = [
        &9u16.to_ne_bytes()[..],
        &NLMSGERR_ATTR_MSG.to_ne_bytes(),
        b"Busy\0\0\0\0",
    ]
    .concat();
    let error = [&code[..], &[0; 16], &text].concat();
    let done = [&code[..], &text].concat();
    for (kind, payload) in [(NLMSG_ERROR, error), (NLMSG_DONE, done)] {
        let told = ask(vec![vec![message(kind, NLM_F_ACK_TLVS, 1, &payload)]]).unwrap_err();
        assert_eq!(
            told.to_string(),
            "cannot ask: Device or resource busy (EBUSY): Busy"
        );
        let mute = ask(vec![vec![message(kind, 0, 1, &payload)]]).unwrap_err();
        assert_eq!(
            mute.to_string(),
            "cannot ask: Device or resource busy (EBUSY)"
        );
    }
}
