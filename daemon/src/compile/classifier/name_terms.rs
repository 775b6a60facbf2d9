//! Server names in their hash table.

use traffic_mirror_ebpf::abi::{Bank, Field, NameKeys, NameText, Values};
use traffic_mirror_ebpf::hello::name;

use crate::compile::classifier::definition::Definition;
use crate::compile::classifier::name_set::{is_included, is_wildcard, reversed, text};
use crate::compile::classifier::term::Term;
use crate::tables::{Pages, Tables};

/// A name, reversed.
impl Term for String {
    type Text = NameText;
    const FIELD: Field = Field::ServerName;

    fn given(definition: &Definition) -> Option<(&[Self], bool)> {
        let names = definition.server_name.as_deref()?;
        Some((&names.reversed, names.undecided))
    }

    fn includes(&self, other: &Self) -> bool {
        is_included(self, other)
    }

    fn is_open(&self) -> bool {
        is_wildcard(self)
    }

    fn hash(&self, keys: &NameKeys) -> u64 {
        name::pattern(&keys.names, text(self).as_bytes())
    }

    fn to_text(&self) -> Option<NameText> {
        NameText::new(&text(self))
    }

    fn of_text(text: &NameText) -> Option<Self> {
        text.text().map(reversed)
    }

    fn texts(tables: &Tables) -> &Pages<NameText> {
        &tables.name_texts
    }

    fn texts_mut(tables: &mut Tables) -> &mut Pages<NameText> {
        &mut tables.name_texts
    }

    fn cells(tables: &Tables) -> &Pages<u64> {
        &tables.names
    }

    fn cells_mut(tables: &mut Tables) -> &mut Pages<u64> {
        &mut tables.names
    }

    fn mask(bank: &Bank) -> u64 {
        bank.names_mask
    }

    fn rest(values: &Values) -> (u32, u32) {
        (values.other_name, values.undecided)
    }

    fn rest_mut(values: &mut Values) -> (&mut u32, &mut u32) {
        (&mut values.other_name, &mut values.undecided)
    }
}
