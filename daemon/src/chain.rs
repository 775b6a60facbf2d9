//! Input: the programs on a hook, and the order that the file asks for. Output: whether our program
//! is at the right position, and which position that is. Pure.

use crate::desired::Order;

/// The programs on a hook, in the order in which they run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chain {
    /// With ours among them, if it is attached.
    pub programs: Vec<Entry>,
}

/// One program on a hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Number of the program; 0 for what is no BPF program.
    pub id: u32,
    /// Its names: of the filter and of the program. Empty if the kernel does not report any.
    pub names: Vec<String>,
    /// Priority of a clsact filter.
    pub priority: Option<u16>,
    /// Whether it is the one in question.
    pub is_ours: bool,
}

/// Where to go, by the places in [`Chain::programs`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// Before all others.
    First,
    /// Behind all others.
    Last,
    /// Before this one.
    Before(usize),
    /// Behind this one.
    After(usize),
}

/// Names of programs and filters of traffic-mirror, also of another daemon: they let every packet
/// pass, so that it does not matter which of them comes first, and none of them has to get before
/// another.
const OUR_PROGRAMS: [&str; 10] = [
    "mirror",
    "mirror_ingress",
    "mirror_egress",
    "encap",
    "segmenter",
    "icmp_errors",
    "icmp_errors_ip",
    "relocate_first",
    "relocate_second",
    "relocate_drain",
];

impl Entry {
    fn is_stranger(&self) -> bool {
        !self.is_ours
            && !self
                .names
                .iter()
                .any(|name| OUR_PROGRAMS.contains(&name.as_str()))
    }

    fn is_called(&self, name: &str) -> bool {
        !self.is_ours && self.names.iter().any(|there| there == name)
    }

    /// For people.
    pub fn label(&self) -> String {
        self.names
            .first()
            .cloned()
            .unwrap_or_else(|| format!("(program {})", self.id))
    }
}

impl Chain {
    /// Where ours stands.
    pub fn ours(&self) -> Option<usize> {
        self.programs.iter().position(|one| one.is_ours)
    }

    /// The program that an order names, if it is not there. The order is "last" until it is.
    pub fn awaited<'o>(&self, order: &'o Order) -> Option<&'o str> {
        order
            .name()
            .filter(|name| !self.programs.iter().any(|one| one.is_called(name)))
    }

    /// Whether ours stands where it should.
    pub fn holds(&self, order: &Order) -> bool {
        let Some(ours) = self.ours() else {
            return false;
        };
        let (before, behind) = (&self.programs[..ours], &self.programs[ours + 1..]);
        match order {
            Order::First => !before.iter().any(Entry::is_stranger),
            Order::Before(name) if self.awaited(order).is_none() => {
                !before.iter().any(|one| one.is_called(name))
            }
            Order::After(name) if self.awaited(order).is_none() => {
                !behind.iter().any(|one| one.is_called(name))
            }
            Order::Last | Order::Before(_) | Order::After(_) => {
                !behind.iter().any(Entry::is_stranger)
            }
        }
    }

    /// The loss of a program that runs after ours where XDP is attached: to copy a packet the
    /// kernel reallocates its head (`pskb_expand_head`), and metadata that XDP left there is lost
    /// (up to Linux 6.18).
    pub fn loses_metadata(&self) -> Option<String> {
        let ours = self.ours()?;
        let reader = self.programs[ours + 1..]
            .iter()
            .find(|one| one.is_stranger())?;
        Some(format!(
            "XDP metadata of copied packets does not reach {}",
            reader.label()
        ))
    }

    /// Where ours should go.
    pub fn position(&self, order: &Order) -> Position {
        let mut programs = self.programs.iter();
        let found = match order {
            Order::First => return Position::First,
            Order::Last => None,
            Order::Before(name) => programs
                .position(|one| one.is_called(name))
                .map(Position::Before),
            Order::After(name) => programs
                .rposition(|one| one.is_called(name))
                .map(Position::After),
        };
        found.unwrap_or(Position::Last)
    }

    /// Whether a program at a wrong position must move towards the beginning.
    pub fn is_earlier(&self, position: Position) -> bool {
        matches!(position, Position::First | Position::Before(_))
    }

    /// A priority that no filter has, for a position. `None` if the neighbours leave none.
    pub fn priority(&self, position: Position) -> Option<u16> {
        let strangers = self.programs.iter().filter(|one| one.is_stranger());
        let strangers: Vec<u16> = strangers.filter_map(|one| one.priority).collect();
        let is_free = |priority: &u16| {
            !self
                .programs
                .iter()
                .any(|one| one.priority == Some(*priority))
        };
        let of = |index: usize| self.programs.get(index).and_then(|one| one.priority);
        match position {
            Position::First => {
                let end = strangers.iter().min().map_or(u16::MAX, |least| *least);
                // with room before it, for programs that must run earlier
                let middle = EARLY.min(end / 2).max(1);
                (1..=middle)
                    .rev()
                    .chain(middle..end)
                    .filter(|&priority| priority < end)
                    .find(is_free)
            }
            Position::Last => {
                let most = strangers.iter().max().copied().unwrap_or_default();
                (LATE.max(most)..=u16::MAX)
                    .filter(|&priority| priority > most)
                    .find(is_free)
            }
            Position::Before(index) => (1..of(index)?).rev().find(is_free),
            Position::After(index) => (of(index)?.checked_add(1)?..=u16::MAX).find(is_free),
        }
    }

    /// Whether nothing can be done about where ours stands: it stands right, or no priority is left
    /// for it.
    pub fn is_settled(&self, order: &Order) -> bool {
        let is_clsact = self.programs.iter().any(|one| one.priority.is_some());
        self.holds(order) || (is_clsact && self.priority(self.position(order)).is_none())
    }

    /// Why an order does not hold, as a sentence for operators; `ours` is the subject, as in
    /// "mirror on the ingress of eth0".
    pub fn obstacle(&self, order: &Order, ours: &str) -> Option<String> {
        if let Some(name) = self.awaited(order) {
            let nameless = self
                .programs
                .iter()
                .any(|one| !one.is_ours && one.names.is_empty());
            let why = if nameless {
                "reading the names of the other programs takes CAP_SYS_ADMIN".to_owned()
            } else {
                format!("no program \"{name}\" is attached")
            };
            return Some(format!(
                "{ours}: order \"{order}\" is pending, {why}; it runs last until then"
            ));
        }
        let is_stuck = !self.holds(order) && self.is_settled(order);
        is_stuck.then(|| {
            format!(
                "{ours}: order \"{order}\" is impossible, the other filters leave no \
                     priority free; change their priorities, or \"order\""
            )
        })
    }

    /// The order that the chain now follows, as text: the requested one if it holds or cannot hold.
    pub fn order(&self, asked: &Order) -> String {
        match self.ours() {
            Some(_) if self.is_settled(asked) => asked.to_string(),
            Some(ours) if self.programs[ours + 1..].is_empty() => Order::Last.to_string(),
            Some(0) | None => Order::First.to_string(),
            Some(ours) => Order::After(self.programs[ours - 1].label()).to_string(),
        }
    }
}

/// Priority of a filter that is first, if others leave it.
const EARLY: u16 = 1000;
/// Priority of a filter that is last, if others leave it.
const LATE: u16 = 49_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(programs: &[(&str, u16)]) -> Chain {
        let entry = |&(name, priority): &(&str, u16)| Entry {
            id: 7,
            names: vec![name.to_owned()],
            priority: (priority > 0).then_some(priority),
            is_ours: name == "ours",
        };
        Chain {
            programs: programs.iter().map(entry).collect(),
        }
    }

    fn before(name: &str) -> Order {
        Order::Before(name.to_owned())
    }

    fn after(name: &str) -> Order {
        Order::After(name.to_owned())
    }

    #[test]
    fn where_ours_should_stand() {
        let there = chain(&[("a", 0), ("b", 0), ("ours", 0), ("c", 0), ("b", 0)]);
        for (order, holds, position) in [
            (Order::First, false, Position::First),
            (Order::Last, false, Position::Last),
            (before("a"), false, Position::Before(0)),
            (before("b"), false, Position::Before(1)),
            (before("c"), true, Position::Before(3)),
            (after("a"), true, Position::After(0)),
            (after("b"), false, Position::After(4)),
            (after("c"), false, Position::After(3)),
            (before("nobody"), false, Position::Last),
        ] {
            assert_eq!(
                (there.holds(&order), there.position(&order)),
                (holds, position),
                "{order}"
            );
        }
        assert_eq!(there.awaited(&before("nobody")), Some("nobody"));
        assert_eq!(there.awaited(&before("c")), None);
        assert!(!chain(&[("a", 0)]).holds(&Order::Last), "ours is not there");
    }

    #[test]
    fn our_own_are_no_strangers() {
        let there = chain(&[
            ("encap", 0),
            ("icmp_errors", 0),
            ("ours", 0),
            ("icmp_errors_ip", 0),
        ]);
        assert!(there.holds(&Order::First) && there.holds(&Order::Last));
        assert!(!there.holds(&before("encap")), "but one can be named");
    }

    #[test]
    fn priorities() {
        let there = chain(&[("a", 10), ("b", 11), ("ours", 49_000), ("c", 60_000)]);
        for (order, priority) in [
            (Order::First, Some(5)),
            (Order::Last, Some(60_001)),
            (before("a"), Some(9)),
            (before("b"), Some(9)),
            (after("a"), Some(12)),
            (after("c"), Some(60_001)),
        ] {
            assert_eq!(there.priority(there.position(&order)), priority, "{order}");
        }
        assert_eq!(Chain::default().priority(Position::First), Some(EARLY));
        assert_eq!(
            chain(&[("encap", 1000)]).priority(Position::First),
            Some(999)
        );
        assert_eq!(
            chain(&[("a", 3), ("encap", 1)]).priority(Position::First),
            Some(2)
        );
        assert_eq!(Chain::default().priority(Position::Last), Some(LATE));
        assert_eq!(
            chain(&[("encap", 49_000)]).priority(Position::Last),
            Some(LATE + 1)
        );
    }

    #[test]
    fn no_priority_is_left() {
        let there = chain(&[("a", 1), ("ours", 49_000), ("c", u16::MAX)]);
        for order in [Order::First, before("a"), Order::Last, after("c")] {
            assert_eq!(there.priority(there.position(&order)), None, "{order}");
            assert!(!there.holds(&order) && there.is_settled(&order));
            assert!(
                there
                    .obstacle(&order, "mirror")
                    .unwrap()
                    .contains("leave no priority")
            );
        }
        assert!(
            !chain(&[("ours", 0), ("a", 0)]).is_settled(&Order::Last),
            "TCX has places without end"
        );
        assert_eq!(
            there.order(&Order::First),
            "first",
            "it cannot be otherwise"
        );
    }

    #[test]
    fn what_is_there_has_a_name() {
        let there = chain(&[("a", 0), ("ours", 0), ("b", 0)]);
        let orders =
            [Order::First, Order::Last, after("a"), before("b")].map(|asked| there.order(&asked));
        assert_eq!(orders, ["after a", "after a", "after a", "before b"]);
        assert_eq!(chain(&[("a", 0), ("ours", 0)]).order(&Order::First), "last");
        assert_eq!(chain(&[("ours", 0), ("a", 0)]).order(&Order::Last), "first");
    }

    #[test]
    fn what_is_awaited_is_said() {
        let there = chain(&[("ours", 0)]);
        let said = there.obstacle(&before("policy"), "mirror").unwrap();
        assert!(
            said.ends_with("no program \"policy\" is attached; it runs last until then"),
            "{said}"
        );
        assert!(there.holds(&before("policy")), "as last");
    }
}
