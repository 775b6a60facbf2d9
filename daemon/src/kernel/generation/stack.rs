//! The programs' stack as Linux 6.1 counts it: 512 bytes for a chain of calls, with each frame
//! rounded up. Newer kernels round less or give some programs more, and accept what that one
//! rejects.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use aya_obj::Object;
use aya_obj::generated::bpf_insn;

use crate::kernel::object::OBJECT;

/// `MAX_BPF_STACK`.
const MOST_BYTES: u32 = 512;
/// What a frame is rounded up to (`check_max_stack_depth`), and its least.
const UNIT_BYTES: u32 = 32;
const STACK: u8 = 10;

/// Frames and calls of a program whose functions follow each other.
struct Frames {
    /// Bytes of the frame, by where the function begins.
    bytes: BTreeMap<usize, u32>,
    calls: BTreeMap<usize, BTreeSet<usize>>,
}

impl Frames {
    fn of(code: &[bpf_insn]) -> Self {
        let called = |(at, instruction): (usize, &bpf_insn)| {
            const CALL: u8 = 0x85;
            const LOAD_ADDRESS: u8 = 0x18;
            const OF_PROGRAM: u8 = 1;
            const OF_CALLBACK: u8 = 4;
            let kind = match instruction.code {
                CALL => OF_PROGRAM,
                LOAD_ADDRESS => OF_CALLBACK,
                _ => return None,
            };
            let there = (at + 1).checked_add_signed(instruction.imm as isize)?;
            (instruction.src_reg() == kind).then_some((at, there))
        };
        let called: Vec<(usize, usize)> = code.iter().enumerate().filter_map(called).collect();
        let begins: BTreeSet<usize> = [0]
            .into_iter()
            .chain(called.iter().map(|(_, there)| *there))
            .collect();
        let function = |at: usize| *begins.range(..=at).next_back().expect("the first is at 0");
        let mut frames = Self {
            bytes: BTreeMap::new(),
            calls: BTreeMap::new(),
        };
        for (at, there) in called {
            frames.calls.entry(function(at)).or_default().insert(there);
        }
        let mut pointers = HashSet::new();
        for (at, instruction) in code.iter().enumerate() {
            let below = depth(instruction, &mut pointers);
            let bytes = frames.bytes.entry(function(at)).or_default();
            *bytes = below.max(*bytes);
        }
        frames
    }

    /// Bytes of the longest chain that begins with a function.
    fn chain(&self, function: usize) -> u32 {
        let bytes = self.bytes[&function].max(1).next_multiple_of(UNIT_BYTES);
        let behind = self
            .calls
            .get(&function)
            .into_iter()
            .flatten()
            .map(|next| self.chain(*next))
            .max();
        bytes + behind.unwrap_or(0)
    }
}

/// How far below the frame's end an instruction reaches. `pointers` are the registers that hold
/// that end.
fn depth(instruction: &bpf_insn, pointers: &mut HashSet<u8>) -> u32 {
    const CLASS: u8 = 0x07;
    const LOAD: u8 = 1;
    const STORES: [u8; 2] = [2, 3];
    const COPY: u8 = 0xbf;
    const ADD: u8 = 0x07;
    let below = |offset: i32| (-offset).try_into().unwrap_or(0);
    let (to, from) = (instruction.dst_reg(), instruction.src_reg());
    let class = instruction.code & CLASS;
    if instruction.code == COPY && from == STACK {
        pointers.insert(to);
        0
    } else if instruction.code == ADD && pointers.remove(&to) {
        below(instruction.imm)
    } else if class == LOAD && from == STACK || STORES.contains(&class) && to == STACK {
        below(instruction.off.into())
    } else {
        0
    }
}

#[test]
fn each_program_has_room_on_the_stack_of_linux_6_1() {
    let mut object = Object::parse(OBJECT).expect("the object");
    let text = object
        .functions
        .keys()
        .map(|(section, _)| *section)
        .collect();
    object.relocate_calls(&text).expect("its calls");
    for (name, program) in &object.programs {
        let frames = Frames::of(&object.functions[&program.function_key()].instructions);
        let bytes = frames.chain(0);
        println!("{name}: {bytes} bytes, {} functions", frames.bytes.len());
        assert!(
            bytes <= MOST_BYTES,
            "{name}: a chain of calls takes {bytes} bytes, more than {MOST_BYTES}"
        );
    }
}
