//! `BPF_PROG_TEST_RUN` of programs of type `sched_cls`: a frame and a context in; verdict, frame,
//! context and time out.

use anyhow::{Context as _, Result};
use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions};
use bytemuck::{Pod, Zeroable, bytes_of, bytes_of_mut};
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::time::Duration;

/// `struct __sk_buff` of `linux/bpf.h`, in host order where not said otherwise.
///
/// A run takes only some fields, and refuses (`EINVAL`) a value other than 0 in the rest: see
/// [`TestRun::context`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[expect(missing_docs, reason = "the fields and names of linux/bpf.h")]
pub struct SkBuff {
    pub len: u32,
    pub pkt_type: u32,
    pub mark: u32,
    pub queue_mapping: u32,
    /// Network byte order.
    pub protocol: u32,
    pub vlan_present: u32,
    pub vlan_tci: u32,
    /// Network byte order.
    pub vlan_proto: u32,
    pub priority: u32,
    pub ingress_ifindex: u32,
    pub ifindex: u32,
    pub tc_index: u32,
    pub cb: [u32; 5],
    pub hash: u32,
    pub tc_classid: u32,
    pub data: u32,
    pub data_end: u32,
    pub napi_id: u32,
    pub family: u32,
    pub remote_ip4: u32,
    pub local_ip4: u32,
    pub remote_ip6: [u32; 4],
    pub local_ip6: [u32; 4],
    pub remote_port: u32,
    pub local_port: u32,
    pub data_meta: u32,
    pub flow_keys: u64,
    /// Nanoseconds.
    pub tstamp: u64,
    pub wire_len: u32,
    pub gso_segs: u32,
    pub sk: u64,
    pub gso_size: u32,
    /// One byte; the rest of the word is padding.
    pub tstamp_type: u32,
    /// Nanoseconds.
    pub hwtstamp: u64,
}

/// The arguments of a run.
#[derive(Clone, Debug)]
pub struct TestRun<'a> {
    /// The frame from its Ethernet header on, 14 bytes or more.
    pub data: &'a [u8],
    /// The kernel (`convert___skb_to_skb`) takes `mark`, `priority`, `ingress_ifindex`, `ifindex`,
    /// `cb`, `tstamp`, `wire_len`, `gso_segs`, `gso_size`, `hwtstamp`. `ifindex` names an interface
    /// in the namespace of the calling thread; 0 is its `lo`.
    pub context: SkBuff,
    /// How often the program runs; the time is the mean. A program that changes the frame sees its
    /// changes again.
    pub repeat: u32,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What the program returned; -1 is `TCX_NEXT`, `TC_ACT_UNSPEC`.
    pub verdict: i32,
    /// Mean time of one run, in whole nanoseconds.
    pub duration: Duration,
    /// The frame afterwards.
    pub data: Vec<u8>,
    /// The context afterwards: the fields that a run takes. The others are 0.
    pub context: SkBuff,
}

impl<'a> TestRun<'a> {
    /// One run over `data` with a context of zeros.
    pub fn new(data: &'a [u8]) -> Self {
        Self {
            data,
            context: SkBuff::default(),
            repeat: 1,
        }
    }

    /// Runs `program`, as seen from the network namespace of the calling thread
    /// ([`super::netns::Netns::enter`]).
    pub fn run(&self, program: &SchedClassifier) -> Result<Outcome> {
        // a program may make the frame longer: by an outer header, or several
        let mut data = vec![0; self.data.len() + 4096];
        let mut context = SkBuff::default();
        let options = TestRunOptions {
            data_in: Some(self.data),
            data_out: Some(&mut data),
            ctx_in: Some(bytes_of(&self.context)),
            ctx_out: Some(bytes_of_mut(&mut context)),
            repeat: self.repeat,
            ..TestRunOptions::new()
        };
        let done = program.test_run(options);
        let done = done.with_context(|| {
            format!(
                "BPF_PROG_TEST_RUN with a frame of {} bytes",
                self.data.len()
            )
        })?;
        data.truncate(done.data_size_out as usize);
        Ok(Outcome {
            verdict: done.return_value as i32,
            duration: done.duration,
            data,
            context,
        })
    }
}

/// The instructions of a loaded program as the kernel has completed them, 8 bytes each. 2026-11-30:
/// aya 0.16 tells how many bytes they are (`ProgramInfo::size_translated`), and does not give them.
///
/// # Errors
/// The kernel refuses.
pub fn translated(program: BorrowedFd<'_>) -> Result<Vec<[u8; 8]>> {
    const BPF_OBJ_GET_INFO_BY_FD: i32 = 15;
    /// The beginning of `struct bpf_prog_info`.
    #[repr(C)]
    #[derive(Default)]
    struct Info {
        kind: u32,
        id: u32,
        tag: [u8; 8],
        jited_bytes: u32,
        translated_bytes: u32,
        jited: u64,
        translated: u64,
    }
    #[repr(C)]
    struct Attributes {
        fd: i32,
        info_bytes: u32,
        info: u64,
    }
    let get = |info: &mut Info| {
        let info_bytes = size_of::<Info>() as u32;
        let attributes = Attributes {
            fd: program.as_raw_fd(),
            info_bytes,
            info: std::ptr::from_mut(info) as u64,
        };
        let size = size_of::<Attributes>();
        // SAFETY: the kernel writes no more than the lengths say.
        match unsafe {
            libc::syscall(
                libc::SYS_bpf,
                BPF_OBJ_GET_INFO_BY_FD,
                &raw const attributes,
                size,
            )
        } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()).context("ask for a program's instructions"),
        }
    };
    let mut info = Info::default();
    get(&mut info)?;
    let mut instructions = vec![[0; 8]; info.translated_bytes as usize / 8];
    let translated_bytes = info.translated_bytes;
    get(&mut Info {
        translated_bytes,
        translated: instructions.as_mut_ptr() as u64,
        ..Info::default()
    })?;
    Ok(instructions)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::foreign::Foreign;

    /// `cb[0] = mark; return mark`.
    fn program() -> Result<SchedClassifier> {
        let code: [[u8; 8]; 3] = [
            [0x61, 0x10, 8, 0, 0, 0, 0, 0],
            [0x63, 0x01, 48, 0, 0, 0, 0, 0],
            [0x95, 0, 0, 0, 0, 0, 0, 0],
        ];
        Foreign::assembled("mark", &code.map(u64::from_le_bytes))?.classifier()
    }

    #[test]
    fn layout_is_that_of_the_kernel() {
        assert_eq!(std::mem::offset_of!(SkBuff, tstamp), 152);
        assert_eq!(std::mem::offset_of!(SkBuff, gso_size), 176);
        assert_eq!(size_of::<SkBuff>(), 192);
    }

    #[test]
    fn verdict_frame_and_context_come_back() {
        let frame = crate::lab::packet::eth()
            .ip("10.0.0.1", "10.0.0.2")
            .udp(1, 2)
            .build();
        let program = program().unwrap();
        let context = SkBuff {
            mark: u32::MAX,
            cb: [1, 2, 3, 4, 5],
            gso_size: 1400,
            ..SkBuff::default()
        };
        let run = TestRun {
            context,
            repeat: 1000,
            ..TestRun::new(&frame)
        };
        let outcome = run.run(&program).unwrap();
        assert_eq!(outcome.verdict, -1);
        assert_eq!(outcome.data, frame);
        assert_eq!(outcome.context.cb, [u32::MAX, 2, 3, 4, 5]);
        assert_eq!(
            (outcome.context.mark, outcome.context.gso_size),
            (u32::MAX, 1400)
        );
        assert!(TestRun::new(&frame[..13]).run(&program).is_err());
        let refused = TestRun {
            context: SkBuff {
                hash: 1,
                ..SkBuff::default()
            },
            ..TestRun::new(&frame)
        };
        assert!(refused.run(&program).is_err());
    }
}
