//! Reads the kernel's memory: its own `sk_buff`, which is what the context of a program points to,
//! and what hangs on that. Only for packets that a filter wants.

use core::ffi::c_void;
use core::mem::{MaybeUninit, transmute};

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use traffic_mirror_ebpf::offsets::Offsets;

/// The daemon fills it in; the verifier treats it as constant.
#[unsafe(no_mangle)]
pub(super) static OFFSETS: Offsets = Offsets::NONE;

/// A field of [`Offsets`] that the compiler cannot evaluate.
macro_rules! offset {
    ($field:ident) => {
        // SAFETY: a static of ours.
        unsafe { (&raw const $crate::bpf::kernel_memory::OFFSETS.$field).read_volatile() }
    };
}
pub(crate) use offset;

/// Reads a member of a struct at an address: `read(address, offset!(net_device),
/// offset!(device_mtu))`. `None` if the kernel has no such member, or does not let it be read;
/// where nothing is mapped it reads 0.
#[inline(always)]
pub(super) fn read<T: Copy>(at: usize, structure: u32, offset: u32) -> Option<T> {
    if structure == Offsets::UNKNOWN || offset == Offsets::UNKNOWN {
        return None;
    }
    let offset = offset as usize / 8;
    match offset!(reading) {
        Offsets::BY_TYPE => {
            // SAFETY: what the daemon puts in place of this number takes an address and a type, and
            // answers the address; what is loaded from there may be anything, and the kernel
            // catches faults.
            unsafe {
                let cast: unsafe extern "C" fn(usize, u32) -> *const c_void =
                    transmute(Offsets::CAST as usize);
                Some(
                    cast(at, structure)
                        .byte_add(offset)
                        .cast::<T>()
                        .read_volatile(),
                )
            }
        }
        Offsets::BY_HELPER => {
            let mut value = MaybeUninit::<T>::uninit();
            let from = at.wrapping_add(offset) as *const c_void;
            // SAFETY: as many bytes are copied to a local variable as it has; without any, it is
            // cleared.
            unsafe {
                bpf_probe_read_kernel(value.as_mut_ptr().cast(), size_of::<T>() as u32, from);
                Some(value.assume_init())
            }
        }
        _ => None,
    }
}

/// The kernel's own packet.
pub(super) trait SkBuff {
    /// A member of it, as [`read`].
    fn member<T: Copy>(&self, offset: u32) -> Option<T>;
}

/// Where it is: that is what a context points to.
impl SkBuff for usize {
    #[inline(always)]
    fn member<T: Copy>(&self, offset: u32) -> Option<T> {
        read(*self, offset!(sk_buff), offset)
    }
}

/// A copy of the part that is read most, where each read takes a helper call.
pub(super) struct Copied {
    skb: usize,
    words: MaybeUninit<[u64; WORDS]>,
}

/// From before `active_extensions` to behind `users`, which is some 90 bytes later in all known
/// kernels.
const WORDS: usize = 13;
const BYTES: u32 = WORDS as u32 * 8;

impl Copied {
    #[inline(always)]
    pub(super) fn of(skb: usize) -> Self {
        let mut this = Self {
            skb,
            words: MaybeUninit::uninit(),
        };
        let from = skb.wrapping_add(Self::start() as usize) as *const c_void;
        // SAFETY: as many bytes are copied as there are words.
        unsafe { bpf_probe_read_kernel(this.words.as_mut_ptr().cast(), BYTES, from) };
        this
    }

    /// Bytes of the struct before `words`. Not stored: the verifier would no longer treat it as
    /// constant.
    #[inline(always)]
    fn start() -> u32 {
        (offset!(skb_users) / 8 + size_of::<u32>() as u32)
            .next_multiple_of(8)
            .wrapping_sub(BYTES)
    }
}

impl SkBuff for Copied {
    #[inline(always)]
    fn member<T: Copy>(&self, offset: u32) -> Option<T> {
        if offset == Offsets::UNKNOWN {
            return None;
        }
        let at = (offset / 8).wrapping_sub(Self::start());
        if at > BYTES - size_of::<T>() as u32 {
            return self.skb.member(offset);
        }
        // SAFETY: it lies in the words, which have been read; members are aligned in the struct,
        // and so are the words.
        Some(unsafe {
            self.words
                .as_ptr()
                .byte_add(at as usize)
                .cast::<T>()
                .read_volatile()
        })
    }
}
