//! Two small programs around the hook under test: one writes mark, priority, class and control
//! block into each packet before it, the other looks after it whether they are still there.

use super::netns::{Netns, ensure_bpffs};
use super::unique;
use anyhow::{Context as _, Result, bail, ensure};
use std::ffi::CString;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// How a program gets on the hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hooking {
    /// TCX links, first and last.
    Tcx,
    /// Filters of the clsact qdisc, which must be there, at the lowest and highest priority.
    Clsact,
}

/// Byte offset in `struct __sk_buff` and value of each field that the first program writes.
const STAMP: [(i16, i32); 8] = [
    (8, 0x0102_0304), // mark
    (32, 0x55),       // priority
    (44, 0x0607),     // tc_index
    (48, 0x1111_1111),
    (52, 0x2222_2222),
    (56, 0x3333_3333),
    (60, 0x4444_4444),
    (64, 0x5555_5555),
];

/// The two programs on one hook of one interface, until dropped.
#[derive(Debug)]
pub struct Observer {
    map: OwnedFd,
    /// Links, or nothing for clsact, whose filters go with the interface.
    _links: Vec<OwnedFd>,
    pins: Vec<PathBuf>,
}

impl Observer {
    /// Puts them on `interface`; `direction` is "ingress" or "egress".
    pub fn attach(
        netns: &Netns,
        interface: &str,
        direction: &str,
        hooking: Hooking,
    ) -> Result<Self> {
        let map = create_map()?;
        let programs = [load(&stamp())?, load(&observe(map.as_raw_fd()))?];
        let mut observer = Self {
            map,
            _links: Vec::new(),
            pins: Vec::new(),
        };
        match hooking {
            Hooking::Tcx => {
                let index = netns.index(interface)?;
                for (program, place) in programs.iter().zip([BEFORE, AFTER]) {
                    let link =
                        netns.enter(|| link(program, index, direction == "ingress", place))?;
                    observer._links.push(link);
                }
            }
            Hooking::Clsact => {
                ensure_bpffs()?;
                for (program, priority) in programs.iter().zip([1, 65_000]) {
                    let path = Path::new("/sys/fs/bpf").join(unique("traffic-mirror-observer"));
                    pin(program, &path)?;
                    observer.pins.push(path.clone());
                    let filter = format!(
                        "protocol all prio {priority} bpf direct-action pinned {}",
                        path.display()
                    );
                    netns.run(&format!(
                        "tc filter add dev {interface} {direction} {filter}"
                    ))?;
                }
            }
        }
        Ok(observer)
    }

    /// How many packets came past the second program, and how many of them had other values than
    /// the first had written.
    pub fn counts(&self) -> Result<(u64, u64)> {
        let mut value = [0_u64; 2];
        let key = 0_u32;
        bpf(
            1,
            &[
                self.map.as_raw_fd() as u64,
                &raw const key as u64,
                &raw mut value as u64,
                0,
            ],
        )?;
        Ok((value[0], value[1]))
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        for pin in &self.pins {
            if let Err(error) = std::fs::remove_file(pin) {
                eprintln!("remove {}: {error}", pin.display());
            }
        }
    }
}

/// `struct bpf_insn`.
type Instruction = u64;

const fn instruction(code: u8, registers: u8, offset: i16, immediate: i32) -> Instruction {
    code as u64
        | (registers as u64) << 8
        | (offset as u16 as u64) << 16
        | (immediate as u32 as u64) << 32
}

/// Destination register in the lower half, source register in the upper.
const fn registers(destination: u8, source: u8) -> u8 {
    source << 4 | destination
}

const MOVE: u8 = 0xb7;
const MOVE_REGISTER: u8 = 0xbf;
const ADD: u8 = 0x07;
const LOAD_WORD: u8 = 0x61;
const STORE_WORD: u8 = 0x63;
const STORE_WORD_IMMEDIATE: u8 = 0x62;
const ATOMIC_ADD: u8 = 0xdb;
const LOAD_MAP: u8 = 0x18;
const JUMP: u8 = 0x05;
const JUMP_IF_EQUAL: u8 = 0x15;
const JUMP_IF_NOT_EQUAL_WORD: u8 = 0x56;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;

fn stamp() -> Vec<Instruction> {
    let mut code = Vec::new();
    for (offset, value) in STAMP {
        code.push(instruction(MOVE, 2, 0, value));
        code.push(instruction(STORE_WORD, registers(1, 2), offset, 0));
    }
    code.extend([instruction(MOVE, 0, 0, -1), instruction(EXIT, 0, 0, 0)]);
    code
}

fn observe(map: i32) -> Vec<Instruction> {
    const MAP_BY_DESCRIPTOR: u8 = 1;
    const LOOK_UP: i32 = 1;
    let mut code = vec![
        instruction(MOVE_REGISTER, registers(6, 1), 0, 0),
        instruction(STORE_WORD_IMMEDIATE, 10, -4, 0),
        instruction(LOAD_MAP, registers(1, MAP_BY_DESCRIPTOR), 0, map),
        0,
        instruction(MOVE_REGISTER, registers(2, 10), 0, 0),
        instruction(ADD, 2, 0, -4),
        instruction(CALL, 0, 0, LOOK_UP),
        instruction(JUMP_IF_EQUAL, 0, 2 * STAMP.len() as i16 + 4, 0),
        instruction(MOVE, 1, 0, 1),
        instruction(ATOMIC_ADD, registers(0, 1), 0, 0),
    ];
    for (index, (offset, value)) in STAMP.into_iter().enumerate() {
        let to_differs = 2 * (STAMP.len() - index) as i16 - 1;
        code.push(instruction(LOAD_WORD, registers(2, 6), offset, 0));
        code.push(instruction(JUMP_IF_NOT_EQUAL_WORD, 2, to_differs, value));
    }
    code.extend([
        instruction(JUMP, 0, 1, 0),
        instruction(ATOMIC_ADD, registers(0, 1), 8, 0),
        instruction(MOVE, 0, 0, -1),
        instruction(EXIT, 0, 0, 0),
    ]);
    code
}

fn create_map() -> Result<OwnedFd> {
    const ARRAY: u64 = 2;
    const KEY_BYTES: u64 = 4;
    const VALUE_BYTES: u64 = 16;
    descriptor(0, &[ARRAY | KEY_BYTES << 32, VALUE_BYTES | 1 << 32])
}

fn load(code: &[Instruction]) -> Result<OwnedFd> {
    const CLASSIFIER: u64 = 3;
    let license = c"GPL";
    let loaded = [
        CLASSIFIER | (code.len() as u64) << 32,
        code.as_ptr() as u64,
        license.as_ptr() as u64,
        0,
        0,
        0,
    ];
    descriptor(5, &loaded)
}

const BEFORE: u64 = 1 << 3;
const AFTER: u64 = 1 << 4;

fn link(program: &OwnedFd, interface: u32, ingress: bool, place: u64) -> Result<OwnedFd> {
    let attach_type = if ingress { 46 } else { 47 };
    descriptor(
        28,
        &[
            program.as_raw_fd() as u64 | u64::from(interface) << 32,
            attach_type | place << 32,
            0,
            0,
        ],
    )
}

fn pin(program: &OwnedFd, path: &Path) -> Result<()> {
    let text = CString::new(path.as_os_str().as_bytes())?;
    bpf(6, &[text.as_ptr() as u64, program.as_raw_fd() as u64, 0])
        .with_context(|| format!("pin {}", path.display()))?;
    Ok(())
}

fn descriptor(command: i32, attributes: &[u64]) -> Result<OwnedFd> {
    let fd = bpf(command, attributes)?;
    ensure!(fd > 0, "bpf command {command} gave descriptor {fd}");
    // SAFETY: the kernel has just given this descriptor to us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// `bpf(2)`; `attributes` is the beginning of `union bpf_attr`.
fn bpf(command: i32, attributes: &[u64]) -> Result<i64> {
    // SAFETY: the pointers among the attributes, if any, point to what the callers keep through the
    // call.
    let done = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            attributes.as_ptr(),
            size_of_val(attributes),
        )
    };
    if done < 0 {
        bail!("bpf command {command}: {}", std::io::Error::last_os_error());
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::deadline;
    use crate::lab::packet::eth;
    use crate::lab::socket::{Capture, PacketSocket};
    use crate::lab::veth::veth;

    #[test]
    fn what_is_changed_in_between_is_counted() -> Result<()> {
        let netns = Netns::new("lab-observer")?;
        netns.sysctl("net.ipv6.conf.default.disable_ipv6", "1")?;
        veth(&netns, "eth0", &netns, "eth1")?;
        netns.run("tc qdisc add dev eth0 clsact")?;
        let sender = PacketSocket::open(&netns, "eth0", Capture::Nothing)?;
        let arrived = PacketSocket::open(&netns, "eth1", Capture::Incoming)?;
        let hookings: &[_] = if crate::lab::kernel()? >= (6, 6) {
            &[Hooking::Tcx, Hooking::Clsact]
        } else {
            &[Hooking::Clsact]
        };
        for &hooking in hookings {
            let observer = Observer::attach(&netns, "eth0", "egress", hooking)?;
            sender.send(&eth().payload([1; 50]).build())?;
            arrived.recv(deadline())?.context("no frame")?;
            assert_eq!(observer.counts()?, (1, 0), "{hooking:?}");
        }
        // two that write the same lie around the filters; without the first, what the socket gave
        // is found
        netns.run("tc filter del dev eth0 egress prio 1")?;
        let observer = Observer::attach(&netns, "eth0", "ingress", Hooking::Clsact)?;
        netns.run("tc filter del dev eth0 ingress prio 1")?;
        PacketSocket::open(&netns, "eth1", Capture::Nothing)?
            .send(&eth().payload([1; 50]).build())?;
        netns.run_until(
            "cat /sys/class/net/lo/operstate",
            |_| observer.counts().is_ok_and(|c| c == (1, 1)),
            deadline(),
        )?;
        Ok(())
    }
}
