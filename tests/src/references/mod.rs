//! Programs that ours are compared with, written for this purpose, and what feeds them packets.
//! Benchmarks and tests load them; no package has them.
//!
//! They are put together here, instruction by instruction, so that they take neither a compiler nor
//! a build of their own.

mod assembler;
mod lookups;
mod maps;
mod mixer;
#[cfg(test)]
mod tests;

pub use lookups::{Listed, Lookups};
pub use mixer::{Flow, Mixer};

use anyhow::Result;

use crate::lab::foreign::Foreign;
use assembler::{Code, Helper, Register as R};

/// `TCX_NEXT`, `TC_ACT_UNSPEC`.
const NEXT: i32 = -1;

/// A program that gives each packet to another interface, too, as it is, and does nothing else:
/// what the kernel takes for a copy by itself.
///
/// # Errors
/// The kernel refuses it.
pub fn bare_clone(interface: u32) -> Result<Foreign> {
    let mut code = Code::default();
    code.set(R::R2, interface as i32)
        .set(R::R3, 0)
        .call(Helper::CloneRedirect);
    code.set(R::R0, NEXT).exit();
    Foreign::assembled("bare_clone", &code.finish())
}
