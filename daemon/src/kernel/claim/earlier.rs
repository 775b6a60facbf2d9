//! Pins with names of earlier versions. They are renamed when a daemon claims the pin path, so that
//! all other code has one name for each: a link with an unknown name would stay attached for ever.

use std::path::Path;

use crate::kernel::attach::{FILTERS, LINKS, ORDERS, RELOCATIONS};
use crate::kernel::error::KernelError;
use crate::kernel::pins::{names, remove_dir, rename};

/// Directories below the pin path.
const DIRECTORIES: [(&str, &str); 1] = [("turns", RELOCATIONS)];
/// Programs; the name may continue with a number of maps or the like.
const PROGRAMS: [(&str, &str); 4] = [
    ("lane", "segmenter"),
    ("turn_mark", "relocate_first"),
    ("turn_check", "relocate_second"),
    ("turn_clear", "relocate_drain"),
];

/// Gives each pin its name of today. To be called by the one daemon that has the pin path. May be
/// interrupted at any point: what is left is done the next time.
///
/// # Errors
/// A pin cannot be read or renamed.
pub(in crate::kernel) fn rename_pins(pin_path: &Path) -> Result<(), KernelError> {
    for (earlier, name) in DIRECTORIES {
        let (from, to) = (pin_path.join(earlier), pin_path.join(name));
        if from.is_dir() && to.is_dir() {
            move_all(&from, &to, |name| Some(name.to_owned()))?;
            if names(&from)?.is_empty() {
                remove_dir(&from)?;
            }
        } else if from.is_dir() {
            rename(&from, &to)?;
        }
    }
    for dir in [LINKS, FILTERS, ORDERS, RELOCATIONS] {
        let dir = pin_path.join(dir);
        move_all(&dir, &dir, today)?;
    }
    let relocations = pin_path.join(RELOCATIONS);
    for name in names(&relocations)? {
        let dir = relocations.join(name);
        // what another process has put there goes later
        if dir.is_dir() {
            move_all(&dir, &dir, today)?;
        }
    }
    Ok(())
}

/// Renames a pin; never over another pin, whose link would be detached.
fn move_all(
    from: &Path,
    to: &Path,
    name: impl Fn(&str) -> Option<String>,
) -> Result<(), KernelError> {
    for earlier in names(from)? {
        let target = name(&earlier).map(|name| to.join(name));
        match target.filter(|target| !target.exists()) {
            Some(target) => rename(&from.join(earlier), &target)?,
            None => continue,
        }
    }
    Ok(())
}

/// Today's name of a pin that had another one.
fn today(name: &str) -> Option<String> {
    PROGRAMS.iter().find_map(|(earlier, program)| {
        let rest = name.strip_prefix(earlier)?;
        let is_whole = !rest.starts_with(|next: char| next.is_ascii_alphabetic() || next == '_');
        is_whole.then(|| format!("{program}{rest}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::fs;

    /// The directories that have none below.
    fn made(dir: &Path) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for name in names(dir).unwrap() {
            let below = made(&dir.join(&name));
            found.extend(below.iter().map(|inner| format!("{name}/{inner}")));
            if below.is_empty() {
                found.insert(name);
            }
        }
        found
    }

    fn after(test: &str, pins: &[&str]) -> BTreeSet<String> {
        let dir = std::env::temp_dir().join(format!("tm-{test}-{}", std::process::id()));
        let make = |pin: &&str| fs::create_dir_all(dir.join(pin)).unwrap();
        pins.iter().for_each(make);
        rename_pins(&dir).unwrap();
        let once = made(&dir);
        rename_pins(&dir).unwrap();
        assert_eq!(made(&dir), once, "a second time changes nothing");
        fs::remove_dir_all(dir).unwrap();
        once
    }

    #[test]
    fn names_of_earlier_versions_become_those_of_today() {
        let found = after(
            "names",
            &[
                "links/lane3-7-egress",
                "links/mirror-7-egress",
                "filters/lane3-7-egress-fresh",
                "turns/lane3-7-egress/turn_mark",
                "turns/mirror-7-ingress/program",
                "maps-3-11-0123abcd/lane",
            ],
        );
        let wanted = [
            "links/segmenter3-7-egress",
            "links/mirror-7-egress",
            "filters/segmenter3-7-egress-fresh",
            "relocations/segmenter3-7-egress/relocate_first",
            "relocations/mirror-7-ingress/program",
            // no code reads it: the programs of another version are replaced
            "maps-3-11-0123abcd/lane",
        ];
        assert_eq!(found, wanted.map(str::to_owned).into());
    }

    #[test]
    fn a_pin_of_today_is_not_overwritten() {
        let pins = [
            "turns/mirror-7-ingress/program",
            "relocations/mirror-8-ingress/program",
            "links/lane3-7-egress",
            "links/segmenter3-7-egress",
        ];
        let found = after("today", &pins);
        assert!(
            found.contains("links/lane3-7-egress") && found.contains("links/segmenter3-7-egress")
        );
        assert!(
            found.contains("relocations/mirror-7-ingress/program"),
            "{found:?}"
        );
        assert!(
            found.contains("relocations/mirror-8-ingress/program"),
            "{found:?}"
        );
    }

    #[test]
    fn what_is_no_directory_is_left_alone() {
        let dir = std::env::temp_dir().join(format!("tm-files-{}", std::process::id()));
        fs::create_dir_all(dir.join(RELOCATIONS)).unwrap();
        for file in ["turns", "relocations/mirror-7-ingress"] {
            fs::write(dir.join(file), "").unwrap();
        }
        let renamed = rename_pins(&dir);
        fs::remove_dir_all(dir).unwrap();
        renamed.unwrap();
    }

    #[test]
    fn a_longer_word_is_another_one() {
        assert_eq!(today("lane"), Some("segmenter".to_owned()));
        assert_eq!(today("lanes3-7-egress"), None);
        assert_eq!(today("turn_mark_of"), None);
    }
}
