//! Frames as the kernel hands them over: the linear part as it lies there, or any bytes copied out
//! one window at a time.

use traffic_mirror_ebpf::abi::Skipped;
use traffic_mirror_ebpf::packet::{Frame, Packet, WINDOW_BYTES, Window, parse, parse_extensions};

use crate::fence::Fence;

/// A window is copied to the end of fenced memory, over the one before: so a read beyond the window
/// is a fault, and one of a window that is no longer valid shows other bytes.
pub struct Windows {
    fence: Fence,
    /// Where the windows that were asked for end in the frame.
    ends: Vec<usize>,
}

impl Default for Windows {
    fn default() -> Self {
        Self {
            fence: Fence::new(WINDOW_BYTES),
            ends: Vec::new(),
        }
    }
}

impl Windows {
    /// Where the windows that were asked for since the last time end in the frame, be it that it
    /// ends before.
    pub fn take_ends(&mut self) -> Vec<usize> {
        std::mem::take(&mut self.ends)
    }

    fn window<const N: usize>(&mut self, frame: &[u8], offset: u32) -> Option<Window<N>> {
        assert!(N <= WINDOW_BYTES, "a window of {N} bytes");
        let offset = offset as usize;
        self.ends.push(offset + N);
        self.fence.put(&[0xa5; WINDOW_BYTES]);
        let bytes = frame.get(offset..)?.get(..N)?;
        let bytes = self.fence.put(bytes);
        // SAFETY: `bytes` has N of them.
        Some(unsafe { Window::new(bytes.as_ptr()) })
    }
}

/// `Linear` of ebpf/src/bpf/skb.rs.
struct Linear<'a>(&'a [u8], &'a mut Windows);

impl Frame for Linear<'_> {
    const WALKS: bool = false;

    fn window<const N: usize>(&mut self, offset: u32) -> Option<Window<N>> {
        self.1.window(self.0, offset)
    }
}

/// `Scattered` of ebpf/src/bpf/skb.rs.
struct Scattered<'a>(&'a [u8], &'a mut Windows);

impl Frame for Scattered<'_> {
    const WALKS: bool = true;

    fn window<const N: usize>(&mut self, offset: u32) -> Option<Window<N>> {
        self.1.window(self.0, offset)
    }
}

/// `parse_packet` of ebpf/src/bpf/parse.rs, for a frame of which the first `linear` bytes lie in
/// one piece.
pub fn parse_in_pieces(
    frame: &[u8],
    linear: usize,
    ethertype: u16,
    windows: &mut Windows,
    packet: &mut Packet,
) -> Result<(), Skipped> {
    let front = &frame[..linear];
    let parsed = parse(&mut Linear(front, windows), ethertype, packet);
    if parsed.is_ok() && packet.is_extended() {
        parse_extensions(&mut Linear(front, windows), packet);
    }
    let is_cut = match parsed {
        Ok(()) => packet.unknown != 0,
        Err(reason) => reason == Skipped::Malformed,
    };
    if !is_cut || linear == frame.len() {
        return parsed;
    }
    *packet = Packet::default();
    parse(&mut Scattered(frame, windows), ethertype, packet)
}
