//! What the kernel can do, found out by trying: distributions bring features to kernels of an older
//! version, and leave out some of a newer one.

use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd};

use crate::kernel::bpf::link::attached_to;
use crate::kernel::bpf::syscall::{BPF_PROG_LOAD, bpf};
use crate::kernel::error::KernelError;
use crate::network::Direction;

// enum bpf_prog_type of include/uapi/linux/bpf.h
const BPF_PROG_TYPE_SCHED_CLS: u32 = 3;
/// `BPF_FUNC_loop`: Linux 5.17, and kernels to which it was brought.
const BPF_LOOP: u32 = 181;
/// Every network namespace has it.
const LOOPBACK: u32 = 1;

/// # Errors
/// The kernel lacks what the programs cannot do without.
pub(in crate::kernel) fn require() -> Result<(), KernelError> {
    if lacks_helper(BPF_LOOP) {
        return Err(KernelError::Unsupported {
            what: "the kernel lacks the helper bpf_loop".to_owned(),
            remedy: "use Linux 5.17 or newer, or a distribution's kernel that has it",
        });
    }
    Ok(())
}

/// # Errors
/// The kernel has no TCX links.
pub(in crate::kernel) fn require_tcx() -> Result<(), KernelError> {
    if has_tcx() {
        return Ok(());
    }
    Err(KernelError::Unsupported {
        what: "the kernel has no TCX links".to_owned(),
        remedy: "run without --attach, or with --attach clsact",
    })
}

/// Whether a question about programs on a TCX hook is understood.
pub(in crate::kernel) fn has_tcx() -> bool {
    attached_to(LOOPBACK, Direction::Ingress).is_ok()
}

/// Whether the verifier rejects a helper as unknown. Otherwise it may exist, and loading shows it.
fn lacks_helper(number: u32) -> bool {
    // call; exit
    let code = [u64::from(number) << 32 | 0x85, 0x95];
    let mut log = [0; 4096];
    load(&code, &mut log).is_err() && is_unknown(&String::from_utf8_lossy(&log))
}

/// Loads a classifier of a few instructions. The verifier's log goes to `log`, if that has room.
///
/// # Errors
/// The kernel rejects the classifier.
pub(in crate::kernel) fn load(code: &[u64], log: &mut [u8]) -> io::Result<OwnedFd> {
    /// What the command takes, up to where the rest may be zeros.
    #[repr(C)]
    struct Attributes {
        kind: u32,
        instructions: u32,
        code: u64,
        license: u64,
        log_level: u32,
        log_bytes: u32,
        log: u64,
        _kernel_version: u32,
        _flags: u32,
    }
    let is_logged = !log.is_empty();
    let mut attributes = Attributes {
        kind: BPF_PROG_TYPE_SCHED_CLS,
        instructions: code.len() as u32,
        code: code.as_ptr() as u64,
        license: c"Dual MIT/GPL".as_ptr() as u64,
        log_level: is_logged.into(),
        log_bytes: log.len() as u32,
        log: if is_logged {
            log.as_mut_ptr() as u64
        } else {
            0
        },
        _kernel_version: 0,
        _flags: 0,
    };
    // SAFETY: code, license and log live through the call, and the kernel writes no more to the log
    // than there is room for.
    let loaded = unsafe { bpf(BPF_PROG_LOAD, &mut attributes) }?;
    // SAFETY: the kernel has just given this descriptor to us.
    Ok(unsafe { OwnedFd::from_raw_fd(loaded) })
}

/// The verifier's words for a helper that it does not know, or not for such a program
/// (`check_helper_call`).
fn is_unknown(log: &str) -> bool {
    ["invalid func ", "unknown func ", "cannot use helper "]
        .iter()
        .any(|words| log.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::claim::capability::missing;

    #[test]
    fn what_the_verifier_does_not_know_it_says() {
        assert!(is_unknown(
            "0: (85) call unknown#9999\ninvalid func unknown#9999\n"
        ));
        assert!(is_unknown(
            "0: (85) call bpf_loop#181\nunknown func bpf_loop#181\n"
        ));
        assert!(is_unknown(
            "program of this type cannot use helper bpf_loop#181\n"
        ));
        assert!(!is_unknown("R1 !read_ok\nprocessed 1 insns\n") && !is_unknown(""));
    }

    #[test]
    fn a_helper_that_no_kernel_has_is_missing() {
        if !missing().is_empty() {
            println!("skipped: it takes root");
            return;
        }
        assert!(lacks_helper(99_999));
        // `bpf_get_prandom_u32`
        assert!(!lacks_helper(7));
        require().expect("bpf_loop");
    }
}
