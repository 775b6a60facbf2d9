//! "did you mean": the closest of the names that would have been right.

/// The candidate that `given` was probably meant to be.
pub(crate) fn closest<'a>(
    given: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let given = given.to_lowercase();
    candidates
        .into_iter()
        .filter_map(|candidate| distance(&given, candidate).map(|distance| (distance, candidate)))
        .min()
        .map(|(_, candidate)| candidate)
}

/// `did you mean "web"?`
pub(crate) fn did_you_mean<'a>(
    given: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    closest(given, candidates).map(|candidate| format!("did you mean {candidate:?}?"))
}

/// The candidates as a list for a note, shortened if it is long.
pub(crate) fn alternatives<'a>(candidates: impl IntoIterator<Item = &'a str>) -> String {
    const MAX_SHOWN: usize = 24;
    let all: Vec<&str> = candidates.into_iter().collect();
    let shown = all[..all.len().min(MAX_SHOWN)].join(", ");
    match all.len().saturating_sub(MAX_SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// How many typing errors lie between the two; none if that is too many for a guess.
fn distance(given: &str, candidate: &str) -> Option<usize> {
    const MAX_CHARS: usize = 64;
    const MIN_ABBREVIATION_CHARS: usize = 3;
    let chars = given.chars().count();
    if chars > MAX_CHARS {
        return None;
    }
    let wanted = candidate.to_lowercase();
    let errors = strsim::damerau_levenshtein(given, &wanted);
    let abbreviates =
        |short: &str, long: &str| short.len() >= MIN_ABBREVIATION_CHARS && long.starts_with(short);
    let related = abbreviates(given, &wanted) || abbreviates(&wanted, given);
    let tolerated = (chars / 3).max(1);
    // one error in one or two letters leaves nothing in common
    let alike = errors <= tolerated && errors < wanted.chars().count().min(chars.max(1));
    (alike || related).then_some(errors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guesses() {
        let keys = [
            "source",
            "source_port",
            "destination",
            "interface",
            "to",
            "name",
        ];
        assert_eq!(closest("soruce", keys), Some("source"));
        assert_eq!(closest("interfaces", keys), Some("interface"));
        assert_eq!(closest("dest", keys), Some("destination"));
        assert_eq!(closest("Name", keys), Some("name"));
        assert_eq!(closest("sourceport", keys), Some("source_port"));
        assert_eq!(closest("x", keys), None);
        assert_eq!(closest("", keys), None);
        assert_eq!(closest("colour", keys), None);
    }

    #[test]
    fn long_lists_are_cut() {
        let names: Vec<String> = (0..30).map(|n| format!("e{n}")).collect();
        assert!(alternatives(names.iter().map(String::as_str)).ends_with("e23 and 6 more"));
        assert_eq!(alternatives(["a", "b"]), "a, b");
    }
}
