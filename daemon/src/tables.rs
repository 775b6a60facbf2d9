//! The tables as the maps hold them: the output of `compile`, one side of a diff. Pure data; must not know the kernel.

use std::collections::BTreeMap;

use bytemuck::{Pod, Zeroable};
use traffic_mirror_ebpf::abi::{
    Block, Class, Control, EndpointPair, Hook, Listed, Name, Node, Row, Skip, Slot, Values, View,
};
use traffic_mirror_ebpf::classify;

/// A table that the daemon writes: the name of its map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each is described at its element type in abi.rs")]
pub enum Table {
    Blocks,
    Classes,
    Summaries,
    Nodes,
    Skips,
    Slots,
    Rows,
    Filters,
    EndpointNames,
    Hooks,
    Listed,
    Endpoints,
    Values,
    Control,
}

impl Table {
    /// All of them, each before those that point into it.
    pub const ALL: [Self; 14] = [
        Self::Blocks,
        Self::Classes,
        Self::Summaries,
        Self::Nodes,
        Self::Skips,
        Self::Slots,
        Self::Rows,
        Self::Filters,
        Self::EndpointNames,
        Self::Hooks,
        Self::Listed,
        Self::Endpoints,
        Self::Values,
        Self::Control,
    ];

    /// Name of its map.
    pub const fn map_name(self) -> &'static str {
        match self {
            Self::Blocks => "BLOCKS",
            Self::Classes => "CLASSES",
            Self::Summaries => "SUMMARIES",
            Self::Nodes => "NODES",
            Self::Skips => "SKIPS",
            Self::Slots => "SLOTS",
            Self::Rows => "ROWS",
            Self::Filters => "FILTERS",
            Self::EndpointNames => "ENDPOINT_NAMES",
            Self::Hooks => "HOOKS",
            Self::Listed => "LISTED",
            Self::Endpoints => "ENDPOINTS",
            Self::Values => "VALUES",
            Self::Control => "CONTROL",
        }
    }

    /// Bytes of an element.
    pub const fn element_bytes(self) -> usize {
        match self {
            Self::Blocks => size_of::<Block>(),
            Self::Classes => size_of::<Class>(),
            Self::Summaries => size_of::<u64>(),
            Self::Nodes => size_of::<Node>(),
            Self::Skips => size_of::<Skip>(),
            Self::Slots => size_of::<Slot>(),
            Self::Rows => size_of::<Row>(),
            Self::Filters | Self::EndpointNames => size_of::<Name>(),
            Self::Hooks => size_of::<Hook>(),
            Self::Listed => size_of::<Listed>(),
            Self::Endpoints => size_of::<EndpointPair>(),
            Self::Values => size_of::<Values>(),
            Self::Control => size_of::<Control>(),
        }
    }
}

/// The content of all tables.
#[derive(Clone)]
pub struct Tables {
    /// `CONTROL`.
    pub control: Control,
    /// `VALUES`.
    pub values: Box<Values>,
    /// `ROWS`.
    pub rows: Vec<Row>,
    /// `NODES`.
    pub nodes: Vec<Node>,
    /// `SKIPS`.
    pub skips: Vec<Skip>,
    /// `CLASSES`; the first is the empty set.
    pub classes: Vec<Class>,
    /// `SUMMARIES`: one for each class.
    pub summaries: Vec<u64>,
    /// `BLOCKS`; the first is the empty one.
    pub blocks: Vec<Block>,
    /// `SLOTS`.
    pub slots: Vec<Slot>,
    /// `ENDPOINTS`.
    pub endpoints: Vec<EndpointPair>,
    /// `FILTERS`: the names of the filters.
    pub filters: Vec<Name>,
    /// `ENDPOINT_NAMES`.
    pub endpoint_names: Vec<Name>,
    /// `HOOKS`.
    pub hooks: Vec<Hook>,
    /// `LISTED`: the interface entries of the file.
    pub listed: Vec<Listed>,
}

impl Tables {
    /// Tables that match nothing.
    pub fn empty() -> Self {
        Self::zeroed(|table| {
            usize::from(matches!(table, Table::Rows | Table::Classes | Table::Summaries | Table::Blocks))
        })
    }

    /// Tables of zeros, each of so many elements.
    pub fn zeroed(length: impl Fn(Table) -> usize) -> Self {
        fn zeros<T: Zeroable>(length: usize) -> Vec<T> {
            bytemuck::zeroed_vec(length)
        }
        Self {
            control: Control::zeroed(),
            values: bytemuck::zeroed_box(),
            rows: zeros(length(Table::Rows)),
            nodes: zeros(length(Table::Nodes)),
            skips: zeros(length(Table::Skips)),
            classes: zeros(length(Table::Classes)),
            summaries: zeros(length(Table::Summaries)),
            blocks: zeros(length(Table::Blocks)),
            slots: zeros(length(Table::Slots)),
            endpoints: zeros(length(Table::Endpoints)),
            filters: zeros(length(Table::Filters)),
            endpoint_names: zeros(length(Table::EndpointNames)),
            hooks: zeros(length(Table::Hooks)),
            listed: zeros(length(Table::Listed)),
        }
    }

    /// The content of a table, element after element.
    pub fn bytes(&self, table: Table) -> &[u8] {
        fn bytes<T: Pod>(elements: &[T]) -> &[u8] {
            bytemuck::cast_slice(elements)
        }
        match table {
            Table::Blocks => bytes(&self.blocks),
            Table::Classes => bytes(&self.classes),
            Table::Summaries => bytes(&self.summaries),
            Table::Nodes => bytes(&self.nodes),
            Table::Skips => bytes(&self.skips),
            Table::Slots => bytes(&self.slots),
            Table::Rows => bytes(&self.rows),
            Table::Filters => bytes(&self.filters),
            Table::EndpointNames => bytes(&self.endpoint_names),
            Table::Hooks => bytes(&self.hooks),
            Table::Listed => bytes(&self.listed),
            Table::Endpoints => bytes(&self.endpoints),
            Table::Values => bytes(std::slice::from_ref(&*self.values)),
            Table::Control => bytes(std::slice::from_ref(&self.control)),
        }
    }

    /// The same, to be changed.
    pub fn bytes_mut(&mut self, table: Table) -> &mut [u8] {
        fn bytes<T: Pod>(elements: &mut [T]) -> &mut [u8] {
            bytemuck::cast_slice_mut(elements)
        }
        match table {
            Table::Blocks => bytes(&mut self.blocks),
            Table::Classes => bytes(&mut self.classes),
            Table::Summaries => bytes(&mut self.summaries),
            Table::Nodes => bytes(&mut self.nodes),
            Table::Skips => bytes(&mut self.skips),
            Table::Slots => bytes(&mut self.slots),
            Table::Rows => bytes(&mut self.rows),
            Table::Filters => bytes(&mut self.filters),
            Table::EndpointNames => bytes(&mut self.endpoint_names),
            Table::Hooks => bytes(&mut self.hooks),
            Table::Listed => bytes(&mut self.listed),
            Table::Endpoints => bytes(&mut self.endpoints),
            Table::Values => bytes(std::slice::from_mut(&mut *self.values)),
            Table::Control => bytes(std::slice::from_mut(&mut self.control)),
        }
    }

    /// Stores bytes at an offset of a table.
    ///
    /// # Panics
    /// The table is shorter.
    pub fn store(&mut self, table: Table, offset: usize, bytes: &[u8]) {
        self.bytes_mut(table)[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    /// Elements of a table.
    pub fn len(&self, table: Table) -> usize {
        self.bytes(table).len() / table.element_bytes()
    }

    /// Elements of all tables.
    pub fn elements(&self) -> usize {
        Table::ALL.iter().map(|&table| self.len(table)).sum()
    }

    /// Which copy does not count.
    pub fn idle(&self) -> usize {
        (self.control.epoch as usize + 1) & 1
    }

    /// The same, with each idle copy the same as the one that counts.
    #[must_use]
    pub fn with_idle_copies(&self) -> Self {
        let mut tables = self.clone();
        let (idle, live) = (self.idle(), 1 - self.idle());
        tables.control.view[idle] = self.control.view[live];
        tables.slots.iter_mut().for_each(|slot| slot.action[idle] = slot.action[live]);
        tables.endpoints.iter_mut().for_each(|pair| pair[idle] = pair[live]);
        tables
    }

    /// Whether these are the tables `live` with that epoch, as far as a packet can see: the ends of larger maps are zeros,
    /// and the control block also says whose they are.
    pub fn are(&self, live: &Self, epoch: u32) -> bool {
        let mut others = Table::ALL.into_iter().filter(|table| *table != Table::Control);
        (epoch, &self.control.view) == (live.control.epoch, &live.control.view)
            && others.all(|table| extends(self.bytes(table), live.bytes(table)))
    }

    /// Whether each table is as long as the other's.
    pub fn is_as_long(&self, other: &Self) -> bool {
        Table::ALL.into_iter().all(|table| self.len(table) == other.len(table))
    }

    /// Whether nothing but idle copies differs from the live tables, and those not from the ones that count there.
    pub fn is_settled(&self, live: &Self) -> bool {
        let twice = [Table::Control, Table::Slots, Table::Endpoints];
        let once = Table::ALL.into_iter().filter(|table| !twice.contains(table));
        let parity = 1 - live.idle();
        once.into_iter().all(|table| self.bytes(table) == live.bytes(table))
            && self.control.view.iter().all(|view| *view == live.control.view[parity])
            && self.slots.len() == live.slots.len()
            && self.endpoints.len() == live.endpoints.len()
            && self
                .slots
                .iter()
                .zip(&live.slots)
                .all(|(slot, live)| *slot == Slot { action: [live.action[parity]; 2], ..*live })
            && self.endpoints.iter().zip(&live.endpoints).all(|(pair, live)| *pair == [live[parity]; 2])
    }

    /// The copy that counts.
    pub fn view(&self) -> &View {
        &self.control.view[self.control.epoch as usize & 1]
    }
}

impl PartialEq for Tables {
    fn eq(&self, other: &Self) -> bool {
        Table::ALL.iter().all(|&table| self.bytes(table) == other.bytes(table))
    }
}

/// Whether the longer of two is the other and zeros.
fn extends(one: &[u8], other: &[u8]) -> bool {
    let (short, long) = if one.len() < other.len() { (one, other) } else { (other, one) };
    let (begin, rest) = long.split_at(short.len());
    // in pieces, each without a branch
    begin == short && rest.chunks(4096).all(|piece| piece.iter().fold(0, |bits, byte| bits | byte) == 0)
}

fn get<T>(table: &[T], id: u32) -> Option<&T> {
    table.get(id as usize)
}

impl classify::Tables for Tables {
    fn values(&self) -> Option<&Values> {
        Some(&self.values)
    }

    fn summary(&self, class: u32) -> Option<&u64> {
        get(&self.summaries, class)
    }

    fn class(&self, id: u32) -> Option<&Class> {
        get(&self.classes, id)
    }

    fn block(&self, id: u32) -> Option<&Block> {
        get(&self.blocks, id)
    }

    fn node(&self, id: u32) -> Option<&Node> {
        get(&self.nodes, id)
    }

    fn skip(&self, id: u32) -> Option<&Skip> {
        get(&self.skips, id)
    }

    fn row(&self, id: u32) -> Option<&Row> {
        get(&self.rows, id)
    }
}

/// What the maps hold at the moment, elements that are not in use included.
#[derive(Clone, PartialEq)]
pub struct Live {
    /// Number of the maps' generation.
    pub generation: u32,
    /// Their content; each table is as long as its map.
    pub tables: Tables,
}

/// The names in a table, by index.
pub fn names(table: &[Name]) -> impl Iterator<Item = (u32, &str)> {
    (0..).zip(table).filter_map(|(index, name)| Some((index, name.text()?)))
}

/// Names that stand in both tables: (index there, index here).
pub fn same_names(there: &[Name], here: &[Name]) -> Vec<(u32, u32)> {
    let there: BTreeMap<&str, u32> = names(there).map(|(index, name)| (name, index)).collect();
    names(here).filter_map(|(here, name)| Some((*there.get(name)?, here))).collect()
}
