//! What is remembered of a flow, in words.

use super::Segment;
use crate::abi::NameCell;
use crate::bits::mix;

/// Time as it is remembered of flows: units of 2^30 ns, some 1.07 s, from ns of
/// `CLOCK_MONOTONIC_COARSE`; 16 bits of it are kept.
#[must_use]
#[inline(always)]
pub const fn clock(now_ns: u64) -> u32 {
    (now_ns >> 30) as u32 & TIME_MASK
}

/// How long ago a [`clock`] was; 0 for one that another CPU has read a little later.
#[must_use]
#[inline(always)]
pub const fn age(time: u32, now: u32) -> u32 {
    let age = now.wrapping_sub(time) & TIME_MASK;
    if age > TIME_MASK / 2 { 0 } else { age }
}

const TIME_MASK: u32 = 0xffff;
const NAME_MASK: u64 = 0xff_ffff;

const TIME_SHIFT: u32 = 24;
const TAG_SHIFT: u32 = 40;
const REASON_SHIFT: u32 = 56;
const REASON_MASK: u64 = 0xf;
const ENDED_SHIFT: u32 = 60;
/// In place of one of the ends, which datagrams do not show.
const SUCCESSOR: u64 = 1 << ENDED_SHIFT;
/// Of a [`Verdict`], in place of the other.
const ECH: u64 = 1 << (ENDED_SHIFT + 1);
const SIDE: u64 = 1 << 62;
const BEGUN: u64 = 1 << 63;

/// Units of [`clock`] after which a flow that has ended makes room.
pub(super) const ENDED_LIFE: u32 = 10;
/// The same of one that is silent.
pub const IDLE_LIFE: u32 = 280;
/// The same after which an Initial begins a flow of datagrams anew: the idle timeouts of most are
/// shorter.
pub(super) const SILENT_LIFE: u32 = 56;

/// Why the server name of a flow cannot be known.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Undecided {
    /// It is known.
    #[default]
    None,
    /// The client gives none.
    NoName,
    /// Neither TLS nor HTTP.
    Other,
    /// The server speaks first.
    ServerFirst,
    /// It began before anybody looked.
    MidFlow,
    /// The name is beyond what is read.
    TooLong,
    /// No room for it.
    NoRoom,
}

/// Of a known flow: which name (24 bits), when it was last seen (16), a tag of the name (16), why
/// there is none (4), which sides have ended (2), which side is the client.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Known(pub u64);

impl Known {
    /// A flow with a name: index in `LEARNED`, and its hash.
    #[must_use]
    #[inline(always)]
    pub const fn named(name: u32, hash: u64) -> Self {
        Self(name as u64 & NAME_MASK | (hash >> 48) << TAG_SHIFT)
    }

    /// One without.
    #[must_use]
    #[inline(always)]
    pub const fn undecided(reason: Undecided) -> Self {
        Self((reason as u64) << REASON_SHIFT)
    }

    /// The same from the number of a reason ([`Undecided`]).
    #[must_use]
    #[inline(always)]
    pub const fn undecided_by(reason: u32) -> Self {
        Self((reason as u64 & REASON_MASK) << REASON_SHIFT)
    }

    /// Index of its name; `None` if it has none.
    #[must_use]
    #[inline(always)]
    pub const fn name(self) -> Option<u32> {
        if self.reason() == 0 {
            Some((self.0 & NAME_MASK) as u32)
        } else {
            None
        }
    }

    /// Why it has none, an [`Undecided`].
    #[must_use]
    #[inline(always)]
    pub const fn reason(self) -> u32 {
        (self.0 >> REASON_SHIFT & REASON_MASK) as u32
    }

    /// Whether a name with this hash is still that of the flow.
    #[must_use]
    #[inline(always)]
    pub const fn is(self, hash: u64) -> bool {
        self.0 >> TAG_SHIFT & 0xffff == hash >> 48
    }

    /// What stays as it is while the flow is known: all but when it was last seen and which sides
    /// have ended. Only this is part of a cell's check, so that what changes is one word.
    #[must_use]
    #[inline(always)]
    pub const fn lasting(self) -> u64 {
        self.0 & !((TIME_MASK as u64) << TIME_SHIFT | 3 << ENDED_SHIFT)
    }

    /// When it was last seen.
    #[must_use]
    #[inline(always)]
    pub const fn time(self) -> u32 {
        (self.0 >> TIME_SHIFT) as u32 & TIME_MASK
    }

    /// How much it is to be kept, at a [`clock`]: the less the sooner it makes room.
    #[must_use]
    #[inline(always)]
    pub const fn worth(self, now: u32) -> u32 {
        let life = if self.has_ended() {
            ENDED_LIFE
        } else {
            IDLE_LIFE
        };
        life.saturating_sub(age(self.time(), now))
    }

    /// Whether an answer to another connection of the same addresses and ports is to be believed.
    #[inline(always)]
    pub(super) const fn is_over(self, now: u32) -> bool {
        self.has_ended() || self.worth(now) == 0
    }

    /// Whether nothing was sent for so long that an Initial may begin another connection.
    #[inline(always)]
    pub(super) const fn is_silent(self, now: u32) -> bool {
        age(self.time(), now) >= SILENT_LIFE
    }

    /// Of a flow of datagrams: whether another connection may have begun, which is tentative.
    #[must_use]
    #[inline(always)]
    pub const fn has_successor(self) -> bool {
        self.0 & SUCCESSOR != 0
    }

    /// The same, set or not.
    #[inline(always)]
    pub(super) const fn succeeded(self, is_so: bool) -> Self {
        Self(self.0 & !SUCCESSOR | if is_so { SUCCESSOR } else { 0 })
    }

    const fn has_ended(self) -> bool {
        self.0 >> ENDED_SHIFT & 3 == 3
    }

    /// With a segment that was seen. `ended` is relative to its side.
    #[must_use]
    #[inline(always)]
    pub const fn seen(self, now: u32, ended: u32, side: u32) -> Self {
        let ended = if ended == 1 { 1 << (side & 1) } else { ended };
        let rest = self.0 & !((TIME_MASK as u64) << TIME_SHIFT);
        Self(rest | (now as u64) << TIME_SHIFT | (ended as u64) << ENDED_SHIFT)
    }
}

/// Of a flow whose other side has not answered: as [`Known`], and where the first side begins, or
/// ends what it had to say.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tentative {
    /// As [`Known`], and whether nothing was said yet.
    pub value: u64,
    /// The sequence number of the first byte of the first side; once it has said what counts, of
    /// the first behind that.
    pub sequence: u32,
    /// Zero.
    pub reserved: u32,
}

impl Tentative {
    /// A connection that begins.
    #[inline(always)]
    pub(super) const fn begun(sequence: u32, side: u32, now: u32) -> Self {
        Self {
            value: BEGUN | if side == 0 { 0 } else { SIDE } | (now as u64) << TIME_SHIFT,
            sequence,
            reserved: 0,
        }
    }

    /// The same of datagrams, from which side has begun and a [`clock`].
    #[must_use]
    #[inline(always)]
    pub const fn of_datagrams(side: u32, now: u32) -> Self {
        Self::begun(0, side, now)
    }

    /// One whose beginning was not seen.
    #[inline(always)]
    pub(super) const fn without_handshake(self) -> Self {
        Self {
            value: self.value | (Undecided::MidFlow as u64) << REASON_SHIFT,
            ..self
        }
    }

    /// Whether the connection has begun, and nothing was said.
    #[must_use]
    #[inline(always)]
    pub const fn is_begun(self) -> bool {
        self.value & BEGUN != 0
    }

    /// Whether its handshake was seen.
    #[must_use]
    #[inline(always)]
    pub const fn has_handshake(self) -> bool {
        self.value >> REASON_SHIFT & REASON_MASK == 0
    }

    /// The first side: 1 if its address and port are the higher ones.
    #[must_use]
    #[inline(always)]
    pub const fn side(self) -> u32 {
        (self.value & SIDE != 0) as u32
    }

    /// When it was last changed, a [`clock`].
    #[must_use]
    #[inline(always)]
    pub const fn time(self) -> u32 {
        (self.value >> TIME_SHIFT) as u32 & TIME_MASK
    }

    /// How long ago that was.
    #[must_use]
    #[inline(always)]
    pub const fn age(self, now: u32) -> u32 {
        age(self.time(), now)
    }

    /// The first side has said it; `end` is the sequence number behind.
    #[must_use]
    #[inline(always)]
    pub const fn decided(self, known: Known, end: u32, now: u32) -> Self {
        Self {
            value: known.0 & !(BEGUN | SIDE | (TIME_MASK as u64) << TIME_SHIFT)
                | self.value & SIDE
                | (now as u64) << TIME_SHIFT,
            sequence: end,
            reserved: 0,
        }
    }

    /// A segment shows that the name cannot be known.
    #[must_use]
    #[inline(always)]
    pub(super) const fn undecided(reason: Undecided, segment: &Segment, now: u32) -> Self {
        let side = Self::begun(0, segment.side, now);
        let end = segment.first().wrapping_add(segment.payload);
        side.decided(Known::undecided(reason), end, now)
    }

    /// What is known once the other side answers.
    #[inline(always)]
    pub(super) const fn known(self, now: u32) -> Known {
        Known(self.value & !(BEGUN | SIDE)).seen(now, 0, 0)
    }
}

/// What the daemon has read of a flow of datagrams, in one word, so that a packet sees it whole or
/// not at all: as [`Known`], with a tag of the flow in place of the time, since the cell may be that
/// of another flow by then. 0 if it has read nothing.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Verdict(pub u64);

impl Verdict {
    /// Of the flow with this key. `has_ech` is 1 if the client offers Encrypted ClientHello, else 0.
    #[must_use]
    #[inline(always)]
    pub const fn new(known: Known, has_ech: u32, key: u64) -> Self {
        let ech = if has_ech == 0 { 0 } else { ECH };
        Self(BEGUN | ech | known.lasting() & !SIDE | Self::tag(key))
    }

    /// 1 if the client offers Encrypted ClientHello.
    #[must_use]
    #[inline(always)]
    pub const fn has_ech(self) -> u32 {
        (self.0 & ECH != 0) as u32
    }

    /// What is known of the flow with this key; 0 if nothing is.
    #[must_use]
    #[inline(always)]
    pub const fn of(self, key: u64) -> Known {
        if self.0 & BEGUN != 0 && self.0 & (TIME_MASK as u64) << TIME_SHIFT == Self::tag(key) {
            Known(Known(self.0).lasting() & !BEGUN)
        } else {
            Known(0)
        }
    }

    const fn tag(key: u64) -> u64 {
        (key >> 48) << TIME_SHIFT
    }
}

/// The class of a name (24 bits), and of which tables (40).
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found(pub u64);

impl Found {
    const CLASS_BITS: u32 = NameCell::CLASSES.trailing_zeros();

    /// A class in these tables.
    #[must_use]
    #[inline(always)]
    pub const fn new(class: u32, tables: Stamp) -> Self {
        Self(class as u64 | tables.0 << Self::CLASS_BITS)
    }

    /// The class, be it that of other tables.
    #[must_use]
    #[inline(always)]
    pub const fn any(self) -> u32 {
        self.0 as u32 & (NameCell::CLASSES - 1)
    }

    /// The class; `None` if it is that of other tables.
    #[must_use]
    #[inline(always)]
    pub const fn class(self, tables: Stamp) -> Option<u32> {
        if self.0 >> Self::CLASS_BITS == tables.0 {
            Some(self.any())
        } else {
            None
        }
    }
}

/// Tables at a time: 40 bits, never 0. A hash, so that none of later tables is likely to be that of
/// earlier ones, however often they change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp(u64);

impl Stamp {
    /// Of a generation of tables, its epoch, and how often the daemon has begun to write.
    #[must_use]
    #[inline(always)]
    pub const fn new(generation: u32, epoch: u32, step: u64) -> Self {
        let tables = (generation as u64) << 32 | epoch as u64;
        Self(mix(tables.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ step) >> 24 | 1)
    }
}
