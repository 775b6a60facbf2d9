use super::*;

fn ends(packet: &Packet, keys: &[u64; FLOW_KEYS_OF_NAMES]) -> [u64; 2] {
    [SENDER, RECEIVER].map(|end| end_key(flow_of(packet, keys), end))
}

const KEYS: [u64; FLOW_KEYS_OF_NAMES] = {
    let (mut keys, mut n) = ([0; FLOW_KEYS_OF_NAMES], 0);
    while n < FLOW_KEYS_OF_NAMES {
        keys[n] = mix(n as u64 + 1);
        n += 1;
    }
    keys
};

fn packet(number: u8, source: (u64, u16), destination: (u64, u16)) -> Packet {
    Packet {
        source: [source.0, 0],
        source_port: source.1,
        destination: [destination.0, 0],
        destination_port: destination.1,
        protocol: number,
        ported: 1,
        version: 4,
        ..Packet::default()
    }
}

#[test]
fn the_sender_of_a_packet_is_the_receiver_of_its_answer() {
    for number in [protocol::TCP, protocol::UDP] {
        let there = packet(number, (1, 1000), (2, 443));
        let back = packet(number, (2, 443), (1, 1000));
        let [sender, receiver] = ends(&there, &KEYS);
        assert_eq!(ends(&back, &KEYS), [receiver, sender]);
        assert_ne!(sender, receiver);
        assert_eq!(port(&there, SENDER, &KEYS), port(&back, RECEIVER, &KEYS));
        assert_eq!(port(&there, RECEIVER, &KEYS), port(&back, SENDER, &KEYS));
        assert_ne!(port(&there, SENDER, &KEYS), port(&there, RECEIVER, &KEYS));
    }
}

#[test]
fn a_port_is_the_same_for_all_peers_and_no_flow() {
    let one = packet(protocol::TCP, (1, 80), (2, 1000));
    let other = packet(protocol::TCP, (1, 80), (3, 1001));
    assert_eq!(port(&one, SENDER, &KEYS), port(&other, SENDER, &KEYS));
    assert_ne!(ends(&one, &KEYS), ends(&other, &KEYS));
    let udp = packet(protocol::UDP, (1, 80), (2, 1000));
    assert_ne!(port(&one, SENDER, &KEYS), port(&udp, SENDER, &KEYS));
    assert!(!ends(&one, &KEYS).contains(&port(&one, SENDER, &KEYS)));
}

#[test]
fn a_packet_without_ports_teaches_nothing() {
    let echo = Packet {
        ported: 0,
        ..packet(protocol::ICMP, (1, 0), (2, 0))
    };
    assert_eq!(Lesson::of(&echo, 0), Lesson::None);
}

#[test]
fn only_what_takes_a_connection_teaches_a_flow() {
    let tcp = packet(protocol::TCP, (1, 80), (2, 1000));
    let (syn, ack, rst, fin) = (Segment::SYN, Segment::ACK, Segment::RST, Segment::FIN);
    for (flags, lesson) in [
        (syn, Lesson::Flow),
        (syn | ack, Lesson::Listener),
        (ack, Lesson::Unknown),
        (fin | ack, Lesson::Unknown),
        (rst, Lesson::None),
        (rst | ack, Lesson::None),
        (rst | syn, Lesson::None),
    ] {
        assert_eq!(Lesson::of(&tcp, flags), lesson, "{flags:#x}");
        assert_eq!(begins(&tcp, flags), flags == syn, "{flags:#x}");
    }
    let later = Packet {
        fragment: Packet::LATER,
        ..tcp
    };
    assert_eq!(Lesson::of(&later, 0), Lesson::None);
    let udp = packet(protocol::UDP, (1, 80), (2, 1000));
    assert_eq!(Lesson::of(&udp, 0), Lesson::Port);
    assert!(begins(&udp, 0));
}

#[test]
fn ids_of_two_cgroups_do_not_pass_for_one() {
    let of = |ids: &[u64]| ids.iter().fold(0, |sum, &id| checksum(sum, id));
    let sums = [
        &[1, 20, 30, 0],
        &[1, 20, 31, 0],
        &[1, 20, 30, 40],
        &[1, 30, 20, 0],
    ]
    .map(|ids| of(ids));
    for (nth, sum) in sums.iter().enumerate() {
        assert!(!sums[..nth].contains(sum));
    }
    assert_ne!(cgroup_hash(1, &KEYS), cgroup_hash(2, &KEYS));
}

#[test]
fn a_lesson_is_repeated_by_the_same_alone() {
    let keys = core::array::from_fn(|at| mix(at as u64 + 1));
    let one = packet(
        protocol::TCP,
        (0x0a00_0001 << 32, 443),
        (0x0a00_0002 << 32, 50_000),
    );
    let of = |packet: &Packet, index, now| lesson_of(packet, index, now, &keys);
    let same = of(&one, 3, 5);
    assert_eq!(same, of(&one, 3, 5));
    let back = packet(
        protocol::TCP,
        (0x0a00_0002 << 32, 50_000),
        (0x0a00_0001 << 32, 443),
    );
    let other = packet(
        protocol::TCP,
        (0x0a00_0001 << 32, 443),
        (0x0a00_0002 << 32, 50_001),
    );
    for differs in [
        of(&one, 4, 5),
        of(&one, 3, 6),
        of(&back, 3, 5),
        of(&other, 3, 5),
    ] {
        assert_ne!(same, differs);
    }
}
