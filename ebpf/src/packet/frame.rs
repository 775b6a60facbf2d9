//! Frames that can be read.

/// A frame that can be read.
pub trait Frame {
    /// Whether IPv6 extension headers are read. Otherwise a packet that has them keeps the first
    /// one as its protocol ([`Packet::is_extended`](super::Packet::is_extended)).
    const WALKS: bool;

    /// A pointer to `N` readable bytes at `offset`, valid until the next call; `None` if the frame
    /// ends before. `N` is at most [`WINDOW_BYTES`](super::WINDOW_BYTES).
    fn window<const N: usize>(&mut self, offset: u32) -> Option<Window<N>>;
}

/// `N` readable bytes of a frame.
#[derive(Clone, Copy)]
pub struct Window<const N: usize>(*const u8);

impl<const N: usize> Window<N> {
    /// # Safety
    /// `N` bytes at `pointer` are readable as long as the window is used.
    #[inline(always)]
    pub const unsafe fn new(pointer: *const u8) -> Self {
        Self(pointer)
    }

    #[inline(always)]
    fn load<T: Copy>(self, at: usize) -> T {
        assert_in_window::<T, N>(at);
        // SAFETY: in the window. For BPF the load must be one instruction, so it is a plain one:
        // the verifier knows whether the architecture allows it unaligned
        // (`CONFIG_HAVE_EFFICIENT_UNALIGNED_ACCESS`).
        unsafe {
            let pointer = self.0.add(at).cast::<T>();
            if cfg!(target_arch = "bpf") {
                *pointer
            } else {
                pointer.read_unaligned()
            }
        }
    }

    /// The byte at an offset within the window.
    #[must_use]
    #[inline(always)]
    pub fn u8(self, at: usize) -> u8 {
        self.load(at)
    }

    #[inline(always)]
    pub(crate) fn u16(self, at: usize) -> u16 {
        u16::from_be(self.load(at))
    }

    #[inline(always)]
    pub(crate) fn u32(self, at: usize) -> u32 {
        u32::from_be(self.load(at))
    }

    #[inline(always)]
    pub(super) fn u64(self, at: usize) -> u64 {
        u64::from_be(self.load(at))
    }
}

#[inline(always)]
fn assert_in_window<T, const N: usize>(at: usize) {
    debug_assert!(at + size_of::<T>() <= N);
}

/// A frame in memory.
pub struct Bytes<'a>(pub &'a [u8]);

impl Frame for Bytes<'_> {
    const WALKS: bool = true;

    #[inline(always)]
    fn window<const N: usize>(&mut self, offset: u32) -> Option<Window<N>> {
        let bytes = self.0.get(offset as usize..)?.get(..N)?;
        // SAFETY: `bytes` has N of them.
        Some(unsafe { Window::new(bytes.as_ptr()) })
    }
}
