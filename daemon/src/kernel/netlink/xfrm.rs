//! IPsec policies, read over XFRM netlink (include/uapi/linux/xfrm.h).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{DecodeError, NetlinkSerializable, parse_u32};
use netlink_sys::protocols::NETLINK_XFRM;
use nix::errno::Errno;

use super::decode::attributes;
use super::socket::RequestSocket;
use super::{Error, Netlink, each};
use crate::ipsec::{Action, Policies, Policy};

const XFRM_MSG_NEWPOLICY: u16 = 0x13;
const XFRM_MSG_GETPOLICY: u16 = 0x15;
const XFRM_MSG_GETDEFAULT: u16 = 0x28;
/// The multicast group of policy events.
pub(super) const XFRMNLGRP_POLICY: u32 = 4;

const XFRMA_TMPL: u16 = 5;
const XFRMA_POLICY_TYPE: u16 = 16;
const XFRMA_MARK: u16 = 21;
const XFRMA_IF_ID: u16 = 31;

const XFRM_POLICY_OUT: u8 = 1;
const XFRM_POLICY_BLOCK: u8 = 1;
/// `XFRM_USERPOLICY_BLOCK` of `struct xfrm_userpolicy_default`.
const BLOCK_BY_DEFAULT: u8 = 1;

/// Bytes of `struct xfrm_userpolicy_info` and `struct xfrm_userpolicy_id`.
const INFO_BYTES: usize = 168;
const ID_BYTES: usize = 64;

/// A request of zeros, which stands for everything.
struct Request {
    kind: u16,
    bytes: usize,
}

impl NetlinkSerializable for Request {
    fn message_type(&self) -> u16 {
        self.kind
    }

    fn buffer_len(&self) -> usize {
        self.bytes
    }

    fn serialize(&self, buffer: &mut [u8]) {
        buffer.fill(0);
    }
}

/// The socket for policies, opened by the first request for them.
#[derive(Default)]
pub(super) enum Xfrm {
    #[default]
    Unknown,
    /// The kernel has none, or it would have loaded the module: nothing is encrypted or blocked.
    Missing,
    Open(RequestSocket),
}

/// Whether the kernel has no IPsec.
pub(super) fn is_missing(error: &Error) -> bool {
    matches!(
        error.errno(),
        Some(Errno::EPROTONOSUPPORT | Errno::EAFNOSUPPORT)
    )
}

impl Netlink {
    /// The IPsec policies for what this host sends. None where the kernel has no IPsec.
    ///
    /// # Errors
    /// Any [`Error`].
    pub fn policies(&mut self) -> Result<Policies, Error> {
        if matches!(self.xfrm, Xfrm::Unknown) {
            self.xfrm = match RequestSocket::open(NETLINK_XFRM) {
                Ok(socket) => Xfrm::Open(socket),
                Err(error) if is_missing(&error) => Xfrm::Missing,
                Err(error) => return Err(error),
            };
        }
        let Xfrm::Open(socket) = &mut self.xfrm else {
            return Ok(Policies::default());
        };
        let what = "list the IPsec policies";
        let answers = socket.dump(
            &what,
            Request {
                kind: XFRM_MSG_GETPOLICY,
                bytes: ID_BYTES,
            },
        )?;
        let policies = each(&what, &answers, XFRM_MSG_NEWPOLICY, policy)?;
        let what = "read the default IPsec policy";
        let blocks_the_rest = match socket.single(
            &what,
            Request {
                kind: XFRM_MSG_GETDEFAULT,
                bytes: 4,
            },
            0,
        ) {
            Ok(answers) => each(&what, &answers, XFRM_MSG_GETDEFAULT, default)?.contains(&true),
            // kernels before 5.15 have none
            Err(error) if error.errno() == Some(Errno::EINVAL) => false,
            Err(error) => return Err(error),
        };
        Ok(Policies {
            policies: policies.into_iter().flatten().collect(),
            blocks_the_rest,
        })
    }
}

/// Decodes `struct xfrm_userpolicy_default`: whether what is sent is blocked.
fn default(payload: &[u8]) -> Result<bool, DecodeError> {
    // in, forward, out
    payload
        .get(2)
        .map(|&out| out == BLOCK_BY_DEFAULT)
        .ok_or_else(|| DecodeError::from("a default that is cut off"))
}

/// Decodes `struct xfrm_userpolicy_info`. `None` for a policy that is not about what this host
/// sends.
fn policy(payload: &[u8]) -> Result<Option<Policy>, DecodeError> {
    const SELECTOR: (usize, usize, usize, usize) = (0, 16, 32, 36);
    const FAMILY: usize = 40;
    const PREFIXES: (usize, usize) = (42, 43);
    const PROTOCOL: usize = 44;
    const INTERFACE: usize = 48;
    const PRIORITY: usize = 152;
    const DIRECTION: usize = 160;
    const ACTION: usize = 161;

    let info: &[u8; INFO_BYTES] = payload
        .first_chunk()
        .ok_or_else(|| DecodeError::from("an IPsec policy that is cut off"))?;
    if info[DIRECTION] != XFRM_POLICY_OUT {
        return Ok(None);
    }
    let word = |at: usize| u32::from_ne_bytes([info[at], info[at + 1], info[at + 2], info[at + 3]]);
    // in network byte order, with the bits that count behind
    let port = |at: usize| {
        (
            u16::from_be_bytes([info[at], info[at + 1]]),
            u16::from_be_bytes([info[at + 2], info[at + 3]]),
        )
    };
    let address = |at: usize| -> Result<IpAddr, DecodeError> {
        let bytes: [u8; 16] = std::array::from_fn(|byte| info[at + byte]);
        match i32::from(u16::from_ne_bytes([info[FAMILY], info[FAMILY + 1]])) {
            libc::AF_INET => Ok(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]).into()),
            libc::AF_INET6 => Ok(Ipv6Addr::from(bytes).into()),
            family => Err(DecodeError::from(format!(
                "an IPsec policy of address family {family}"
            ))),
        }
    };
    let (destination, source, destination_port, source_port) = SELECTOR;
    let mut policy = Policy {
        source: (address(source)?, info[PREFIXES.1]),
        destination: (address(destination)?, info[PREFIXES.0]),
        source_port: port(source_port),
        destination_port: port(destination_port),
        protocol: info[PROTOCOL],
        interface: word(INTERFACE),
        priority: word(PRIORITY),
        kind: 0,
        mark: (0, 0),
        if_id: 0,
        action: if info[ACTION] == XFRM_POLICY_BLOCK {
            Action::Block
        } else {
            Action::Clear
        },
    };
    for attribute in attributes(&payload[INFO_BYTES..]) {
        match attribute? {
            (XFRMA_TMPL, value) if !value.is_empty() && policy.action == Action::Clear => {
                policy.action = Action::Transform;
            }
            (XFRMA_MARK, value) if value.len() >= 8 => {
                policy.mark = (parse_u32(&value[..4])?, parse_u32(&value[4..8])?);
            }
            (XFRMA_IF_ID, value) => policy.if_id = parse_u32(value)?,
            (XFRMA_POLICY_TYPE, value) => policy.kind = value.first().copied().unwrap_or_default(),
            _ => {}
        }
    }
    Ok(Some(policy))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `ip xfrm policy add src 10.9.0.0/24 dst 10.9.0.11 proto udp dport 6080 dir out priority 7`,
    /// and attributes.
    fn bytes(change: impl Fn(&mut [u8]), attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut info = vec![0; INFO_BYTES];
        info[..4].copy_from_slice(&[10, 9, 0, 11]);
        info[16..20].copy_from_slice(&[10, 9, 0, 0]);
        info[32..36].copy_from_slice(&[0x17, 0xc0, 0xff, 0xff]);
        info[40..42].copy_from_slice(&2u16.to_ne_bytes());
        info[42..45].copy_from_slice(&[32, 24, 17]);
        info[48..52].copy_from_slice(&3u32.to_ne_bytes());
        info[152..156].copy_from_slice(&7u32.to_ne_bytes());
        info[160] = XFRM_POLICY_OUT;
        change(&mut info);
        for (kind, value) in attributes {
            info.extend(u16::try_from(value.len() + 4).unwrap().to_ne_bytes());
            info.extend(kind.to_ne_bytes());
            info.extend(*value);
            info.resize(info.len().next_multiple_of(4), 0);
        }
        info
    }

    #[test]
    fn a_policy_is_read_in_full() {
        let clear = policy(&bytes(|_| {}, &[])).unwrap().unwrap();
        let expected = Policy {
            source: ("10.9.0.0".parse().unwrap(), 24),
            destination: ("10.9.0.11".parse().unwrap(), 32),
            source_port: (0, 0),
            destination_port: (6080, 0xffff),
            protocol: 17,
            interface: 3,
            priority: 7,
            kind: 0,
            mark: (0, 0),
            if_id: 0,
            action: Action::Clear,
        };
        assert_eq!(clear, expected);
        let mark = [5u32.to_ne_bytes(), 0xffu32.to_ne_bytes()].concat();
        let all: [(u16, &[u8]); 5] = [
            (XFRMA_MARK, &mark),
            (XFRMA_IF_ID, &9u32.to_ne_bytes()),
            (XFRMA_POLICY_TYPE, &[1, 0, 0, 0, 0, 0]),
            (99, b"what a newer kernel adds"),
            (XFRMA_TMPL, &[1; 64]),
        ];
        let transforms = policy(&bytes(|_| {}, &all)).unwrap().unwrap();
        let expected = Policy {
            mark: (5, 0xff),
            if_id: 9,
            kind: 1,
            action: Action::Transform,
            ..expected
        };
        assert_eq!(transforms, expected);
        let blocks = policy(&bytes(|info| info[161] = 1, &all)).unwrap().unwrap();
        assert_eq!(
            blocks,
            Policy {
                action: Action::Block,
                ..expected
            }
        );
    }

    #[test]
    fn ipv6_and_other_directions() {
        let six = |info: &mut [u8]| {
            info[..32].copy_from_slice(&[[0xfd; 16], [0xfc; 16]].concat());
            info[40..42].copy_from_slice(&10u16.to_ne_bytes());
            info[42..44].copy_from_slice(&[128, 7]);
        };
        let read = policy(&bytes(six, &[])).unwrap().unwrap();
        assert_eq!(read.destination, (IpAddr::from([0xfd; 16]), 128));
        assert_eq!(read.source, (IpAddr::from([0xfc; 16]), 7));
        for direction in [0, 2, 3, 4] {
            assert_eq!(
                policy(&bytes(|info| info[160] = direction, &[])).unwrap(),
                None
            );
        }
    }

    #[test]
    fn the_default_is_read() {
        assert!(default(&[2, 2, 1, 0]).unwrap() && !default(&[1, 1, 2, 0]).unwrap());
        assert!(default(&[1, 1]).is_err());
    }

    #[test]
    fn what_is_cut_off_is_an_error_and_no_panic() {
        let whole = bytes(|_| {}, &[(XFRMA_MARK, &[1; 8]), (XFRMA_TMPL, &[1; 64])]);
        for length in 0..INFO_BYTES {
            assert!(policy(&whole[..length]).is_err(), "{length}");
        }
        let mut state = 1u32;
        let mut random = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        for length in (0..260).cycle().take(20_000) {
            // small values make many plausible attributes
            let mut bytes: Vec<u8> = (0..length)
                .map(|_| random() % if length % 2 == 0 { 24 } else { 255 })
                .collect();
            if let Some(direction) = bytes.get_mut(160) {
                *direction = XFRM_POLICY_OUT;
            }
            if let Some(family) = bytes.get_mut(40..42) {
                family.copy_from_slice(&2u16.to_ne_bytes());
            }
            let _ = policy(&bytes);
            let _ = default(&bytes);
        }
    }
}
