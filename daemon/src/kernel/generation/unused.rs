//! Functions that no packet of a generation gets to, since its maps have no room for what they
//! find. The object calls another function in their place, one that answers at once, so that aya
//! links none of what they call: it would be verified, compiled and kept for nothing.
//!
//! Input: an object as a file. Output: the same with other symbols in some relocations.

use ::object::LittleEndian;
use ::object::elf::{FileHeader64, SHT_REL, SHT_SYMTAB};
use ::object::read::elf::{FileHeader as _, SectionHeader as _, Sym as _};

/// Symbol of the function that answers at once.
pub(super) const ANSWERS_AT_ONCE: &str = "undecided";
/// Those that look for server names.
pub(super) const OF_NAMES: [&str; 2] = ["server_name", "server_name_of_quic"];
/// Those that look for applications.
pub(super) const OF_APPLICATIONS: [&str; 1] = ["application"];

type Elf = FileHeader64<LittleEndian>;

/// Has an object call [`ANSWERS_AT_ONCE`] in place of functions.
///
/// # Errors
/// It is no object for this machine, or lacks one of the functions.
pub(super) fn leave_out(object: &mut [u64], functions: &[&str]) -> Result<(), String> {
    let words =
        calls(bytemuck::cast_slice(object), functions).map_err(|error| error.to_string())?;
    let (words, by) = words.ok_or_else(|| format!("it lacks a function of {functions:?}"))?;
    for at in words {
        let word = object.get_mut(at).ok_or("a relocation is beyond its end")?;
        *word = *word & u64::from(u32::MAX) | by << SYMBOL_SHIFT;
    }
    Ok(())
}

/// Where the number of the symbol is in the second word of a relocation.
const SYMBOL_SHIFT: u32 = 32;

/// The words of the object that say which function is called, and what they are to say; `None` if
/// it lacks a function.
fn calls(file: &[u8], functions: &[&str]) -> ::object::Result<Option<(Vec<usize>, u64)>> {
    const WORD: u64 = size_of::<u64>() as u64;
    let endian = LittleEndian;
    let sections = Elf::parse(file)?.sections(endian, file)?;
    let symbols = sections.symbols(endian, file, SHT_SYMTAB)?;
    let number = |name: &str| {
        symbols
            .enumerate()
            .find(|(_, symbol)| symbol.name(endian, symbols.strings()) == Ok(name.as_bytes()))
            .map(|(index, _)| index.0 as u64)
    };
    let called: Option<Vec<u64>> = functions.iter().map(|name| number(name)).collect();
    let (Some(called), Some(by)) = (called, number(ANSWERS_AT_ONCE)) else {
        return Ok(None);
    };
    let mut words = Vec::new();
    for section in sections.iter() {
        if section.sh_type(endian) != SHT_REL {
            continue;
        }
        let Some((relocations, _)) = section.rel(endian, file)? else {
            continue;
        };
        let first = section.sh_offset(endian) / WORD;
        let those = (first..).step_by(2).zip(relocations);
        let those =
            those.filter(|(_, entry)| called.contains(&(entry.r_info.get(endian) >> SYMBOL_SHIFT)));
        words.extend(those.map(|(at, _)| at as usize + 1));
    }
    Ok(Some((words, by)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::features::memory::memory;
    use crate::kernel::object::OBJECT;

    #[test]
    fn another_function_is_called() -> Result<(), String> {
        let before = memory().object(OBJECT);
        for functions in [&OF_NAMES[..], &OF_APPLICATIONS] {
            let mut object = before.clone();
            leave_out(&mut object, functions)?;
            let changed = object
                .iter()
                .zip(&before)
                .filter(|(one, other)| one != other)
                .count();
            assert!(changed >= functions.len(), "{functions:?}: {changed}");
            let left = calls(bytemuck::cast_slice(&object), functions)
                .map_err(|error| error.to_string())?;
            assert_eq!(
                left.map(|(words, _)| words),
                Some(Vec::new()),
                "{functions:?}"
            );
        }
        Ok(())
    }

    #[test]
    fn what_is_not_there_is_told() {
        let mut object = memory().object(OBJECT);
        assert!(leave_out(&mut object, &["nobody"]).is_err());
        assert!(leave_out(&mut [0; 9], &OF_NAMES).is_err());
    }
}
