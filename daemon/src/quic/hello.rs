//! Input: the beginning of a client's handshake, without records around it. Output: the server name
//! in its ClientHello (RFC 8446, section 4.1.2; RFC 6066, section 3). Must not know how it came.
//!
//! The one place where QUIC meets TLS.

use super::reader::Reader;

/// What a hello says of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Parsed {
    /// The name, as it was sent. `has_ech`: an extension for Encrypted ClientHello (RFC 9849) is
    /// among the bytes at hand.
    Name { name: String, has_ech: bool },
    /// There is no name, or none that a server accepts.
    NoName { has_ech: bool },
    /// The name may follow.
    Partial,
    /// It is no ClientHello.
    Other,
}

const CLIENT_HELLO: u64 = 1;
const RANDOM_BYTES: usize = 32;
const SERVER_NAME: u64 = 0;
const ENCRYPTED_CLIENT_HELLO: u64 = 0xfe0d;
const HOST_NAME: u64 = 0;
/// RFC 1035, section 2.3.4, without the dots of the root.
const NAME_MAX_BYTES: usize = 255;

/// Reads as much of the handshake as there is, from its first byte on.
pub(super) fn server_name(handshake: &[u8]) -> Parsed {
    let mut reader = Reader::new(handshake);
    if reader.number(1).is_some_and(|kind| kind != CLIENT_HELLO) {
        return Parsed::Other;
    }
    let Some(bytes) = reader.number(3) else {
        return Parsed::Partial;
    };
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    let whole = reader.rest().get(..bytes);
    let cut = if whole.is_some() {
        Parsed::NoName { has_ech: false }
    } else {
        Parsed::Partial
    };
    read(whole.unwrap_or(reader.rest())).unwrap_or(cut)
}

/// Reads a message without its header. `None` if it ends before its name.
fn read(message: &[u8]) -> Option<Parsed> {
    let mut hello = Reader::new(message);
    let _version = hello.number(2)?;
    let _random = hello.take(RANDOM_BYTES)?;
    let _session = hello.vector(1)?;
    let _ciphers = hello.vector(2)?;
    let _compression = hello.vector(1)?;
    let bytes = usize::try_from(hello.number(2)?).ok()?;
    let all = hello.rest().get(..bytes);
    let mut extensions = Reader::new(all.unwrap_or(hello.rest()));
    let (mut found, mut has_ech) = (None, false);
    let mut next = || Some((extensions.number(2)?, extensions.vector(2)?));
    while let Some((kind, content)) = next() {
        match kind {
            SERVER_NAME if found.is_none() => found = Some(host_name(content)),
            ENCRYPTED_CLIENT_HELLO => has_ech = true,
            _ => {}
        }
    }
    let is_end = all.is_some() && extensions.rest().is_empty();
    match found {
        Some(Some(name)) => Some(Parsed::Name { name, has_ech }),
        None if !is_end => None,
        _ => Some(Parsed::NoName { has_ech }),
    }
}

/// The first name of a list, which has no second one (RFC 6066, section 3).
fn host_name(extension: &[u8]) -> Option<String> {
    let mut list = Reader::new(Reader::new(extension).vector(2)?);
    if list.number(1)? != HOST_NAME {
        return None;
    }
    let name = list.vector(2)?;
    let is_name =
        !name.is_empty() && name.len() <= NAME_MAX_BYTES && name.iter().all(u8::is_ascii_graphic);
    let name = is_name.then(|| str::from_utf8(name).ok())??;
    Some(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(length_bytes: usize, content: &[u8]) -> Vec<u8> {
        let length = (content.len() as u64).to_be_bytes();
        [&length[8 - length_bytes..], content].concat()
    }

    fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
        [&kind.to_be_bytes()[..], &vector(2, content)].concat()
    }

    fn named(name: &[u8]) -> Vec<u8> {
        let entry = [&[0][..], &vector(2, name)].concat();
        extension(0, &vector(2, &entry))
    }

    fn hello(extensions: &[Vec<u8>]) -> Vec<u8> {
        let body = [
            &[3, 3][..],
            &[7; RANDOM_BYTES],
            &vector(1, &[]),
            &vector(2, &[0x13, 1]),
            &vector(1, &[0]),
            &vector(2, &extensions.concat()),
        ];
        [&[1][..], &vector(3, &body.concat())].concat()
    }

    fn name(name: &str, has_ech: bool) -> Parsed {
        let name = name.to_owned();
        Parsed::Name { name, has_ech }
    }

    #[test]
    fn names() {
        let (ech, other) = (extension(0xfe0d, &[0; 250]), extension(0x2b, &[2, 3, 4]));
        let www = named(b"WWW.example.com");
        for (extensions, expected) in [
            (vec![www.clone()], name("WWW.example.com", false)),
            (
                vec![www.clone(), named(b"two.example.com")],
                name("WWW.example.com", false),
            ),
            (
                vec![other.clone(), www.clone(), ech.clone()],
                name("WWW.example.com", true),
            ),
            (vec![ech.clone(), www], name("WWW.example.com", true)),
            (vec![other], Parsed::NoName { has_ech: false }),
            (vec![ech], Parsed::NoName { has_ech: true }),
            (vec![], Parsed::NoName { has_ech: false }),
            (vec![named(b"")], Parsed::NoName { has_ech: false }),
            (vec![named(b"a b")], Parsed::NoName { has_ech: false }),
            (
                vec![named("ä".as_bytes())],
                Parsed::NoName { has_ech: false },
            ),
            (vec![named(&[b'a'; 256])], Parsed::NoName { has_ech: false }),
            (vec![named(&[b'a'; 255])], name(&"a".repeat(255), false)),
        ] {
            assert_eq!(server_name(&hello(&extensions)), expected);
        }
    }

    /// The name counts as soon as it is there.
    #[test]
    fn a_part_of_a_hello() {
        let last = extension(0x2b, &[2, 3, 4]);
        let whole = hello(&[last.clone(), named(b"www.example.com"), last.clone()]);
        let end = whole.len() - last.len();
        for length in 0..=whole.len() {
            let expected = if length < end {
                Parsed::Partial
            } else {
                name("www.example.com", false)
            };
            assert_eq!(server_name(&whole[..length]), expected, "{length} bytes");
        }
        let nameless = hello(&[last]);
        for length in 0..nameless.len() {
            assert_eq!(server_name(&nameless[..length]), Parsed::Partial);
        }
        // what follows the message is not a part of it
        let mut more = nameless;
        more.extend(named(b"www.example.com"));
        assert_eq!(server_name(&more), Parsed::NoName { has_ech: false });
    }

    #[test]
    fn a_message_with_wrong_lengths_has_no_name() {
        let whole = hello(&[named(b"www.example.com")]);
        for length in 0..whole.len() - 4 {
            let mut cut = whole[..length + 4].to_vec();
            cut[2..4].copy_from_slice(&(length as u16).to_be_bytes());
            assert_eq!(
                server_name(&cut),
                Parsed::NoName { has_ech: false },
                "{length}"
            );
        }
        assert_eq!(server_name(&[2]), Parsed::Other);
    }
}
