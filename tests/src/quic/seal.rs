//! Input: frames. Output: Initials of a client, sealed with the keys that follow from its first
//! connection ID (RFC 9001, section 5; RFC 9369, section 3.3).

use aes::Aes128;
use aes::cipher::BlockCipherEncrypt as _;
use aes_gcm::Aes128Gcm;
use aes_gcm::aead::{AeadInOut as _, KeyInit as _};
use sha2::{Digest as _, Sha256};

use super::{DATAGRAM_BYTES, varint};

/// Number of version 1.
pub const ONE: u32 = 1;
/// Number of version 2.
pub const TWO: u32 = 0x6b33_43cf;

const TAG_BYTES: usize = 16;
/// RFC 9001, section 5.2.
const SALT_ONE: [u32; 5] = [
    0x3876_2cf7,
    0xf559_34b3,
    0x4d17_9ae6,
    0xa4c8_0cad,
    0xccbb_7f0a,
];
/// RFC 9369, section 3.3.1.
const SALT_TWO: [u32; 5] = [
    0x0ded_e3de,
    0xf700_a6db,
    0x8193_81be,
    0x6e26_9dcb,
    0xf9bd_2ed9,
];

/// What a client puts into its long headers, and what its keys follow from.
#[derive(Debug, Clone)]
pub struct Client {
    /// Number of the version, [`ONE`] or [`TWO`].
    pub version: u32,
    /// Destination Connection ID of its first Initial, or of the first one after a Retry packet.
    pub keys_of: Vec<u8>,
    /// Destination Connection ID.
    pub destination: Vec<u8>,
    /// Source Connection ID.
    pub source: Vec<u8>,
    /// What a server has given it.
    pub token: Vec<u8>,
    /// Number of the next packet.
    pub number: u64,
    /// Bytes in which the number is sent, 1 to 4.
    pub number_bytes: usize,
    /// Reserved bits of the first byte, 0 to 3.
    pub reserved: u8,
}

impl Client {
    /// That begins a connection of version 1.
    pub fn new(destination: &[u8]) -> Self {
        Self {
            version: ONE,
            keys_of: destination.to_vec(),
            destination: destination.to_vec(),
            source: Vec::new(),
            token: Vec::new(),
            number: 0,
            number_bytes: 1,
            reserved: 0,
        }
    }

    /// A datagram of 1,200 bytes, or more if the frames need them: one Initial, padded.
    pub fn datagram(&mut self, frames: &[u8]) -> Vec<u8> {
        let around = self.clone().initial(&[0; 16]).len() - 16;
        let padding = DATAGRAM_BYTES.saturating_sub(around + frames.len());
        self.initial(&[frames, &vec![0; padding]].concat())
    }

    /// An Initial with these frames and no others. Its packet number counts up.
    ///
    /// # Panics
    /// It takes more than 16,383 bytes, or too few for header protection.
    pub fn initial(&mut self, frames: &[u8]) -> Vec<u8> {
        let protected = self.number_bytes + frames.len() + TAG_BYTES;
        let kind = if self.version == TWO { 1 } else { 0 };
        let first = 0xc0 | kind << 4 | self.reserved << 2 | (self.number_bytes - 1) as u8;
        let mut packet = self.header(first);
        packet.extend(varint(self.token.len() as u64));
        packet.extend(&self.token);
        // always in two bytes, so that padding changes nothing before it
        assert!(protected < 1 << 14, "{protected} bytes");
        packet.extend((protected as u16 | 0x4000).to_be_bytes());
        let number_at = packet.len();
        let number = self.number.to_be_bytes();
        packet.extend(&number[8 - self.number_bytes..]);
        self.number += 1;

        let (key, iv, header) = self.keys();
        let mut nonce: [u8; 12] = iv.try_into().expect("twelve bytes");
        nonce[4..].iter_mut().zip(number).for_each(|(a, b)| *a ^= b);
        let mut sealed = frames.to_vec();
        let tag = Aes128Gcm::new_from_slice(&key)
            .expect("a key")
            .encrypt_inout_detached(&nonce.into(), &packet, sealed.as_mut_slice().into())
            .expect("a short packet");
        packet.extend(sealed);
        packet.extend(tag.as_slice());

        let sample: [u8; 16] = packet[number_at + 4..][..16].try_into().expect("a sample");
        let mut mask = sample.into();
        Aes128::new_from_slice(&header)
            .expect("a key")
            .encrypt_block(&mut mask);
        packet[0] ^= mask[0] & 0x0f;
        for at in 0..self.number_bytes {
            packet[number_at + at] ^= mask[1 + at];
        }
        packet
    }

    /// A 0-RTT packet or one of the handshake, as `kind` 1 or 2 in the numbers of version 1, with a
    /// payload that nobody can read.
    pub fn long(&self, kind: u8, payload: &[u8]) -> Vec<u8> {
        let kind = if self.version == TWO { kind + 1 } else { kind };
        let mut packet = self.header(0xc0 | (kind & 3) << 4);
        packet.extend(varint(payload.len() as u64));
        packet.extend(payload);
        packet
    }

    fn header(&self, first: u8) -> Vec<u8> {
        let mut header = vec![first];
        header.extend(self.version.to_be_bytes());
        for id in [&self.destination, &self.source] {
            header.push(id.len() as u8);
            header.extend(id);
        }
        header
    }

    /// Key, IV and header protection key.
    fn keys(&self) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
        let (salt, prefix) = if self.version == TWO {
            (SALT_TWO, "quicv2")
        } else {
            (SALT_ONE, "quic")
        };
        let initial = hmac(&salt.map(u32::to_be_bytes).concat(), &self.keys_of);
        let client = expand(&initial, "client in", 32);
        (
            expand(&client, &format!("{prefix} key"), 16),
            expand(&client, &format!("{prefix} iv"), 12),
            expand(&client, &format!("{prefix} hp"), 16),
        )
    }
}

/// RFC 2104, with SHA-256 and a key of at most one block.
fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    let pad = |with: u8| -> [u8; 64] {
        std::array::from_fn(|at| key.get(at).copied().unwrap_or_default() ^ with)
    };
    let inner = Sha256::new()
        .chain_update(pad(0x36))
        .chain_update(message)
        .finalize();
    let outer = Sha256::new().chain_update(pad(0x5c)).chain_update(inner);
    outer.finalize().to_vec()
}

/// `HKDF-Expand-Label` of RFC 8446, section 7.1, for at most one block.
fn expand(secret: &[u8], label: &str, bytes: usize) -> Vec<u8> {
    let label = format!("tls13 {label}");
    let info = [
        &[0, bytes as u8, label.len() as u8][..],
        label.as_bytes(),
        &[0, 1],
    ];
    let mut key = hmac(secret, &info.concat());
    key.truncate(bytes);
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: [u8; 8] = [0x83, 0x94, 0xc8, 0xf0, 0x3e, 0x51, 0x57, 0x08];
    /// The CRYPTO frame of RFC 9001, Appendix A.2, which RFC 9369 uses, too.
    const FRAME: &str = "\
        060040f1010000ed0303ebf8fa56f12939b9584a3896472ec40bb863cfd3e868\
        04fe3a47f06a2b69484c00000413011302010000c000000010000e00000b6578\
        616d706c652e636f6dff01000100000a00080006001d00170018001000070005\
        04616c706e000500050100000000003300260024001d00209370b2c9caa47fba\
        baf4559fedba753de171fa71f50f1ce15d43e994ec74d748002b000302030400\
        0d0010000e0403050306030203080408050806002d00020101001c0002400100\
        3900320408ffffffffffffffff05048000ffff07048000ffff08011001048000\
        75300901100f088394c8f03e51570806048000ffff";

    fn bytes(digits: &str) -> Vec<u8> {
        let digits: String = digits.lines().collect();
        (0..digits.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
            .collect()
    }

    #[test]
    fn the_samples_of_the_rfcs() {
        for (version, expected) in [
            (ONE, include_str!("../../golden/quic/rfc9001-a2.hex")),
            (TWO, include_str!("../../golden/quic/rfc9369-a2.hex")),
        ] {
            let mut client = Client {
                version,
                number: 2,
                number_bytes: 4,
                ..Client::new(&ID)
            };
            assert_eq!(client.datagram(&bytes(FRAME)), bytes(expected));
        }
    }
}
