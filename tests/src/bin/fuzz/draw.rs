//! Frames: of flows that filters ask for, dressed in every header, and those that the parser's
//! fuzzer has found, then damaged; and bytes that are no frame at all.

use std::fmt;

use traffic_mirror::network::Direction;
use traffic_mirror_ebpf::abi::cb;
use traffic_mirror_tests::lab::packet::eth;
use traffic_mirror_tests::lab::testrun::SkBuff;
use traffic_mirror_tests::oracle::flow::flow;
use traffic_mirror_tests::oracle::frame::frame;
use traffic_mirror_tests::oracle::random::Random;

use crate::stage::Stage;

/// One run of each program.
pub(crate) struct Case {
    pub(crate) bytes: Vec<u8>,
    pub(crate) context: SkBuff,
    pub(crate) direction: Direction,
}

/// Bytes that mean something in some header.
const TELLING: [u8; 20] = [
    0, 1, 4, 5, 6, 17, 41, 43, 44, 47, 51, 58, 60, 0x45, 0x60, 0x7f, 0x80, 0x81, 0x88, 0xff,
];
const ETHERTYPES: [u16; 6] = [0x0800, 0x86dd, 0x8100, 0x88a8, 0x0806, 0x0001];

impl Case {
    pub(crate) fn draw(random: &mut Random, stage: &Stage, longest: usize) -> Self {
        let (mut bytes, mut context) = match random.below(10) {
            0 => (noise(random, longest), SkBuff::default()),
            1 => (tunnel(random), SkBuff::default()),
            2 => (random.pick(&stage.corpus).clone(), SkBuff::default()),
            _ => {
                let flow = flow(random, &stage.desired);
                let frame = frame(random, flow);
                (frame.bytes, frame.context)
            }
        };
        if random.percent(50) {
            for _ in 0..=random.below(4) {
                damage(random, &mut bytes);
            }
        }
        stretch(random, &mut bytes, longest);
        if random.percent(10) {
            context.gso_size = random.below(1 << 16) as u32;
            context.gso_segs = random.below(1 << 16) as u32;
        }
        if random.percent(10) {
            context.tstamp = random.bits();
            // a run takes what is no shorter than the frame, up to 64 KiB (`convert___skb_to_skb`)
            context.wire_len = random.within(bytes.len() as u64, 1 << 16) as u32;
        }
        context.mark = random.bits() as u32;
        context.priority = random.bits() as u32;
        context.ifindex = stage.ifindex;
        context.cb = control_block(random, stage);
        Self {
            bytes,
            context,
            direction: *random.pick(&[Direction::Ingress, Direction::Egress]),
        }
    }

    /// Whether it bears the mark of a copy.
    pub(crate) fn is_marked(&self, secret: u64) -> bool {
        let [low, high, ..] = self.context.cb;
        (low, high) == (secret as u32, (secret >> 32) as u32)
    }
}

/// Random bytes behind any EtherType.
fn noise(random: &mut Random, longest: usize) -> Vec<u8> {
    let most = if random.percent(80) {
        200
    } else {
        longest as u64
    };
    let length = random.within(1, most) as usize;
    let mut bytes = random.bytes(length);
    if let Some(place) = bytes.get_mut(12..14) {
        place.copy_from_slice(&random.pick(&ETHERTYPES).to_be_bytes());
    }
    if let Some(first) = bytes.get_mut(14) {
        *first = *random.pick(&[0x45, 0x46, 0x4f, 0x60, 0x6f, 0x00]);
    }
    bytes
}

/// A packet that is in a tunnel, or of a copy, already.
fn tunnel(random: &mut Random) -> Vec<u8> {
    let outer = match random.below(4) {
        0 => eth().ip("10.0.0.1", "192.0.2.1"),
        1 => eth().ip("2001:db8::5", "2001:db8::1"),
        2 => eth().vlan(5).ip("10.0.0.1", "10.1.0.1"),
        _ => eth().qinq(5, 6).ip("2001:db8::5", "2001:db8::1"),
    };
    let outer = if random.percent(50) {
        outer.udp(0xc000, 6080).gue()
    } else {
        outer
    };
    let length = random.below(1200) as usize;
    let inner = outer
        .ip("10.0.0.1", "10.0.0.2")
        .tcp(1000, 443)
        .payload(random.bytes(length));
    inner.build()
}

/// Changes a frame somewhere, mostly in its headers.
fn damage(random: &mut Random, bytes: &mut Vec<u8>) {
    const HEADERS_BYTES: usize = 100;
    let reach = if random.percent(90) {
        bytes.len().min(HEADERS_BYTES)
    } else {
        bytes.len()
    };
    if reach == 0 {
        return;
    }
    let at = random.below(reach as u64) as usize;
    match random.below(8) {
        0 => bytes[at] ^= 1 << random.below(8),
        1 => bytes[at] = random.bits() as u8,
        2 => bytes[at] = *random.pick(&TELLING),
        3 => bytes[at] = bytes[at].wrapping_add(*random.pick(&[1, 4, 8, 0xf8, 0xff])),
        4 => bytes.truncate(at),
        5 => drop(bytes.drain(at..(at + random.within(1, 8) as usize).min(bytes.len()))),
        6 => {
            let length = random.within(1, 8) as usize;
            bytes.splice(at..at, random.bytes(length)).for_each(drop);
        }
        _ => {
            let from = random.below(reach as u64) as usize;
            let end = (from + random.within(1, 40) as usize).min(bytes.len());
            let copy = bytes[from..end].to_vec();
            bytes.splice(at..at, copy).for_each(drop);
        }
    }
}

/// Gives some frames another length, most of these one that their IP header agrees with.
fn stretch(random: &mut Random, bytes: &mut Vec<u8>, longest: usize) {
    match random.below(10) {
        0 => bytes.truncate(random.within(1, 80) as usize),
        1..3 => {
            let length = random.within(14, longest as u64) as usize;
            let last = *bytes.last().unwrap_or(&0);
            bytes.resize(length, last);
            let field = match bytes.get(12..15) {
                Some([8, 0, ..]) => Some((16, length - 14)),
                Some([0x86, 0xdd, ..]) => Some((18, length.saturating_sub(54))),
                _ => None,
            };
            if let Some((at, stated)) = field.filter(|_| random.percent(70))
                && let Some(place) = bytes.get_mut(at..at + 2)
            {
                place.copy_from_slice(&(stated as u16).to_be_bytes());
            }
        }
        _ => {}
    }
    bytes.truncate(longest);
}

/// What other programs may have left there, or the mark of a copy with anything behind it.
fn control_block(random: &mut Random, stage: &Stage) -> [u32; 5] {
    let mut block = std::array::from_fn(|_| random.bits() as u32);
    if random.percent(80) {
        return block;
    }
    (block[0], block[1]) = (stage.secret() as u32, (stage.secret() >> 32) as u32);
    if random.percent(10) {
        block[random.below(2) as usize] ^= 1 << random.below(32);
    }
    // mostly a copy that can be: an endpoint that is there, this generation, not wrapped yet
    let (endpoints, flags) = (
        stage.desired.endpoints.len() as u64 + 1,
        random.bits() as u32 & 0xff00 & !cb::DONE,
    );
    if random.percent(80) {
        block[cb::ENDPOINT] =
            random.below(endpoints) as u32 | flags | stage.generation << cb::GENERATION_SHIFT;
    }
    if random.percent(80) {
        block[cb::LENGTH] = random.below(2000) as u32;
    }
    block
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            bytes,
            context,
            direction,
        } = self;
        writeln!(f, "{direction:?}, {} bytes, {context:?}", bytes.len())?;
        bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
