//! The programs of a generation, pinned beside its maps.

use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;

use aya::maps::MapData;
use aya::programs::SchedClassifier;

use crate::kernel::attachment::{Attachment, ENCAP, ERRORS, Role, SEGMENTER};
use crate::kernel::bpf::program;
use crate::kernel::bpf::program::{Loading, Program, bind};
use crate::kernel::error::{KernelError, pin_error, reason};
use crate::kernel::generation::Generation;
use crate::kernel::object::{DAEMON, ERRORS_IP, OWNER_MAPS, PROGRAMS, flow_maps, mirror};
use crate::network::{Direction, LinkKind};
use crate::tables::Table;

impl Generation {
    /// Loads the programs that are attached.
    ///
    /// # Errors
    /// The kernel rejects a program.
    pub fn load_programs(&self) -> Result<(), KernelError> {
        let (mut here, mut there) = (self.load(|_| {})?, self.load(|_| {})?);
        let (dir, [first, rest @ ..]) = (&self.dir, PROGRAMS);
        // two at a time: verifying them is the longest part of a start
        std::thread::scope(|scope| {
            let first = scope.spawn(|| pin(dir, &mut there, first));
            let rest = rest
                .into_iter()
                .try_for_each(|name| pin(dir, &mut here, name));
            first
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                .and(rest)
        })
    }

    /// The program for an attachment to an interface with these link headers.
    ///
    /// # Errors
    /// The program has no pin, or the kernel rejects the query.
    pub fn program_of(
        &self,
        attachment: Attachment,
        kind: LinkKind,
    ) -> Result<SchedClassifier, KernelError> {
        match attachment.role {
            Role::Mirror => self.mirror(attachment.direction),
            Role::Encap { .. } => self.encap(),
            Role::Segmenter { .. } => self.segmenter(),
            Role::Errors { .. } => self.pinned(if kind == LinkKind::Ethernet {
                ERRORS
            } else {
                ERRORS_IP
            }),
        }
    }

    /// The program for packets that come out of the segmenter.
    ///
    /// # Errors
    /// The kernel rejects the program.
    pub fn segmenter(&self) -> Result<SchedClassifier, KernelError> {
        if !self.dir.join(SEGMENTER).exists() {
            pin(&self.dir, &mut self.load(|_| {})?, SEGMENTER)?;
        }
        self.pinned(SEGMENTER)
    }

    /// The program that processes the packets of a direction.
    ///
    /// # Errors
    /// It has no pin.
    pub fn mirror(&self, direction: Direction) -> Result<SchedClassifier, KernelError> {
        self.pinned(mirror(direction))
    }

    /// The program that wraps clones.
    ///
    /// # Errors
    /// It has no pin.
    pub fn encap(&self) -> Result<SchedClassifier, KernelError> {
        self.pinned(ENCAP)
    }

    fn pinned(&self, name: &str) -> Result<SchedClassifier, KernelError> {
        let path = self.dir.join(name);
        SchedClassifier::from_pin(&path)
            .map_err(|error| pin_error("open", &path, io::Error::other(error)))
    }

    /// Loads the program that does nothing, for measurements.
    ///
    /// # Errors
    /// The kernel rejects the program.
    pub fn noop(&self) -> Result<Program, KernelError> {
        self.program("noop")
    }

    pub(in crate::kernel) fn program(&self, name: &'static str) -> Result<Program, KernelError> {
        Program::load(self.load(|_| {})?, name)
    }
}

fn pin(dir: &Path, object: &mut Loading, name: &'static str) -> Result<(), KernelError> {
    let path = dir.join(name);
    let refuse = |reason| KernelError::Program {
        program: name,
        reason,
    };
    let program = program::load(object, name)?;
    let fd = program
        .fd()
        .map_err(|error| refuse(reason(&error)))?
        .as_fd();
    for map in held() {
        let opened = MapData::from_pin(dir.join(map)).map_err(|error| refuse(reason(&error)))?;
        bind(fd, &opened).map_err(|error| refuse(format!("cannot bind it to {map}: {error}")))?;
    }
    program
        .pin(&path)
        .map_err(|error| pin_error("create", &path, io::Error::other(error)))
}

/// Maps that a program holds even if it does not use them: one by which its owner is identified, and
/// those of functions that may be left out, so that each pin can be checked against the programs.
fn held() -> impl Iterator<Item = &'static str> {
    [DAEMON, Table::Names.map_name(), Table::Cgroups.map_name()]
        .into_iter()
        .chain(flow_maps(0, 0).map(|(name, _)| name))
        .chain(OWNER_MAPS.map(|(name, _)| name))
}
