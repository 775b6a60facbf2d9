//! `order` of an interface: the place of `mirror` among the programs on its hooks.

use std::fmt;

use super::field::bad_choice;
use super::problem::Problem;
use crate::diagnostic::Code;

/// `order` in the file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Order {
    /// Before all others.
    First,
    /// Behind all others.
    #[default]
    Last,
    /// Before all programs of a name.
    Before(String),
    /// Behind all programs of a name.
    After(String),
}

impl Order {
    /// Reads what [`Display`](fmt::Display) has written.
    pub fn read(text: &str) -> Option<Self> {
        parse(text).ok()
    }

    /// The program that it names.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::First | Self::Last => None,
            Self::Before(name) | Self::After(name) => Some(name),
        }
    }
}

const FIRST: &str = "first";
const LAST: &str = "last";
const BEFORE: &str = "before";
const AFTER: &str = "after";

/// As in the file.
impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::First => f.write_str(FIRST),
            Self::Last => f.write_str(LAST),
            Self::Before(name) => write!(f, "{BEFORE} {name}"),
            Self::After(name) => write!(f, "{AFTER} {name}"),
        }
    }
}

/// `order`.
pub(super) fn parse(text: &str) -> Result<Order, Problem> {
    match (text, text.split_once(' ')) {
        (FIRST, _) => Ok(Order::First),
        (LAST, _) => Ok(Order::Last),
        (_, Some((BEFORE, name))) => named(BEFORE, name).map(Order::Before),
        (_, Some((AFTER, name))) => named(AFTER, name).map(Order::After),
        (BEFORE | AFTER, _) => Err(nameless(text)),
        _ => {
            let choices = ["first", "last", "before NAME", "after NAME"];
            Err(bad_choice(
                Code::BadOrder,
                "which is not a position among programs",
                text,
                &choices,
            ))
        }
    }
}

/// Longest name of a program (`BPF_OBJ_NAME_LEN` less the zero byte).
const MAX_PROGRAM_BYTES: usize = 15;
/// Longest name of a filter of tc; the kernel takes up to 255.
const MAX_FILTER_BYTES: usize = 64;

/// The name of a program, or that of a filter of tc, such as `prog.o:[classifier]`.
fn named(word: &str, name: &str) -> Result<String, Problem> {
    let refuse = |cause: String, help: String| Err(Problem::new(Code::BadOrder, cause, help));
    if name.is_empty() {
        return Err(nameless(word));
    }
    if let Some(bad) = name.chars().find(|c| !c.is_ascii_graphic()) {
        let help = "write a name as \"bpftool net\" or \"tc filter show\" has it".to_owned();
        return refuse(format!("but {bad:?} is in no program's name"), help);
    }
    // `bpf_obj_name_cpy`
    let may_be_program = name
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.'));
    let most = if may_be_program {
        MAX_PROGRAM_BYTES
    } else {
        MAX_FILTER_BYTES
    };
    if name.len() > most {
        let help = format!("write \"{word} {}\"", &name[..most]);
        return refuse(
            format!(
                "but such a name has at most {most} characters, and this has {}",
                name.len()
            ),
            help,
        );
    }
    Ok(name.to_owned())
}

fn nameless(word: &str) -> Problem {
    let help = format!("write \"{word} NAME\", with a name as \"bpftool net\" has it");
    Problem::new(Code::BadOrder, "which does not say which program", help)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        for text in [
            "first",
            "last",
            "before policy",
            "after prog.o:[classifier]",
            "after fifteen_letters",
        ] {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Order::default(), Order::Last);
        assert_eq!(parse("before policy").unwrap().name(), Some("policy"));
    }

    #[test]
    fn what_is_no_place() {
        for wrong in [
            "",
            "First",
            "middle",
            "before",
            "after ",
            "before a b",
            "before sixteen_letters_",
            "behind x",
        ] {
            assert_eq!(parse(wrong).unwrap_err().code, Code::BadOrder, "{wrong}");
        }
        assert_eq!(
            parse("before sixteen_letters_").unwrap_err().help,
            "write \"before sixteen_letters\""
        );
        assert_eq!(
            parse("before").unwrap_err().cause,
            "which does not say which program"
        );
        assert_eq!(parse("frist").unwrap_err().help, "did you mean \"first\"?");
    }
}
