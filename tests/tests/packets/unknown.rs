//! Packets that cannot be read up to their ports, by accident or because somebody wants to hide:
//! filters that mirror have them all the same, filters that exclude do not, and a counter says why.

use crate::case::{Case, bytes, case, run};
use crate::edge::{Attach, Direction, Edge, frame};
use crate::headers::{all_and_port, v4, v6};
use crate::{config, exclude, filter};
use anyhow::Result;
use traffic_mirror_tests::lab::packet::{Extension, Ipv4, Packet};

const AMBIGUOUS: &str = "ambiguous-fragment";
const ORPHAN: &str = "orphan-fragment";
const UNPARSED: &str = "unparsed";

/// More extension headers than are looked through.
fn chain(headers: usize) -> Packet {
    (0..headers).fold(frame().layer(v6()), |packet, _| {
        packet.destination_options()
    })
}

fn first(id: u16) -> Ipv4 {
    Ipv4 {
        flags: Ipv4::MF,
        id,
        ..v4()
    }
}

fn rest(id: u16, protocol: u8) -> Packet {
    frame()
        .layer(Ipv4 {
            flags: 0,
            fragment_offset: 1,
            id,
            protocol: Some(protocol),
            ..v4()
        })
        .payload("the rest")
}

/// The first eight bytes of a TCP header.
fn tcp(port: u8) -> [u8; 8] {
    [0, 1, 0, port, 0, 0, 0, 1]
}

fn forged(id: u16) -> Ipv4 {
    Ipv4 {
        checksum: Some(0xbad),
        ..first(id)
    }
}

/// Whoever sends a first fragment that the kernel drops, or a second one, tells us nothing.
pub(crate) fn forgeries(edge: &mut Edge, attach: Attach) -> Result<()> {
    let v6 = |id| frame().layer(v6()).fragment(0, true, id);
    let later6 = |id| {
        frame()
            .layer(self::v6())
            .fragment(1, false, id)
            .raw(17, *b"the rest")
    };
    let any = |what: &str, packet: &Packet, why| case(what, packet).skipped(why);
    let cases = [
        case(
            "IPv4 first of a wrong checksum",
            &frame().layer(forged(600)).udp(1, 9),
        )
        .copied(),
        any("what follows it", &rest(600, 17), ORPHAN).udp_with_port(),
        case("the true first", &frame().layer(first(600)).udp(1, 443)).udp_with_port(),
        case("what follows that", &rest(600, 17)).udp_with_port(),
        case(
            "a forged one once more",
            &frame().layer(forged(600)).udp(1, 9),
        )
        .copied(),
        case("which changes nothing", &rest(600, 17)).udp_with_port(),
        case(
            "longer than the frame",
            &frame()
                .layer(Ipv4 {
                    total_length: Some(600),
                    ..first(601)
                })
                .udp(1, 9),
        )
        .inner(
            frame()
                .layer(Ipv4 {
                    total_length: Some(600),
                    ..first(601)
                })
                .udp(1, 9)
                .build()[14..]
                .to_vec(),
        )
        .copied(),
        any("what follows it", &rest(601, 17), ORPHAN).udp_with_port(),
        case("IPv4 first", &frame().layer(first(602)).udp(1, 443)).udp_with_port(),
        case("the same again", &frame().layer(first(602)).udp(1, 443)).udp_with_port(),
        any(
            "another one",
            &frame().layer(first(602)).udp(1, 9),
            AMBIGUOUS,
        )
        .udp_with_port(),
        any("what follows both", &rest(602, 17), AMBIGUOUS).udp_with_port(),
        any(
            "the first one again",
            &frame().layer(first(602)).udp(1, 443),
            AMBIGUOUS,
        )
        .udp_with_port(),
        case(
            "the same identification, TCP",
            &frame().layer(first(602)).raw(6, tcp(9)),
        )
        .tcp_without_port(),
        case("and what follows", &rest(602, 6)).tcp_without_port(),
        case("IPv6 first", &v6(603).udp(1, 9)).copied(),
        any("another one", &v6(603).udp(1, 443), AMBIGUOUS).tcp_with_port(),
        any("what follows both", &later6(603), AMBIGUOUS).tcp_with_port(),
        case("IPv6 first without ports", &v6(604).icmpv6(128, 0)).copied(),
        any("one with ports", &v6(604).udp(1, 443), AMBIGUOUS).tcp_with_port(),
        any("what follows both", &later6(604), AMBIGUOUS).tcp_with_port(),
    ];
    run(edge, attach, "forged fragments", &all_and_port(), &cases)?;
    by_another_way(edge, attach)?;
    forgotten(edge, attach)
}

/// First fragments that the kernel drops for what stands before them, or throws away because of
/// what comes after them. What follows comes before the true first.
fn forgotten(edge: &mut Edge, attach: Attach) -> Result<()> {
    let options = |id, options: &[u8]| {
        frame()
            .layer(Ipv4 {
                options: options.to_vec(),
                ..first(id)
            })
            .udp(1, 9)
    };
    let six = || frame().layer(v6());
    let later6 = |id| six().fragment(3, false, id).raw(17, *b"the rest");
    let piece = |id, flags, at| {
        frame().layer(Ipv4 {
            flags,
            fragment_offset: at,
            protocol: Some(17),
            ..first(id)
        })
    };
    let unparsed = |what: &str, packet: &Packet| case(what, packet).skipped(UNPARSED);
    let ambiguous = |what: &str, packet: &Packet| case(what, packet).skipped(AMBIGUOUS);
    let cases = [
        unparsed(
            "a source route that points nowhere",
            &options(650, &[131, 3, 0]),
        )
        .copied(),
        unparsed("what follows", &rest(650, 17)).udp_with_port(),
        ambiguous("the true first", &frame().layer(first(650)).udp(1, 443)).udp_with_port(),
        unparsed("options of one that is asked for", &options(651, &[1; 4])).copied(),
        unparsed(
            "an option to be dropped",
            &six()
                .layer(Extension::options(60, &[0x9e, 0]))
                .fragment(0, true, 652)
                .udp(1, 9),
        )
        .copied(),
        unparsed("what follows", &later6(652)).tcp_with_port(),
        ambiguous("the true first", &six().fragment(0, true, 652).udp(1, 443)).tcp_with_port(),
        unparsed(
            "a fragment header before",
            &six().fragment(0, false, 1).fragment(0, true, 653).udp(1, 9),
        )
        .copied(),
        unparsed("what follows", &later6(653)).tcp_with_port(),
        unparsed(
            "half a TCP header",
            &six().fragment(0, true, 654).raw(6, tcp(9)),
        )
        .tcp_without_port(),
        unparsed("what follows", &later6(654)).tcp_with_port(),
        unparsed(
            "nine bytes",
            &six().fragment(0, true, 655).udp(1, 9).payload([0]),
        )
        .copied(),
        unparsed("what follows", &later6(655)).tcp_with_port(),
        case(
            "sixteen bytes",
            &frame().layer(first(656)).udp(1, 9).payload([0; 8]),
        )
        .copied(),
        ambiguous(
            "what begins within",
            &piece(656, Ipv4::MF, 1).payload([0; 16]),
        )
        .udp_with_port(),
        ambiguous("what follows", &piece(656, 0, 2).payload([0; 16])).udp_with_port(),
        ambiguous("the true first", &frame().layer(first(656)).udp(1, 443)).udp_with_port(),
        case(
            "first",
            &six().fragment(0, true, 657).udp(1, 9).payload([0; 16]),
        )
        .copied(),
        ambiguous(
            "what begins within",
            &six().fragment(2, true, 657).raw(17, [0; 16]),
        )
        .tcp_with_port(),
        ambiguous("what follows", &later6(657)).tcp_with_port(),
        case("first", &frame().layer(first(658)).udp(1, 9)).copied(),
        ambiguous("what has no bytes", &piece(658, Ipv4::MF, 7)).udp_with_port(),
        ambiguous("what follows", &rest(658, 17)).udp_with_port(),
        case(
            "first",
            &six().fragment(0, true, 659).udp(1, 9).payload([0; 16]),
        )
        .copied(),
        case("what follows", &later6(659)).copied(),
        ambiguous(
            "another one, and the first is forgotten",
            &six().fragment(0, true, 659).udp(1, 443),
        )
        .tcp_with_port(),
    ];
    run(
        edge,
        attach,
        "first fragments that are forgotten",
        &all_and_port(),
        &cases,
    )
}

/// A first fragment tells those that come by as it did; one that differs makes all ambiguous,
/// wherever it comes by.
fn by_another_way(edge: &mut Edge, attach: Attach) -> Result<()> {
    let only = |way, one: Case| one.ways(&[way]);
    let tagged = |id| frame().vlan(7).layer(first(id)).udp(1, 9);
    let inner = |vlan, ip: Ipv4| frame().qinq(7, vlan).layer(ip);
    let inner_rest = |id| {
        inner(
            8,
            Ipv4 {
                flags: 0,
                fragment_offset: 1,
                protocol: Some(17),
                ..first(id)
            },
        )
        .payload("the rest")
    };
    let broadcast = |id| {
        let mut frame = frame().layer(first(id)).udp(1, 9).build();
        frame[..6].fill(0xff);
        frame
    };
    let cases = [
        only(Direction::Ingress, case("in a VLAN", &tagged(610)).copied()),
        only(
            Direction::Ingress,
            case("the rest in none", &rest(610, 17))
                .skipped(ORPHAN)
                .udp_with_port(),
        ),
        only(
            Direction::Ingress,
            case("in another VLAN within", &inner(9, first(614)).udp(1, 9)).copied(),
        ),
        only(
            Direction::Ingress,
            case("the rest", &inner_rest(614))
                .skipped(ORPHAN)
                .udp_with_port(),
        ),
        only(
            Direction::Ingress,
            case("in the same", &inner(8, first(615)).udp(1, 9)).copied(),
        ),
        only(
            Direction::Ingress,
            case("the rest", &inner_rest(615)).copied(),
        ),
        only(
            Direction::Ingress,
            bytes("by a broadcast of the link", broadcast(613)).copied(),
        ),
        only(
            Direction::Ingress,
            case("the rest for this host", &rest(613, 17))
                .skipped(ORPHAN)
                .udp_with_port(),
        ),
        only(
            Direction::Egress,
            case("the other way", &frame().layer(first(611)).udp(1, 9)).copied(),
        ),
        only(
            Direction::Ingress,
            case("the rest this way", &rest(611, 17))
                .skipped(ORPHAN)
                .udp_with_port(),
        ),
        only(
            Direction::Ingress,
            case("first", &frame().layer(first(612)).udp(1, 443)).udp_with_port(),
        ),
        only(
            Direction::Ingress,
            case("another in a VLAN", &tagged(612))
                .skipped(AMBIGUOUS)
                .udp_with_port(),
        ),
        only(
            Direction::Ingress,
            case("the rest", &rest(612, 17))
                .skipped(AMBIGUOUS)
                .udp_with_port(),
        ),
    ];
    run(
        edge,
        attach,
        "fragments by another way",
        &all_and_port(),
        &cases,
    )
}

/// First fragments that end before the ports, and what follows them.
pub(crate) fn tiny(edge: &mut Edge, attach: Attach) -> Result<()> {
    let any = |what: &str, packet: &Packet| case(what, packet).skipped(UNPARSED);
    // the kernel throws such a first away, so it tells nothing
    let lone = |packet: &Packet| any("what follows", packet);
    let six = |id| frame().layer(v6()).fragment(0, true, id);
    let later6 = |id| {
        frame()
            .layer(v6())
            .fragment(1, false, id)
            .raw(6, [1, 0xbb, 1, 0xbb])
    };
    let cases = [
        case(
            "eight bytes with ports",
            &frame()
                .layer(first(620))
                .raw(6, [0, 1, 1, 0xbb, 0, 0, 0, 1]),
        )
        .tcp_with_port(),
        case("what follows", &rest(620, 6)).tcp_with_port(),
        any("two bytes", &frame().layer(first(621)).raw(6, [0, 1])).tcp_with_port(),
        lone(&rest(621, 6)).tcp_with_port(),
        any(
            "two bytes of UDP",
            &frame().layer(first(622)).raw(17, [0, 1]),
        )
        .udp_with_port(),
        lone(&rest(622, 17)).udp_with_port(),
        any(
            "two bytes of ICMP",
            &frame().layer(first(623)).raw(1, [8, 0]),
        )
        .copied(),
        lone(&rest(623, 1)).copied(),
        case("ICMP without a first", &rest(624, 1))
            .skipped(ORPHAN)
            .copied(),
        any("IPv6 without ports", &six(625).raw(6, [0, 1])).tcp_with_port(),
        lone(&later6(625)).tcp_with_port(),
        any(
            "options without a transport header",
            &six(626).raw(60, [6, 0, 1, 4, 0, 0, 0, 0]),
        )
        .tcp_with_port(),
        lone(&later6(626)).tcp_with_port(),
        any(
            "a part of a part",
            &six(627).fragment(0, true, 628).udp(1, 9),
        )
        .tcp_with_port(),
        any("what follows the outer one", &later6(627)).tcp_with_port(),
    ];
    run(
        edge,
        attach,
        "tiny first fragments",
        &all_and_port(),
        &cases,
    )
}

pub(crate) fn excludes(edge: &mut Edge, attach: Attach) -> Result<()> {
    let filters = [
        filter("all", "", "\"a\""),
        exclude("no-port", "destination_port = [443]\nbidirectional = true"),
        exclude("no-tcp", "protocol = [\"tcp\"]"),
        exclude("no-net", "destination = [\"2001:db8:2::ff\"]"),
    ]
    .concat();
    let elsewhere = frame().ip("2001:db8:1::3", "2001:db8:2::ff");
    let nine = (0..9).fold(elsewhere, |packet, _| packet.destination_options());
    let cases = [
        case("known", &frame().layer(v4()).tcp(1, 443)).matches(["all", "no-port", "no-tcp"]),
        case("unknown ports", &rest(630, 17))
            .skipped(ORPHAN)
            .copied(),
        case("a protocol that is known", &rest(631, 6))
            .skipped(ORPHAN)
            .matches(["all", "no-tcp"]),
        case("unknown protocol", &chain(9).tcp(1, 443))
            .skipped(UNPARSED)
            .copied(),
        case("an address that is known", &nine.tcp(1, 443))
            .skipped(UNPARSED)
            .matches(["all", "no-net"]),
    ];
    run(
        edge,
        attach,
        "excludes of what is unknown",
        &config(&filters),
        &cases,
    )
}

/// `unparsed = "skip"`: counted as before, and only matched by filters that ask for none of it.
pub(crate) fn skipped(edge: &mut Edge, attach: Attach) -> Result<()> {
    let config = format!("unparsed = \"skip\"\n{}", all_and_port());
    let cut = frame().layer(v4()).tcp(1, 443).truncate(36).build();
    let cases = [
        case("nine headers", &chain(9).tcp(1, 443))
            .skipped(UNPARSED)
            .copied(),
        case("no first", &rest(640, 6))
            .skipped(ORPHAN)
            .tcp_without_port(),
        case("first", &frame().layer(first(641)).udp(1, 443)).udp_with_port(),
        case(
            "another one keeps its ports",
            &frame().layer(first(641)).udp(1, 9),
        )
        .skipped(AMBIGUOUS)
        .copied(),
        case("what follows", &rest(641, 17))
            .skipped(AMBIGUOUS)
            .copied(),
        bytes("cut off", cut.clone())
            .inner(&cut[14..])
            .skipped(UNPARSED)
            .tcp_without_port(),
    ];
    run(edge, attach, "what is unknown is skipped", &config, &cases)?;
    let cases = [
        case("nine headers", &chain(9).tcp(1, 443))
            .skipped(UNPARSED)
            .tcp_with_port(),
        case("two hundred", &chain(200).udp(1, 443))
            .skipped(UNPARSED)
            .tcp_with_port(),
    ];
    run(edge, attach, "and no longer", &all_and_port(), &cases)
}
