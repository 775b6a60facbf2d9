//! The stable names of everything that can be wrong with a file. Scripts match on them: never
//! rename one.

use std::fmt;

/// Whether the file is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The file changes nothing.
    Error,
    /// The file is loaded; the operator should check it.
    Warning,
}

impl Severity {
    /// `error` or `warning`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $severity:ident $text:literal,)*) => {
        /// What kind of problem a diagnostic is about.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $($(#[$doc])* $variant,)*
        }

        impl Code {
            /// Every code there is.
            pub const ALL: &'static [Code] = &[$(Code::$variant,)*];

            /// The kebab-case name that users see.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Code::$variant => $text,)*
                }
            }

            /// Whether a file with this problem is rejected.
            pub fn severity(self) -> Severity {
                match self {
                    $(Code::$variant => Severity::$severity,)*
                }
            }
        }
    };
}

codes! {
    /// The bytes are not UTF-8.
    InvalidUtf8 = Error "invalid-utf8",
    /// The text is not TOML.
    Syntax = Error "syntax",
    /// A key or table is defined twice.
    DuplicateKey = Error "duplicate-key",
    /// A table that the format does not have.
    UnknownTable = Error "unknown-table",
    /// A key that the object does not have.
    UnknownKey = Error "unknown-key",
    /// A value of another TOML type than the key takes.
    WrongType = Error "wrong-type",
    /// A key without which the object means nothing.
    MissingField = Error "missing-field",
    /// An empty list, which might be read as "any" or as "none".
    EmptyList = Error "empty-list",
    /// More objects than the data plane holds.
    LimitExceeded = Error "limit-exceeded",
    /// A name without a character.
    EmptyName = Error "empty-name",
    /// A filter or endpoint name that cannot be a metric label.
    BadName = Error "bad-name",
    /// Two filters of one name.
    DuplicateFilter = Error "duplicate-filter",
    /// Two `[[interface]]` entries of one name.
    DuplicateInterface = Error "duplicate-interface",
    /// The same endpoint twice in one `to`.
    DuplicateEndpoint = Error "duplicate-endpoint",
    /// A name that no Linux interface can have.
    BadInterfaceName = Error "bad-interface-name",
    /// A glob that cannot be parsed.
    BadGlob = Error "bad-glob",
    /// A direction other than the three.
    BadDirection = Error "bad-direction",
    /// An `order` that is no place among programs.
    BadOrder = Error "bad-order",
    /// An action other than the two.
    BadAction = Error "bad-action",
    /// A `server_name` that no client gives.
    BadServerName = Error "bad-server-name",
    /// An `application` that is neither a unit nor the path of a cgroup.
    BadApplication = Error "bad-application",
    /// An `undecided` other than the two.
    BadUndecided = Error "bad-undecided",
    /// An `undecided` of a filter without names and applications.
    UndecidedWithoutNames = Error "undecided-without-names",
    /// A filter by names that sees one direction of a flow alone.
    OneWayNames = Error "one-way-names",
    /// An endpoint address that clones cannot be sent to.
    BadAddress = Error "bad-address",
    /// An `oversize` other than the three.
    BadOversize = Error "bad-oversize",
    /// A `snap` that is no length.
    BadSnap = Error "bad-snap",
    /// A `budget` that is no time.
    BadBudget = Error "bad-budget",
    /// A `backlog` that is no amount of memory.
    BadBacklog = Error "bad-backlog",
    /// A `limit` that is no rate.
    BadLimit = Error "bad-limit",
    /// A `sample` that is no share.
    BadSample = Error "bad-sample",
    /// An `mtu` that is no length of a packet.
    BadMtu = Error "bad-mtu",
    /// An `ipsec` other than the two.
    BadIpsec = Error "bad-ipsec",
    /// An `unparsed` other than the two.
    BadUnparsed = Error "bad-unparsed",
    /// A `seed` that is too short.
    BadSeed = Error "bad-seed",
    /// A `filters` of `[metrics]` that is neither a choice nor a list.
    BadMetrics = Error "bad-metrics",
    /// Neither an address nor a network.
    BadNetwork = Error "bad-network",
    /// A prefix length beyond the width of the address.
    BadPrefix = Error "bad-prefix",
    /// A network with bits set beyond its prefix.
    HostBitsSet = Error "host-bits-set",
    /// Neither a port nor a range of ports.
    BadPort = Error "bad-port",
    /// Not a VLAN or a range of VLANs.
    BadVlan = Error "bad-vlan",
    /// A number that is not a port.
    PortOutOfRange = Error "port-out-of-range",
    /// A range that ends before it begins.
    ReversedRange = Error "reversed-range",
    /// An unknown protocol name.
    UnknownProtocol = Error "unknown-protocol",
    /// A number that does not fit the protocol field.
    ProtocolOutOfRange = Error "protocol-out-of-range",
    /// A `to` entry that no `[endpoint.NAME]` defines.
    UnknownEndpoint = Error "unknown-endpoint",
    /// A filter's interface that no `[[interface]]` covers.
    UnknownInterface = Error "unknown-interface",
    /// Port conditions on protocols that all have no ports.
    PortWithoutPorts = Error "port-without-ports",
    /// Conditions that exclude each other.
    NeverMatches = Error "never-matches",
    /// An endpoint that no filter sends to.
    UnusedEndpoint = Warning "unused-endpoint",
    /// An interface that the host where the file is checked does not have.
    AbsentInterface = Warning "absent-interface",
    /// A DNS name of which no address is known where the file is checked.
    UnresolvedName = Warning "unresolved-name",
    /// An application that the host where the file is checked does not run.
    AbsentApplication = Warning "absent-application",
    /// An application whose sockets are made by a unit that the filter does not have.
    SocketUnit = Warning "socket-unit",
    /// A name or glob in `[metrics]` that no filter fits.
    UnknownFilter = Warning "unknown-filter",
    /// Filters, but no interface whose packets they could match.
    NoInterface = Warning "no-interface",
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn codes_are_unique_and_kebab_case() {
        let names: BTreeSet<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(names.len(), Code::ALL.len());
        for name in names {
            let kebab = name.split('-').all(|word| {
                !word.is_empty()
                    && word
                        .bytes()
                        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
            });
            assert!(kebab, "{name}");
        }
    }
}
