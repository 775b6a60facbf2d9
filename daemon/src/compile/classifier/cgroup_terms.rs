//! Cgroups in their hash table.

use traffic_mirror_ebpf::abi::{Bank, CgroupText, Field, NameKeys, Values};
use traffic_mirror_ebpf::owner::cgroup_hash;

use crate::compile::classifier::cgroup_set::CgroupTerm;
use crate::compile::classifier::definition::Definition;
use crate::compile::classifier::term::Term;
use crate::tables::{Pages, Tables};

impl Term for CgroupTerm {
    type Text = CgroupText;
    const FIELD: Field = Field::Application;

    fn given(definition: &Definition) -> Option<(&[Self], bool)> {
        let set = definition.application.as_deref()?;
        Some((&set.cgroups, set.undecided))
    }

    fn includes(&self, other: &Self) -> bool {
        self.has(other)
    }

    fn is_open(&self) -> bool {
        true
    }

    fn hash(&self, keys: &NameKeys) -> u64 {
        cgroup_hash(self.ids.last().copied().unwrap_or_default(), &keys.flows)
    }

    fn to_text(&self) -> Option<CgroupText> {
        CgroupText::new(&self.ids, &self.path)
    }

    fn of_text(text: &CgroupText) -> Option<Self> {
        let ids = text.ids();
        (!ids.is_empty()).then(|| Self {
            ids: ids.to_vec(),
            path: text.path().unwrap_or_default().to_owned(),
        })
    }

    fn texts(tables: &Tables) -> &Pages<CgroupText> {
        &tables.cgroup_texts
    }

    fn texts_mut(tables: &mut Tables) -> &mut Pages<CgroupText> {
        &mut tables.cgroup_texts
    }

    fn cells(tables: &Tables) -> &Pages<u64> {
        &tables.cgroups
    }

    fn cells_mut(tables: &mut Tables) -> &mut Pages<u64> {
        &mut tables.cgroups
    }

    fn mask(bank: &Bank) -> u64 {
        bank.cgroups_mask
    }

    fn rest(values: &Values) -> (u32, u32) {
        (values.other_application, values.undecided_application)
    }

    fn rest_mut(values: &mut Values) -> (&mut u32, &mut u32) {
        (
            &mut values.other_application,
            &mut values.undecided_application,
        )
    }
}
