//! Asks the live tables about packets: the program `explain` on the maps of a generation, run by
//! `BPF_PROG_TEST_RUN`. No packet is sent, no counter moves.

use std::io;

use aya::maps::{Array, MapData};
use aya::programs::{TestRun as _, TestRunOptions};
use traffic_mirror_ebpf::abi::Explained;

use crate::kernel::bpf::program::Program;
use crate::kernel::error::{KernelError, map_error, reason};
use crate::kernel::generation::Generation;
use crate::kernel::observer::Observer;

const EXPLAIN: &str = "explain";
const EXPLAINED: &str = "EXPLAINED";

/// Longest frame that is processed, bytes: the kernel accepts less than a page for a test run
/// (`bpf_test_init`).
const FRAME_BYTES: usize = 3072;
/// Fewest, an Ethernet header.
const ETHER_BYTES: usize = 14;
/// Where `cb`, five words, stands in `struct __sk_buff`, in words; what is behind it need not be
/// given.
const CB_WORD: usize = 12;

/// The program, ready for queries.
pub struct Explainer {
    program: Program,
}

impl Generation {
    /// Loads the `explain` program.
    ///
    /// # Errors
    /// The kernel rejects the program.
    pub fn explain(&self) -> Result<Program, KernelError> {
        self.program(EXPLAIN)
    }

    /// The same, ready for queries.
    ///
    /// # Errors
    /// The kernel rejects the program.
    pub fn explainer(&self) -> Result<Explainer, KernelError> {
        Ok(Explainer {
            program: self.explain()?,
        })
    }
}

impl Observer {
    /// Loads the program for a generation of maps.
    ///
    /// # Errors
    /// The kernel rejects the program, or the generation is gone.
    pub fn explainer(&self, generation: u32) -> Result<Explainer, KernelError> {
        Generation::open(self.pin_path(), generation).explainer()
    }
}

impl Explainer {
    /// The programs' answer for an Ethernet frame on a hook, of a flow whose server name and
    /// application have classes, if they are known. A frame longer than 3 KiB is truncated.
    ///
    /// # Errors
    /// The kernel rejects the run.
    pub fn ask(
        &mut self,
        hook: u32,
        frame: &[u8],
        learned: [Option<u32>; 2],
    ) -> Result<Explained, KernelError> {
        self.answer()?
            .set(0, &Explained::nothing(), 0)
            .map_err(io::Error::other)
            .map_err(map_error("write", EXPLAINED))?;
        let mut frame = frame[..frame.len().min(FRAME_BYTES)].to_vec();
        frame.resize(frame.len().max(ETHER_BYTES), 0);
        self.run(hook, learned, &frame)?;
        self.answer()?
            .get(&0, 0)
            .map_err(io::Error::other)
            .map_err(map_error("read", EXPLAINED))
    }

    fn answer(&mut self) -> Result<Array<&mut MapData, Explained>, KernelError> {
        let map = self.program.ebpf_mut().map_mut(EXPLAINED);
        let error = map_error("open", EXPLAINED);
        let map = map.ok_or_else(|| error(io::ErrorKind::NotFound.into()))?;
        Array::try_from(map)
            .map_err(io::Error::other)
            .map_err(error)
    }

    fn run(
        &mut self,
        hook: u32,
        learned: [Option<u32>; 2],
        frame: &[u8],
    ) -> Result<(), KernelError> {
        let refused = |reason| KernelError::Program {
            program: EXPLAIN,
            reason,
        };
        let mut context = [0_u32; CB_WORD + 5];
        context[CB_WORD] = hook;
        for (word, class) in context[CB_WORD + 1..].iter_mut().zip(learned) {
            *word = class.map_or(0, |class| class + 1);
        }
        let options = TestRunOptions {
            data_in: Some(frame),
            ctx_in: Some(bytemuck::cast_slice(&context)),
            ..TestRunOptions::new()
        };
        let done = self
            .program
            .classifier()
            .map_err(refused)?
            .test_run(options)
            .map(drop);
        done.map_err(|error| {
            refused(format!(
                "test run with {} bytes: {}",
                frame.len(),
                reason(&error)
            ))
        })
    }
}
