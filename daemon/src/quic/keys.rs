//! Input: an Initial of a client, and the connection ID that its keys follow from. Output: its
//! frames, if they are the keys (RFC 9001, sections 5.2 to 5.4; RFC 9369, section 3.3). Must not
//! know frames.
//!
//! The AEAD tag is verified before anything is decrypted. It proves no sender, since anyone can
//! derive the keys. It tells whether the keys are those of the packet: a server answers under keys
//! of its own, a Retry packet changes the client's keys, and one flow may have several connections.
//! And a server ignores a packet with a wrong tag, so that what it carries must not count here
//! either.

use aes::cipher::consts::U12;
use aes::cipher::{BlockCipherEncrypt as _, KeyInit as _};
use aes::{Aes128Enc, Block};
use aes_gcm::AesGcm;
use aes_gcm::aead::AeadInOut as _;
use hkdf::Hkdf;
use sha2::Sha256;

use super::packet::{Initial, Version};

/// RFC 9001, section 5.2.
const SALT_ONE: [u8; 20] = [
    0x38, 0x76, 0x2c, 0xf7, 0xf5, 0x59, 0x34, 0xb3, 0x4d, 0x17, 0x9a, 0xe6, 0xa4, 0xc8, 0x0c, 0xad,
    0xcc, 0xbb, 0x7f, 0x0a,
];
/// RFC 9369, section 3.3.1.
const SALT_TWO: [u8; 20] = [
    0x0d, 0xed, 0xe3, 0xde, 0xf7, 0x00, 0xa6, 0xdb, 0x81, 0x93, 0x81, 0xbe, 0x6e, 0x26, 0x9d, 0xcb,
    0xf9, 0xbd, 0x2e, 0xd9,
];

const TAG_BYTES: usize = 16;
/// Bytes that the longest packet number takes.
const NUMBER_MAX_BYTES: usize = 4;
/// Bits of the first byte of a long header that are encrypted: the reserved ones and the length of
/// the packet number.
const PROTECTED: u8 = 0x0f;
const RESERVED: u8 = 0x0c;
/// No packet number is as large (RFC 9000, section 12.3).
const NUMBERS: u64 = 1 << 62;

/// Keys of a client's Initials.
pub(super) struct Keys {
    /// Only the encryption schedule: GCM and header protection do not need the other.
    aead: AesGcm<Aes128Enc, U12>,
    iv: [u8; 12],
    header: Aes128Enc,
}

/// An Initial that was opened.
#[derive(Debug)]
pub(super) struct Opened {
    /// Whole, as its sender packed it.
    pub(super) number: u64,
    /// Whether reserved bits are set.
    pub(super) is_reserved: bool,
    bytes: Vec<u8>,
    frames_at: usize,
}

impl Opened {
    /// The frames.
    pub(super) fn frames(&self) -> &[u8] {
        let end = self.bytes.len() - TAG_BYTES;
        self.bytes.get(self.frames_at..end).unwrap_or_default()
    }
}

/// Key, IV and header protection key.
type Secrets = ([u8; 16], [u8; 12], [u8; 16]);

/// `HkdfLabel` of RFC 8446, section 7.1, with an empty context.
fn expand<const N: usize>(secret: &Hkdf<Sha256>, label: &str) -> Option<[u8; N]> {
    let mut key = [0; N];
    let prefixed_bytes = u8::try_from(6 + label.len()).ok()?;
    let info = [
        &[0, u8::try_from(N).ok()?, prefixed_bytes],
        b"tls13 ".as_slice(),
        label.as_bytes(),
        &[0],
    ];
    secret.expand_multi_info(&info, &mut key).ok()?;
    Some(key)
}

/// `destination` is the Destination Connection ID of the client's first Initial. `None` is for
/// lengths that HKDF does not have, which do not occur.
fn secrets(version: Version, destination: &[u8]) -> Option<Secrets> {
    let (salt, [key, iv, header]) = match version {
        Version::One => (SALT_ONE, ["quic key", "quic iv", "quic hp"]),
        Version::Two => (SALT_TWO, ["quicv2 key", "quicv2 iv", "quicv2 hp"]),
    };
    let initial = Hkdf::new(Some(&salt), destination);
    let client: [u8; 32] = expand(&initial, "client in")?;
    let client = Hkdf::from_prk(&client).ok()?;
    Some((
        expand(&client, key)?,
        expand(&client, iv)?,
        expand(&client, header)?,
    ))
}

impl Keys {
    /// Those of a client whose first Initial has this Destination Connection ID.
    pub(super) fn of_client(version: Version, destination: &[u8]) -> Option<Self> {
        let (key, iv, header) = secrets(version, destination)?;
        Some(Self {
            aead: AesGcm::new(&key.into()),
            iv,
            header: Aes128Enc::new(&header.into()),
        })
    }

    /// Takes the protection off. `largest` is the largest packet number that was opened before.
    /// `None` if these are not the keys, or the packet was damaged.
    pub(super) fn open(&self, initial: &Initial<'_>, largest: Option<u64>) -> Option<Opened> {
        let mut bytes = initial.bytes.to_vec();
        let (number, frames_at) = self.unmask(&mut bytes, initial.number_at, largest)?;
        let mut nonce = self.iv;
        for (byte, part) in nonce[4..].iter_mut().zip(number.to_be_bytes()) {
            *byte ^= part;
        }
        let (header, sealed) = bytes.split_at_mut_checked(frames_at)?;
        let (frames, tag) = sealed.split_last_chunk_mut::<TAG_BYTES>()?;
        self.aead
            .decrypt_inout_detached(&nonce.into(), header, frames.into(), &(*tag).into())
            .ok()?;
        Some(Opened {
            number,
            is_reserved: bytes.first()? & RESERVED != 0,
            bytes,
            frames_at,
        })
    }

    /// Takes the header protection off, and gives the packet number and where the frames begin (RFC
    /// 9001, section 5.4).
    fn unmask(
        &self,
        bytes: &mut [u8],
        number_at: usize,
        largest: Option<u64>,
    ) -> Option<(u64, usize)> {
        let (header, rest) = bytes.split_at_mut_checked(number_at)?;
        let (number, sample) = rest.split_first_chunk_mut::<NUMBER_MAX_BYTES>()?;
        let mut mask = Block::from(*sample.first_chunk::<16>()?);
        self.header.encrypt_block(&mut mask);
        let first = header.first_mut()?;
        *first ^= mask[0] & PROTECTED;
        let number = number.get_mut(..usize::from(*first & 3) + 1)?;
        let mut sent = 0;
        for (byte, mask) in number.iter_mut().zip(&mask[1..]) {
            *byte ^= mask;
            sent = sent << 8 | u64::from(*byte);
        }
        let bits = 8 * number.len() as u32;
        Some((whole_number(sent, bits, largest), number_at + number.len()))
    }
}

/// The number nearest to the expected one that ends in `sent`, of so many bits (RFC 9000, Appendix
/// A.3).
fn whole_number(sent: u64, bits: u32, largest: Option<u64>) -> u64 {
    let expected = largest.map_or(0, |largest| largest + 1);
    let (window, half) = (1_u64 << bits, 1_u64 << (bits - 1));
    let candidate = expected & !(window - 1) | sent;
    if candidate + half <= expected && candidate + window < NUMBERS {
        candidate + window
    } else if candidate > expected + half && candidate >= window {
        candidate - window
    } else {
        candidate
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quic::packet::{Packet, Packets};
    use crate::quic::samples;

    const ID: [u8; 8] = [0x83, 0x94, 0xc8, 0xf0, 0x3e, 0x51, 0x57, 0x08];

    fn initial(bytes: &[u8]) -> Initial<'_> {
        match Packets::of(bytes).next() {
            Some(Ok(Packet::Initial(initial))) => initial,
            other => panic!("{other:?}"),
        }
    }

    /// RFC 9001 and RFC 9369, Appendix A.1.
    #[test]
    fn keys_of_the_rfcs() {
        for (version, key, iv, header) in [
            (
                Version::One,
                "1f369613dd76d5467730efcbe3b1a22d",
                "fa044b2f42a3fd3b46fb255c",
                "9f50449e04a0e810283a1e9933adedd2",
            ),
            (
                Version::Two,
                "8b1a0bc121284290a29e0971b5cd045d",
                "91f73e2351d8fa91660e909f",
                "45b95e15235d6f45a6b19cbcb0294ba9",
            ),
        ] {
            let found = secrets(version, &ID).unwrap();
            let bytes = samples::bytes;
            assert_eq!(
                (found.0.to_vec(), found.1.to_vec(), found.2.to_vec()),
                (bytes(key), bytes(iv), bytes(header))
            );
        }
    }

    #[test]
    fn samples_of_the_rfcs_are_opened() {
        for sample in [samples::client_one(), samples::client_two()] {
            let initial = initial(&sample);
            let keys = Keys::of_client(initial.version, &ID).unwrap();
            let opened = keys.open(&initial, None).unwrap();
            assert_eq!((opened.number, opened.is_reserved), (2, false));
            let frames = opened.frames();
            assert_eq!(frames.len(), 1162);
            assert_eq!(frames[..8], [0x06, 0, 0x40, 0xf1, 1, 0, 0, 0xed]);
            assert!(frames[245..].iter().all(|byte| *byte == 0));
        }
    }

    #[test]
    fn a_packet_with_any_bit_changed_stays_shut() {
        let sample = samples::client_one();
        let keys = Keys::of_client(Version::One, &ID).unwrap();
        // the first byte's other bits, the version and the lengths make it another packet
        let header_bits = (0..4).chain(6 * 8..14 * 8);
        for bit in header_bits.chain(18 * 8..sample.len() * 8) {
            let mut changed = sample.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let found = keys.open(&initial(&changed), None);
            assert!(found.is_none(), "bit {bit}");
        }
    }

    #[test]
    fn other_keys_do_not_open_it() {
        let sample = samples::client_one();
        let initial = initial(&sample);
        for keys in [
            Keys::of_client(Version::One, &[7; 8]),
            Keys::of_client(Version::Two, &ID),
        ] {
            assert!(keys.unwrap().open(&initial, None).is_none());
        }
        let server = samples::bytes(samples::SERVER_ONE);
        let keys = Keys::of_client(Version::One, &ID).unwrap();
        assert!(keys.open(&self::initial(&server), None).is_none());
    }

    /// RFC 9000, Appendix A.3, has the first.
    #[test]
    fn packet_numbers_are_completed() {
        for (sent, bits, largest, whole) in [
            (0x9b32, 16, Some(0xa82f_30ea), 0xa82f_9b32),
            (2, 8, None, 2),
            (200, 8, None, 200),
            (1, 8, Some(254), 257),
            (255, 8, Some(256), 255),
            (3, 8, Some(2), 3),
            (0xffff_ffff, 32, None, 0xffff_ffff),
        ] {
            assert_eq!(
                whole_number(sent, bits, largest),
                whole,
                "{sent} {largest:?}"
            );
        }
    }
}
