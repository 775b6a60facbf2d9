//! Input: the live tables. Output: the addresses that copies go to by now, by the names of endpoints.

use crate::compile::describe::outer;
use crate::desired::Addresses;
use crate::tables::{Tables, names};

/// The addresses of the endpoints that have a way.
pub fn addresses(tables: &Tables) -> Addresses {
    let active = 1 - tables.inactive();
    let address = |(index, name): (u32, &str)| {
        let endpoint = &tables.endpoints.get(index as usize)?[active];
        endpoint
            .has_way()
            .then(|| (name.to_owned(), outer(endpoint).1))
    };
    names(&tables.endpoint_names).filter_map(address).collect()
}
