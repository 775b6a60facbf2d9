use super::*;

const CLIENT: u32 = 1;
const SERVER: u32 = 0;
const ISN: u32 = u32::MAX - 5;
const BEGIN: u32 = ISN.wrapping_add(1);
const HELLO: u32 = 517;
const END: u32 = BEGIN.wrapping_add(HELLO);

/// A flow as the programs keep it.
#[derive(Default)]
struct Kept {
    known: Known,
    tentative: Tentative,
    now: u32,
}

impl Kept {
    fn meet(&mut self, segment: Segment) -> (Step, Visit) {
        let mut visit = Visit {
            known: self.known,
            tentative: self.tentative,
            segment,
            now: self.now,
            ..Visit::default()
        };
        let step = step(&mut visit);
        if visit.forget != 0 {
            self.known = Known::default();
        }
        match step {
            Step::Known => self.known = visit.known,
            Step::Confirm => (self.known, self.tentative) = (visit.known, Tentative::default()),
            Step::Conclude | Step::Remember => self.tentative = visit.tentative,
            _ => {}
        }
        (step, visit)
    }

    fn step(&mut self, segment: Segment) -> Step {
        self.meet(segment).0
    }

    /// The payload at this place is to be read.
    fn reads(&mut self, segment: Segment, offset: u32) -> Visit {
        let (step, visit) = self.meet(segment);
        assert_eq!((step, visit.offset), (Step::Read, offset));
        visit
    }

    /// The name was read.
    fn read(&mut self, visit: &Visit, known: Known, end: u32) {
        self.tentative = visit.tentative.decided(known, end, self.now);
    }
}

fn segment(side: u32, flags: u32, sequence: u32, acknowledgment: u32, payload: u32) -> Segment {
    Segment {
        sequence,
        acknowledgment,
        payload,
        flags,
        side,
    }
}

fn syn() -> Segment {
    segment(CLIENT, Segment::SYN, ISN, 0, 0)
}

fn syn_ack() -> Segment {
    segment(SERVER, Segment::SYN | Segment::ACK, 1000, BEGIN, 0)
}

fn hello() -> Segment {
    segment(CLIENT, Segment::ACK, BEGIN, 1001, HELLO)
}

fn answer(acknowledgment: u32, payload: u32) -> Segment {
    segment(SERVER, Segment::ACK, 1001, acknowledgment, payload)
}

fn named() -> Known {
    Known::named(77, 0xabcd << 48)
}

/// Up to the hello.
fn decided() -> Kept {
    let mut flow = Kept::default();
    assert_eq!(flow.step(syn()), Step::Remember);
    assert_eq!(flow.step(syn_ack()), Step::Unknown);
    assert_eq!(
        flow.step(segment(CLIENT, Segment::ACK, BEGIN, 1001, 0)),
        Step::Unknown
    );
    let visit = flow.reads(hello(), 0);
    assert!(visit.tentative.has_handshake());
    flow.read(&visit, named(), END);
    flow
}

/// Up to the answer.
fn known() -> Kept {
    let mut flow = decided();
    let (step, visit) = flow.meet(answer(END, 1400));
    assert_eq!(step, Step::Confirm);
    assert_eq!(visit.known.name(), Some(77));
    assert!(visit.known.is(0xabcd << 48) && !visit.known.is(0xabce << 48));
    flow
}

#[test]
fn a_name_counts_once_the_server_has_acknowledged_it() {
    let mut flow = decided();
    for early in [BEGIN, END.wrapping_sub(1)] {
        let (step, visit) = flow.meet(answer(early, 0));
        assert_eq!(step, Step::Decided, "{early}");
        assert_eq!(visit.known.name(), Some(77));
    }
    assert_eq!(
        flow.step(hello()),
        Step::Decided,
        "the client cannot answer itself"
    );
    assert_eq!(flow.step(answer(END, 0)), Step::Confirm);
    for side in [CLIENT, SERVER] {
        assert_eq!(
            flow.step(segment(side, Segment::ACK, 5, 5, 10)),
            Step::Known
        );
    }
}

#[test]
fn without_a_handshake_the_first_payload_is_read() {
    let mut flow = Kept::default();
    assert!(!flow.reads(hello(), 0).tentative.has_handshake());
    // the SYN was pushed out, and the answer tells as much
    let mut flow = Kept::default();
    assert_eq!(flow.step(syn_ack()), Step::Remember);
    let second = segment(CLIENT, Segment::ACK, BEGIN.wrapping_add(100), 1001, 417);
    assert!(flow.reads(second, 100).tentative.has_handshake());
}

#[test]
fn a_server_that_speaks_first_has_no_name() {
    let mut flow = Kept::default();
    flow.step(syn());
    flow.step(syn_ack());
    let (step, visit) = flow.meet(answer(BEGIN, 40));
    assert_eq!((step, visit.known.name()), (Step::Conclude, None));
    // the client acknowledges the banner, with a hello or without
    let acknowledged = segment(CLIENT, Segment::ACK, BEGIN, 1041, HELLO);
    assert_eq!(flow.step(acknowledged), Step::Confirm);
}

#[test]
fn payload_of_the_first_segment_is_read() {
    let mut flow = Kept::default();
    let visit = flow.reads(segment(CLIENT, Segment::SYN, ISN, 0, HELLO), 0);
    assert!(visit.tentative.has_handshake());
    flow.read(&visit, named(), END);
    // the server takes all of it at once, or nothing
    let mut refused = Kept {
        tentative: flow.tentative,
        ..Kept::default()
    };
    let answers = [END, BEGIN].map(|acknowledgment| {
        segment(SERVER, Segment::SYN | Segment::ACK, 1000, acknowledgment, 0)
    });
    assert_eq!(flow.step(answers[0]), Step::Confirm);
    assert_eq!(refused.step(answers[1]), Step::Decided);
    assert_eq!(refused.step(answer(END, 0)), Step::Confirm);
}

#[test]
fn a_reset_and_a_late_answer_decide_nothing() {
    let mut flow = decided();
    let reset = segment(SERVER, Segment::RST | Segment::ACK, 0, END, 0);
    assert_eq!(flow.step(reset), Step::Decided);
    assert_eq!(flow.step(syn_ack()), Step::Decided);
    assert_eq!(flow.step(answer(END, 0)), Step::Confirm);
    // and one who does not know where the client is does not speak first
    let mut flow = Kept::default();
    flow.step(syn());
    let (begin, far) = (BEGIN, BEGIN.wrapping_sub(10));
    assert_eq!(flow.step(answer(far, 40)), Step::Unknown);
    assert_eq!(
        flow.step(answer(begin.wrapping_add(70_000), 40)),
        Step::Unknown
    );
    assert_eq!(flow.reads(hello(), 0).offset, 0);
}

#[test]
fn what_is_over_gives_way_to_an_answer_alone() {
    let mut flow = known();
    flow.meet(segment(SERVER, Segment::RST, 2401, END, 0));
    let (step, visit) = flow.meet(segment(SERVER, Segment::SYN | Segment::ACK, 9, 6, 0));
    assert_eq!((step, visit.forget), (Step::Remember, 1));
    flow.reads(segment(CLIENT, Segment::ACK, 6, 10, 100), 0);
}

#[test]
fn nobody_takes_a_name_back() {
    let another = segment(CLIENT, Segment::SYN, 5, 0, 0);
    for mut flow in [decided(), known()] {
        assert_eq!(flow.meet(another).1.forget, 0);
        let (_, visit) = flow.meet(segment(CLIENT, Segment::ACK, END, 2401, 100));
        assert_eq!(visit.known.name(), Some(77), "{visit:?}");
    }
}

#[test]
fn a_connection_begins_anew_when_both_sides_say_so() {
    let mut flow = known();
    // what was tentative has gone from its table, or makes room
    flow.tentative = Tentative::default();
    assert_eq!(
        flow.step(segment(CLIENT, Segment::SYN, 5, 0, 0)),
        Step::Remember
    );
    let (step, visit) = flow.meet(segment(SERVER, Segment::SYN | Segment::ACK, 9, 7, 0));
    assert_eq!(
        (step, visit.forget),
        (Step::Known, 0),
        "an answer to another"
    );
    let (step, visit) = flow.meet(segment(SERVER, Segment::SYN | Segment::ACK, 9, 6, 0));
    assert_eq!((step, visit.forget), (Step::Unknown, 1));
    flow.reads(segment(CLIENT, Segment::ACK, 6, 10, 100), 0);
}

#[test]
fn what_has_ended_or_is_silent_makes_room_first() {
    let mut flow = known();
    assert_eq!(flow.known.worth(0), IDLE_LIFE);
    assert_eq!(flow.known.worth(5), IDLE_LIFE - 5);
    assert_eq!(flow.known.worth(IDLE_LIFE + 1), 0);
    flow.meet(segment(CLIENT, Segment::FIN | Segment::ACK, END, 2401, 0));
    assert_eq!(flow.known.worth(0), IDLE_LIFE, "half closed");
    flow.meet(segment(SERVER, Segment::FIN | Segment::ACK, 2401, END, 0));
    assert_eq!(flow.known.worth(1), value::ENDED_LIFE - 1);
    let mut flow = known();
    flow.meet(segment(SERVER, Segment::RST, 2401, END, 0));
    assert_eq!(flow.known.worth(0), value::ENDED_LIFE);
}

#[test]
fn a_class_is_good_for_its_tables_alone() {
    let found = Found::new(123_456, Stamp::new(1, 7, 9));
    assert_eq!(found.class(Stamp::new(1, 7, 9)), Some(123_456));
    for (generation, epoch, step) in [(1, 6, 9), (1, 8, 9), (1, 7, 8), (1, 7, 10), (2, 7, 9)] {
        assert_eq!(found.class(Stamp::new(generation, epoch, step)), None);
    }
    assert_eq!(
        Found(0).class(Stamp::new(0, 0, 0)),
        None,
        "nothing was found yet"
    );
}

#[test]
fn both_directions_have_one_key() {
    use crate::packet::Packet;
    let keys = core::array::from_fn(|at| crate::packet::mix(at as u64 + 1));
    let packet = Packet {
        source: [1 << 32, 0],
        destination: [2 << 32, 0],
        source_port: 40_000,
        destination_port: 443,
        protocol: 6,
        ported: 1,
        ..Packet::default()
    };
    let back = Packet {
        source: packet.destination,
        destination: packet.source,
        source_port: 443,
        destination_port: 40_000,
        ..packet
    };
    let (one, other) = (key(&packet, &keys), key(&back, &keys));
    assert_eq!(one.hash, other.hash);
    assert_ne!(one.side, other.side);
    let swapped = Packet {
        source_port: 443,
        destination_port: 40_000,
        ..packet
    };
    assert_ne!(
        key(&swapped, &keys).hash,
        one.hash,
        "other ports at the same hosts"
    );
}

#[test]
fn what_lasts_does_not_change_with_time_and_ends() {
    for known in [named(), Known::undecided(Undecided::TooLong)] {
        for now in [0, 1, 0xffff] {
            for (ended, side) in [(0, 0), (1, 0), (1, 1), (3, 0)] {
                let seen = known.seen(now, ended, side);
                assert_eq!(seen.lasting(), known.lasting(), "{now} {ended} {side}");
            }
        }
    }
    assert_ne!(named().lasting(), Known::named(78, 0xabcd << 48).lasting());
    assert_ne!(named().lasting(), Known::named(77, 0xabce << 48).lasting());
}
