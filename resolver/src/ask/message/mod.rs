//! Input: a question, and the bytes that may be its answer. Output: the message that asks it, and
//! what the answer says. Any bytes may come. Must not know sockets or clocks.

use std::net::IpAddr;

use domain::base::iana::{Class, Opcode, Rcode};
use domain::base::message::RecordSection;
use domain::base::name::ToName as _;
use domain::base::wire::ParseError;
use domain::base::{Message, MessageBuilder, ParsedName, Rtype};
use domain::rdata::{A, Aaaa, Cname};
use traffic_mirror_resolver::Failure;

use crate::ask::Family;

/// Aliases (CNAME) that are followed for a question. RFC 1034 section 5.2.2 asks for a limit and
/// names none; as many as other resolvers follow.
pub(crate) const MOST_ALIASES: u32 = 16;

/// The name that a question is about.
pub(crate) type Target = domain::base::Name<Vec<u8>>;

/// A question for the addresses of a name.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    /// The message.
    pub(crate) bytes: Vec<u8>,
    id: u16,
    name: Target,
    kind: Rtype,
}

/// What an answer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reading {
    /// Addresses with their TTL in seconds, that of the aliases before them included.
    Addresses(Vec<(IpAddr, u32)>),
    /// Aliases lead to a name that the answer says nothing about.
    Alias {
        /// That name.
        to: Target,
        /// The lowest TTL of the aliases, seconds.
        ttl: u32,
        /// How many there are.
        count: u32,
    },
    /// The answer did not fit into its datagram.
    Truncated,
}

impl Question {
    /// Asks a server that resolves (RFC 1035 section 4.1). `id` is to be random (RFC 5452). There is
    /// no EDNS: the answer has 512 bytes at most, or comes by TCP, so that no server has to know it.
    pub(crate) fn new(id: u16, name: &Target, family: Family) -> Self {
        let kind = match family {
            Family::Four => Rtype::A,
            Family::Six => Rtype::AAAA,
        };
        let mut builder = MessageBuilder::new_vec();
        builder.header_mut().set_id(id);
        builder.header_mut().set_rd(true);
        let mut builder = builder.question();
        // a vector takes all that is pushed
        let _ = builder.push((name, kind));
        Self {
            bytes: builder.finish(),
            id,
            name: name.clone(),
            kind,
        }
    }

    /// Reads an answer. `None`: the bytes do not answer this question, and those that do may still
    /// come.
    pub(crate) fn read(&self, bytes: &[u8]) -> Option<Result<Reading, Failure>> {
        let message = Message::from_slice(bytes).ok()?;
        let header = message.header();
        if !header.qr() || header.id() != self.id || header.opcode() != Opcode::QUERY {
            return None;
        }
        let is_error = header.rcode() != Rcode::NOERROR;
        // some servers send errors without the question
        if !(is_error && message.header_counts().qdcount() == 0) {
            let asked = message.sole_question().ok()?;
            let is_same = *asked.qname() == self.name
                && asked.qtype() == self.kind
                && asked.qclass() == Class::IN;
            if !is_same {
                return None;
            }
        }
        if header.tc() {
            return Some(Ok(Reading::Truncated));
        }
        Some(match header.rcode() {
            Rcode::NOERROR => self.follow(message),
            Rcode::NXDOMAIN => Err(Failure::NoSuchName),
            Rcode::REFUSED => Err(Failure::Refused),
            _ => Err(Failure::ServerFailure),
        })
    }

    /// Follows the aliases of an answer to its addresses.
    fn follow(&self, message: &Message<[u8]>) -> Result<Reading, Failure> {
        let malformed = |_| Failure::Malformed;
        let section = message.answer().map_err(malformed)?;
        let records = records(section).map_err(malformed)?;
        let (mut at, mut ttl, mut count) = (self.name.clone(), u32::MAX, 0);
        loop {
            let here = || records.iter().filter(|record| record.owner == at);
            let addresses: Vec<(IpAddr, u32)> = here()
                .filter_map(|record| match &record.data {
                    Data::Address(address) => Some((*address, ttl.min(record.ttl))),
                    Data::Alias(_) => None,
                })
                .collect();
            if !addresses.is_empty() {
                return Ok(Reading::Addresses(addresses));
            }
            let alias = here().find_map(|record| match &record.data {
                Data::Alias(to) => Some((to.to_vec(), record.ttl)),
                Data::Address(_) => None,
            });
            let Some((to, its_ttl)) = alias else { break };
            ttl = ttl.min(its_ttl);
            count += 1;
            if count > MOST_ALIASES {
                return Err(Failure::AliasLoop);
            }
            at = to;
        }
        if count == 0 || has_no_data(message).map_err(malformed)? {
            return Err(Failure::NoAddress);
        }
        Ok(Reading::Alias { to: at, ttl, count })
    }
}

/// A record of an answer that matters.
struct Record<'m> {
    owner: ParsedName<&'m [u8]>,
    ttl: u32,
    data: Data<'m>,
}

enum Data<'m> {
    Address(IpAddr),
    Alias(ParsedName<&'m [u8]>),
}

fn records<'m>(section: RecordSection<'m, [u8]>) -> Result<Vec<Record<'m>>, ParseError> {
    let mut records = Vec::new();
    for record in section {
        let record = record?;
        if record.class() != Class::IN {
            continue;
        }
        let data = match record.rtype() {
            Rtype::A => {
                let parsed = record.to_record::<A>()?;
                parsed.map(|record| Data::Address(record.data().addr().into()))
            }
            Rtype::AAAA => {
                let parsed = record.to_record::<Aaaa>()?;
                parsed.map(|record| Data::Address(record.data().addr().into()))
            }
            Rtype::CNAME => {
                let parsed = record.to_record::<Cname<ParsedName<&'m [u8]>>>()?;
                parsed.map(|record| Data::Alias(record.into_data().into_cname()))
            }
            _ => None,
        };
        // one with the highest bit set counts as 0 (RFC 2181 section 8)
        let ttl = record.ttl().as_secs();
        let ttl = if ttl > i32::MAX as u32 { 0 } else { ttl };
        records.extend(data.map(|data| Record {
            owner: record.owner(),
            ttl,
            data,
        }));
    }
    Ok(records)
}

/// Whether a server says that the name at the end of the aliases has no address: such an answer has
/// the zone's SOA (RFC 2308 section 2.2). Without it the server may just not have followed them.
fn has_no_data(message: &Message<[u8]>) -> Result<bool, ParseError> {
    for record in message.authority()? {
        if record?.rtype() == Rtype::SOA {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests;
