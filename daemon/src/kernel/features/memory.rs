//! How the programs read the kernel's memory: the offsets of members in its structs, and the way
//! that the kernel allows.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use aya::programs::ProgramType;
use aya::sys::{BpfHelper, is_helper_supported};
use traffic_mirror_ebpf::offsets::{BtfQuery, Offsets};

use crate::kernel::features::btf::Btf;
use crate::kernel::features::{patches, probe};

/// The type information of the running kernel.
const TYPES: &str = "/sys/kernel/btf/vmlinux";

/// What stands behind [`Offsets::CAST`].
const CAST: &str = "bpf_rdonly_cast";

/// How this kernel's memory is read.
#[derive(Clone, Copy)]
pub(in crate::kernel) struct KernelMemory {
    pub(in crate::kernel) offsets: Offsets,
    /// The number of [`CAST`].
    cast: u32,
}

/// It stays as it is as long as the kernel runs.
static FOUND: OnceLock<Result<KernelMemory, String>> = OnceLock::new();

/// Those of the running kernel; unknown where its memory cannot be read.
pub(in crate::kernel) fn memory() -> &'static KernelMemory {
    static NOTHING: OnceLock<KernelMemory> = OnceLock::new();
    found().as_ref().unwrap_or_else(|_| {
        NOTHING.get_or_init(|| {
            let offsets = Offsets {
                can_shrink: patches::can_shrink().into(),
                ..Offsets::NONE
            };
            KernelMemory { offsets, cast: 0 }
        })
    })
}

/// Where the kernel's memory cannot be read: why, and what follows from it.
pub(in crate::kernel) fn obstacles() -> Vec<String> {
    let Err(why) = found() else { return Vec::new() };
    let blind = format!(
        "the programs cannot recognise packets that must not be cloned, and `backlog` has no \
         effect: {why}; docs/packets.md, \"What is not cloned\", has the remedies"
    );
    let pktgen = "pktgen is loaded, and the kernel panics when a filter matches one of its \
                  packets: unload it, or exclude its packets";
    let is_loaded = Path::new("/sys/module/pktgen").exists();
    [blind]
        .into_iter()
        .chain(is_loaded.then(|| pktgen.to_owned()))
        .collect()
}

fn found() -> &'static Result<KernelMemory, String> {
    FOUND.get_or_init(|| {
        let bytes = fs::read(TYPES).map_err(|error| format!("cannot read {TYPES}: {error}"))?;
        let mut memory = of(&bytes).ok_or_else(|| format!("{TYPES} has an unknown format"))?;
        memory.offsets.can_shrink = patches::can_shrink().into();
        memory.offsets.reading = if memory.takes_types() {
            Offsets::BY_TYPE
        } else {
            // a kernel that is locked down rejects it (kernel_lockdown(7))
            let is_there = is_helper_supported(
                ProgramType::SchedClassifier,
                BpfHelper::BPF_FUNC_probe_read_kernel,
            );
            if !matches!(is_there, Ok(true)) {
                return Err(
                    "the kernel is locked down and lets no program read its memory \
                     (kernel_lockdown(7))"
                        .to_owned(),
                );
            }
            Offsets::BY_HELPER
        };
        Ok(memory)
    })
}

/// By the type information of a kernel.
fn of(bytes: &[u8]) -> Option<KernelMemory> {
    let mut names: BTreeSet<&[u8]> = Offsets::QUERIES
        .iter()
        .map(|source| name(*source).as_bytes())
        .collect();
    names.insert(CAST.as_bytes());
    let btf = Btf::parse(bytes, |name| names.contains(name))?;
    let values = Offsets::QUERIES
        .iter()
        .map(|source| value(&btf, *source).unwrap_or(Offsets::UNKNOWN));
    let words: Vec<u32> = [0, 0].into_iter().chain(values).collect();
    let offsets = bytemuck::pod_read_unaligned(bytemuck::cast_slice(&words));
    Some(KernelMemory {
        offsets,
        cast: btf.id(CAST).unwrap_or(0),
    })
}

const fn name(source: BtfQuery) -> &'static str {
    match source {
        BtfQuery::Member(name, _)
        | BtfQuery::Type(name)
        | BtfQuery::Size(name)
        | BtfQuery::Enumerator(name, _) => name,
    }
}

fn value(btf: &Btf<'_>, source: BtfQuery) -> Option<u32> {
    match source {
        BtfQuery::Member(structure, member) => btf.member(structure, member),
        BtfQuery::Type(name) => btf.id(name),
        BtfQuery::Size(structure) => btf.size(structure),
        BtfQuery::Enumerator(of, name) => btf.enumerator(of, name),
    }
}

/// Instructions, with number or value still to come: operation (`BPF_JMP | BPF_CALL` and others),
/// registers, offset.
const CALL_HELPER: [u8; 4] = [0x85, 0, 0, 0];
/// The source register is `BPF_PSEUDO_KFUNC_CALL`.
const CALL_FUNCTION: [u8; 4] = [0x85, 2 << 4, 0, 0];
const SET_R0: [u8; 4] = [0xb7, 0, 0, 0];
const SET_R2: [u8; 4] = [0xb7, 2, 0, 0];
const EXIT: [u8; 4] = [0x95, 0, 0, 0];

const fn instruction(operation: [u8; 4], value: u32) -> u64 {
    u32::from_le_bytes(operation) as u64 | (value as u64) << 32
}

impl KernelMemory {
    /// An object with calls of [`CAST`] as this kernel takes them.
    pub(in crate::kernel) fn object(&self, object: &[u8]) -> Vec<u64> {
        let words = object.chunks(8).map(|chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            u64::from_le_bytes(word)
        });
        let from = instruction(CALL_HELPER, Offsets::CAST);
        let is_there = self.offsets.reading == Offsets::BY_TYPE;
        let to = if is_there {
            instruction(CALL_FUNCTION, self.cast)
        } else {
            from
        };
        words
            .map(|word| if word == from { to } else { word })
            .collect()
    }

    /// The same with another way of reading; without one, all offsets are unknown.
    pub(in crate::kernel) fn read(self, reading: u32) -> Self {
        let known = if reading == 0 {
            Offsets::NONE
        } else {
            self.offsets
        };
        Self {
            offsets: Offsets { reading, ..known },
            ..self
        }
    }

    /// Whether the kernel takes a small program that casts as ours do.
    fn takes_types(&self) -> bool {
        let cast = [
            instruction(SET_R2, self.offsets.sk_buff),
            instruction(CALL_FUNCTION, self.cast),
        ];
        let [low, high, ..] = (self.offsets.skb_users / 8).to_le_bytes();
        let read = [0x61, 0, low, high];
        let rest = [
            instruction(read, 0),
            instruction(SET_R0, 0),
            instruction(EXIT, 0),
        ];
        probe::load(&[&cast[..], &rest].concat(), &mut []).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_found_on_this_kernel() {
        let Ok(bytes) = fs::read(TYPES) else { return };
        let found = of(&bytes).expect("the kernel's own type information");
        let words: [u32; 2 + Offsets::QUERIES.len()] = bytemuck::cast(found.offsets);
        for (source, word) in Offsets::QUERIES.iter().zip(&words[2..]) {
            println!("{source:?} {word}");
            // there only where the kernel is built with what needs it
            let may_be_missing = ["decrypted", "SKB_EXT_SEC_PATH"];
            let is_optional = |name: &&str| format!("{source:?}").contains(*name);
            assert!(
                *word != Offsets::UNKNOWN || may_be_missing.iter().any(is_optional),
                "{source:?}"
            );
        }
    }

    #[test]
    fn calls_are_put_in_place() {
        let [cast, other] = [Offsets::CAST, 1].map(|number| instruction(CALL_HELPER, number));
        let object: Vec<u8> = [1, cast, other]
            .into_iter()
            .flat_map(u64::to_le_bytes)
            .chain([5])
            .collect();
        let memory = |reading| KernelMemory {
            offsets: Offsets {
                reading,
                ..Offsets::NONE
            },
            cast: 77,
        };
        assert_eq!(
            memory(Offsets::BY_HELPER).object(&object),
            [1, cast, other, 5]
        );
        assert_eq!(
            memory(Offsets::BY_TYPE).object(&object),
            [1, instruction(CALL_FUNCTION, 77), other, 5]
        );
    }
}
