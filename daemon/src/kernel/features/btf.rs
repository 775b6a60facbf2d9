//! Type information of the kernel (BTF, Documentation/bpf/btf.rst in its source): where members of
//! its structs are. Pure.

use std::collections::BTreeMap;

/// The requested types: aya's reader does not export them.
pub(in crate::kernel) struct Btf<'b> {
    types: Vec<Type<'b>>,
    strings: &'b [u8],
    /// Structs, unions, enums and functions by their name.
    named: BTreeMap<&'b [u8], usize>,
}

/// One type. `rest` is what stands behind the common part.
#[derive(Clone, Copy)]
struct Type<'b> {
    kind: u32,
    has_bitfields: bool,
    size_or_type: u32,
    rest: &'b [u8],
}

// BTF_KIND_*
const INT: u32 = 1;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const TYPEDEF: u32 = 8;
const VOLATILE: u32 = 9;
const CONST: u32 = 10;
const RESTRICT: u32 = 11;
const FUNC: u32 = 12;
const FUNC_PROTO: u32 = 13;
const VAR: u32 = 14;
const DATASEC: u32 = 15;
const DECL_TAG: u32 = 17;
const TYPE_TAG: u32 = 18;
const ENUM64: u32 = 19;

/// Anonymous members in each other, at most.
const DEPTH: usize = 8;

impl<'b> Btf<'b> {
    /// Reads the types whose names `wants` accepts. `None` if the bytes are not BTF, or
    /// inconsistent.
    pub(in crate::kernel) fn parse(bytes: &'b [u8], wants: impl Fn(&[u8]) -> bool) -> Option<Self> {
        const MAGIC: u16 = 0xeb9f;
        if u16::from_ne_bytes(*bytes.first_chunk()?) != MAGIC {
            return None;
        }
        let body = bytes.get(word(bytes, 4)? as usize..)?;
        let part = |at: usize| {
            let (from, length) = (word(bytes, at)? as usize, word(bytes, at + 4)? as usize);
            body.get(from..from.checked_add(length)?)
        };
        let (mut left, strings) = (part(8)?, part(16)?);
        // the first is `void`
        let void = Type {
            kind: 0,
            has_bitfields: false,
            size_or_type: 0,
            rest: &[],
        };
        let mut btf = Self {
            types: vec![void],
            strings,
            named: BTreeMap::new(),
        };
        while !left.is_empty() {
            let (name, info) = (word(left, 0)?, word(left, 4)?);
            let (kind, count) = (info >> 24 & 0x1f, (info & 0xffff) as usize);
            let (rest, others) = left.get(12..)?.split_at_checked(behind(kind, count))?;
            let is_named = matches!(kind, STRUCT | UNION | ENUM | FUNC) && name != 0;
            if is_named && let Some(name) = btf.string(name).filter(|name| wants(name)) {
                btf.named.insert(name, btf.types.len());
            }
            btf.types.push(Type {
                kind,
                has_bitfields: info >> 31 != 0,
                size_or_type: word(left, 8)?,
                rest,
            });
            left = others;
        }
        Some(btf)
    }

    /// The number of a struct, an enum or a function.
    pub(in crate::kernel) fn id(&self, name: &str) -> Option<u32> {
        self.named
            .get(name.as_bytes())
            .and_then(|&id| u32::try_from(id).ok())
    }

    /// The offset of a member of a struct, in bits; members of anonymous ones in it are its own.
    pub(in crate::kernel) fn member(&self, structure: &str, member: &str) -> Option<u32> {
        self.member_of(
            *self.named.get(structure.as_bytes())?,
            member.as_bytes(),
            DEPTH,
        )
    }

    fn member_of(&self, id: usize, member: &[u8], depth: usize) -> Option<u32> {
        let of = self
            .types
            .get(id)
            .filter(|of| matches!(of.kind, STRUCT | UNION))?;
        let depth = depth.checked_sub(1)?;
        of.rest.as_chunks::<12>().0.iter().find_map(|one| {
            let (name, at) = (word(one, 0)?, word(one, 8)?);
            let at = if of.has_bitfields {
                at & 0x00ff_ffff
            } else {
                at
            };
            if name != 0 {
                return (self.string(name)? == member).then_some(at);
            }
            let inner = self.member_of(self.resolved(word(one, 4)? as usize)?, member, depth)?;
            at.checked_add(inner)
        })
    }

    /// The size of a struct, in bits.
    pub(in crate::kernel) fn size(&self, structure: &str) -> Option<u32> {
        let of = self.types.get(*self.named.get(structure.as_bytes())?)?;
        matches!(of.kind, STRUCT | UNION).then(|| of.size_or_type.checked_mul(8))?
    }

    /// The value of an enumerator.
    pub(in crate::kernel) fn enumerator(&self, of: &str, name: &str) -> Option<u32> {
        let of = self
            .types
            .get(*self.named.get(of.as_bytes())?)
            .filter(|of| of.kind == ENUM)?;
        let mut all = of.rest.as_chunks::<8>().0.iter();
        all.find_map(|one| {
            (self.string(word(one, 0)?)? == name.as_bytes()).then(|| word(one, 4))?
        })
    }

    /// What stands behind a typedef and the like.
    fn resolved(&self, mut id: usize) -> Option<usize> {
        for _ in 0..DEPTH {
            let of = self.types.get(id)?;
            if !matches!(of.kind, TYPEDEF | VOLATILE | CONST | RESTRICT | TYPE_TAG) {
                return Some(id);
            }
            id = of.size_or_type as usize;
        }
        None
    }

    fn string(&self, at: u32) -> Option<&'b [u8]> {
        self.strings
            .get(at as usize..)?
            .split(|&byte| byte == 0)
            .next()
    }
}

/// Bytes behind the common part of a type.
const fn behind(kind: u32, count: usize) -> usize {
    match kind {
        INT | VAR | DECL_TAG => 4,
        ARRAY => 12,
        STRUCT | UNION | DATASEC | ENUM64 => 12 * count,
        ENUM | FUNC_PROTO => 8 * count,
        _ => 0,
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `struct pair { int a; const union { int b; int c:3; }; }; enum e { ONE = 1, TWO };`, by
    /// hand.
    fn sample() -> Vec<u8> {
        let strings = b"\0pair\0a\0b\0c\0e\0ONE\0TWO\0int\0";
        let at = |name: &str| {
            let name = [b"\0", name.as_bytes(), b"\0"].concat();
            strings
                .windows(name.len())
                .position(|window| window == name)
                .unwrap() as u32
                + 1
        };
        let info =
            |kind: u32, count: u32, has_bitfields: u32| has_bitfields << 31 | kind << 24 | count;
        let types = [
            vec![at("int"), info(INT, 0, 0), 4, 32],
            vec![
                0,
                info(UNION, 2, 1),
                4,
                at("b"),
                1,
                0,
                at("c"),
                1,
                3 << 24 | 5,
            ],
            vec![0, info(CONST, 0, 0), 2],
            vec![at("pair"), info(STRUCT, 2, 0), 8, at("a"), 1, 0, 0, 3, 32],
            vec![at("e"), info(ENUM, 2, 0), 4, at("ONE"), 1, at("TWO"), 2],
        ]
        .concat();
        let length = 4 * types.len() as u32;
        let header = [0x0001_eb9f, 24, 0, length, length, strings.len() as u32];
        let words = header.into_iter().chain(types).flat_map(u32::to_ne_bytes);
        words.chain(strings.iter().copied()).collect()
    }

    #[test]
    fn members_sizes_and_enumerators_are_found() {
        let bytes = sample();
        let btf = Btf::parse(&bytes, |_| true).unwrap();
        let found = ["a", "b", "c", "d"].map(|member| btf.member("pair", member));
        assert_eq!(found, [Some(0), Some(32), Some(37), None]);
        assert_eq!(
            (btf.size("pair"), btf.size("e"), btf.size("no such")),
            (Some(64), None, None)
        );
        assert_eq!(
            ["ONE", "TWO", "THREE"].map(|name| btf.enumerator("e", name)),
            [Some(1), Some(2), None]
        );
        assert_eq!(
            (btf.member("e", "ONE"), btf.id("pair"), btf.id("e")),
            (None, Some(4), Some(5))
        );
        let some = Btf::parse(&bytes, |name| name == b"e").unwrap();
        assert_eq!(
            (some.member("pair", "a"), some.enumerator("e", "TWO")),
            (None, Some(2))
        );
    }

    #[test]
    fn what_is_cut_off_is_refused() {
        let bytes = sample();
        assert!(Btf::parse(&bytes[..bytes.len() - 1], |_| true).is_none());
        for end in 0..bytes.len() {
            let _ = Btf::parse(&bytes[..end], |_| true);
        }
        assert!(Btf::parse(b"\0\0\0\0 something else, and as long", |_| true).is_none());
    }
}
