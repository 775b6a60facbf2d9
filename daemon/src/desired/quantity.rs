//! A whole number and a unit, such as "500Mbit".

use crate::diagnostic::Remedy;

/// The parts of the text.
pub(super) struct Quantity<T> {
    pub(super) number: u64,
    /// As the table of units has it.
    pub(super) unit: &'static str,
    /// The factor of the unit.
    pub(super) value: T,
}

/// The units of a key.
pub(super) struct Units<T: 'static> {
    /// Name and factor, the smallest first.
    pub(super) names: &'static [(&'static str, T)],
    /// The first of those that follow each other by [`Self::step`].
    pub(super) smallest: usize,
    pub(super) step: u32,
    /// What else units are called, and how many of a unit that is.
    pub(super) aliases: &'static [(&'static str, (u32, &'static str))],
}

/// Reads a quantity in one of these units. The error is what to write instead, where that is clear:
/// a unit may have been written in other letters, by another name or with a space before it, or the
/// number with a fraction.
pub(super) fn quantity<T: Copy>(
    text: &str,
    units: &Units<T>,
) -> Result<Quantity<T>, Option<Remedy>> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let found = units.names.iter().find(|(name, _)| *name == unit);
    match (number.parse(), found) {
        (Ok(number), Some(&(unit, value))) => Ok(Quantity {
            number,
            unit,
            value,
        }),
        _ => Err(units.repair(text).map(Remedy::write_string)),
    }
}

impl<T> Units<T> {
    fn repair(&self, text: &str) -> Option<String> {
        let text = text.trim();
        let is_number = |c: char| c.is_ascii_digit() || c == '.';
        let end = text.find(|c| !is_number(c)).unwrap_or(text.len());
        let (count, index) = self.find(text[end..].trim())?;
        let (mut number, mut index) = (text[..end].parse::<f64>().ok()? * f64::from(count), index);
        // a fraction is a whole number of a smaller unit
        while (number - number.round()).abs() > 1e-6 {
            if index <= self.smallest {
                return None;
            }
            (number, index) = (number * f64::from(self.step), index - 1);
        }
        const MOST: f64 = 1e15;
        (1.0..MOST)
            .contains(&number)
            .then(|| format!("{}{}", number.round() as u64, self.names[index].0))
    }

    /// How many of which unit that is; letters count before their case is ignored, since "MB" are
    /// bytes and "Mb" are bits.
    fn find(&self, unit: &str) -> Option<(u32, usize)> {
        let index = |name: &str| self.names.iter().position(|(known, _)| *known == name);
        let by = |is: fn(&str, &str) -> bool| {
            let known = self.names.iter().position(|(name, _)| is(name, unit));
            known.map(|index| (1, index)).or_else(|| {
                let (_, (count, name)) = self.aliases.iter().find(|(alias, _)| is(alias, unit))?;
                Some((*count, index(name)?))
            })
        };
        by(|a, b| a == b).or_else(|| by(str::eq_ignore_ascii_case))
    }
}
