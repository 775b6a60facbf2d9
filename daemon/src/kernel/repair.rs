//! Restores what another process has detached or written.

use std::collections::BTreeSet;
use std::fmt;

use traffic_mirror_ebpf::abi::{Control, Endpoint as EndpointRecord, EndpointPair, Interfaces};

use crate::compile::Compiled;
use crate::kernel::Kernel;
use crate::kernel::attachment::{Attachment, catchers, mirror_of, watchers, word};
use crate::kernel::error::KernelError;
use crate::kernel::failpoint::Step;
use crate::kernel::generation::Generation;
use crate::plan::Plan;
use crate::tables::{Table, elements};

impl Kernel {
    /// Restores what another process has changed.
    ///
    /// # Errors
    /// A map is missing or cannot be mapped.
    pub fn restore(&mut self, plan: &Plan) -> Result<(), KernelError> {
        let Some(number) = Generation::list(&self.pin_path)?.pop() else {
            return Ok(());
        };
        let live = Generation::open(&self.pin_path, number);
        // programs may run that have seen what was there
        self.is_switching = true;
        live.apply(&plan.writes, &mut || (self.before)(Step::Write))?;
        // unlike those of a reload, these writes were seen by packets
        live.forget_packets()?;
        if plan
            .writes
            .iter()
            .any(|write| matches!(write.table, Table::Endpoints | Table::Control))
        {
            // copies may have left where no `encap` is
            self.rewired = live.outputs()?;
        }
        Ok(())
    }

    /// Attachments that are wanted and have a pin, but are not in force; and each program that
    /// clones are sent to without even a pin. Detaches links that are elsewhere than their pins.
    pub(in crate::kernel) fn lost(
        &mut self,
        generation: Option<u32>,
        want: &Compiled,
    ) -> Result<Vec<Lost>, KernelError> {
        let mirrors = want.hooks.values().map(mirror_of);
        let caught = generation
            .into_iter()
            .flat_map(|number| catchers(number, want));
        let watched = generation
            .into_iter()
            .flat_map(|number| watchers(number, want));
        let wanted: BTreeSet<Attachment> = mirrors.chain(caught).chain(watched).collect();
        let mut lost = Vec::new();
        for (attachment, mechanism) in self.attachments.list()? {
            if self
                .attachments
                .is_attached(&mut self.netlink, attachment, mechanism)?
            {
                continue;
            }
            // an interface that has gone is an event of its own
            if wanted.contains(&attachment) {
                lost.extend(self.lost_at(attachment)?);
            }
            // a link may have moved with its interface, or returned under another index
            self.attachments.forget(attachment, mechanism)?;
        }
        let Some(generation) = generation else {
            return self.still_there(lost);
        };
        let present = self.attachments.list()?;
        let live = Generation::open(&self.pin_path, generation);
        let outputs = if live.is_sound() {
            live.outputs()?
        } else {
            BTreeSet::new()
        };
        let segmenter = want
            .segmenter
            .filter(|segmenter| outputs.contains(&segmenter.entrance))
            .map(|segmenter| segmenter.exit);
        for attachment in catchers(generation, want) {
            let interface = attachment.interface;
            let is_used = outputs.contains(&interface) || segmenter == Some(interface);
            let is_known = lost.iter().any(|lost| {
                lost.attachment.role == attachment.role && lost.attachment.interface == interface
            });
            let is_present = present.iter().any(|(there, _)| *there == attachment);
            let is_lost = is_used && !is_present && !is_known;
            if is_lost {
                lost.extend(self.lost_at(attachment)?);
            }
        }
        self.still_there(lost)
    }

    /// An interface that was deleted during the check has lost its programs by that, and not by
    /// another process. It is in no list any more by then (`unregister_netdevice_many_notify`).
    fn still_there(&mut self, mut lost: Vec<Lost>) -> Result<Vec<Lost>, KernelError> {
        if !lost.is_empty() {
            let links = self.netlink.links()?;
            lost.retain(|lost| links.contains_key(&lost.attachment.interface));
        }
        Ok(lost)
    }

    /// `None` if there is no such interface.
    fn lost_at(&mut self, attachment: Attachment) -> Result<Option<Lost>, KernelError> {
        let link = self.netlink.link(attachment.interface)?;
        Ok(link.map(|link| Lost {
            attachment,
            interface: link.name,
        }))
    }

    /// Notes that something was attached to an interface of that name. If it was in force before,
    /// another process has detached it since the last look.
    pub(in crate::kernel) fn note_attached(&mut self, attachment: Attachment, interface: &str) {
        if self.held.remove(&attachment) {
            self.again.push(Lost {
                attachment,
                interface: interface.to_owned(),
            });
        }
    }
}

impl Generation {
    /// Indices of the interfaces that clones are sent to: outputs, the segmenter's entrance, and
    /// sources without link headers.
    ///
    /// # Errors
    /// A map is missing or cannot be mapped.
    pub fn outputs(&self) -> Result<BTreeSet<u32>, KernelError> {
        let control: Control =
            bytemuck::pod_read_unaligned(&self.read(Table::Control)?[..size_of::<Control>()]);
        let endpoints = self.read(Table::Endpoints)?;
        let pairs = elements::<EndpointPair>(&endpoints);
        let live = pairs.map(|pair| pair[control.epoch as usize & 1]);
        let sent = live.filter(EndpointRecord::has_way);
        let ways = sent
            .flat_map(|endpoint| [endpoint.interface, endpoint.segmenter])
            .filter(|&index| index != 0);
        let mut outputs: BTreeSet<u32> = ways.collect();
        if !outputs.is_empty() {
            let cells = &control.banks[control.epoch as usize & 1].interfaces.cells;
            let sources = cells
                .iter()
                .filter(|cell| cell.place & Interfaces::NO_ETHERNET != 0);
            outputs.extend(sources.map(|cell| cell.interface));
        }
        Ok(outputs)
    }
}

/// An attachment that has a pin and is not in force.
pub(in crate::kernel) struct Lost {
    pub(in crate::kernel) attachment: Attachment,
    interface: String,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            attachment,
            interface,
        } = self;
        write!(
            f,
            "another process detached {} from the {} of {interface}: attached it again",
            attachment.role.word(),
            word(attachment.direction)
        )
    }
}
