//! What is done to the kernel, so that tests can end the process before any of it, or have it fail.

/// A kind of change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// New maps are created.
    Create,
    /// The programs are loaded.
    Load,
    /// A program is attached, or takes the place of another.
    Attach,
    /// An element of a live map is written.
    Write,
    /// The epoch is stored.
    Commit,
    /// New maps become the live ones.
    Publish,
    /// A program is detached.
    Detach,
    /// Maps that are not live any more are removed.
    Remove,
}

impl Step {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Create,
        Self::Load,
        Self::Attach,
        Self::Write,
        Self::Commit,
        Self::Publish,
        Self::Detach,
        Self::Remove,
    ];
}
