//! Packets compared whatever their order. Pure.

use std::collections::HashMap;

/// What one collection has beyond another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Wanted, and not there.
    pub missing: Vec<Vec<u8>>,
    /// There, and not wanted; or there too often.
    pub surplus: Vec<Vec<u8>>,
}

impl Difference {
    /// Compares byte by byte. What occurs twice must be there twice.
    pub fn between<W: AsRef<[u8]>, H: AsRef<[u8]>>(want: &[W], have: &[H]) -> Self {
        let mut counts: HashMap<&[u8], usize> = HashMap::new();
        for packet in have {
            *counts.entry(packet.as_ref()).or_default() += 1;
        }
        let mut difference = Self::default();
        for packet in want {
            match counts.get_mut(packet.as_ref()) {
                Some(count @ 1..) => *count -= 1,
                _ => difference.missing.push(packet.as_ref().to_owned()),
            }
        }
        let left = counts
            .into_iter()
            .flat_map(|(packet, count)| std::iter::repeat_n(packet.to_owned(), count));
        difference.surplus.extend(left);
        difference.surplus.sort_unstable();
        difference
    }

    /// Whether both were the same.
    pub fn is_none(&self) -> bool {
        self.missing.is_empty() && self.surplus.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_and_what_is_too_much() {
        assert!(Difference::between(&["b", "a", "a"], &["a", "b", "a"]).is_none());
        let difference = Difference::between(&["a", "a", "b"], &["a", "c", "d", "d"]);
        let bytes = |texts: &[&str]| {
            texts
                .iter()
                .map(|text| text.as_bytes().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            difference,
            Difference {
                missing: bytes(&["a", "b"]),
                surplus: bytes(&["c", "d", "d"])
            }
        );
    }
}
