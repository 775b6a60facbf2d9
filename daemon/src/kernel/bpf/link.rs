//! BPF links of TCX hooks: created by the index of an interface, pinned, updated, queried for their
//! place, detached at once. aya uses names, and offers neither of the last two.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::kernel::bpf::syscall::{
    BPF_LINK_CREATE, BPF_LINK_DETACH, BPF_LINK_UPDATE, BPF_OBJ_PIN, BPF_PROG_QUERY, Pin, bpf,
    info_of, open_pin,
};
use crate::network::Direction;

// enum bpf_attach_type and enum bpf_link_type of include/uapi/linux/bpf.h
const BPF_TCX_INGRESS: u32 = 46;
const BPF_TCX_EGRESS: u32 = 47;
// before or behind the one that is named, or all others (`bpf_mprog_attach`)
const BPF_F_BEFORE: u32 = 1 << 3;
const BPF_F_AFTER: u32 = 1 << 4;
/// It is named by the number of its program.
const BPF_F_ID: u32 = 1 << 5;
/// Programs on a hook, at most (include/linux/bpf_mprog.h).
const BPF_MPROG_MAX: usize = 64;
const BPF_LINK_TYPE_TCX: u32 = 11;

/// A link.
pub(in crate::kernel) struct BpfLink(OwnedFd);

/// The beginning of `struct bpf_link_info` for a TCX link.
#[repr(C)]
#[derive(Default)]
struct Info {
    kind: u32,
    id: u32,
    program: u32,
    _padding: u32,
    interface: u32,
    attach_type: u32,
}

/// Where a program is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::kernel) enum Anchor {
    First,
    Last,
    /// Before the program of that number.
    Before(u32),
    /// Behind the program of that number.
    After(u32),
}

impl BpfLink {
    /// Attaches a program to a hook.
    ///
    /// # Errors
    /// The kernel rejects the link: `ENODEV` if the interface does not exist, `ENOENT` if the named
    /// neighbour does not exist, `EEXIST` if the program is attached already.
    pub(in crate::kernel) fn create(
        program: BorrowedFd<'_>,
        interface: u32,
        direction: Direction,
        anchor: Anchor,
    ) -> io::Result<Self> {
        #[repr(C)]
        struct Attributes {
            program: u32,
            interface: u32,
            attach_type: u32,
            flags: u32,
            relative: u32,
            _padding: u32,
            expected_revision: u64,
        }
        let (flags, relative) = match anchor {
            Anchor::First => (BPF_F_BEFORE, 0),
            Anchor::Last => (BPF_F_AFTER, 0),
            Anchor::Before(program) => (BPF_F_BEFORE | BPF_F_ID, program),
            Anchor::After(program) => (BPF_F_AFTER | BPF_F_ID, program),
        };
        let mut attributes = Attributes {
            program: program.as_raw_fd() as u32,
            interface,
            attach_type: attach_type(direction),
            flags,
            relative,
            _padding: 0,
            expected_revision: 0,
        };
        // SAFETY: no pointers.
        let fd = unsafe { bpf(BPF_LINK_CREATE, &mut attributes) }?;
        // SAFETY: the kernel has just given this descriptor to us.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// # Errors
    /// `NotFound`: the pin does not exist, or is not that of a link. Others: the kernel rejects the
    /// query.
    pub(in crate::kernel) fn open(pin: &Path) -> io::Result<Self> {
        let opened = open_pin(pin).map(Self);
        match opened {
            Ok(link) if !link.is_link() => Err(io::ErrorKind::NotFound.into()),
            // no pin at all (`bpf_obj_do_get`)
            Err(_) if fs::symlink_metadata(pin).is_ok_and(|there| !there.is_file()) => {
                Err(io::ErrorKind::NotFound.into())
            }
            opened => opened,
        }
    }

    /// Another process may have pinned another object in its place. Their file names do not
    /// distinguish links, maps and programs.
    fn is_link(&self) -> bool {
        let what =
            fs::read_link(format!("/proc/self/fd/{}", self.0.as_raw_fd())).unwrap_or_default();
        // "bpf_link" (`bpf_link_prime`) or "bpf-link" (`bpf_link_new_fd`)
        what.to_string_lossy().ends_with("link")
    }

    /// Has it outlive this process.
    ///
    /// # Errors
    /// The pin exists already, or the kernel rejects it.
    pub(in crate::kernel) fn pin(&self, pin: &Path) -> io::Result<()> {
        let path = CString::new(pin.as_os_str().as_bytes())?;
        let bpf_fd = self.0.as_raw_fd() as u32;
        let mut attributes = Pin {
            pathname: path.as_ptr() as u64,
            bpf_fd,
            file_flags: 0,
        };
        // SAFETY: the path lives through the call and ends with 0.
        unsafe { bpf(BPF_OBJ_PIN, &mut attributes) }.map(drop)
    }

    /// Has it run another program from the next packet on.
    ///
    /// # Errors
    /// The kernel rejects the update: `ENOLINK` if the link is not attached any more.
    pub(in crate::kernel) fn update(&self, program: BorrowedFd<'_>) -> io::Result<()> {
        #[repr(C)]
        struct Attributes {
            link: u32,
            program: u32,
            flags: u32,
            old_program: u32,
        }
        let (link, program) = (self.0.as_raw_fd() as u32, program.as_raw_fd() as u32);
        let mut attributes = Attributes {
            link,
            program,
            flags: 0,
            old_program: 0,
        };
        // SAFETY: no pointers.
        unsafe { bpf(BPF_LINK_UPDATE, &mut attributes) }.map(drop)
    }

    /// Whether it is attached to an interface of this namespace. It is not if another process has
    /// detached it, if the interface is gone, or if it was moved to another namespace: there it may
    /// have the same index, and a link reports nothing else.
    ///
    /// # Errors
    /// The kernel rejects the query.
    pub(in crate::kernel) fn is_on(
        &self,
        interface: u32,
        direction: Direction,
    ) -> io::Result<bool> {
        let Some(info) = self.info()? else {
            return Ok(false);
        };
        Ok(info.interface == interface
            && attached_to(interface, direction)?
                .iter()
                .any(|there| there.link == info.id))
    }

    /// Whether it is attached to an interface, possibly in another namespace.
    pub(in crate::kernel) fn is_anywhere(&self) -> bool {
        matches!(self.info(), Ok(Some(_)))
    }

    /// Number of its program; `None` if it is not attached any more (`tcx_link_fill_info`).
    ///
    /// # Errors
    /// The kernel rejects the query.
    pub(in crate::kernel) fn program(&self) -> io::Result<Option<u32>> {
        Ok(self.info()?.map(|info| info.program))
    }

    fn info(&self) -> io::Result<Option<Info>> {
        let mut info = Info::default();
        // SAFETY: no pointers, and numbers only.
        unsafe { info_of(&self.0, &mut info) }?;
        Ok((info.kind == BPF_LINK_TYPE_TCX && info.interface != 0).then_some(info))
    }

    /// Detaches it, and returns when its program runs no more (`tcx_link_release` waits for it).
    /// Removing a pin alone takes effect some time later, after an RCU grace period and in a work
    /// queue.
    ///
    /// # Errors
    /// The kernel rejects the detachment.
    pub(in crate::kernel) fn detach(&self) -> io::Result<()> {
        let mut link_fd = self.0.as_raw_fd() as u32;
        // SAFETY: no pointers.
        unsafe { bpf(BPF_LINK_DETACH, &mut link_fd) }.map(drop)
    }
}

/// One program on a TCX hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::kernel) struct LinkedProgram {
    /// Number of the program.
    pub(in crate::kernel) program: u32,
    /// Number of its link; 0 without one.
    link: u32,
}

/// What is on a TCX hook, in the order in which it runs. Nothing if there is no such interface in
/// this namespace.
///
/// # Errors
/// The kernel rejects the query.
pub(in crate::kernel) fn attached_to(
    interface: u32,
    direction: Direction,
) -> io::Result<Vec<LinkedProgram>> {
    #[repr(C)]
    struct Attributes {
        interface: u32,
        attach_type: u32,
        query_flags: u32,
        attach_flags: u32,
        programs: u64,
        count: u32,
        _padding: u32,
        program_flags: u64,
        links: u64,
        link_flags: u64,
        revision: u64,
    }
    let (mut programs, mut links) = ([0u32; BPF_MPROG_MAX], [0u32; BPF_MPROG_MAX]);
    let mut attributes = Attributes {
        interface,
        attach_type: attach_type(direction),
        query_flags: 0,
        attach_flags: 0,
        programs: &raw mut programs as u64,
        count: BPF_MPROG_MAX as u32,
        _padding: 0,
        program_flags: 0,
        links: &raw mut links as u64,
        link_flags: 0,
        revision: 0,
    };
    // SAFETY: the kernel writes at most `count` numbers to each of the two.
    match unsafe { bpf(BPF_PROG_QUERY, &mut attributes) } {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENODEV | libc::ENOENT)) => {
            Ok(Vec::new())
        }
        Err(error) => Err(error),
        Ok(_) => {
            let both = programs
                .into_iter()
                .zip(links)
                .take(attributes.count as usize);
            Ok(both
                .map(|(program, link)| LinkedProgram { program, link })
                .collect())
        }
    }
}

const fn attach_type(direction: Direction) -> u32 {
    match direction {
        Direction::Ingress => BPF_TCX_INGRESS,
        Direction::Egress => BPF_TCX_EGRESS,
    }
}
