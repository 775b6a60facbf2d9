//! Parts of the addresses.

/// Ranges of addresses, sorted and apart.
#[derive(Debug)]
pub(in crate::compile) struct Regions(Vec<(u128, u128)>);

impl Regions {
    /// `ranges` have their first and last address each, in any order.
    pub(in crate::compile) fn new(mut ranges: Vec<(u128, u128)>) -> Self {
        ranges.sort_unstable();
        let mut apart: Vec<(u128, u128)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match apart
                .last_mut()
                .filter(|(_, end)| first <= end.saturating_add(1))
            {
                Some((_, end)) => *end = last.max(*end),
                None => apart.push((first, last)),
            }
        }
        Self(apart)
    }

    /// Whether any of these addresses is in one of the ranges.
    pub(in crate::compile) fn touch(&self, first: u128, last: u128) -> bool {
        let next = self.0.partition_point(|&(_, end)| end < first);
        self.0.get(next).is_some_and(|&(begin, _)| begin <= last)
    }

    /// Whether all of these addresses are.
    pub(in crate::compile) fn have(&self, first: u128, last: u128) -> bool {
        let next = self.0.partition_point(|&(_, end)| end < first);
        self.0
            .get(next)
            .is_some_and(|&(begin, end)| begin <= first && last <= end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_meet_are_one() {
        let regions = Regions::new(vec![
            (30, 39),
            (10, 19),
            (20, 25),
            (60, 70),
            (65, 66),
            (u128::MAX, u128::MAX),
        ]);
        assert_eq!(
            regions.0,
            [(10, 25), (30, 39), (60, 70), (u128::MAX, u128::MAX)]
        );
        assert!(
            regions.have(10, 25)
                && regions.have(12, 12)
                && !regions.have(10, 26)
                && !regions.have(26, 30)
        );
        assert!(
            regions.touch(0, 10)
                && regions.touch(25, 29)
                && !regions.touch(26, 29)
                && !regions.touch(71, 99)
        );
        assert!(regions.touch(0, u128::MAX) && !Regions::new(Vec::new()).touch(0, u128::MAX));
    }
}
