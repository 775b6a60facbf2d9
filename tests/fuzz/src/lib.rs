//! What the targets share: memory that ends where a frame ends, frames as the kernel hands them
//! over, and a parser that is written to be read.

pub mod fence;
pub mod pieces;
pub mod reading;
