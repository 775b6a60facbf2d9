//! Holds attached programs where the file wants them among those of others.

use std::collections::{BTreeMap, BTreeSet};

use crate::compile::Compiled;
use crate::desired::Order;
use crate::kernel::Kernel;
use crate::kernel::attach::Attachments;
use crate::kernel::attach::relocate::Relocation;
use crate::kernel::attachment::{Attachment, Mechanism, Role, catchers, mirror_of, watchers, word};
use crate::kernel::error::KernelError;
use crate::kernel::generation::Generation;
use crate::kernel::pins::{make_dir, names, remove_dir};
use crate::network::Direction;

/// What came of looking at the places.
#[derive(Debug, Default)]
pub(in crate::kernel) struct Ordered {
    /// What another process had changed, a line each.
    pub(in crate::kernel) repaired: Vec<String>,
    /// What cannot be as it is wanted, a line each.
    pub(in crate::kernel) obstacles: Vec<String>,
    /// Output interfaces where another program may have run before `encap` and not passed copies on
    /// to it.
    pub(in crate::kernel) rewired: BTreeSet<u32>,
}

impl Kernel {
    /// Moves attachments that are not at their positions. None is moved twice before
    /// [`Kernel::try_again`]: a process that wants the same position would otherwise keep the
    /// daemon busy.
    pub(in crate::kernel) fn put_in_order(
        &mut self,
        number: u32,
        want: &Compiled,
    ) -> Result<Ordered, KernelError> {
        let generation = Generation::open(&self.pin_path, number);
        let mirrors = want
            .hooks
            .values()
            .map(|hook| (mirror_of(hook), &hook.order, &*hook.name));
        let mut outputs = Vec::new();
        for attachment in catchers(number, want).chain(watchers(number, want)) {
            outputs.extend(
                self.netlink
                    .link(attachment.interface)?
                    .map(|link| (attachment, link.name)),
            );
        }
        let outputs = outputs
            .iter()
            .map(|(attachment, name)| (*attachment, &Order::First, &**name));
        let held = self.attachments.orders()?;
        let present = self.attachments.list()?;
        let mut ordered = Ordered::default();
        for (attachment, order, interface) in mirrors.chain(outputs) {
            if present.binary_search(&(attachment, self.mechanism)).is_ok() {
                let relocation = Relocation {
                    attachment,
                    mechanism: self.mechanism,
                    interface,
                    order,
                };
                let was_held = attachment.role != Role::Mirror
                    || held.get(&attachment).unwrap_or(&Order::Last) == order;
                self.put_one_in_order(&generation, &present, &relocation, was_held, &mut ordered)?;
            }
        }
        let wanted = want
            .hooks
            .values()
            .map(|hook| (mirror_of(hook), hook.order.clone()));
        self.attachments
            .note_orders(&wanted.filter(|(_, order)| *order != Order::Last).collect())?;
        Ok(ordered)
    }

    /// Moves one program, if it does not stand where it should. `was_held`: it has stood there.
    fn put_one_in_order(
        &mut self,
        generation: &Generation,
        present: &[(Attachment, Mechanism)],
        relocation: &Relocation<'_>,
        was_held: bool,
        ordered: &mut Ordered,
    ) -> Result<(), KernelError> {
        let &Relocation {
            attachment,
            mechanism,
            interface,
            order,
        } = relocation;
        let chain = self
            .attachments
            .chain(&mut self.netlink, present, attachment, mechanism)?;
        let ours = format!(
            "{} on the {} of {interface}",
            attachment.role.word(),
            word(attachment.direction)
        );
        ordered.obstacles.extend(chain.obstacle(order, &ours));
        if (attachment.role, attachment.direction) == (Role::Mirror, Direction::Ingress)
            && let Some(loss) = chain.loses_metadata()
            && self
                .netlink
                .link(attachment.interface)?
                .is_some_and(|link| link.has_xdp)
        {
            ordered.obstacles.push(format!(
                "{loss}, which runs after {ours}; set order = \"last\", or remove {interface} from the file"
            ));
        }
        if chain.ours().is_none() || chain.is_settled(order) {
            return Ok(());
        }
        if let Some(failure) = self.relocated.get(&attachment) {
            ordered.obstacles.extend(failure.clone());
            return Ok(());
        }
        let Self {
            attachments,
            netlink,
            before,
            ..
        } = self;
        let relocated = attachments.relocation(netlink, generation, relocation, before);
        match &relocated {
            Ok(()) if was_held => ordered
                .repaired
                .push(format!("{ours} was no longer {order}: moved it back")),
            Ok(()) => {}
            Err(error) => ordered.obstacles.push(error.to_string()),
        }
        if attachment.role.catches() && relocated.is_ok() {
            ordered.rewired.insert(attachment.interface);
        }
        self.relocated
            .insert(attachment, relocated.err().map(|error| error.to_string()));
        Ok(())
    }
}

/// Separates attachment and order in the name of a directory. bpffs allows no dots (`bpf_lookup`)
/// and no slashes in the rest.
const BETWEEN: char = '=';

impl Attachments {
    /// The orders that are to be held, of those that are not to be last: for `status` and the next
    /// daemon.
    ///
    /// # Errors
    /// The pins cannot be read.
    pub fn orders(&self) -> Result<BTreeMap<Attachment, Order>, KernelError> {
        let read = |name: String| {
            let (attachment, order) = name.split_once(BETWEEN)?;
            Some((
                Attachment::from_pin_name(attachment)?,
                Order::read(&decoded(order)?)?,
            ))
        };
        Ok(names(&self.orders)?.into_iter().filter_map(read).collect())
    }

    fn note_orders(&self, wanted: &BTreeMap<Attachment, Order>) -> Result<(), KernelError> {
        let name = |(attachment, order): (&Attachment, &Order)| {
            format!(
                "{}{BETWEEN}{}",
                attachment.pin_name(),
                encoded(&order.to_string())
            )
        };
        let wanted: BTreeSet<String> = wanted.iter().map(name).collect();
        let there: BTreeSet<String> = names(&self.orders)?.into_iter().collect();
        there
            .difference(&wanted)
            .try_for_each(|name| remove_dir(&self.orders.join(name)))?;
        wanted
            .difference(&there)
            .try_for_each(|name| make_dir(&self.orders.join(name)))
    }
}

fn encoded(order: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    order
        .bytes()
        .map(|byte| {
            if is_plain(byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02x}")
            }
        })
        .collect()
}

fn decoded(name: &str) -> Option<String> {
    let mut parts = name.split('%');
    let mut text = parts.next()?.to_owned();
    for part in parts {
        let (code, rest) = part.split_at_checked(2)?;
        text.push(char::from(u8::from_str_radix(code, 16).ok()?));
        text += rest;
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_can_be_decoded() {
        for order in ["first", "before policy", "after prog.o:[tc/%41]"] {
            assert_eq!(decoded(&encoded(order)).as_deref(), Some(order));
        }
        assert_eq!(encoded("after a.o:[x]"), "after%20a%2eo%3a%5bx%5d");
        assert_eq!(decoded("after%2"), None);
    }
}
