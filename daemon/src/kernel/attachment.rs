//! A program on a hook: which it is, where, and by which mechanism. Its names in pins and filters.

use super::error::KernelError;
use super::netlink::FilterPlace;
use crate::compile::{Compiled, Hook};
use crate::network::Direction;

/// How programs are attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mechanism {
    /// TCX links: kernel 6.6 and newer.
    Tcx,
    /// Filters of a clsact qdisc: any kernel.
    Clsact,
}

impl Mechanism {
    /// All of them.
    pub(super) const ALL: [Self; 2] = [Self::Tcx, Self::Clsact];
}

/// A program on a hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attachment {
    /// Which program.
    pub role: Role,
    /// Index of the interface.
    pub interface: u32,
    /// Ingress or egress.
    pub direction: Direction,
}

/// What an attached program is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// `mirror`: a new version replaces it in place.
    Mirror,
    /// `encap` for the clones of one generation of maps: while one generation takes over from
    /// another, both are there.
    Encap {
        /// Number of the generation.
        generation: u32,
    },
    /// `segmenter`, likewise: for what comes out of the segmenter.
    Segmenter {
        /// Number of the generation.
        generation: u32,
    },
    /// `icmp_errors`, likewise: counts errors about copies.
    Errors {
        /// Number of the generation.
        generation: u32,
    },
}

const MIRROR: &str = "mirror";
pub(super) const ENCAP: &str = "encap";
pub(super) const SEGMENTER: &str = "segmenter";
pub(super) const ERRORS: &str = "icmp_errors";

impl Role {
    /// What it is called in pins, messages and the names of filters.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Mirror => MIRROR,
            Self::Encap { .. } => ENCAP,
            Self::Segmenter { .. } => SEGMENTER,
            Self::Errors { .. } => ERRORS,
        }
    }

    /// Whether clones are sent to it: where it is missing they would leave as they are.
    pub(super) const fn catches(self) -> bool {
        matches!(self, Self::Encap { .. } | Self::Segmenter { .. })
    }

    /// Whether it processes packets of production, and so must process each exactly once while it
    /// is relocated.
    pub(super) const fn counts(self) -> bool {
        !self.catches()
    }

    pub(super) const fn handle(self) -> u32 {
        match self {
            Self::Mirror => 1,
            Self::Encap { generation }
            | Self::Segmenter { generation }
            | Self::Errors { generation } => generation % 0xffff + 1,
        }
    }

    /// The generation whose clones it encapsulates.
    pub(super) const fn generation(self) -> Option<u32> {
        match self {
            Self::Mirror => None,
            Self::Encap { generation }
            | Self::Segmenter { generation }
            | Self::Errors { generation } => Some(generation),
        }
    }
}

impl Attachment {
    pub(super) fn pin_name(&self) -> String {
        let generation = self
            .role
            .generation()
            .map(|number| number.to_string())
            .unwrap_or_default();
        format!(
            "{}{generation}-{}-{}",
            self.role.word(),
            self.interface,
            word(self.direction)
        )
    }

    pub(super) fn from_pin_name(name: &str) -> Option<Self> {
        let mut parts = name.split('-');
        let (role, interface, direction) = (parts.next()?, parts.next()?, parts.next()?);
        let of = |word| {
            role.strip_prefix(word)
                .and_then(|generation: &str| generation.parse().ok())
        };
        let role = match (of(ENCAP), of(SEGMENTER), of(ERRORS)) {
            (Some(generation), ..) => Role::Encap { generation },
            (_, Some(generation), _) => Role::Segmenter { generation },
            (.., Some(generation)) => Role::Errors { generation },
            _ => (role == MIRROR).then_some(Role::Mirror)?,
        };
        let direction = [Direction::Ingress, Direction::Egress]
            .into_iter()
            .find(|&d| word(d) == direction)?;
        Some(Self {
            role,
            interface: interface.parse().ok()?,
            direction,
        })
    }

    /// Where its filter is, by the priority that it has.
    pub(super) fn place(&self, priority: u16) -> FilterPlace {
        FilterPlace {
            interface: self.interface,
            hook: self.direction,
            priority,
            handle: self.role.handle(),
        }
    }

    pub(super) fn error(
        &self,
        action: &'static str,
        interface: &str,
        reason: String,
    ) -> KernelError {
        KernelError::Attach {
            action,
            program: self.role.word(),
            interface: interface.to_owned(),
            direction: word(self.direction),
            reason,
        }
    }
}

/// The word for a direction in files, logs and pins.
pub const fn word(direction: Direction) -> &'static str {
    direction.word()
}

pub(super) fn mirror_of(hook: &Hook) -> Attachment {
    Attachment {
        role: Role::Mirror,
        interface: hook.interface,
        direction: hook.direction,
    }
}

/// What takes the clones of a generation: `encap` on each output and each source without link
/// headers, `segmenter` at the segmenter's exit.
pub(super) fn catchers(generation: u32, want: &Compiled) -> impl Iterator<Item = Attachment> {
    let encaps = want
        .encaps
        .iter()
        .map(move |&interface| (Role::Encap { generation }, interface));
    let segmenter = want
        .segmenter
        .map(|segmenter| (Role::Segmenter { generation }, segmenter.exit));
    let direction = Direction::Egress;
    encaps
        .chain(segmenter)
        .map(move |(role, interface)| Attachment {
            role,
            interface,
            direction,
        })
}

/// What counts errors about the copies of a generation: `icmp_errors` on each output.
pub(super) fn watchers(generation: u32, want: &Compiled) -> impl Iterator<Item = Attachment> {
    let (role, direction) = (Role::Errors { generation }, Direction::Ingress);
    want.outputs.iter().map(move |&interface| Attachment {
        role,
        interface,
        direction,
    })
}
