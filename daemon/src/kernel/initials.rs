//! QUIC Initials that packets have left for the daemon, and what it has read in them: the ring
//! buffer of a generation, and the program `quic_name` on its maps, run by `BPF_PROG_TEST_RUN`.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use aya::maps::{Map, MapData, RingBuf};
use aya::programs::{TestRun as _, TestRunOptions};
use traffic_mirror_ebpf::abi::{Answer, Initial};
use traffic_mirror_ebpf::packet::ETHER_BYTES;

use super::Kernel;
use super::bpf::program::Program;
use super::error::{KernelError, map_error, reason};
use super::generation::Generation;
use super::object::INITIALS;

const QUIC_NAME: &str = "quic_name";

/// The Initials of a generation. Only one may be in use at a time.
pub struct Initials {
    ring: RingBuf<MapData>,
    program: Program,
}

impl Kernel {
    /// The number of the live tables, whatever is wrong with them.
    ///
    /// # Errors
    /// The pin path cannot be read.
    pub fn generation(&self) -> Result<Option<u32>, KernelError> {
        Ok(Generation::list(&self.pin_path)?.pop())
    }

    /// The Initials of a generation: `None` if no filter there gives a server name.
    ///
    /// # Errors
    /// The ring buffer cannot be mapped, or the kernel rejects the program.
    pub fn initials(&self, generation: u32) -> Result<Option<Initials>, KernelError> {
        Generation::open(&self.pin_path, generation).initials()
    }
}

impl Generation {
    fn initials(&self) -> Result<Option<Initials>, KernelError> {
        if !self.has_our_layout() || !self.knows_flows()? {
            return Ok(None);
        }
        let map = self.open_map(INITIALS)?;
        let ring = RingBuf::try_from(Map::RingBuf(map)).map_err(io::Error::other);
        Ok(Some(Initials {
            ring: ring.map_err(map_error("map", INITIALS))?,
            program: self.quic_name()?,
        }))
    }

    /// Loads the program that takes what the daemon has read.
    ///
    /// # Errors
    /// The kernel rejects the program.
    pub fn quic_name(&self) -> Result<Program, KernelError> {
        self.program(QUIC_NAME)
    }
}

impl Initials {
    /// Calls with the next one, if there is one, and has the packets of its flow find the answer,
    /// with the name that belongs to it. An Initial is there until that is done, also for the next
    /// daemon.
    ///
    /// # Errors
    /// The kernel rejects the run; the Initial is gone.
    pub fn next(
        &mut self,
        read: impl FnOnce(&Initial) -> Option<(Answer, String)>,
    ) -> Option<Result<(), KernelError>> {
        loop {
            let item = self.ring.next()?;
            // another process may write there, too
            if let Ok(initial) = bytemuck::try_from_bytes(&item) {
                let found = read(initial);
                return Some(found.map_or(Ok(()), |(answer, name)| {
                    run(&mut self.program, &answer, &name)
                }));
            }
        }
    }
}

fn run(program: &mut Program, answer: &Answer, name: &str) -> Result<(), KernelError> {
    const HEADER_BYTES: usize = ETHER_BYTES as usize;
    let refused = |reason| KernelError::Program {
        program: QUIC_NAME,
        reason,
    };
    let packet = [
        &[0; HEADER_BYTES],
        bytemuck::bytes_of(answer),
        name.as_bytes(),
    ]
    .concat();
    let options = TestRunOptions {
        data_in: Some(&packet),
        ..TestRunOptions::new()
    };
    let classifier = program.classifier().map_err(refused)?;
    let done = classifier.test_run(options).map(drop);
    done.map_err(|error| refused(format!("test run: {}", reason(&error))))
}

/// Readable if there is an Initial.
impl AsFd for Initials {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}
