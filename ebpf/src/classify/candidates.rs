//! Which blocks may have slots that match.

use super::{OutOfTable, Search, Tables, class_of, lowest_bit, set_of};
use crate::abi::{
    ANY_CLASS, BLOCK_SLOTS, BLOCK_WORDS, Bank, Block, EMPTY_CLASS, FIELDS, Field, MAX_HOOKS, Root,
    VLANS, Values,
};
use crate::packet::Packet;

/// The candidates that the summaries leave: blocks that may hold a match, and the classes to search
/// there.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Candidates {
    /// Bit b is set if block b may hold a match; never 0.
    pub blocks: u64,
    /// The packet's class by [`Field`]; [`ANY_CLASS`] of one that is unknown. Those of the server
    /// name and of the application are unknown until [`Candidates::give`].
    classes: [u32; FIELDS],
    /// Where the packet is.
    pub hook: u32,
}

impl Candidates {
    /// Asks the summaries: protocol and ports first, addresses only if something is left.
    /// `Ok(None)` if nothing can match, which is what happens to nearly every packet that no filter
    /// wants.
    ///
    /// # Errors
    /// An index beyond a table.
    #[inline(always)]
    pub fn of<T: Tables>(
        tables: &T,
        active: &Bank,
        hook: usize,
        packet: &Packet,
    ) -> Result<Option<Self>, OutOfTable> {
        let mut blocks =
            active.hooks[hook % MAX_HOOKS] & active.protocols[packet.protocol as usize];
        if blocks == 0 {
            return Ok(None);
        }
        let omitted = &active.omitted;
        let values = tables.values().ok_or(OutOfTable)?;
        let [source_port, destination_port] = ports(values, packet);
        blocks &= summary::<T, false>(tables, source_port)? | omitted[Field::SourcePort as usize];
        blocks &= summary::<T, false>(tables, destination_port)?
            | omitted[Field::DestinationPort as usize];
        if blocks == 0 {
            return Ok(None);
        }
        Self::of_rest::<T, false>(
            tables,
            active,
            hook,
            packet,
            blocks,
            [EMPTY_CLASS, source_port, destination_port],
        )
    }

    /// As [`Candidates::of`], for a packet with [`Packet::unknown`] fields: they match with `any`
    /// every value, otherwise none. To be searched with `ODD`, after
    /// [`Candidates::give_odd`].
    ///
    /// # Errors
    /// An index beyond a table.
    #[inline(always)]
    pub fn of_odd<T: Tables>(
        tables: &T,
        active: &Bank,
        hook: usize,
        packet: &Packet,
        any: bool,
    ) -> Result<Option<Self>, OutOfTable> {
        let values = tables.values().ok_or(OutOfTable)?;
        let protocol = match (packet.unknown & Packet::PROTOCOL, any) {
            (0, _) => values.protocol[packet.protocol as usize],
            (_, true) => ANY_CLASS,
            (_, false) => values.no_protocol,
        };
        let ports = match (packet.unknown & !Packet::LEARNED, any) {
            (0, _) => ports(values, packet),
            (_, true) => [ANY_CLASS; 2],
            (_, false) => values.no_port,
        };
        let [protocol, source_port, destination_port] =
            [protocol, ports[0], ports[1]].map(|class| tables.forget(class));
        let omitted = &active.omitted;
        let mut blocks = active.hooks[hook % MAX_HOOKS];
        if source_port != ANY_CLASS {
            blocks &=
                summary::<T, true>(tables, source_port)? | omitted[Field::SourcePort as usize];
            blocks &= summary::<T, true>(tables, destination_port)?
                | omitted[Field::DestinationPort as usize];
        }
        if blocks == 0 {
            return Ok(None);
        }
        Self::of_rest::<T, true>(
            tables,
            active,
            hook,
            packet,
            blocks,
            [protocol, source_port, destination_port],
        )
    }

    /// Gives what [`Candidates::of_odd`] has left the classes of the server name and of the
    /// application, [`ANY_CLASS`] for one that is unknown; returns whether a block is left.
    ///
    /// # Errors
    /// An index beyond a table.
    #[inline(always)]
    pub fn give_odd<T: Tables>(
        &mut self,
        tables: &T,
        active: &Bank,
        learned: [u32; 2],
        any: bool,
    ) -> Result<bool, OutOfTable> {
        let values = tables.values().ok_or(OutOfTable)?;
        let mut give = |field: Field, class: u32, other: u32| {
            let class = match (class, any) {
                (ANY_CLASS, false) => other,
                _ => class,
            };
            if class == ANY_CLASS || !self.want(active, field) {
                return Ok(true);
            }
            self.give(tables, active, field, class)
        };
        Ok(give(Field::ServerName, learned[0], values.other_name)?
            && give(Field::Application, learned[1], values.other_application)?)
    }

    /// The part of `blocks` that addresses, VLAN and protocol leave. `ODD` is for
    /// [`Candidates::of_odd`], which knows the class of the protocol.
    #[inline(always)]
    fn of_rest<T: Tables, const ODD: bool>(
        tables: &T,
        active: &Bank,
        hook: usize,
        packet: &Packet,
        mut blocks: u64,
        [protocol, source_port, destination_port]: [u32; 3],
    ) -> Result<Option<Self>, OutOfTable> {
        let omitted = &active.omitted;
        let (source, destination) = if packet.version == 6 {
            (Root::Source6, Root::Destination6)
        } else {
            (Root::Source4, Root::Destination4)
        };
        let source =
            class_of(tables, &active.roots[source as usize], packet.source).ok_or(OutOfTable)?;
        blocks &= summary::<T, ODD>(tables, source)? | omitted[Field::Source as usize];
        if blocks == 0 {
            return Ok(None);
        }
        let destination = class_of(
            tables,
            &active.roots[destination as usize],
            packet.destination,
        )
        .ok_or(OutOfTable)?;
        blocks &= summary::<T, ODD>(tables, destination)? | omitted[Field::Destination as usize];
        if blocks == 0 {
            return Ok(None);
        }
        let values = tables.values().ok_or(OutOfTable)?;
        // a file that names no VLAN pays no more than this
        let vlan = if omitted[Field::Vlan as usize] == u64::MAX {
            EMPTY_CLASS
        } else {
            let vlan = values.vlan[packet.vlan as usize % VLANS];
            blocks &= summary::<T, ODD>(tables, vlan)? | omitted[Field::Vlan as usize];
            if blocks == 0 {
                return Ok(None);
            }
            vlan
        };
        let protocol = if ODD {
            protocol
        } else {
            values.protocol[packet.protocol as usize]
        };
        if !ODD || protocol != ANY_CLASS {
            // the bank may hold more of a protocol than its class still does
            blocks &= summary::<T, ODD>(tables, protocol)? | omitted[Field::Protocol as usize];
            if blocks == 0 {
                return Ok(None);
            }
        }
        let classes = [
            protocol,
            source_port,
            destination_port,
            source,
            destination,
            vlan,
            ANY_CLASS,
            ANY_CLASS,
        ];
        Ok(Some(Self {
            blocks,
            classes,
            hook: hook as u32,
        }))
    }
}

/// The classes of the ports, of which a packet may have none.
#[inline(always)]
fn ports(values: &Values, packet: &Packet) -> [u32; 2] {
    if packet.ported != 0 {
        [
            values.source_port[packet.source_port as usize],
            values.destination_port[packet.destination_port as usize],
        ]
    } else {
        values.no_port
    }
}

/// Most blocks that [`Candidates::rule_out`] checks.
const QUICK_LOOKS: usize = 2;

/// The blocks that a class has slots in.
#[inline(always)]
fn summary<T: Tables, const ODD: bool>(tables: &T, class: u32) -> Result<u64, OutOfTable> {
    // the usual case: values that no filter gives; each question doubles the verifier's work
    if !ODD && class == EMPTY_CLASS {
        return Ok(0);
    }
    tables.summary(class).copied().ok_or(OutOfTable)
}

impl Candidates {
    /// The packet's classes by [`Field`].
    #[inline(always)]
    #[must_use]
    pub const fn classes(&self) -> &[u32; FIELDS] {
        &self.classes
    }

    /// Whether a block is left in which filters give a server name or an application.
    #[inline(always)]
    #[must_use]
    pub const fn want_learned(&self, active: &Bank) -> bool {
        self.blocks & active.learned != 0
    }

    /// Whether a block is left in which filters give a field.
    #[inline(always)]
    #[must_use]
    pub const fn want(&self, active: &Bank, field: Field) -> bool {
        self.blocks & !active.omitted[field as usize] != 0
    }

    /// Sets the class of a field that was unknown; returns whether a block is left.
    ///
    /// # Errors
    /// An index beyond a table.
    #[inline(always)]
    pub fn give<T: Tables>(
        &mut self,
        tables: &T,
        active: &Bank,
        field: Field,
        class: u32,
    ) -> Result<bool, OutOfTable> {
        self.classes[field as usize] = class;
        self.blocks &= summary::<T, false>(tables, class)? | active.omitted[field as usize];
        Ok(self.blocks != 0)
    }

    /// The classes of the server name and of the application.
    #[inline(always)]
    #[must_use]
    pub const fn learned(&self) -> [u32; 2] {
        [
            self.classes[Field::ServerName as usize],
            self.classes[Field::Application as usize],
        ]
    }

    /// Checks the first blocks quickly, and leaves out those without a match; returns whether one
    /// is left.
    ///
    /// # Errors
    /// An index beyond a table.
    #[inline(always)]
    pub fn rule_out<T: Tables>(&mut self, tables: &T, active: &Bank) -> Result<bool, OutOfTable> {
        let mut looks = 0;
        while looks < QUICK_LOOKS {
            if !self.is_ruled_out(tables, active, lowest_bit(self.blocks))? {
                return Ok(true);
            }
            self.blocks &= self.blocks - 1;
            if self.blocks == 0 {
                return Ok(false);
            }
            looks += 1;
        }
        Ok(true)
    }

    /// Takes the next candidate block.
    #[inline(always)]
    pub fn next_block(&mut self) -> Option<u32> {
        if self.blocks == 0 {
            return None;
        }
        let block = lowest_bit(self.blocks);
        self.blocks &= self.blocks - 1;
        Some(block)
    }

    /// The slots that match in a candidate block; `ODD` for those of [`Candidates::of_odd`].
    ///
    /// # Errors
    /// An index beyond a table.
    #[inline(always)]
    pub fn search<T: Tables, const ODD: bool>(
        &self,
        tables: &T,
        active: &Bank,
        block: u32,
    ) -> Result<Search, OutOfTable> {
        let mut matches = tables
            .row(active.rows[self.hook as usize % MAX_HOOKS])
            .ok_or(OutOfTable)?
            .blocks[block as usize];
        let mut narrow = |field: Field| {
            let class = self.classes[field as usize];
            if active.omitted[field as usize] >> block & 1 != 0 || ODD && class == ANY_CLASS {
                return Ok(true);
            }
            let set = set_of(tables, class, block)?;
            let mut left = 0;
            let mut word = 0;
            while word < BLOCK_WORDS {
                matches[word] &= set[word];
                left |= matches[word];
                word += 1;
            }
            Ok(left != 0)
        };
        let matched = narrow(Field::Destination)?
            && narrow(Field::Source)?
            && narrow(Field::DestinationPort)?
            && narrow(Field::SourcePort)?
            && narrow(Field::Vlan)?
            && narrow(Field::ServerName)?
            && narrow(Field::Application)?
            && narrow(Field::Protocol)?;
        let words = if matched { words_of(&matches) } else { 0 };
        Ok(Search {
            first: block * BLOCK_SLOTS as u32,
            words,
            matches,
        })
    }

    /// A quick check: summaries leave many blocks in which each field has a slot, but not the same
    /// one. Mostly the two most selective fields show that.
    #[inline(always)]
    fn is_ruled_out<T: Tables>(
        &self,
        tables: &T,
        active: &Bank,
        block: u32,
    ) -> Result<bool, OutOfTable> {
        use Field::{Destination, DestinationPort, Source};
        let given = |field: Field| active.omitted[field as usize] >> block & 1 == 0;
        let (one, other) = match (given(Destination), given(Source), given(DestinationPort)) {
            (true, true, _) => (Destination, Source),
            (true, false, true) => (Destination, DestinationPort),
            (false, true, true) => (Source, DestinationPort),
            _ => return Ok(false),
        };
        let one = set_of(tables, self.classes[one as usize], block)?;
        let other = set_of(tables, self.classes[other as usize], block)?;
        let mut both = 0;
        let mut word = 0;
        while word < BLOCK_WORDS {
            both |= one[word] & other[word];
            word += 1;
        }
        Ok(both == 0)
    }
}

/// Bit w is set if word w is not zero.
#[inline(always)]
pub(super) fn words_of(block: &Block) -> u32 {
    let mut words = 0;
    let mut w = 0;
    while w < BLOCK_WORDS {
        // any bit of the word into its highest one; a comparison would be a branch, and each
        // doubles the verifier's work
        let word = block[w];
        let high = (word & (u64::MAX >> 1)).wrapping_add(u64::MAX >> 1) | word;
        words |= (high >> 63 << w) as u32;
        w += 1;
    }
    words
}
