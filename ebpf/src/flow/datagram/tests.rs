use super::super::Undecided;
use super::*;
use crate::flow::Verdict;

const CLIENT: u32 = 1;
const SERVER: u32 = 0;
/// Beginnings of connection IDs.
const RANDOM: u32 = 0x1111_1111;
const OF_CLIENT: u32 = 0x2222_2222;
const OF_SERVER: u32 = 0x3333_3333;
const KEY: u64 = 0xfeed_0000_0000_1234;

/// A flow as the programs keep it.
#[derive(Default)]
struct Kept {
    known: Known,
    tentative: Tentative,
    read: Read,
    now: u32,
}

impl Kept {
    fn meet(&mut self, datagram: Datagram) -> (Step, Visit) {
        let mut visit = Visit {
            known: self.known,
            datagram,
            now: self.now,
            ..Visit::default()
        };
        if !is_plain(&visit) {
            (visit.tentative, visit.read) = (self.tentative, self.read);
        }
        let step = step(&mut visit);
        if visit.forget != 0 {
            self.known = Known::default();
        }
        match step {
            Step::Begin => (self.tentative, self.read) = (visit.tentative, visit.read),
            Step::Ask | Step::Unknown | Step::Decided => self.read = visit.read,
            Step::Confirm => self.tentative = Tentative::default(),
            _ => {}
        }
        if step == Step::Confirm || self.known.0 != 0 {
            self.known = visit.known;
        }
        (step, visit)
    }

    fn step(&mut self, datagram: Datagram) -> Step {
        self.meet(datagram).0
    }

    /// The daemon has read a name.
    fn tell(&mut self, name: u32) {
        self.read.known = Verdict::new(Known::named(name, 77 << 48), 1, KEY).of(KEY);
    }
}

fn datagram(side: u32, destination: u32, source: u32) -> Datagram {
    Datagram {
        destination,
        source,
        packets: 1,
        is_initial: 0,
        side,
        bytes: 1200,
    }
}

fn initial(side: u32, destination: u32, source: u32) -> Datagram {
    Datagram {
        is_initial: 1,
        ..datagram(side, destination, source)
    }
}

fn first() -> Datagram {
    initial(CLIENT, RANDOM, OF_CLIENT)
}

fn answer() -> Datagram {
    initial(SERVER, OF_CLIENT, OF_SERVER)
}

fn proof() -> Datagram {
    datagram(CLIENT, OF_SERVER, 0)
}

/// A flow that is known by this name.
fn known(name: u32) -> Kept {
    let mut kept = Kept::default();
    assert_eq!(kept.step(first()), Step::Begin);
    kept.tell(name);
    assert_eq!(kept.step(answer()), Step::Decided);
    assert_eq!(kept.step(proof()), Step::Confirm);
    assert_eq!(kept.known.name(), Some(name));
    kept
}

#[test]
fn what_an_initial_says_is_known_once_its_sender_answers_the_server() {
    let mut kept = Kept::default();
    assert_eq!(kept.step(first()), Step::Begin);
    assert_eq!(kept.step(first()), Step::Ask);
    // the daemon has not read it yet
    assert_eq!(kept.step(answer()), Step::Unknown);
    assert_eq!(kept.step(proof()), Step::Unknown);
    kept.tell(5);
    // one who does not know the server's answer
    assert_eq!(kept.step(datagram(CLIENT, RANDOM, 0)), Step::Decided);
    assert_eq!(kept.step(datagram(CLIENT, 0, 0)), Step::Decided);
    // nor does the server itself prove anything
    assert_eq!(kept.step(datagram(SERVER, OF_SERVER, 0)), Step::Decided);
    let (step, visit) = kept.meet(proof());
    assert_eq!((step, visit.known.name()), (Step::Confirm, Some(5)));
    for side in [CLIENT, SERVER] {
        assert_eq!(kept.step(datagram(side, 1, 0)), Step::Known);
    }
}

#[test]
fn a_flow_without_an_initial_is_undecided() {
    let mut kept = Kept::default();
    for side in [CLIENT, SERVER] {
        assert_eq!(kept.step(datagram(side, 1, 2)), Step::Skip);
    }
}

#[test]
fn packets_are_counted_and_those_of_a_superpacket_each() {
    let mut kept = Kept::default();
    kept.step(Datagram {
        packets: 2,
        ..first()
    });
    kept.step(Datagram {
        packets: 10,
        ..answer()
    });
    kept.step(proof());
    assert_eq!(kept.read.packets, 13);
    kept.read.packets = u32::MAX;
    kept.step(proof());
    assert_eq!(kept.read.packets, u32::MAX);
}

#[test]
fn a_known_flow_has_its_name_until_another_connection_is_confirmed() {
    let mut kept = known(5);
    let again = initial(CLIENT, 0x4444_4444, OF_CLIENT);
    let (step, visit) = kept.meet(again);
    assert_eq!((step, visit.known.name()), (Step::Begin, Some(5)));
    kept.tell(6);
    // of the connection before
    let (step, visit) = kept.meet(proof());
    assert_eq!((step, visit.known.name()), (Step::Decided, Some(5)));
    kept.step(initial(SERVER, OF_CLIENT, 0x5555_5555));
    let (step, visit) = kept.meet(datagram(CLIENT, 0x5555_5555, 0));
    assert_eq!((step, visit.known.name()), (Step::Confirm, Some(6)));
    assert!(!kept.known.has_successor());
    assert_eq!(kept.step(proof()), Step::Known);
}

/// What was tentative beside it was pushed out.
#[test]
fn a_known_flow_without_a_successor_is_plain_again() {
    let mut kept = known(5);
    kept.step(initial(CLIENT, 0x4444_4444, OF_CLIENT));
    assert!(kept.known.has_successor());
    kept.tentative = Tentative::default();
    assert_eq!(kept.step(proof()), Step::Known);
    assert!(!kept.known.has_successor());
}

#[test]
fn a_silent_flow_begins_anew() {
    let mut kept = known(5);
    kept.now = 1000;
    let (step, visit) = kept.meet(first());
    assert_eq!(
        (step, visit.forget, visit.known),
        (Step::Begin, 1, Known(0))
    );
}

/// Else one who knows the ports could keep a client from being read.
#[test]
fn an_initial_that_was_not_answered_makes_room_after_some_seconds() {
    let mut kept = Kept::default();
    kept.step(initial(SERVER, 1, 2));
    assert_eq!(kept.step(first()), Step::Unknown);
    kept.now = ENDED_LIFE;
    assert_eq!(kept.step(first()), Step::Begin);
    assert_eq!(kept.tentative.side(), CLIENT);
    // not the server's, once the client's was read
    kept.tell(5);
    kept.now = 2 * ENDED_LIFE;
    assert_eq!(kept.step(answer()), Step::Decided);
    assert_eq!(kept.step(first()), Step::Begin, "but the client may");
}

#[test]
fn a_verdict_is_that_of_its_flow() {
    let known = Known::undecided(Undecided::NoName);
    let verdict = Verdict::new(known, 0, KEY);
    assert_eq!((verdict.of(KEY), verdict.has_ech()), (known, 0));
    let verdict = Verdict::new(known, 1, KEY);
    assert_eq!((verdict.of(KEY), verdict.has_ech()), (known, 1));
    assert_eq!(verdict.of(KEY ^ 1 << 60), Known(0));
    assert_eq!(Verdict::default().of(0), Known(0));
}

#[test]
fn headers() {
    let long = |first: u8, version: u32, id: &[u8]| {
        let version = version.to_be_bytes();
        let all = [&[first][..], &version, &[id.len() as u8], id, &[0; 12]].concat();
        header(all[..HEADER_BYTES].try_into().unwrap())
    };
    let found = |destination, is_initial, source_at| Header {
        destination,
        is_initial,
        source_at,
    };
    let id = [1, 2, 3, 4, 5, 6, 7, 8];
    for (first, version, is_initial) in [
        (0xc0, 1, 1),
        (0x8f, 1, 1),
        (0xd0, 1, 0),
        (0xf0, 1, 0),
        (0xd0, 0x6b33_43cf, 1),
        (0xc0, 0x6b33_43cf, 0),
    ] {
        let want = found(0x0102_0304, is_initial, 14);
        assert_eq!(long(first, version, &id), want, "{first:x} {version:x}");
    }
    assert_eq!(long(0xc0, 1, &[1, 2, 3]), found(0, 1, 9));
    assert_eq!(long(0xc0, 1, &[7; 20]), found(0x0707_0707, 1, 26));
    assert_eq!(long(0xc0, 1, &[7; 21]), found(0, 0, 0));
    // Version Negotiation, and a version that nobody knows
    assert_eq!(long(0xc0, 0, &id), found(0, 0, 0));
    assert_eq!(long(0xc0, 9, &id), found(0, 0, 0));
    let short = [0x40, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 0];
    assert_eq!(header(&short), found(0x0908_0706, 0, 0));
    assert_eq!(source(&[4, 1, 2, 3, 4]), 0x0102_0304);
    assert_eq!(source(&[3, 1, 2, 3, 4]), 0);
}
