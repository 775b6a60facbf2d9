//! Access to the packet that the kernel hands to a program (`struct __sk_buff`).

use core::intrinsics::cold_path;
use core::mem::MaybeUninit;

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::{bpf_skb_load_bytes, bpf_skb_vlan_pop};
use aya_ebpf::programs::TcContext;
use traffic_mirror_ebpf::abi::cb;
use traffic_mirror_ebpf::packet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, Frame, WINDOW_BYTES, Window};

/// Go on with the next program or filter: `TC_ACT_UNSPEC`, `TCX_NEXT`.
pub(super) const NEXT: i32 = -1;
/// Drop: only ever the verdict on a copy of ours. `TC_ACT_SHOT`, `TCX_DROP`.
pub(super) const DROP: i32 = 2;

/// Tags that a frame may carry: one beside it, and in it as many as the parser reads.
const MAX_TAGS: u32 = 4;

/// The packet at hand.
#[derive(Clone, Copy)]
pub(super) struct Skb(pub *mut __sk_buff);

macro_rules! fields {
    ($($name:ident)*) => { $(
        #[inline(always)]
        pub(super) fn $name(self) -> u32 {
            // SAFETY: the kernel hands a valid context; volatile, or the compiler may merge loads,
            // which the verifier does not allow for a context.
            unsafe { (&raw const (*self.0).$name).read_volatile() }
        }
    )* };
}

impl Skb {
    /// The packet that a program is called with.
    #[inline(always)]
    pub(super) fn of(context: &TcContext) -> Self {
        Self(context.as_ptr().cast())
    }

    fields!(ifindex len data data_end protocol vlan_present vlan_tci pkt_type gso_size gso_segs tc_index);

    /// Word `I` of the control block.
    #[inline(always)]
    pub(super) fn cb<const I: usize>(self) -> u32 {
        // SAFETY: as above.
        unsafe {
            (&raw const (*self.0).cb)
                .cast::<u32>()
                .add(I)
                .read_volatile()
        }
    }

    #[inline(always)]
    pub(super) fn set_cb<const I: usize>(self, value: u32) {
        // SAFETY: as above; `cb` is writable for a classifier.
        unsafe {
            (&raw mut (*self.0).cb)
                .cast::<u32>()
                .add(I)
                .write_volatile(value)
        }
    }

    /// Whether it is a clone of ours, which carries our secret. Without a secret, as after another
    /// process clears the map, any packet would look like a clone.
    #[inline(always)]
    pub(super) fn is_clone(self, secret: u64) -> bool {
        self.cb::<{ cb::SECRET }>() == secret as u32
            && self.cb::<{ cb::SECRET + 1 }>() == (secret >> 32) as u32
            && secret != 0
    }

    #[inline(always)]
    pub(super) fn set_mark(self, value: u32) {
        // SAFETY: as above; `mark` is writable for a classifier.
        unsafe { (&raw mut (*self.0).mark).write_volatile(value) }
    }

    #[inline(always)]
    pub(super) fn set_priority(self, value: u32) {
        // SAFETY: as above; `priority` is writable for a classifier.
        unsafe { (&raw mut (*self.0).priority).write_volatile(value) }
    }

    #[inline(always)]
    pub(super) fn set_tc_index(self, value: u32) {
        // SAFETY: as above; `tc_index` is writable for a classifier.
        unsafe { (&raw mut (*self.0).tc_index).write_volatile(value) }
    }

    /// EtherType, host byte order.
    #[inline(always)]
    pub(super) fn ethertype(self) -> u16 {
        u16::from_be(self.protocol() as u16)
    }

    /// The frame as far as it lies in one piece.
    #[inline(always)]
    pub(super) fn linear(self) -> Linear {
        Linear {
            data: self.data() as usize,
            end: self.data_end() as usize,
        }
    }

    /// Whether the frame continues beyond its linear part.
    #[inline(always)]
    pub(super) fn is_scattered(self) -> bool {
        self.len() as usize > self.data_end() as usize - self.data() as usize
    }
}

/// The linear part of a frame.
pub(super) struct Linear {
    data: usize,
    end: usize,
}

impl Frame for Linear {
    // A function of its own: otherwise the many paths through a chain of headers, each with its own
    // bounds check, exceed the verifier's limits.
    const WALKS: bool = false;

    #[inline(always)]
    fn window<const N: usize>(&mut self, offset: u32) -> Option<Window<N>> {
        let start = self.data + offset as usize;
        // SAFETY: N bytes from `start` lie in the linear part.
        (start + N <= self.end).then(|| unsafe { Window::new(start as *const u8) })
    }
}

/// Any frame, byte by byte copied out by the kernel.
pub(super) struct Scattered {
    skb: Skb,
    buffer: [MaybeUninit<u64>; WINDOW_BYTES / 8],
}

impl Scattered {
    #[inline(always)]
    pub(super) fn new(skb: Skb) -> Self {
        Self {
            skb,
            buffer: [MaybeUninit::uninit(); _],
        }
    }
}

impl Frame for Scattered {
    const WALKS: bool = true;

    #[inline(always)]
    fn window<const N: usize>(&mut self, offset: u32) -> Option<Window<N>> {
        let buffer = self.buffer.as_mut_ptr().cast::<u8>();
        // SAFETY: the buffer has WINDOW_BYTES >= N bytes.
        unsafe {
            let failed = bpf_skb_load_bytes(self.skb.0.cast(), offset, buffer.cast(), N as u32);
            (failed == 0).then(|| Window::new(buffer))
        }
    }
}

/// Takes off all VLAN tags: one beside the frame would end up outside, one in it before the outer
/// header.
#[inline(always)]
pub(super) fn pop_tags(skb: Skb) -> Option<()> {
    let mut popped = 0;
    loop {
        if skb.vlan_present() == 0 && matches!(skb.ethertype(), ETHERTYPE_IPV4 | ETHERTYPE_IPV6) {
            return Some(());
        }
        cold_path();
        if popped == MAX_TAGS {
            return None;
        }
        // SAFETY: the context is valid.
        (unsafe { bpf_skb_vlan_pop(skb.0) } == 0).then_some(())?;
        popped += 1;
    }
}
