//! What a search reads: the daemon and the programs search with the same code.

use bytemuck::Pod;
use traffic_mirror_ebpf::abi::{Block, Class, Node, Row, Skip, Values};
use traffic_mirror_ebpf::classify;

use super::{Pages, Tables};

fn get<T: Pod>(table: &Pages<T>, id: u32) -> Option<&T> {
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
