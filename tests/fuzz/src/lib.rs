//! What the targets share: memory that ends where a frame ends, frames as the kernel hands them
//! over, and parsers that are written to be read.

pub mod fence;
pub mod hello;
pub mod pieces;
pub mod reading;
