//! Input: one TOML table. Output: its fields, each of the right type or reported.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeInteger, DeString, DeTable, DeValue};

use super::synonyms::meant;
use super::value_type::ValueType;
use super::{Field, Item, List, Secret, Selection};
use crate::diagnostic::{
    Checked, Code, Diagnostic, Diagnostics, Fix, Quoted, Remedy, Reported, alternatives, closest,
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
    misspelt: Vec<Misspelt<'t>>,
}

/// A wrong key, and what it probably stands for.
struct Misspelt<'t> {
    meant: &'static str,
    key: Range<usize>,
    value: &'t Spanned<DeValue<'t>>,
    reported: Reported,
    /// Which of the diagnostics is about it.
    index: usize,
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
        match self.table.get(key) {
            Some(value) => Some(Ok(value)),
            None => self.misspelt(key).map(|misspelt| Err(misspelt.reported)),
        }
    }

    fn misspelt(&self, key: &str) -> Option<&Misspelt<'t>> {
        self.misspelt.iter().find(|misspelt| misspelt.meant == key)
    }

    /// The value of a key that takes this type.
    fn typed(&mut self, key: &str, kind: ValueType) -> Option<Checked<&'t Spanned<DeValue<'t>>>> {
        let got = self.get(key)?;
        if got.is_err() {
            self.repair_misspelt(key, kind);
        }
        Some(got)
    }

    /// If the value of a wrong key does not suit the key that was probably meant either, the remedy
    /// has both.
    fn repair_misspelt(&mut self, key: &str, kind: ValueType) {
        let Some(&Misspelt {
            meant,
            key: ref place,
            value,
            index,
            ..
        }) = self.misspelt(key)
        else {
            return;
        };
        if kind.fits(value.get_ref()) {
            return;
        }
        let span = place.start..value.span().end;
        if let (Some(diagnostic), Remedy::Write(right)) =
            (self.diagnostics.get(index), kind.repair(value, self.text))
        {
            let line = format!("{meant} = {right}");
            diagnostic.help = Some(Remedy::write(&*line).to_string());
            diagnostic.fix = Some(Fix { span, text: line });
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

    pub(super) fn selection(&mut self, key: &str) -> Field<Selection> {
        let value = match self.typed(key, ValueType::Selection)? {
            Ok(value) => value,
            Err(reported) => return Some(Err(reported)),
        };
        let read = match value.get_ref() {
            DeValue::Array(_) => self
                .texts(key)?
                .map(|list| Spanned::new(list.span(), Selection::List(list.into_inner()))),
            DeValue::String(word) => Ok(Spanned::new(
                value.span(),
                Selection::Word(word.to_string()),
            )),
            _ => Err(self.wrong_type(key, value, ValueType::Selection)),
        };
        Some(read)
    }

    /// Reports each key that the kind of table does not take.
    fn reject_unknown(&mut self) {
        let (kind, table) = (self.kind, self.table);
        let unknown = entries(table).into_iter();
        for (key, value) in unknown.filter(|(key, _)| !kind.keys.contains(&key.get_ref().as_ref()))
        {
            let name: &str = key.get_ref();
            let guess = meant(name, kind.keys).or_else(|| closest(name, kind.keys.iter().copied()));
            let index = self.diagnostics.count();
            let reported = self.diagnostics.report(match self.is_unknown_table(value) {
                true => self.unknown_table(key, guess),
                false => self.unknown_key(key, guess),
            });
            self.misspelt.extend(guess.map(|meant| Misspelt {
                meant,
                key: key.span(),
                value,
                reported,
                index,
            }));
        }
    }

    fn unknown_key(&self, key: &Spanned<DeString<'_>>, guess: Option<&str>) -> Diagnostic {
        let message = format!(
            "{} has an unknown key {}",
            self.label,
            Quoted(key.get_ref())
        );
        let keys = alternatives(self.kind.keys.iter().copied());
        let diagnostic = Diagnostic::new(Code::UnknownKey, key.span(), message)
            .note(format!("keys of {}: {keys}", self.kind.noun));
        match guess {
            Some(guess) => diagnostic
                .help(format!("did you mean {guess:?}?"))
                .fix(key.span(), guess),
            None => diagnostic.help("remove this line"),
        }
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
        let value = match self.typed(key, kind)? {
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
        let value = match self.typed(key, kind)? {
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
        let help = kind.repair_element(element, self.text);
        self.diagnostics
            .report(Diagnostic::new(Code::WrongType, element.span(), message).help(help))
    }
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
