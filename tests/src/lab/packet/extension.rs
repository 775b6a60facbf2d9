//! The headers between IP and the upper layer.

use std::net::Ipv6Addr;

/// An IPv6 extension header, or an authentication header over IPv4.
#[derive(Clone, Debug)]
pub struct Extension {
    /// Its protocol number, one of the constants below.
    pub kind: u8,
    /// Next header; by default that of the next layer.
    pub next_header: Option<u8>,
    /// The second byte; by default the header's length in the unit of its kind, 0 in a fragment
    /// header.
    pub length: Option<u8>,
    /// What follows these two bytes.
    pub body: Vec<u8>,
}

impl Extension {
    /// Hop-by-hop options.
    pub const HOP_BY_HOP: u8 = 0;
    /// Routing header.
    pub const ROUTING: u8 = 43;
    /// Fragment header.
    pub const FRAGMENT: u8 = 44;
    /// Authentication header (RFC 4302).
    pub const AUTHENTICATION: u8 = 51;
    /// Destination options.
    pub const DESTINATION: u8 = 60;

    /// Options of `kind` [`Self::HOP_BY_HOP`] or [`Self::DESTINATION`], padded to a multiple of 8
    /// bytes.
    pub fn options(kind: u8, options: &[u8]) -> Self {
        let mut body = options.to_vec();
        match (options.len() + 2).next_multiple_of(8) - options.len() - 2 {
            0 => {}
            1 => body.push(0),
            pad => {
                body.extend([1, pad as u8 - 2]);
                body.resize(body.len() + pad - 2, 0);
            }
        }
        Self {
            kind,
            next_header: None,
            length: None,
            body,
        }
    }

    /// A routing header of type `routing_type`; `data` is what follows the segments-left byte.
    pub fn routing(routing_type: u8, segments_left: u8, data: &[u8]) -> Self {
        let body = [&[routing_type, segments_left], data].concat();
        Self {
            kind: Self::ROUTING,
            next_header: None,
            length: None,
            body,
        }
    }

    /// A fragment header; `offset` in units of 8 bytes.
    pub fn fragment(offset: u16, more: bool, id: u32) -> Self {
        let body = [
            &(offset << 3 | u16::from(more)).to_be_bytes()[..],
            &id.to_be_bytes(),
        ]
        .concat();
        Self {
            kind: Self::FRAGMENT,
            next_header: None,
            length: None,
            body,
        }
    }

    /// An authentication header; over IPv6 `icv` (the check value) is 4 bytes more than a multiple
    /// of 8.
    pub fn authentication(spi: u32, sequence: u32, icv: &[u8]) -> Self {
        let body = [
            &[0, 0][..],
            &spi.to_be_bytes(),
            &sequence.to_be_bytes(),
            icv,
        ]
        .concat();
        Self {
            kind: Self::AUTHENTICATION,
            next_header: None,
            length: None,
            body,
        }
    }

    pub(super) fn wrap(&self, protocol: u8, body: Vec<u8>) -> Vec<u8> {
        let bytes = self.body.len() + 2;
        let length = self.length.unwrap_or(match self.kind {
            Self::FRAGMENT => 0,
            Self::AUTHENTICATION => (bytes / 4).saturating_sub(2) as u8,
            _ => (bytes / 8).saturating_sub(1) as u8,
        });
        [
            &[self.next_header.unwrap_or(protocol), length][..],
            &self.body,
            &body,
        ]
        .concat()
    }
}

/// The address that a routing header with segments left ends at, from what follows its length byte:
/// the first segment of an SRv6 list (RFC 8754), the last address of the other types. The checksum
/// covers this address.
pub(super) fn final_destination(body: &[u8]) -> Option<Ipv6Addr> {
    let (routing_type, segments_left) = (*body.first()?, *body.get(1)?);
    let address: [u8; 16] = match routing_type {
        _ if segments_left == 0 => return None,
        4 => body.get(6..22)?.try_into().ok()?,
        _ => *body.get(6..)?.last_chunk()?,
    };
    Some(address.into())
}
