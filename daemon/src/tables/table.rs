//! Which tables there are.

use traffic_mirror_ebpf::abi::{
    Block, CgroupText, Class, Control, EndpointPair, Hook, Listed, Name, NameCell, NameText, Node,
    Row, Skip, Slot, Values,
};

/// A table that the daemon writes: the name of its map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(
    missing_docs,
    reason = "each is described at its element type in abi.rs"
)]
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
    NameTexts,
    Names,
    CgroupTexts,
    Cgroups,
    Endpoints,
    Values,
    Control,
}

impl Table {
    /// All of them, each before those that point into it.
    pub const ALL: [Self; 18] = [
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
        Self::NameTexts,
        Self::Names,
        Self::CgroupTexts,
        Self::Cgroups,
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
            Self::NameTexts => "NAME_TEXTS",
            Self::Names => "NAMES",
            Self::CgroupTexts => "CGROUP_TEXTS",
            Self::Cgroups => "CGROUPS",
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
            Self::NameTexts => size_of::<NameText>(),
            Self::Names | Self::Cgroups => size_of::<NameCell>(),
            Self::CgroupTexts => size_of::<CgroupText>(),
            Self::Endpoints => size_of::<EndpointPair>(),
            Self::Values => size_of::<Values>(),
            Self::Control => size_of::<Control>(),
        }
    }
}
