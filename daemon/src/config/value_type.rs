//! Input: a value of another type than its key takes. Output: what to write instead.

use toml::Spanned;
use toml::de::DeValue;

use crate::diagnostic::{Remedy, quoted};

/// What a key takes.
#[derive(Clone, Copy)]
pub(super) enum ValueType {
    Boolean,
    Text,
    /// A string that no message shows.
    Secret,
    Number,
    Texts,
    Items,
    /// A word or a list of strings.
    Selection,
}

impl ValueType {
    pub(super) fn describe(self) -> &'static str {
        match self {
            Self::Boolean => "true or false",
            Self::Text | Self::Secret => "a string",
            Self::Number => "an integer",
            Self::Texts => "a list of strings",
            Self::Items => "a list of integers and strings",
            Self::Selection => "\"all\", \"none\" or a list of strings",
        }
    }

    /// Whether a value, or each element of a list, is of the type.
    pub(super) fn fits(self, value: &DeValue<'_>) -> bool {
        let all = |fits: fn(&DeValue<'_>) -> bool| {
            let elements = value.as_array();
            elements.is_some_and(|list| list.iter().all(|element| fits(element.get_ref())))
        };
        match self {
            Self::Boolean => value.as_bool().is_some(),
            Self::Text | Self::Secret => value.as_str().is_some(),
            Self::Number => value.as_integer().is_some(),
            Self::Texts => all(|element| element.as_str().is_some()),
            Self::Selection => value.as_str().is_some() || Self::Texts.fits(value),
            Self::Items => {
                all(|element| element.as_str().is_some() || element.as_integer().is_some())
            }
        }
    }

    /// What to write in place of the value: itself in the right dress if it has one.
    pub(super) fn repair(self, value: &Spanned<DeValue<'_>>, text: &str) -> Remedy {
        let only = match value.get_ref() {
            DeValue::Array(array) if array.len() == 1 => array.first().unwrap_or(value),
            _ => value,
        };
        let source = source(only, text);
        match (self, only.get_ref(), source) {
            (Self::Boolean, DeValue::Boolean(on), _) => Remedy::write(on.to_string()),
            (Self::Boolean, DeValue::String(word), _) => match &*word.to_lowercase() {
                "true" | "yes" | "on" => Remedy::write("true"),
                "false" | "no" | "off" => Remedy::write("false"),
                _ => "write true or false".into(),
            },
            (Self::Boolean, ..) => "write true or false".into(),
            (Self::Selection, DeValue::Boolean(all), _) => {
                Remedy::write_string(if *all { "all" } else { "none" })
            }
            (Self::Selection, ..) => "write \"all\", \"none\" or a list of names".into(),
            (Self::Secret, ..) => "write one string in quotes".into(),
            (Self::Text, DeValue::String(_), Some(source)) => Remedy::write(source),
            (Self::Text, _, Some(source)) if is_bare_scalar(only) => Remedy::write_string(source),
            (Self::Text, ..) => "write one string in quotes".into(),
            (Self::Number, DeValue::Integer(_), Some(source)) => Remedy::write(source),
            (Self::Number, DeValue::String(digits), _) if digits.parse::<u32>().is_ok() => {
                Remedy::write(&**digits)
            }
            (Self::Number, ..) => "write one whole number, without quotes".into(),
            (Self::Texts | Self::Items, DeValue::String(words), Some(_)) => {
                Remedy::write(format!("[{}]", split(words)))
            }
            (Self::Items, DeValue::Integer(_), Some(source)) => {
                Remedy::write(format!("[{source}]"))
            }
            (Self::Texts, _, Some(source)) if is_bare_scalar(only) => {
                Remedy::write(format!("[{}]", quoted(source)))
            }
            (Self::Texts | Self::Items, ..) => {
                "write a list: its elements in [ and ], with commas between".into()
            }
        }
    }

    /// What to write in place of an element of a list.
    pub(super) fn repair_element(self, element: &Spanned<DeValue<'_>>, text: &str) -> Remedy {
        match (self, source(element, text)) {
            (Self::Items, _) => "write integers and strings, side by side in one list".into(),
            (_, Some(source)) if is_bare_scalar(element) => Remedy::write_string(source),
            _ => "write strings, side by side in one list".into(),
        }
    }
}

/// The elements of a single string in which a user wrote a list: `"tcp, udp"`. Spaces around the
/// dash of a range separate nothing.
fn split(words: &str) -> String {
    let ranges = words
        .split('-')
        .map(str::trim)
        .collect::<Vec<_>>()
        .join("-");
    let words = ranges
        .split([',', ' ', ';'])
        .filter(|word| !word.is_empty());
    words.map(quoted).collect::<Vec<_>>().join(", ")
}

/// The value as it stands in the file, if it is short.
fn source<'t>(value: &Spanned<DeValue<'_>>, text: &'t str) -> Option<&'t str> {
    const MAX_BYTES: usize = 64;
    let source = text.get(value.span())?;
    (source.len() <= MAX_BYTES && !source.contains('\n')).then_some(source)
}

/// A scalar that is written without quotes.
fn is_bare_scalar(value: &Spanned<DeValue<'_>>) -> bool {
    !matches!(
        value.get_ref(),
        DeValue::String(_) | DeValue::Array(_) | DeValue::Table(_)
    )
}
