//! Programs on TCX hooks: links, pinned.

use std::io;
use std::os::fd::BorrowedFd;

use crate::chain::{Chain, Position};
use crate::kernel::attach::Attachments;
use crate::kernel::attachment::Attachment;
use crate::kernel::bpf::link::{Anchor, BpfLink};
use crate::kernel::bpf::rcu;
use crate::kernel::error::{KernelError, pin_error};
use crate::kernel::pins::{absent_is_fine, make_dir, remove_pins};

/// Grace periods to wait for a link that is being removed.
const GONE_TRIES: usize = 10;

/// Where a position is, by the numbers of the programs there.
pub(in crate::kernel) fn anchor(chain: &Chain, position: Position) -> Anchor {
    let of = |index: usize| chain.programs.get(index).map(|one| one.id);
    match position {
        Position::First => Some(Anchor::First),
        Position::Last => Some(Anchor::Last),
        Position::Before(index) => of(index).map(Anchor::Before),
        Position::After(index) => of(index).map(Anchor::After),
    }
    .unwrap_or(Anchor::Last)
}

/// A hook holds no program twice, and a link whose pin another process has removed disappears some
/// time later.
pub(in crate::kernel) fn once_it_has_gone<T>(
    mut attempt: impl FnMut() -> io::Result<T>,
) -> Result<io::Result<T>, KernelError> {
    let mut done = attempt();
    for _ in 0..GONE_TRIES {
        if !done
            .as_ref()
            .is_err_and(|error| error.raw_os_error() == Some(libc::EEXIST))
        {
            break;
        }
        rcu::synchronize()?;
        done = attempt();
    }
    Ok(done)
}

impl Attachments {
    pub(in crate::kernel) fn attach_link(
        &self,
        attachment: Attachment,
        program: BorrowedFd<'_>,
        anchor: Anchor,
        error: impl Fn(io::Error) -> KernelError,
    ) -> Result<(), KernelError> {
        let path = self.link_pin(attachment);
        if BpfLink::open(&path).is_ok_and(|link| link.update(program).is_ok()) {
            return Ok(());
        }
        // its interface may have gone, and another have its index
        remove_pins(&path)?;
        make_dir(&self.links)?;
        let create = |anchor| {
            once_it_has_gone(|| {
                BpfLink::create(program, attachment.interface, attachment.direction, anchor)
            })
        };
        let link = match create(anchor)? {
            // what it was to be next to has just gone
            Err(error) if error.kind() == io::ErrorKind::NotFound => create(Anchor::Last)?,
            link => link,
        };
        link.map_err(&error)?
            .pin(&path)
            .map_err(|source| pin_error("create", &path, source))
    }

    pub(in crate::kernel) fn detach_link(&self, attachment: Attachment) -> Result<(), KernelError> {
        let path = self.link_pin(attachment);
        absent_is_fine(BpfLink::open(&path).and_then(|link| link.detach()))
            .map_err(|source| pin_error("detach", &path, source))?;
        remove_pins(&path)
    }
}
