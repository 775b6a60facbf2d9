//! Input: what a client asks for. Output: a ClientHello as browsers send it, and frames for it.

use crate::oracle::random::Random;

/// What stands in a ClientHello.
#[derive(Debug, Clone, Default)]
pub struct Hello {
    /// The server.
    pub name: Option<String>,
    /// Whether there is a key share of X25519MLKEM768, which makes it longer than a packet.
    pub is_post_quantum: bool,
    /// Whether there is an encrypted ClientHello in it.
    pub has_ech: bool,
    /// Bytes of padding (RFC 7685).
    pub padding: usize,
}

impl Hello {
    /// With a name and nothing else that is special.
    pub fn of(name: &str) -> Self {
        Self {
            name: Some(name.to_owned()),
            ..Self::default()
        }
    }

    /// A handshake message without records, its extensions in any order, with GREASE (RFC 8701).
    pub fn message(&self, random: &mut Random) -> Vec<u8> {
        let mut shares = share(0x001d, &random.bytes(32));
        if self.is_post_quantum {
            shares.extend(share(0x11ec, &random.bytes(1216)));
        }
        let parameters = [4, 4, 0x80, 0xff, 0xff, 0xff];
        let mut extensions = vec![
            extension(0x000a, &vector(2, &[0x11, 0xec, 0, 0x1d])),
            extension(0x000d, &vector(2, &random.bytes(16))),
            extension(0x0010, &vector(2, &vector(1, b"h3"))),
            extension(0x002b, &vector(1, &[3, 4])),
            extension(0x0033, &vector(2, &shares)),
            extension(0x0039, &parameters),
            extension(grease(random), &[]),
        ];
        if let Some(name) = &self.name {
            let entry = [&[0][..], &vector(2, name.as_bytes())].concat();
            extensions.push(extension(0, &vector(2, &entry)));
        }
        if self.has_ech {
            extensions.push(extension(0xfe0d, &random.bytes(250)));
        }
        if self.padding > 0 {
            extensions.push(extension(21, &vec![0; self.padding]));
        }
        random.shuffle(&mut extensions);
        let body = [
            &[3, 3][..],
            &random.bytes(32),
            &vector(1, &[]),
            &vector(2, &[&grease(random).to_be_bytes()[..], &[0x13, 1]].concat()),
            &vector(1, &[0]),
            &vector(2, &extensions.concat()),
        ];
        [&[1][..], &vector(3, &body.concat())].concat()
    }
}

fn grease(random: &mut Random) -> u16 {
    0x0a0a + 0x1010 * random.below(16) as u16
}

fn vector(length_bytes: usize, content: &[u8]) -> Vec<u8> {
    let length = (content.len() as u64).to_be_bytes();
    [&length[8 - length_bytes..], content].concat()
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &vector(2, content)].concat()
}

fn share(group: u16, key: &[u8]) -> Vec<u8> {
    extension(group, key)
}

/// A variable-length integer (RFC 9000, section 16), in as few bytes as it takes.
///
/// # Panics
/// From 2^62 on there is none.
pub fn varint(number: u64) -> Vec<u8> {
    let bits = 64 - number.leading_zeros();
    let (bytes, prefix) = match bits {
        0..=6 => (1, 0),
        7..=14 => (2, 1),
        15..=30 => (4, 2),
        31..=62 => (8, 3),
        _ => panic!("{number} is too large"),
    };
    let mut all = number.to_be_bytes()[8 - bytes..].to_vec();
    all[0] |= prefix << 6;
    all
}

/// A CRYPTO frame (RFC 9000, section 19.6).
pub fn crypto(offset: usize, data: &[u8]) -> Vec<u8> {
    [
        &[6][..],
        &varint(offset as u64),
        &varint(data.len() as u64),
        data,
    ]
    .concat()
}
