//! The daemon's record: who follows which file. For people, for the next daemon and for other
//! processes; no program reads it.

use super::{NAME_BYTES, Name};

/// Bytes of a SHA-256 (FIPS 180-4).
pub const HASH_BYTES: usize = 32;
/// Longest path, bytes (`PATH_MAX`).
pub const PATH_BYTES: usize = 4096;
/// Longest text of a version, bytes.
pub const VERSION_BYTES: usize = 32;
/// Most names and globs in the `filters` of the file's `[metrics]`.
pub const MAX_PATTERNS: usize = 64;

/// The one element of `DAEMON`. Texts are UTF-8 or what the file system has, padded with zeros.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Daemon {
    /// Its process number, in its own process namespace; 0 if no daemon has written here.
    pub pid: u32,
    /// Which filters have metrics of their own: [`Daemon::EACH`], [`Daemon::NONE_OF_THEM`],
    /// [`Daemon::SOME`].
    pub published: u32,
    /// When it was started, seconds since 1970 (`CLOCK_REALTIME`).
    pub started: u64,
    /// Its last sign of life, nanoseconds of `CLOCK_MONOTONIC`: that clock stands still while the
    /// machine is suspended, as the daemon does.
    pub heartbeat: u64,
    /// Inode of its mount namespace: in another one the path of the file may lead elsewhere.
    pub mounts: u64,
    /// When the file was last rejected, seconds since 1970; 0 if it was loaded since.
    pub rejected_at: u64,
    /// SHA-256 of the file that is live; zero if none is.
    pub live: [u8; HASH_BYTES],
    /// SHA-256 of the file that was rejected; zero if it could not be read.
    pub rejected: [u8; HASH_BYTES],
    /// Its version.
    pub version: [u8; VERSION_BYTES],
    /// The file, an absolute path.
    pub path: [u8; PATH_BYTES],
    /// Its pin path, absolute: it identifies an instance, whatever file system is mounted there
    /// later.
    pub pin_path: [u8; PATH_BYTES],
    /// With [`Daemon::SOME`]: names and globs of filters, then free elements.
    pub patterns: [Name; MAX_PATTERNS],
}

impl Daemon {
    /// Each filter has metrics of its own.
    pub const EACH: u32 = 0;
    /// No filter has.
    pub const NONE_OF_THEM: u32 = 1;
    /// Those have that [`Daemon::patterns`] match.
    pub const SOME: u32 = 2;

    /// No daemon has been here.
    pub const NONE: Self = Self {
        pid: 0,
        published: Self::EACH,
        started: 0,
        heartbeat: 0,
        mounts: 0,
        rejected_at: 0,
        live: [0; HASH_BYTES],
        rejected: [0; HASH_BYTES],
        version: [0; VERSION_BYTES],
        path: [0; PATH_BYTES],
        pin_path: [0; PATH_BYTES],
        patterns: [Name {
            bytes: [0; NAME_BYTES + 1],
        }; MAX_PATTERNS],
    };
}

// SAFETY: repr(C), `Copy`, no padding (asserted below), any bytes are a valid value.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Daemon {}

const _: () = assert!(
    size_of::<Daemon>()
        == 8 + 4 * 8
            + 2 * HASH_BYTES
            + VERSION_BYTES
            + 2 * PATH_BYTES
            + MAX_PATTERNS * size_of::<Name>()
);
