//! Programs of somebody else on a hook, and what is on a hook by name.

use super::netns::{Netns, ensure_bpffs};
use super::objects::tcx_infos;
use super::socket::PacketType;
use anyhow::{Context as _, Result};
use aya::programs::SchedClassifier;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};

/// What a program says of each packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// `TCX_NEXT`, `TC_ACT_UNSPEC`.
    Next = -1,
    /// `TCX_PASS`, `TC_ACT_OK`: nobody behind it sees the packet.
    Pass = 0,
    /// `TCX_DROP`, `TC_ACT_SHOT`.
    Drop = 2,
}

/// Where it is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Before all others; with clsact at priority 10.
    First,
    /// Behind all others; with clsact at priority 60000.
    Last,
}

/// A program, and its TCX links, which go with it. Filters stay.
#[derive(Debug)]
pub struct Foreign {
    name: String,
    program: OwnedFd,
    links: Vec<OwnedFd>,
}

const BPF_PROG_LOAD: i32 = 5;
const BPF_OBJ_PIN: i32 = 6;
const BPF_LINK_CREATE: i32 = 28;
const BPF_PROG_TYPE_SCHED_CLS: u64 = 3;
const BPF_TCX_INGRESS: u64 = 46;
const BPF_TCX_EGRESS: u64 = 47;
const BPF_F_BEFORE: u64 = 1 << 3;
const BPF_F_AFTER: u64 = 1 << 4;

impl AsFd for Foreign {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.program.as_fd()
    }
}

impl Foreign {
    /// Loads one of up to 15 characters.
    pub fn load(name: &str, verdict: Verdict) -> Result<Self> {
        // r0 = verdict; exit
        Self::assembled(name, &[(verdict as i32 as u32 as u64) << 32 | 0xb7, 0x95])
    }

    /// Loads any, given by its instructions, under a name of up to 15 characters.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn assembled(name: &str, program: &[u64]) -> Result<Self> {
        let length = (program.len() as u64) << 32;
        let mut words = [0; 2];
        for (at, byte) in name.bytes().take(15).enumerate() {
            words[at / 8] |= u64::from(byte) << (8 * (at % 8));
        }
        let license = c"MIT".as_ptr() as u64;
        let kind = BPF_PROG_TYPE_SCHED_CLS | length;
        let load = [
            kind,
            program.as_ptr() as u64,
            license,
            0,
            0,
            0,
            words[0],
            words[1],
        ];
        let program =
            bpf(BPF_PROG_LOAD, &load).with_context(|| format!("load the program {name}"))?;
        Ok(Self {
            name: name.to_owned(),
            program,
            links: Vec::new(),
        })
    }

    /// Attaches it to a hook. A clsact qdisc must be there.
    pub fn attach(
        &mut self,
        netns: &Netns,
        mechanism: &str,
        interface: &str,
        way: PacketType,
        side: Side,
    ) -> Result<()> {
        if mechanism == "clsact" {
            return self.attach_filter(
                netns,
                interface,
                way,
                if side == Side::First { 10 } else { 60_000 },
            );
        }
        let index = u64::from(netns.index(interface)?);
        let (kind, flag) = match way {
            PacketType::Incoming => (
                BPF_TCX_INGRESS,
                if side == Side::First {
                    BPF_F_BEFORE
                } else {
                    BPF_F_AFTER
                },
            ),
            PacketType::Outgoing => (
                BPF_TCX_EGRESS,
                if side == Side::First {
                    BPF_F_BEFORE
                } else {
                    BPF_F_AFTER
                },
            ),
        };
        let program = self.program.as_raw_fd() as u64;
        let link = netns.enter(|| {
            bpf(
                BPF_LINK_CREATE,
                &[program | index << 32, kind | flag << 32, 0, 0],
            )
        });
        self.links
            .push(link.with_context(|| format!("attach {} to {interface}", self.name))?);
        Ok(())
    }

    /// Attaches it as a filter of some priority.
    pub fn attach_filter(
        &self,
        netns: &Netns,
        interface: &str,
        way: PacketType,
        priority: u16,
    ) -> Result<()> {
        let filter = format!(
            "tc filter add dev {interface} {} prio {priority} bpf direct-action",
            hook(way)
        );
        self.pinned(|path| {
            netns
                .run(&format!("{filter} object-pinned {path}"))
                .map(drop)
        })
    }

    /// The program as aya has it.
    ///
    /// # Errors
    /// The kernel does not give it.
    pub fn classifier(&self) -> Result<SchedClassifier> {
        self.pinned(|path| Ok(SchedClassifier::from_pin(path)?))
    }

    /// Has a pin for as long as it takes.
    fn pinned<T>(&self, then: impl FnOnce(&str) -> Result<T>) -> Result<T> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        ensure_bpffs()?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = format!("/sys/fs/bpf/foreign-{}-{number}", std::process::id());
        let name = CString::new(path.as_str())?;
        let pin = [name.as_ptr() as u64, self.program.as_raw_fd() as u64];
        command(BPF_OBJ_PIN, &pin).with_context(|| format!("pin {path}"))?;
        let done = then(&path);
        std::fs::remove_file(&path)?;
        done
    }
}

/// Lets XDP, in its generic form, drop the frames of more than 1,000 bytes that an interface
/// receives, until what is returned is dropped.
pub fn drop_long_by_xdp(netns: &Netns, interface: &str) -> Result<OwnedFd> {
    const BPF_PROG_TYPE_XDP: u64 = 6;
    const BPF_XDP: u64 = 37;
    const XDP_FLAGS_SKB_MODE: u64 = 1 << 1;
    // r2 = data_end - data; r0 = XDP_PASS; if r2 > 1000 { r0 = XDP_DROP }; exit
    let program: [u64; 7] = [
        4 << 16 | 0x1261,
        0x1361,
        0x321f,
        2 << 32 | 0xb7,
        1000 << 32 | 1 << 16 | 0x02b5,
        1 << 32 | 0xb7,
        0x95,
    ];
    let load = [
        BPF_PROG_TYPE_XDP | 7 << 32,
        program.as_ptr() as u64,
        c"MIT".as_ptr() as u64,
        0,
        0,
        0,
        0,
        0,
    ];
    let program = bpf(BPF_PROG_LOAD, &load).context("load an XDP program")?;
    let target = program.as_raw_fd() as u64 | u64::from(netns.index(interface)?) << 32;
    let link = netns.enter(|| {
        bpf(
            BPF_LINK_CREATE,
            &[target, BPF_XDP | XDP_FLAGS_SKB_MODE << 32, 0, 0],
        )
    });
    link.with_context(|| format!("attach an XDP program to {interface}"))
}

fn hook(way: PacketType) -> &'static str {
    match way {
        PacketType::Incoming => "ingress",
        PacketType::Outgoing => "egress",
    }
}

/// Names of the programs on a hook, in the order in which they run.
pub fn chain(
    netns: &Netns,
    mechanism: &str,
    interface: &str,
    way: PacketType,
) -> Result<Vec<String>> {
    if mechanism == "tcx" {
        let programs = tcx_infos(netns, interface, way)?;
        return Ok(programs
            .iter()
            .filter_map(|info| info.name_as_str().map(str::to_owned))
            .collect());
    }
    let filters = netns.run(&format!("tc filter show dev {interface} {}", hook(way)))?;
    let name = |line: &str| {
        let mut words = line.split_whitespace().skip_while(|word| *word != "name");
        words.nth(1).map(str::to_owned)
    };
    Ok(filters.lines().filter_map(name).collect())
}

/// A command of `bpf(2)` that makes something: its descriptor. `attributes` are the fields of
/// `union bpf_attr`; what they point to must live.
pub(crate) fn bpf(number: i32, attributes: &[u64]) -> Result<OwnedFd> {
    let fd = command(number, attributes)?;
    // SAFETY: the kernel has just given this descriptor to us.
    Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(fd)?) })
}

/// Any command of `bpf(2)`.
pub(crate) fn command(number: i32, attributes: &[u64]) -> Result<i64> {
    // SAFETY: `attributes` holds the fields of `union bpf_attr` for the command; its pointers
    // outlive the call.
    let done = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            number,
            attributes.as_ptr(),
            size_of_val(attributes),
        )
    };
    Ok(nix::errno::Errno::result(done)?)
}
