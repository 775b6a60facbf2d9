//! Programs of the object, loaded.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};

use aya::Ebpf;
use aya::maps::MapData;
use aya::programs::SchedClassifier;

use crate::kernel::bpf::syscall::{BPF_PROG_BIND_MAP, bpf};
use crate::kernel::error::{KernelError, reason};

/// An object whose programs can be loaded.
pub(in crate::kernel) struct Loading {
    pub(in crate::kernel) ebpf: Ebpf,
    /// The object has their descriptors.
    _maps: Vec<MapData>,
}

impl Loading {
    pub(in crate::kernel) fn new(ebpf: Ebpf, maps: Vec<MapData>) -> Self {
        Self { ebpf, _maps: maps }
    }
}

/// A loaded program that is not attached yet.
pub struct Program {
    object: Loading,
    name: &'static str,
}

impl Program {
    pub(in crate::kernel) fn load(
        object: Loading,
        name: &'static str,
    ) -> Result<Self, KernelError> {
        let mut program = Self { object, name };
        load(&mut program.object, name)?;
        Ok(program)
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    pub(in crate::kernel) fn ebpf_mut(&mut self) -> &mut Ebpf {
        &mut self.object.ebpf
    }

    /// The program as aya sees it.
    ///
    /// # Errors
    /// The object has no such classifier.
    pub fn classifier(&mut self) -> Result<&mut SchedClassifier, String> {
        classifier(&mut self.object.ebpf, self.name)
    }
}

/// Loads a program of an object.
///
/// # Errors
/// The kernel rejects the program.
pub(in crate::kernel) fn load<'o>(
    object: &'o mut Loading,
    name: &'static str,
) -> Result<&'o mut SchedClassifier, KernelError> {
    let refuse = |reason| KernelError::Program {
        program: name,
        reason,
    };
    let program = classifier(&mut object.ebpf, name).map_err(refuse)?;
    program.load().map_err(|error| refuse(reason(&error)))?;
    Ok(program)
}

fn classifier<'o>(object: &'o mut Ebpf, name: &str) -> Result<&'o mut SchedClassifier, String> {
    let program = object
        .program_mut(name)
        .ok_or("no such program in the object")?;
    program
        .try_into()
        .map_err(|error: aya::programs::ProgramError| error.to_string())
}

/// Has a program hold a map that it does not use.
///
/// # Errors
/// The kernel rejects the binding.
pub(in crate::kernel) fn bind(program: BorrowedFd<'_>, map: &MapData) -> io::Result<()> {
    #[repr(C)]
    struct Attributes {
        program: u32,
        map: u32,
        flags: u32,
    }
    let (program, map) = (
        program.as_raw_fd() as u32,
        map.fd().as_fd().as_raw_fd() as u32,
    );
    let mut attributes = Attributes {
        program,
        map,
        flags: 0,
    };
    // SAFETY: no pointers.
    unsafe { bpf(BPF_PROG_BIND_MAP, &mut attributes) }.map(drop)
}
