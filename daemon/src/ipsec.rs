//! Input: the IPsec policies of this host. Output: whether one is for what goes to an endpoint.
//! Pure.
//!
//! Copies leave by `bpf_clone_redirect`, which applies no policy: they would pass unencrypted where
//! a policy encrypts or blocks what this host sends. So this module decides as the kernel would for
//! an ordinary program (`xfrm_policy_match`, `xfrm_selector_match`).

use std::net::IpAddr;

use traffic_mirror_ebpf::gue::SOURCE_PORT_BASE;

/// The policies of this host that are about what it sends.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policies {
    /// In the kernel's order.
    pub policies: Vec<Policy>,
    /// What no policy is for is blocked (`ip xfrm policy setdefault out block`).
    pub blocks_the_rest: bool,
}

/// One policy: `struct xfrm_userpolicy_info` of include/uapi/linux/xfrm.h, and its attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Source addresses and the length of their common prefix.
    pub source: (IpAddr, u8),
    /// Destination addresses, likewise.
    pub destination: (IpAddr, u8),
    /// Source port and the bits of it that count, host byte order.
    pub source_port: (u16, u16),
    /// Destination port, likewise.
    pub destination_port: (u16, u16),
    /// IP protocol number, 0 for any.
    pub protocol: u8,
    /// Index of the output interface, 0 for any.
    pub interface: u32,
    /// Of several that match the lowest counts.
    pub priority: u32,
    /// Main policies (0) are evaluated after sub policies (1), and both must agree
    /// (`XFRM_POLICY_TYPE_*`).
    pub kind: u8,
    /// Value of the mark, and the bits of it that count.
    pub mark: (u32, u32),
    /// The XFRM interface that it belongs to, 0 if to none.
    pub if_id: u32,
    /// What becomes of a packet.
    pub action: Action,
}

/// What a policy does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It lets the packet leave as it is.
    Clear,
    /// It has the packet encrypted or authenticated (it has templates).
    Transform,
    /// It drops the packet.
    Block,
}

/// Copies to an endpoint. Their protocol is UDP, and their mark 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copies {
    /// Outer source address.
    pub source: IpAddr,
    /// Outer destination address.
    pub destination: IpAddr,
    /// Outer destination port, host byte order.
    pub port: u16,
    /// Index of the output interface.
    pub interface: u32,
}

impl Policies {
    /// Whether a program of this host that sent what copies are would not have it leave in clear;
    /// also if that is so for some of the source ports that copies have.
    pub fn guard(&self, copies: &Copies) -> bool {
        [0, 1].into_iter().any(|kind| {
            let mut matching: Vec<(&Policy, Match)> = self
                .policies
                .iter()
                .filter(|policy| policy.kind == kind)
                .map(|policy| (policy, policy.matches(copies)))
                .filter(|(_, matches)| *matches != Match::Never)
                .collect();
            matching.sort_by_key(|(policy, _)| policy.priority);
            // among policies of one priority the oldest applies, and the kernel does not report
            // their age: fail closed
            for same in matching.chunk_by(|(one, _), (other, _)| one.priority == other.priority) {
                if same
                    .iter()
                    .any(|(policy, _)| policy.action != Action::Clear)
                {
                    return true;
                }
                if same.iter().any(|(_, matches)| *matches == Match::Always) {
                    return false;
                }
            }
            kind == 0 && self.blocks_the_rest
        })
    }
}

/// Which of the copies to an endpoint a policy is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Match {
    Never,
    /// Those with some source ports.
    Sometimes,
    Always,
}

impl Policy {
    fn matches(&self, copies: &Copies) -> Match {
        const UDP: u8 = 17;
        let is_for_all = contains(self.source, copies.source)
            && contains(self.destination, copies.destination)
            && (self.protocol == 0 || self.protocol == UDP)
            && (copies.port ^ self.destination_port.0) & self.destination_port.1 == 0
            && (self.interface == 0 || self.interface == copies.interface)
            // (0 & mask) == value
            && self.mark.0 == 0
            // otherwise an XFRM interface evaluates it, and encrypts what leaves by it
            && self.if_id == 0;
        // source ports are those from there on, with all bits below
        let (port, mask) = self.source_port;
        let is_for_some = (port ^ SOURCE_PORT_BASE) & mask & SOURCE_PORT_BASE == 0;
        match (is_for_all && is_for_some, mask) {
            (false, _) => Match::Never,
            (true, 0) => Match::Always,
            (true, _) => Match::Sometimes,
        }
    }
}

/// Whether an address is in a network; never if that is of the other family.
fn contains((network, length): (IpAddr, u8), address: IpAddr) -> bool {
    let bits = |address: IpAddr| match address {
        IpAddr::V4(address) => (u128::from(u32::from(address)) << 96, 32),
        IpAddr::V6(address) => (u128::from(address), 128),
    };
    let ((network, width), (address, other)) = (bits(network), bits(address));
    let mask = u128::MAX
        .checked_shl(128 - u32::from(length.min(128)))
        .unwrap_or(0);
    width == other && (network ^ address) & mask == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const COPIES: Copies = Copies {
        source: IpAddr::V4(std::net::Ipv4Addr::new(10, 9, 0, 1)),
        destination: IpAddr::V4(std::net::Ipv4Addr::new(10, 9, 0, 11)),
        port: 6080,
        interface: 7,
    };

    /// From one host to the other, whatever it is.
    fn esp() -> Policy {
        Policy {
            source: (COPIES.source, 32),
            destination: (COPIES.destination, 32),
            source_port: (0, 0),
            destination_port: (0, 0),
            protocol: 0,
            interface: 0,
            priority: 100,
            kind: 0,
            mark: (0, 0),
            if_id: 0,
            action: Action::Transform,
        }
    }

    fn guard(policies: &[Policy]) -> bool {
        Policies {
            policies: policies.to_vec(),
            blocks_the_rest: false,
        }
        .guard(&COPIES)
    }

    #[test]
    fn a_policy_guards_what_its_selector_holds() {
        assert!(!guard(&[]));
        assert!(guard(&[esp()]));
        assert!(guard(&[Policy {
            action: Action::Block,
            ..esp()
        }]));
        assert!(!guard(&[Policy {
            action: Action::Clear,
            ..esp()
        }]));
        let network = |text: &str, length| (text.parse::<IpAddr>().unwrap(), length);
        for (policy, expected) in [
            (
                Policy {
                    destination: network("10.9.0.8", 30),
                    ..esp()
                },
                true,
            ),
            (
                Policy {
                    destination: network("10.9.0.12", 30),
                    ..esp()
                },
                false,
            ),
            (
                Policy {
                    source: network("0.0.0.0", 0),
                    destination: network("0.0.0.0", 0),
                    ..esp()
                },
                true,
            ),
            (
                Policy {
                    source: network("::", 0),
                    destination: network("::", 0),
                    ..esp()
                },
                false,
            ),
            (
                Policy {
                    source: network("10.9.0.2", 32),
                    ..esp()
                },
                false,
            ),
            (
                Policy {
                    protocol: 17,
                    ..esp()
                },
                true,
            ),
            (
                Policy {
                    protocol: 6,
                    ..esp()
                },
                false,
            ),
            (
                Policy {
                    destination_port: (6080, 0xffff),
                    ..esp()
                },
                true,
            ),
            (
                Policy {
                    destination_port: (6081, 0xffff),
                    ..esp()
                },
                false,
            ),
            (
                Policy {
                    destination_port: (6081, 0xfff0),
                    ..esp()
                },
                true,
            ),
            (
                Policy {
                    interface: 7,
                    ..esp()
                },
                true,
            ),
            (
                Policy {
                    interface: 8,
                    ..esp()
                },
                false,
            ),
            (
                Policy {
                    mark: (0, 0xff),
                    ..esp()
                },
                true,
            ),
            (
                Policy {
                    mark: (1, 0xff),
                    ..esp()
                },
                false,
            ),
            (Policy { if_id: 5, ..esp() }, false),
            (Policy { kind: 1, ..esp() }, true),
            // copies have source ports from 0xc000 on
            (
                Policy {
                    source_port: (0xd000, 0xffff),
                    ..esp()
                },
                true,
            ),
            (
                Policy {
                    source_port: (500, 0xffff),
                    ..esp()
                },
                false,
            ),
            (
                Policy {
                    source_port: (0x8000, 0x8000),
                    ..esp()
                },
                true,
            ),
        ] {
            assert_eq!(guard(std::slice::from_ref(&policy)), expected, "{policy:?}");
        }
        let v6 = Copies {
            source: "fd09::1".parse().unwrap(),
            destination: "fd09::13".parse().unwrap(),
            ..COPIES
        };
        let six = Policy {
            source: network("fd09::", 64),
            destination: network("fd09::10", 124),
            ..esp()
        };
        let is_guarded = |policy| {
            Policies {
                policies: vec![policy],
                ..Policies::default()
            }
            .guard(&v6)
        };
        assert!(is_guarded(six.clone()));
        assert!(!is_guarded(Policy {
            destination: network("fd09::20", 124),
            ..six
        }));
        assert!(!is_guarded(esp()));
    }

    #[test]
    fn the_first_by_priority_decides() {
        let clear = |priority| Policy {
            action: Action::Clear,
            priority,
            ..esp()
        };
        assert!(!guard(&[esp(), clear(99)]));
        assert!(guard(&[clear(101), esp()]));
        assert!(guard(&[clear(100), esp()]), "which is older nobody tells");
        let some = Policy {
            source_port: (0xd000, 0xffff),
            ..clear(99)
        };
        assert!(
            guard(&[some, esp()]),
            "the rest of the source ports is for the second"
        );
        let sub = Policy {
            kind: 1,
            ..clear(1)
        };
        assert!(guard(&[sub, esp()]), "both kinds are asked");
    }

    #[test]
    fn what_no_policy_is_for_may_be_blocked() {
        let with = |policies: &[Policy]| {
            Policies {
                policies: policies.to_vec(),
                blocks_the_rest: true,
            }
            .guard(&COPIES)
        };
        assert!(with(&[]));
        assert!(!with(&[Policy {
            action: Action::Clear,
            ..esp()
        }]));
        assert!(with(&[Policy {
            action: Action::Clear,
            protocol: 6,
            ..esp()
        }]));
    }
}
