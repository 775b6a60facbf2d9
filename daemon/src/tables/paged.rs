//! Tables as bytes, whatever their elements are.

use std::sync::Arc;

use bytemuck::Pod;
use traffic_mirror_ebpf::abi::{Control, Values};

use super::Pages;

/// A table elsewhere.
pub trait Content {
    /// Why it cannot be had.
    type Error;

    /// How long it is, bytes.
    fn bytes(&self) -> usize;

    /// Copies what stands from an offset on, bytes.
    ///
    /// # Errors
    /// It cannot be had.
    fn read(&self, offset: usize, to: &mut [u8]) -> Result<(), Self::Error>;
}

/// A table, whatever its elements are.
pub(super) trait Paged {
    fn elements(&self) -> usize;
    fn page_bytes(&self) -> usize;
    /// What is in a page; nothing beyond the last.
    fn page(&self, number: usize) -> &[u8];
    fn store(&mut self, offset: usize, bytes: &[u8]);
}

impl<T: Pod> Paged for Pages<T> {
    fn elements(&self) -> usize {
        self.len()
    }

    fn page_bytes(&self) -> usize {
        Self::PAGE_BYTES
    }

    fn page(&self, number: usize) -> &[u8] {
        self.page(number)
    }

    fn store(&mut self, offset: usize, bytes: &[u8]) {
        self.store(offset, bytes);
    }
}

impl Paged for Arc<Values> {
    fn elements(&self) -> usize {
        1
    }

    fn page_bytes(&self) -> usize {
        size_of::<Values>()
    }

    fn page(&self, number: usize) -> &[u8] {
        if number == 0 {
            bytemuck::bytes_of(&**self)
        } else {
            &[]
        }
    }

    fn store(&mut self, offset: usize, bytes: &[u8]) {
        bytemuck::bytes_of_mut(Arc::make_mut(self))[offset..offset + bytes.len()]
            .copy_from_slice(bytes);
    }
}

impl Paged for Control {
    fn elements(&self) -> usize {
        1
    }

    fn page_bytes(&self) -> usize {
        size_of::<Self>()
    }

    fn page(&self, number: usize) -> &[u8] {
        if number == 0 {
            bytemuck::bytes_of(self)
        } else {
            &[]
        }
    }

    fn store(&mut self, offset: usize, bytes: &[u8]) {
        bytemuck::bytes_of_mut(self)[offset..offset + bytes.len()].copy_from_slice(bytes);
    }
}
