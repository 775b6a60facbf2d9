//! Input: the status twice. Output: what came in between, per second.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::Status;

/// How much comes in a second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Rate {
    /// Packets.
    pub packets: f64,
    /// Bits.
    pub bits: f64,
    /// Packets that were not copied, all reasons; of filters none.
    pub drops: f64,
}

/// The values of counters.
type Counts = (u64, u64, u64);

impl Rate {
    /// Counters that are lower than before have restarted at zero.
    fn between(before: Option<&Counts>, after: Counts, elapsed: Duration) -> Self {
        let before = before.copied().unwrap_or(after);
        let per_second = |before: u64, after: u64| {
            let came = if after < before {
                after
            } else {
                after - before
            };
            came as f64 / elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
        };
        Self {
            packets: per_second(before.0, after.0),
            bits: per_second(before.1, after.1) * 8.0,
            drops: per_second(before.2, after.2),
        }
    }
}

impl Status {
    /// The same with rates, since an earlier one.
    #[must_use]
    pub fn with_rates(mut self, earlier: &Self, elapsed: Duration) -> Self {
        let filters: BTreeMap<&str, Counts> = earlier
            .filters
            .iter()
            .map(|filter| (&*filter.name, (filter.packets, filter.bytes, 0)))
            .collect();
        for filter in &mut self.filters {
            let after = (filter.packets, filter.bytes, 0);
            filter.rate = Some(Rate::between(filters.get(&*filter.name), after, elapsed));
        }
        let dropped = |drops: &BTreeMap<&str, u64>| drops.values().sum();
        let endpoints: BTreeMap<&str, Counts> = earlier
            .endpoints
            .iter()
            .map(|one| (&*one.name, (one.packets, one.bytes, dropped(&one.drops))))
            .collect();
        for endpoint in &mut self.endpoints {
            let after = (endpoint.packets, endpoint.bytes, dropped(&endpoint.drops));
            endpoint.rate = Some(Rate::between(
                endpoints.get(&*endpoint.name),
                after,
                elapsed,
            ));
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_per_second_and_never_negative() {
        let rate = |before, after| Rate::between(before, after, Duration::from_millis(500));
        let expected = Rate {
            packets: 20.0,
            bits: 8000.0,
            drops: 2.0,
        };
        assert_eq!(rate(Some(&(5, 500, 1)), (15, 1000, 2)), expected);
        assert_eq!(
            rate(None, (15, 1000, 2)),
            Rate::default(),
            "new: nobody knows when it came"
        );
        assert_eq!(
            rate(Some(&(50, 5000, 9)), (10, 500, 1)),
            expected,
            "counters began anew"
        );
    }
}
