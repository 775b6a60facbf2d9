//! Names of filters, endpoints and interfaces, and globs over interface names.

use glob::Pattern;
use traffic_mirror_ebpf::abi::PATTERN_BYTES;

use super::problem::Problem;
use crate::diagnostic::{Code, Remedy};

/// Longest name of a filter or endpoint: it becomes a metric label.
const MAX_NAME_BYTES: usize = 63;

/// Longest name of a Linux interface (`IFNAMSIZ` less the zero byte).
const MAX_INTERFACE_BYTES: usize = 15;

/// The name of a filter or endpoint.
pub(super) fn object(name: &str) -> Result<(), Problem> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() {
        return Err(empty());
    }
    if let Some(bad) = name.chars().find(|c| !allowed(*c)) {
        let proposal: String = name
            .chars()
            .map(|c| if allowed(c) { c } else { '-' })
            .collect();
        let mut problem = Problem::new(
            Code::BadName,
            format!("but {bad:?} is not allowed in a name"),
            "use letters, digits, \"-\", \"_\" and \".\"",
        );
        if name.len() <= MAX_NAME_BYTES {
            problem.help = Remedy::write_string(proposal);
            problem.note =
                Some("a name is made of letters, digits, \"-\", \"_\" and \".\"".to_owned());
        }
        return Err(problem);
    }
    if name.len() > MAX_NAME_BYTES {
        return Err(Problem::new(
            Code::BadName,
            format!("which is {} bytes long", name.len()),
            format!("write at most {MAX_NAME_BYTES} letters, digits, \"-\", \"_\" and \".\""),
        ));
    }
    Ok(())
}

/// The exact name of an interface.
pub(super) fn interface(name: &str) -> Result<(), Problem> {
    if is_glob(name) {
        return Err(Problem::new(
            Code::BadInterfaceName,
            "which is a glob, but must be one interface",
            "write the exact name of the interface",
        ));
    }
    interface_pattern(name).map(|_| ())
}

/// The name of an interface, or a glob over such names.
pub(super) fn interface_pattern(name: &str) -> Result<Pattern, Problem> {
    let bad = |cause: String, help: &str| Err(Problem::new(Code::BadInterfaceName, cause, help));
    if name.is_empty() {
        return Err(empty());
    }
    // dev_valid_name() in net/core/dev.c
    if let Some(c) = name
        .chars()
        .find(|c| matches!(c, '/' | ':' | '\0') || c.is_whitespace())
    {
        let cause = format!("but no interface has {c:?} in its name");
        return bad(cause, "write a name that \"ip link\" shows");
    }
    if matches!(name, "." | "..") {
        return bad(
            "which is not a valid interface name".to_owned(),
            "write a name that \"ip link\" shows",
        );
    }
    let pattern = glob(name, PATTERN_BYTES, "eth")?;
    let shortest = Atom::of(name)
        .iter()
        .filter(|atom| **atom != Atom::Any)
        .map(Atom::bytes)
        .sum::<usize>();
    if shortest > MAX_INTERFACE_BYTES {
        let cause = format!(
            "but an interface name has at most {MAX_INTERFACE_BYTES} bytes, and this has {shortest}"
        );
        return bad(cause, "write a name that \"ip link\" shows");
    }
    Ok(pattern)
}

/// The name of a filter, or a glob over such names.
pub(super) fn filter_pattern(name: &str) -> Result<Pattern, Problem> {
    if !is_glob(name) {
        object(name)?;
    }
    glob(name, MAX_NAME_BYTES, "web-")
}

/// A name or glob of at most `most` bytes. `example` is how one may begin.
fn glob(text: &str, most: usize, example: &str) -> Result<Pattern, Problem> {
    let bad = |cause: String, help: String| Problem::new(Code::BadGlob, cause, help);
    if text.contains("**") {
        return Err(bad(
            "but \"**\" means nothing in a name".to_owned(),
            format!("write {:?}", one_star(text)),
        ));
    }
    if text.len() > most {
        let length = text.len();
        return Err(bad(
            format!("but a glob has at most {most} bytes, and this has {length}"),
            format!("write ranges in its classes, as in \"{example}[0-9]\", or several globs"),
        ));
    }
    // "**" apart, a class that does not end is all that can be wrong
    Pattern::new(text).map_err(|_| {
        bad(
            "which has a \"[\" without its \"]\"".to_owned(),
            format!("write the characters that may stand there, as in \"{example}[0-3]\""),
        )
    })
}

/// Sorted, without duplicates.
pub(super) fn normalized(mut patterns: Vec<Pattern>) -> Vec<Pattern> {
    patterns.sort();
    patterns.dedup();
    patterns
}

/// Whether some interface name can fit both. Character classes count as any character.
pub(super) fn overlap(a: &Pattern, b: &Pattern) -> bool {
    match (is_glob(a.as_str()), is_glob(b.as_str())) {
        (_, false) => a.matches(b.as_str()),
        (false, true) => b.matches(a.as_str()),
        (true, true) => a == b || meet(&Atom::of(a.as_str()), &Atom::of(b.as_str())),
    }
}

pub(super) fn is_glob(name: &str) -> bool {
    name.contains(['*', '?', '['])
}

fn empty() -> Problem {
    Problem::new(Code::EmptyName, "which is empty", "write a name")
}

/// With one star where several follow each other.
pub(super) fn one_star(name: &str) -> String {
    let mut short = name.to_owned();
    while short.contains("**") {
        short = short.replace("**", "*");
    }
    short
}

/// A piece of a glob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Atom {
    /// `*`
    Any,
    /// `?` or a class
    One,
    Exactly(char),
}

impl Atom {
    fn of(glob: &str) -> Vec<Atom> {
        let mut atoms = Vec::new();
        let mut rest = glob.chars();
        while let Some(c) = rest.next() {
            atoms.push(match c {
                '*' => Atom::Any,
                '?' => Atom::One,
                '[' => {
                    // "]" is an ordinary character at the start of a class
                    let class = rest.as_str();
                    let start = class.strip_prefix('!').unwrap_or(class);
                    let first = start.chars().next().map_or(0, char::len_utf8);
                    let end = start[first..]
                        .find(']')
                        .map_or(start.len(), |end| first + end + 1);
                    rest = start[end..].chars();
                    Atom::One
                }
                c => Atom::Exactly(c),
            });
        }
        atoms
    }

    /// The least it stands for.
    fn bytes(&self) -> usize {
        match self {
            Atom::Any => 0,
            Atom::One => 1,
            Atom::Exactly(c) => c.len_utf8(),
        }
    }
}

/// Whether some text fits both lists of atoms.
fn meet(a: &[Atom], b: &[Atom]) -> bool {
    // row[j]: a[i..] and b[j..] have a text in common; from the ends to the beginnings
    let mut below = vec![false; b.len() + 1];
    for i in (0..=a.len()).rev() {
        let mut row = vec![false; b.len() + 1];
        for j in (0..=b.len()).rev() {
            row[j] = match (a.get(i), b.get(j)) {
                (None, None) => true,
                (Some(Atom::Any), None) => below[j],
                (None, Some(Atom::Any)) => row[j + 1],
                (None, Some(_)) | (Some(_), None) => false,
                (Some(Atom::Any), Some(_)) | (Some(_), Some(Atom::Any)) => below[j] || row[j + 1],
                (Some(Atom::Exactly(x)), Some(Atom::Exactly(y))) => x == y && below[j + 1],
                (Some(_), Some(_)) => below[j + 1],
            };
        }
        below = row;
    }
    below[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code<T>(result: Result<T, Problem>) -> Option<Code> {
        result.err().map(|problem| problem.code)
    }

    #[test]
    fn object_names() {
        for good in ["a", "web-1", "A_b.c", &"x".repeat(63)] {
            assert_eq!(code(object(good)), None, "{good}");
        }
        for bad in ["my web", "über", "a/b", "a\"b", &"x".repeat(64)] {
            assert_eq!(code(object(bad)), Some(Code::BadName), "{bad}");
        }
        assert_eq!(code(object("")), Some(Code::EmptyName));
    }

    #[test]
    fn interface_names() {
        for good in [
            "eth0",
            "enp0s31f6",
            "eth*",
            "eth[0-9]",
            "eth?",
            "[!l]*",
            "br-0123456789ab",
            "eth0.100",
            "a*b*c*d*e*f*g*h*",
        ] {
            assert_eq!(code(interface_pattern(good)), None, "{good}");
        }
        for bad in [
            "eth 0",
            "a/b",
            "eth0:1",
            ".",
            "..",
            "br-0123456789abc",
            "a\tb",
        ] {
            assert_eq!(
                code(interface_pattern(bad)),
                Some(Code::BadInterfaceName),
                "{bad}"
            );
        }
        for bad in [
            "eth[0",
            "eth**",
            "**",
            &format!("eth[{}]", "0123456789".repeat(13)),
        ] {
            assert_eq!(code(interface_pattern(bad)), Some(Code::BadGlob), "{bad}");
        }
        assert_eq!(code(interface("eth*")), Some(Code::BadInterfaceName));
        assert_eq!(code(interface("eth0")), None);
    }

    #[test]
    fn overlapping_globs() {
        let overlap = |a: &str, b: &str| {
            let (a, b) = (Pattern::new(a).unwrap(), Pattern::new(b).unwrap());
            assert_eq!(super::overlap(&a, &b), super::overlap(&b, &a), "{a} {b}");
            super::overlap(&a, &b)
        };
        for (a, b) in [
            ("eth0", "eth0"),
            ("eth0", "eth*"),
            ("veth*", "veth1*"),
            ("*0", "eth*"),
            ("eth?", "eth[0-3]"),
            ("a*c", "ab*"),
            ("*", "?"),
            ("[]a]*", "[]a]*"),
        ] {
            assert!(overlap(a, b), "{a} {b}");
        }
        for (a, b) in [
            ("eth0", "eth1"),
            ("eth0", "wlan*"),
            ("veth*", "eth*"),
            ("*0", "eth?1"),
            ("eth?", "eth10"),
            ("?", "??"),
        ] {
            assert!(!overlap(a, b), "{a} {b}");
        }
    }
}
