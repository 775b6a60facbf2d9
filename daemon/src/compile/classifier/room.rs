//! What is left of the room for tables while they are being built.

/// Bytes that are left; `None` once more was requested.
#[derive(Debug)]
pub(in crate::compile) struct Room(Option<usize>);

impl Room {
    pub(in crate::compile) fn new(bytes: usize) -> Self {
        Self(Some(bytes))
    }

    pub(in crate::compile) fn spend(&mut self, bytes: usize) {
        self.0 = self.0.and_then(|left| left.checked_sub(bytes));
    }

    pub(in crate::compile) fn is_full(&self) -> bool {
        self.0.is_none()
    }
}
