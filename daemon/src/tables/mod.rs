//! The tables as the maps hold them: the output of `compile`, one side of a diff. Pure data; must
//! not know the kernel.

mod paged;
mod pages;
mod search;
mod table;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytemuck::{Pod, Zeroable};
use paged::Paged;
use traffic_mirror_ebpf::abi::{
    Bank, Block, CgroupText, Class, Control, EndpointPair, Hook, Listed, Name, NameText, Node, Row,
    Skip, Slot, Values,
};

pub use paged::Content;
pub use pages::Pages;
pub use table::Table;

/// The content of all tables. A copy shares what stays the same.
#[derive(Clone)]
pub struct Tables {
    /// `CONTROL`.
    pub control: Control,
    /// `VALUES`.
    pub values: Arc<Values>,
    /// `ROWS`.
    pub rows: Pages<Row>,
    /// `NODES`.
    pub nodes: Pages<Node>,
    /// `SKIPS`.
    pub skips: Pages<Skip>,
    /// `CLASSES`; the first is the empty set.
    pub classes: Pages<Class>,
    /// `SUMMARIES`: one for each class.
    pub summaries: Pages<u64>,
    /// `BLOCKS`; the first is the empty one.
    pub blocks: Pages<Block>,
    /// `SLOTS`.
    pub slots: Pages<Slot>,
    /// `ENDPOINTS`.
    pub endpoints: Pages<EndpointPair>,
    /// `FILTERS`: the names of the filters.
    pub filters: Pages<Name>,
    /// `ENDPOINT_NAMES`.
    pub endpoint_names: Pages<Name>,
    /// `HOOKS`.
    pub hooks: Pages<Hook>,
    /// `LISTED`: the interface entries of the file.
    pub listed: Pages<Listed>,
    /// `NAME_TEXTS`: the server names of the filters.
    pub name_texts: Pages<NameText>,
    /// `NAMES`: the [`NameCell`](traffic_mirror_ebpf::abi::NameCell)s of their classes.
    pub names: Pages<u64>,
    /// `CGROUP_TEXTS`: the cgroups of the filters.
    pub cgroup_texts: Pages<CgroupText>,
    /// `CGROUPS`: the cells of their classes.
    pub cgroups: Pages<u64>,
}

impl Tables {
    /// Tables that match nothing.
    pub fn empty() -> Self {
        Self::zeroed(|table| {
            usize::from(matches!(
                table,
                Table::Rows | Table::Classes | Table::Summaries | Table::Blocks
            ))
        })
    }

    /// Tables of zeros with the given numbers of elements.
    pub fn zeroed(length: impl Fn(Table) -> usize) -> Self {
        Self {
            control: Control::zeroed(),
            values: bytemuck::zeroed_box::<Values>().into(),
            rows: Pages::zeroed(length(Table::Rows)),
            nodes: Pages::zeroed(length(Table::Nodes)),
            skips: Pages::zeroed(length(Table::Skips)),
            classes: Pages::zeroed(length(Table::Classes)),
            summaries: Pages::zeroed(length(Table::Summaries)),
            blocks: Pages::zeroed(length(Table::Blocks)),
            slots: Pages::zeroed(length(Table::Slots)),
            endpoints: Pages::zeroed(length(Table::Endpoints)),
            filters: Pages::zeroed(length(Table::Filters)),
            endpoint_names: Pages::zeroed(length(Table::EndpointNames)),
            hooks: Pages::zeroed(length(Table::Hooks)),
            listed: Pages::zeroed(length(Table::Listed)),
            name_texts: Pages::zeroed(length(Table::NameTexts)),
            names: Pages::zeroed(length(Table::Names)),
            cgroup_texts: Pages::zeroed(length(Table::CgroupTexts)),
            cgroups: Pages::zeroed(length(Table::Cgroups)),
        }
    }

    /// Copies of tables from elsewhere, one after the other. Parts that equal those in `known` are
    /// shared with it.
    ///
    /// # Errors
    /// `content` fails, or a table cannot be read.
    pub fn copy<C: Content>(
        known: Option<&Self>,
        mut content: impl FnMut(Table) -> Result<C, C::Error>,
    ) -> Result<Self, C::Error> {
        fn copy<T: Pod, C: Content>(
            content: &C,
            known: Option<&Pages<T>>,
        ) -> Result<Pages<T>, C::Error> {
            Pages::read(content.bytes() / size_of::<T>(), known, |offset, to| {
                content.read(offset, to)
            })
        }
        let mut control = Control::zeroed();
        content(Table::Control)?.read(0, bytemuck::bytes_of_mut(&mut control))?;
        let mut values: Box<Values> = bytemuck::zeroed_box();
        content(Table::Values)?.read(0, bytemuck::bytes_of_mut(&mut *values))?;
        let known_values = known
            .filter(|known| bytemuck::bytes_of(&*known.values) == bytemuck::bytes_of(&*values));
        Ok(Self {
            control,
            values: known_values.map_or_else(|| values.into(), |known| known.values.clone()),
            rows: copy(&content(Table::Rows)?, known.map(|known| &known.rows))?,
            nodes: copy(&content(Table::Nodes)?, known.map(|known| &known.nodes))?,
            skips: copy(&content(Table::Skips)?, known.map(|known| &known.skips))?,
            classes: copy(&content(Table::Classes)?, known.map(|known| &known.classes))?,
            summaries: copy(
                &content(Table::Summaries)?,
                known.map(|known| &known.summaries),
            )?,
            blocks: copy(&content(Table::Blocks)?, known.map(|known| &known.blocks))?,
            slots: copy(&content(Table::Slots)?, known.map(|known| &known.slots))?,
            endpoints: copy(
                &content(Table::Endpoints)?,
                known.map(|known| &known.endpoints),
            )?,
            filters: copy(&content(Table::Filters)?, known.map(|known| &known.filters))?,
            endpoint_names: copy(
                &content(Table::EndpointNames)?,
                known.map(|known| &known.endpoint_names),
            )?,
            hooks: copy(&content(Table::Hooks)?, known.map(|known| &known.hooks))?,
            listed: copy(&content(Table::Listed)?, known.map(|known| &known.listed))?,
            name_texts: copy(
                &content(Table::NameTexts)?,
                known.map(|known| &known.name_texts),
            )?,
            names: copy(&content(Table::Names)?, known.map(|known| &known.names))?,
            cgroup_texts: copy(
                &content(Table::CgroupTexts)?,
                known.map(|known| &known.cgroup_texts),
            )?,
            cgroups: copy(&content(Table::Cgroups)?, known.map(|known| &known.cgroups))?,
        })
    }

    fn table(&self, table: Table) -> &dyn Paged {
        match table {
            Table::Blocks => &self.blocks,
            Table::Classes => &self.classes,
            Table::Summaries => &self.summaries,
            Table::Nodes => &self.nodes,
            Table::Skips => &self.skips,
            Table::Slots => &self.slots,
            Table::Rows => &self.rows,
            Table::Filters => &self.filters,
            Table::EndpointNames => &self.endpoint_names,
            Table::Hooks => &self.hooks,
            Table::Listed => &self.listed,
            Table::NameTexts => &self.name_texts,
            Table::Names => &self.names,
            Table::CgroupTexts => &self.cgroup_texts,
            Table::Cgroups => &self.cgroups,
            Table::Endpoints => &self.endpoints,
            Table::Values => &self.values,
            Table::Control => &self.control,
        }
    }

    fn table_mut(&mut self, table: Table) -> &mut dyn Paged {
        match table {
            Table::Blocks => &mut self.blocks,
            Table::Classes => &mut self.classes,
            Table::Summaries => &mut self.summaries,
            Table::Nodes => &mut self.nodes,
            Table::Skips => &mut self.skips,
            Table::Slots => &mut self.slots,
            Table::Rows => &mut self.rows,
            Table::Filters => &mut self.filters,
            Table::EndpointNames => &mut self.endpoint_names,
            Table::Hooks => &mut self.hooks,
            Table::Listed => &mut self.listed,
            Table::NameTexts => &mut self.name_texts,
            Table::Names => &mut self.names,
            Table::CgroupTexts => &mut self.cgroup_texts,
            Table::Cgroups => &mut self.cgroups,
            Table::Endpoints => &mut self.endpoints,
            Table::Values => &mut self.values,
            Table::Control => &mut self.control,
        }
    }

    /// The content of a table, in order: pieces of whole elements, each with its offset in bytes.
    pub fn pieces(&self, table: Table) -> impl Iterator<Item = (usize, &[u8])> {
        let table = self.table(table);
        let pages = (0..).map(move |number| (number * table.page_bytes(), table.page(number)));
        pages.take_while(|(_, piece)| !piece.is_empty())
    }

    /// The pieces of a table that differ from those of another: each with its offset, and what the
    /// other has there, which may be shorter.
    pub fn differing<'t>(
        &'t self,
        other: &'t Self,
        table: Table,
    ) -> impl Iterator<Item = (usize, &'t [u8], &'t [u8])> {
        let other = other.table(table);
        let pieces = self
            .pieces(table)
            .enumerate()
            .map(|(number, (offset, here))| (offset, here, other.page(number)));
        pieces.filter(|(_, here, there)| !are_same(here, there))
    }

    /// Whether a table has the same elements as that of another.
    pub fn has_same(&self, other: &Self, table: Table) -> bool {
        self.len(table) == other.len(table) && self.differing(other, table).next().is_none()
    }

    /// Stores bytes at an offset of a table.
    ///
    /// # Panics
    /// The table is shorter.
    pub fn store(&mut self, table: Table, offset: usize, bytes: &[u8]) {
        self.table_mut(table).store(offset, bytes);
    }

    /// Elements of a table.
    pub fn len(&self, table: Table) -> usize {
        self.table(table).elements()
    }

    /// Elements of all tables.
    pub fn elements(&self) -> usize {
        Table::ALL.iter().map(|&table| self.len(table)).sum()
    }

    /// Bytes of the tables that grow with the filters.
    pub fn filter_bytes(&self) -> usize {
        let grow = [
            Table::Blocks,
            Table::Classes,
            Table::Summaries,
            Table::Nodes,
            Table::Skips,
        ];
        grow.into_iter()
            .map(|table| self.len(table) * table.element_bytes())
            .sum()
    }

    /// Which copy does not count.
    pub fn inactive(&self) -> usize {
        (self.control.epoch as usize + 1) & 1
    }

    /// The same, with each inactive copy the same as the one that counts.
    #[must_use]
    pub fn with_idle_copies(&self) -> Self {
        let mut tables = self.clone();
        let (inactive, live) = (self.inactive(), 1 - self.inactive());
        tables.control.banks[inactive] = self.control.banks[live];
        for (number, slot) in self.slots.iter().enumerate() {
            if slot.action[inactive] != slot.action[live] {
                tables.slots[number].action[inactive] = slot.action[live];
            }
        }
        for (number, pair) in self.endpoints.iter().enumerate() {
            tables.endpoints.set(number, [pair[live]; 2]);
        }
        tables
    }

    /// Whether these are the tables `live` with that epoch, as far as a packet can see: the ends of
    /// larger maps are zeros, and the control block also holds the owner's mark.
    pub fn are(&self, live: &Self, epoch: u32) -> bool {
        let mut others = Table::ALL
            .into_iter()
            .filter(|table| *table != Table::Control);
        (epoch, &self.control.banks) == (live.control.epoch, &live.control.banks)
            && others.all(|table| self.extends(live, table) && live.extends(self, table))
    }

    /// Whether a table has what another one has, and zeros behind that.
    fn extends(&self, other: &Self, table: Table) -> bool {
        self.differing(other, table).all(|(_, here, there)| {
            let (same, rest) = here.split_at(there.len().min(here.len()));
            same == &there[..same.len()] && rest.iter().all(|byte| *byte == 0)
        })
    }

    /// Whether each table is as long as the other's.
    pub fn is_as_long(&self, other: &Self) -> bool {
        Table::ALL
            .into_iter()
            .all(|table| self.len(table) == other.len(table))
    }

    /// Whether nothing but inactive copies differs from the live tables, and those not from the
    /// ones that count there.
    pub fn is_settled(&self, live: &Self) -> bool {
        let twice = [Table::Control, Table::Slots, Table::Endpoints];
        let once = Table::ALL
            .into_iter()
            .filter(|table| !twice.contains(table));
        let bank = 1 - live.inactive();
        once.into_iter().all(|table| self.has_same(live, table))
            && self
                .control
                .banks
                .iter()
                .all(|active| *active == live.control.banks[bank])
            && self.slots.len() == live.slots.len()
            && self.endpoints.len() == live.endpoints.len()
            && self
                .slots
                .iter()
                .zip(live.slots.iter())
                .all(|(slot, live)| {
                    *slot
                        == Slot {
                            action: [live.action[bank]; 2],
                            ..*live
                        }
                })
            && self
                .endpoints
                .iter()
                .zip(live.endpoints.iter())
                .all(|(pair, live)| *pair == [live[bank]; 2])
    }

    /// The copy that counts.
    pub fn active_bank(&self) -> &Bank {
        &self.control.banks[self.control.epoch as usize & 1]
    }
}

impl PartialEq for Tables {
    fn eq(&self, other: &Self) -> bool {
        Table::ALL.iter().all(|&table| self.has_same(other, table))
    }
}

/// Whether two pieces are equal; a shared one is not compared.
fn are_same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && (one.as_ptr() == other.as_ptr() || one == other)
}

/// What the maps hold at the moment, elements that are not in use included.
#[derive(Clone, PartialEq)]
pub struct Live {
    /// Number of the maps' generation.
    pub generation: u32,
    /// Their content; each table is as long as its map.
    pub tables: Tables,
}

/// The elements of a table, from their bytes.
#[expect(
    clippy::chunks_exact_to_as_chunks,
    reason = "the size of a type parameter is no constant"
)]
pub fn elements<T: bytemuck::AnyBitPattern>(bytes: &[u8]) -> impl Iterator<Item = T> {
    bytes
        .chunks_exact(size_of::<T>())
        .map(bytemuck::pod_read_unaligned)
}

/// The names in a table, by index.
pub fn names<'n>(
    table: impl IntoIterator<Item = &'n Name>,
) -> impl Iterator<Item = (u32, &'n str)> {
    (0..)
        .zip(table)
        .filter_map(|(index, name)| Some((index, name.text()?)))
}

/// Names that stand in both tables: (index there, index here).
pub fn same_names(there: &Pages<Name>, here: &Pages<Name>) -> Vec<(u32, u32)> {
    let there: BTreeMap<&str, u32> = names(there).map(|(index, name)| (name, index)).collect();
    names(here)
        .filter_map(|(here, name)| Some((*there.get(name)?, here)))
        .collect()
}
