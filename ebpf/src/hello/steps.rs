//! Loops as states and steps, since a program has none of its own: `bpf_loop` drives them there.

use core::ops::ControlFlow;

/// One loop.
///
/// The verifier follows what a step stores that it knows, round by round. So a position begins at a
/// number that it does not know ([`Buffer::zero`](super::Buffer::zero)), and a count is `index` or
/// the difference of positions. Where a step has many branches its integers have less than four
/// bytes: the verifier forgets their range. With all of them in four bytes the head of a request
/// takes 70,000 instructions instead of 5,000.
pub trait Step {
    /// Most rounds.
    const MOST: u32;
    /// How many rounds a program does in one call, of which [`Self::MOST`] is a multiple: a call
    /// may cost more than a round, where returns are guarded (Speculative Return Stack Overflow),
    /// but each round in it is verified.
    const AT_ONCE: u32;

    /// One round, the `index`th from 0.
    fn step(&mut self, index: u32) -> ControlFlow<()>;
}

/// What drives loops.
pub trait Steps {
    /// Calls [`Step::step`] until it breaks, at most [`Step::MOST`] times.
    fn each<S: Step>(&self, state: &mut S);
}

/// Drives loops on the host.
#[derive(Debug, Clone, Copy)]
pub struct Plain;

impl Steps for Plain {
    fn each<S: Step>(&self, state: &mut S) {
        const { assert!(S::MOST.is_multiple_of(S::AT_ONCE)) };
        for index in 0..S::MOST {
            if state.step(index).is_break() {
                break;
            }
        }
    }
}
