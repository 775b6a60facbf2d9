//! What filters give of a field whose values lie in a hash table.

use bytemuck::Pod;
use traffic_mirror_ebpf::abi::{Bank, Field, NameKeys, Values};

use crate::compile::classifier::definition::Definition;
use crate::tables::{Pages, Tables};

/// A value, or a set of them, that a filter gives of such a field. What a term includes stands behind
/// it in ascending order, with nothing else between.
pub(in crate::compile) trait Term: Ord + Clone {
    /// As tables have it, for people and the next daemon; zeros are a free element.
    type Text: Pod;
    /// The field.
    const FIELD: Field;

    /// The terms of a definition, sorted, none included by another, and whether what is unknown
    /// matches; `None` if it does not give the field.
    fn given(definition: &Definition) -> Option<(&[Self], bool)>;
    /// Whether what matches the other one matches this one, too.
    fn includes(&self, other: &Self) -> bool;
    /// Whether it may include another one.
    fn is_open(&self) -> bool;
    /// Its keyed hash.
    fn hash(&self, keys: &NameKeys) -> u64;
    /// `None` if it has no room.
    fn to_text(&self) -> Option<Self::Text>;
    /// `None` if the element is free.
    fn of_text(text: &Self::Text) -> Option<Self>;
    /// The table with the texts.
    fn texts(tables: &Tables) -> &Pages<Self::Text>;
    /// The same.
    fn texts_mut(tables: &mut Tables) -> &mut Pages<Self::Text>;
    /// The hash table.
    fn cells(tables: &Tables) -> &Pages<u64>;
    /// The same.
    fn cells_mut(tables: &mut Tables) -> &mut Pages<u64>;
    /// Its cells, less one.
    fn mask(bank: &Bank) -> u64;
    /// The classes of a value that no filter has, and of one that cannot be known.
    fn rest(values: &Values) -> (u32, u32);
    /// The same.
    fn rest_mut(values: &mut Values) -> (&mut u32, &mut u32);
}
