//! Packets of the RFCs, for tests.

/// Client Initial of version 1 (RFC 9001, Appendix A.2).
pub(super) fn client_one() -> Vec<u8> {
    bytes(include_str!("../../../tests/golden/quic/rfc9001-a2.hex"))
}

/// Client Initial of version 2 (RFC 9369, Appendix A.2).
pub(super) fn client_two() -> Vec<u8> {
    bytes(include_str!("../../../tests/golden/quic/rfc9369-a2.hex"))
}

/// Server Initial of version 1 (RFC 9001, Appendix A.3).
pub(super) const SERVER_ONE: &str = "\
    cf000000010008f067a5502a4262b5004075c0d95a482cd0991cd25b0aac406a\
    5816b6394100f37a1c69797554780bb38cc5a99f5ede4cf73c3ec2493a1839b3\
    dbcba3f6ea46c5b7684df3548e7ddeb9c3bf9c73cc3f3bded74b562bfb19fb84\
    022f8ef4cdd93795d77d06edbb7aaf2f58891850abbdca3d20398c276456cbc4\
    2158407dd074ee";

/// Server Initial of version 2 (RFC 9369, Appendix A.3).
pub(super) const SERVER_TWO: &str = "\
    dc6b3343cf0008f067a5502a4262b5004075d92faaf16f05d8a4398c47089698\
    baeea26b91eb761d9b89237bbf87263017915358230035f7fd3945d88965cf17\
    f9af6e16886c61bfc703106fbaf3cb4cfa52382dd16a393e42757507698075b2\
    c984c707f0a0812d8cd5a6881eaf21ceda98f4bd23f6fe1a3e2c43edd9ce7ca8\
    4bed8521e2e140";

/// Retry of version 1 (RFC 9001, Appendix A.4).
pub(super) const RETRY_ONE: &str =
    "ff000000010008f067a5502a4262b5746f6b656e04a265ba2eff4d829058fb3f0f2496ba";

/// Retry of version 2 (RFC 9369, Appendix A.4).
pub(super) const RETRY_TWO: &str =
    "cf6b3343cf0008f067a5502a4262b5746f6b656ec8646ce8bfe33952d955543665dcc7b6";

/// What hexadecimal digits stand for, line ends left out.
pub(super) fn bytes(digits: &str) -> Vec<u8> {
    let digits: Vec<u32> = digits
        .lines()
        .flat_map(str::chars)
        .map(|digit| digit.to_digit(16).unwrap())
        .collect();
    digits
        .chunks(2)
        .map(|pair| (pair[0] * 16 + pair[1]) as u8)
        .collect()
}
