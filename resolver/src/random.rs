//! Random numbers of the kernel (getrandom(2)).

/// The id of a question; `None` if the kernel has no random numbers.
pub(crate) fn id() -> Option<u16> {
    getrandom::u32().ok().map(|number| number as u16)
}

/// A number that may be guessed, 0 if there is none.
pub(crate) fn number() -> u32 {
    getrandom::u32().unwrap_or(0)
}
