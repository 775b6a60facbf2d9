//! What TLS clients say first.

/// A ClientHello with this name, and `padding` bytes of an extension before it (RFC 8446 section
/// 4.1.2, RFC 7685).
pub fn client_hello(name: &str, padding: usize) -> Vec<u8> {
    let short = |bytes: usize| (bytes as u16).to_be_bytes();
    let sized = |bytes: &[u8]| [&short(bytes.len()), bytes].concat();
    let entry = [&[0][..], &sized(name.as_bytes())].concat();
    let extensions = [
        &short(21)[..],
        &sized(&vec![0; padding]),
        &short(0),
        &sized(&sized(&entry)),
    ]
    .concat();
    let body = [
        &[3, 3][..],
        &[7; 32],
        &[0],
        &sized(&[0x13, 1]),
        &[1, 0],
        &sized(&extensions),
    ]
    .concat();
    let message = [&[1, 0][..], &short(body.len()), &body].concat();
    [&[22, 3, 1][..], &sized(&message)].concat()
}
