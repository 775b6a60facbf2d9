//! Detaches and removes all that is below the pin path.

use super::Kernel;
use super::attachment::Role;
use super::bpf::rcu;
use super::claim::{lock, namespace};
use super::error::KernelError;
use super::generation::Generation;
use super::pins::{remove_dir, remove_pins};

impl Kernel {
    /// Detaches and removes everything, also the pin path, if a daemon has made it.
    ///
    /// # Errors
    /// The first object that the kernel does not remove; the rest is still tried.
    pub fn remove(mut self) -> Result<(), KernelError> {
        let mut result = Ok(());
        let mut attempt = |done: Result<(), KernelError>| {
            if result.is_ok() {
                result = done;
            }
        };
        let (mirrors, catchers): (Vec<_>, Vec<_>) = self
            .attachments
            .list()?
            .into_iter()
            .partition(|(attachment, _)| attachment.role == Role::Mirror);
        for attachments in [mirrors, catchers] {
            for (attachment, mechanism) in attachments {
                attempt(
                    self.attachments
                        .detach(&mut self.netlink, attachment, mechanism),
                );
            }
            // a `mirror` that still runs needs `encap`
            attempt(rcu::synchronize());
        }
        attempt(self.remove_segmenter());
        for number in Generation::list(&self.pin_path)? {
            attempt(Generation::open(&self.pin_path, number).remove());
        }
        attempt(self.attachments.end_relocations(&mut self.netlink));
        attempt(remove_pins(&Generation::unfinished(&self.pin_path)));
        attempt(remove_dir(&self.taking_over()));
        attempt(self.attachments.remove_dirs());
        if result.is_ok() {
            result = namespace::forget(&self.pin_path)
                .and_then(|()| lock::remove_pin_path(&self.pin_path));
        }
        result
    }
}
