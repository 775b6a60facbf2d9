//! VLANs and ranges of VLANs.

use std::ops::RangeInclusive;

use super::port::range;
use super::problem::Problem;
use crate::config::Item;
use crate::diagnostic::Code;

/// What stands for packets without a tag.
const NONE: &str = "none";

/// One element of `vlan`: a number, a range such as `"200-210"`, or `"none"`.
pub(super) fn vlans(item: &Item) -> Result<RangeInclusive<u16>, Problem> {
    let text = match item {
        Item::Number(number) => return number_of(*number).map(|vlan| vlan..=vlan),
        Item::Text(text) => text,
    };
    if text == NONE {
        return Ok(0..=0);
    }
    let parsed = |text: &str| text.parse::<i128>().map_err(|_| malformed());
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    range(number_of(parsed(first)?)?, number_of(parsed(last)?)?)
}

/// 802.1Q: 0 is no VLAN, and 4095 is reserved.
fn number_of(number: i128) -> Result<u16, Problem> {
    match number {
        1..=4094 => Ok(number as u16),
        0 => Err(Problem::new(
            Code::BadVlan,
            "but VLANs go from 1 to 4094",
            "write \"none\" for packets without a VLAN".to_owned(),
        )),
        _ => Err(Problem::new(
            Code::BadVlan,
            "but VLANs go from 1 to 4094",
            "write a number from 1 to 4094".to_owned(),
        )),
    }
}

fn malformed() -> Problem {
    Problem::new(
        Code::BadVlan,
        "which is not a VLAN or a range of VLANs",
        "write a number such as 100, a range such as \"200-210\", or \"none\"".to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vlans_and_ranges() {
        let text = |text: &str| vlans(&Item::Text(text.to_owned()));
        assert_eq!(vlans(&Item::Number(1)), Ok(1..=1));
        assert_eq!(text("4094"), Ok(4094..=4094));
        assert_eq!(text("200-210"), Ok(200..=210));
        assert_eq!(text("none"), Ok(0..=0));
        for wrong in ["", "-", "5-", "1-2-3", "any", "0", "4095", "0-5", "1-4095"] {
            assert_eq!(text(wrong).unwrap_err().code, Code::BadVlan, "{wrong}");
        }
        assert_eq!(text("9-2").unwrap_err().help, "write \"2-9\"");
        for wrong in [-1, 0, 4095, i128::MAX] {
            assert_eq!(
                vlans(&Item::Number(wrong)).unwrap_err().code,
                Code::BadVlan,
                "{wrong}"
            );
        }
    }
}
