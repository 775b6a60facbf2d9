//! Input: one TOML table. Output: its fields, each of the right type or reported.

use toml::Spanned;
use toml::de::{DeInteger, DeString, DeTable, DeValue};

use super::{Field, Item, List, Secret};
use crate::diagnostic::{
    Checked, Code, Diagnostic, Diagnostics, Quoted, Reported, alternatives, closest,
};

/// What the format defines for a kind of table.
pub(super) struct TableSpec {
    /// As in "keys of a filter".
    pub(super) noun: &'static str,
    /// The keys that it takes.
    pub(super) keys: &'static [&'static str],
    /// The tables that it holds: name and header.
    pub(super) tables: &'static [(&'static str, &'static str)],
}

/// One table while it is read into the raw table.
pub(super) struct Fields<'a, 't> {
    label: &'a str,
    kind: &'static TableSpec,
    table: &'t DeTable<'t>,
    text: &'a str,
    diagnostics: &'a mut Diagnostics,
    /// Keys that a wrong key probably stands for: they are not missing.
    misspelt: Vec<(&'static str, Reported)>,
}

/// The entries of a table in the order of the file.
pub(super) fn entries<'t, 'i>(
    table: &'t DeTable<'i>,
) -> Vec<(&'t Spanned<DeString<'i>>, &'t Spanned<DeValue<'i>>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}

/// What a value is, with its article.
pub(super) fn found(value: &Spanned<DeValue<'_>>) -> &'static str {
    match value.get_ref() {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

impl<'a, 't> Fields<'a, 't> {
    /// The fields of a table that messages call `label`; keys that it does not take are reported.
    pub(super) fn new(
        label: &'a str,
        kind: &'static TableSpec,
        table: &'t DeTable<'t>,
        text: &'a str,
        diagnostics: &'a mut Diagnostics,
    ) -> Self {
        let misspelt = Vec::new();
        let mut fields = Self {
            label,
            kind,
            table,
            text,
            diagnostics,
            misspelt,
        };
        fields.reject_unknown();
        fields
    }

    /// The value of a key; none if it is left out, a mark if it is left out by mistake.
    pub(super) fn get(&self, key: &str) -> Option<Checked<&'t Spanned<DeValue<'t>>>> {
        let misspelt = || self.misspelt.iter().find(|(meant, _)| *meant == key);
        match self.table.get(key) {
            Some(value) => Some(Ok(value)),
            None => misspelt().map(|(_, reported)| Err(*reported)),
        }
    }

    pub(super) fn boolean(&mut self, key: &str) -> Field<bool> {
        self.scalar(key, ValueType::Boolean, |value| value.as_bool())
    }

    pub(super) fn text(&mut self, key: &str) -> Field<String> {
        self.scalar(key, ValueType::Text, string)
    }

    pub(super) fn secret(&mut self, key: &str) -> Field<Secret> {
        self.scalar(key, ValueType::Secret, |value| {
            string(value).map(Secret::new)
        })
    }

    pub(super) fn number(&mut self, key: &str) -> Field<i128> {
        self.scalar(key, ValueType::Number, |value| {
            value.as_integer().map(integer)
        })
    }

    pub(super) fn texts(&mut self, key: &str) -> List<String> {
        self.list(key, ValueType::Texts, string)
    }

    pub(super) fn items(&mut self, key: &str) -> List<Item> {
        self.list(key, ValueType::Items, |value| match value {
            DeValue::Integer(number) => Some(Item::Number(integer(number))),
            _ => string(value).map(Item::Text),
        })
    }

    /// Reports each key that the kind of table does not take.
    fn reject_unknown(&mut self) {
        let (kind, table) = (self.kind, self.table);
        let unknown = entries(table).into_iter();
        for (key, value) in unknown.filter(|(key, _)| !kind.keys.contains(&key.get_ref().as_ref()))
        {
            let name: &str = key.get_ref();
            let guess = closest(name, kind.keys.iter().copied());
            let reported = self.diagnostics.report(match self.is_unknown_table(value) {
                true => self.unknown_table(key, guess),
                false => self.unknown_key(key, guess),
            });
            self.misspelt.extend(guess.map(|meant| (meant, reported)));
        }
    }

    fn unknown_key(&self, key: &Spanned<DeString<'_>>, guess: Option<&str>) -> Diagnostic {
        let message = format!(
            "{} has an unknown key {}",
            self.label,
            Quoted(key.get_ref())
        );
        let help = match guess {
            Some(guess) => format!("did you mean {guess:?}?"),
            None => "remove this line".to_owned(),
        };
        let keys = alternatives(self.kind.keys.iter().copied());
        Diagnostic::new(Code::UnknownKey, key.span(), message)
            .help(help)
            .note(format!("keys of {}: {keys}", self.kind.noun))
    }

    fn unknown_table(&self, key: &Spanned<DeString<'_>>, guess: Option<&str>) -> Diagnostic {
        let tables = self.kind.tables;
        let header = tables.iter().find(|(name, _)| Some(*name) == guess);
        let message = format!(
            "{} has an unknown table {}",
            self.label,
            Quoted(key.get_ref())
        );
        let help = match header {
            Some((_, header)) => format!("did you mean {header}?"),
            None => "remove this table".to_owned(),
        };
        let headers = alternatives(tables.iter().map(|(_, header)| *header));
        Diagnostic::new(Code::UnknownTable, key.span(), message)
            .help(help)
            .note(format!("tables of {}: {headers}", self.kind.noun))
    }

    fn is_unknown_table(&self, value: &Spanned<DeValue<'_>>) -> bool {
        let is_table = match value.get_ref() {
            DeValue::Array(array) => {
                !array.is_empty() && array.iter().all(|element| element.get_ref().is_table())
            }
            value => value.is_table(),
        };
        is_table && !self.kind.tables.is_empty()
    }

    fn scalar<T>(
        &mut self,
        key: &str,
        kind: ValueType,
        read: impl Fn(&DeValue<'_>) -> Option<T>,
    ) -> Field<T> {
        let value = match self.get(key)? {
            Ok(value) => value,
            Err(reported) => return Some(Err(reported)),
        };
        Some(match read(value.get_ref()) {
            Some(read) => Ok(Spanned::new(value.span(), read)),
            None => Err(self.wrong_type(key, value, kind)),
        })
    }

    fn list<T>(
        &mut self,
        key: &str,
        kind: ValueType,
        read: impl Fn(&DeValue<'_>) -> Option<T>,
    ) -> List<T> {
        let value = match self.get(key)? {
            Ok(value) => value,
            Err(reported) => return Some(Err(reported)),
        };
        let DeValue::Array(array) = value.get_ref() else {
            return Some(Err(self.wrong_type(key, value, kind)));
        };
        let elements = array.iter().map(|element| match read(element.get_ref()) {
            Some(read) => Ok(Spanned::new(element.span(), read)),
            None => Err(self.wrong_element(key, element, kind)),
        });
        Some(Ok(Spanned::new(
            value.span(),
            elements.collect::<Vec<Checked<_>>>(),
        )))
    }

    fn wrong_type(&mut self, key: &str, value: &Spanned<DeValue<'_>>, kind: ValueType) -> Reported {
        let (label, found, wanted) = (self.label, found(value), kind.describe());
        let message = format!("{label} has {found} as {key}, which must be {wanted}");
        let help = kind.repair(value, self.text);
        self.diagnostics
            .report(Diagnostic::new(Code::WrongType, value.span(), message).help(help))
    }

    fn wrong_element(
        &mut self,
        key: &str,
        element: &Spanned<DeValue<'_>>,
        kind: ValueType,
    ) -> Reported {
        let (label, found, wanted) = (self.label, found(element), kind.describe());
        let message = format!("{label} has {found} in the list {key}, which must be {wanted}");
        let help = match (kind, source(element, self.text)) {
            (ValueType::Items, _) => {
                "write integers and strings, side by side in one list".to_owned()
            }
            (_, Some(source)) if is_bare_scalar(element) => format!("write {source:?}"),
            _ => "write strings, side by side in one list".to_owned(),
        };
        self.diagnostics
            .report(Diagnostic::new(Code::WrongType, element.span(), message).help(help))
    }
}

/// What a key takes.
#[derive(Clone, Copy)]
enum ValueType {
    Boolean,
    Text,
    /// A string that no message shows.
    Secret,
    Number,
    Texts,
    Items,
}

impl ValueType {
    fn describe(self) -> &'static str {
        match self {
            Self::Boolean => "true or false",
            Self::Text | Self::Secret => "a string",
            Self::Number => "an integer",
            Self::Texts => "a list of strings",
            Self::Items => "a list of integers and strings",
        }
    }

    /// What to write in place of the value: itself in the right dress if it has one.
    fn repair(self, value: &Spanned<DeValue<'_>>, text: &str) -> String {
        let only = match value.get_ref() {
            DeValue::Array(array) if array.len() == 1 => array.first().unwrap_or(value),
            _ => value,
        };
        let source = source(only, text).unwrap_or_default();
        match (self, only.get_ref()) {
            (Self::Boolean, DeValue::Boolean(on)) => format!("write {on}"),
            (Self::Boolean, DeValue::String(word)) => match &*word.to_lowercase() {
                "true" | "yes" | "on" => "write true".to_owned(),
                "false" | "no" | "off" => "write false".to_owned(),
                _ => "write true or false".to_owned(),
            },
            (Self::Boolean, _) => "write true or false".to_owned(),
            (Self::Secret, _) => "write one string in quotes".to_owned(),
            (Self::Text, DeValue::String(_)) => format!("write {source}"),
            (Self::Text, _) if is_bare_scalar(only) => format!("write {source:?}"),
            (Self::Text, _) => "write one string in quotes".to_owned(),
            (Self::Number, DeValue::Integer(_)) => format!("write {source}"),
            (Self::Number, DeValue::String(digits)) if digits.parse::<u32>().is_ok() => {
                format!("write {digits}")
            }
            (Self::Number, _) => "write one whole number, without quotes".to_owned(),
            (Self::Texts | Self::Items, DeValue::String(words)) => {
                format!("write [{}]", split(words))
            }
            (Self::Items, DeValue::Integer(_)) => format!("write [{source}]"),
            (Self::Texts, _) if is_bare_scalar(only) => format!("write [{source:?}]"),
            (Self::Texts | Self::Items, _) => {
                "write a list: its elements in [ and ], with commas between".to_owned()
            }
        }
    }
}

/// The elements of a single string in which a user wrote a list: `"tcp, udp"`.
fn split(words: &str) -> String {
    let words = words.split([',', ' ']).filter(|word| !word.is_empty());
    words
        .map(|word| Quoted(word).to_string())
        .collect::<Vec<_>>()
        .join(", ")
}

/// The value as it stands in the file, if it is short.
fn source<'t>(value: &Spanned<DeValue<'_>>, text: &'t str) -> Option<&'t str> {
    const MAX_BYTES: usize = 40;
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

fn string(value: &DeValue<'_>) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn integer(number: &DeInteger<'_>) -> i128 {
    let end = if number.as_str().starts_with('-') {
        i128::MIN
    } else {
        i128::MAX
    };
    i128::from_str_radix(number.as_str(), number.radix()).unwrap_or(end)
}
