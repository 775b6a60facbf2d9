//! The tables as the maps hold them: the output of `compile`, one side of a diff. Pure data; must not know the kernel.

use std::collections::BTreeMap;

use bytemuck::{Pod, Zeroable};
use traffic_mirror_ebpf::abi::{
    Block, Class, Control, EndpointPair, FULL_BLOCK, Hook, Name, Node, Row, Skip, Slot, Values, View,
};
use traffic_mirror_ebpf::classify;

/// A table that the daemon writes: the name of its map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each is described at its element type in abi.rs")]
pub enum Table {
    Blocks,
    Classes,
    Nodes,
    Skips,
    Slots,
    Rows,
    Filters,
    EndpointNames,
    Hooks,
    Endpoints,
    Values,
    Control,
}

impl Table {
    /// All of them, each before those that point into it.
    pub const ALL: [Self; 12] = [
        Self::Blocks,
        Self::Classes,
        Self::Nodes,
        Self::Skips,
        Self::Slots,
        Self::Rows,
        Self::Filters,
        Self::EndpointNames,
        Self::Hooks,
        Self::Endpoints,
        Self::Values,
        Self::Control,
    ];

    /// Name of its map.
    pub const fn map_name(self) -> &'static str {
        match self {
            Self::Blocks => "BLOCKS",
            Self::Classes => "CLASSES",
            Self::Nodes => "NODES",
            Self::Skips => "SKIPS",
            Self::Slots => "SLOTS",
            Self::Rows => "ROWS",
            Self::Filters => "FILTERS",
            Self::EndpointNames => "ENDPOINT_NAMES",
            Self::Hooks => "HOOKS",
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
            Self::Nodes => size_of::<Node>(),
            Self::Skips => size_of::<Skip>(),
            Self::Slots => size_of::<Slot>(),
            Self::Rows => size_of::<Row>(),
            Self::Filters | Self::EndpointNames => size_of::<Name>(),
            Self::Hooks => size_of::<Hook>(),
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
    /// `BLOCKS`; the first has every bit set.
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
}

impl Tables {
    /// Tables that match nothing.
    pub fn empty() -> Self {
        Self {
            control: Control::zeroed(),
            values: bytemuck::zeroed_box(),
            rows: vec![Row::zeroed()],
            nodes: Vec::new(),
            skips: Vec::new(),
            classes: vec![Class::default()],
            blocks: vec![[!0; _]; FULL_BLOCK as usize + 1],
            slots: Vec::new(),
            endpoints: Vec::new(),
            filters: Vec::new(),
            endpoint_names: Vec::new(),
            hooks: Vec::new(),
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
            Table::Nodes => bytes(&self.nodes),
            Table::Skips => bytes(&self.skips),
            Table::Slots => bytes(&self.slots),
            Table::Rows => bytes(&self.rows),
            Table::Filters => bytes(&self.filters),
            Table::EndpointNames => bytes(&self.endpoint_names),
            Table::Hooks => bytes(&self.hooks),
            Table::Endpoints => bytes(&self.endpoints),
            Table::Values => bytes(std::slice::from_ref(&*self.values)),
            Table::Control => bytes(std::slice::from_ref(&self.control)),
        }
    }

    /// Elements of a table.
    pub fn len(&self, table: Table) -> usize {
        self.bytes(table).len() / table.element_bytes()
    }

    /// The copy that counts.
    pub fn view(&self) -> &View {
        &self.control.view[self.control.epoch as usize & 1]
    }
}

fn get<T>(table: &[T], id: u32) -> Option<&T> {
    table.get(id as usize)
}

impl classify::Tables for Tables {
    fn values(&self) -> Option<&Values> {
        Some(&self.values)
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
#[derive(Debug, Clone, Default)]
pub struct Live {
    /// Number of the maps' generation.
    pub generation: u32,
    /// By table.
    pub tables: BTreeMap<Table, Vec<u8>>,
}

impl Live {
    /// The live epoch.
    pub fn epoch(&self) -> u32 {
        let control = self.tables.get(&Table::Control).and_then(|bytes| bytes.first_chunk());
        control.map_or(0, |bytes| u32::from_ne_bytes(*bytes))
    }

    /// The names in a table, by index.
    pub fn names(bytes: &[u8]) -> impl Iterator<Item = (u32, Name)> {
        let elements = bytes.chunks_exact(size_of::<Name>()).map(bytemuck::pod_read_unaligned);
        (0..).zip(elements).filter(|(_, name): &(u32, Name)| name.text().is_some())
    }

    /// Names that stand both in a live table and in a wanted one: (index there, index here).
    pub fn same_names(live: &[u8], want: &[Name]) -> Vec<(u32, u32)> {
        let there: BTreeMap<[u8; size_of::<Name>()], u32> =
            Self::names(live).map(|(i, name)| (name.bytes, i)).collect();
        (0..).zip(want).filter_map(|(here, name)| Some((*there.get(&name.bytes)?, here))).collect()
    }
}
