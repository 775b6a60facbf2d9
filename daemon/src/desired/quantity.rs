//! A whole number and a unit, such as "500Mbit".

/// The parts of the text.
pub(super) struct Quantity<T> {
    pub(super) number: u64,
    /// As the table of units has it.
    pub(super) unit: &'static str,
    /// The factor of the unit.
    pub(super) value: T,
}

/// Reads a quantity in one of these units. The error is what to write instead, where that is clear:
/// a unit may have been written in other letters, or with a space before it.
pub(super) fn quantity<T: Copy>(
    text: &str,
    units: &[(&'static str, T)],
) -> Result<Quantity<T>, Option<String>> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| None)?;
    if let Some(&(unit, value)) = units.iter().find(|(name, _)| *name == unit) {
        return Ok(Quantity {
            number,
            unit,
            value,
        });
    }
    let meant = units
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(unit.trim()));
    Err(meant.map(|(unit, _)| format!("write \"{number}{unit}\"")))
}
