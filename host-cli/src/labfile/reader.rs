//! A TOML file as it was written, read with every problem noted and none in the way of the next. In: text. Out: values with
//! their lines; what is not understood is a `Problem`: line, place, what was wanted and what was found.

use std::cell::RefCell;
use std::fmt;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// One thing that is wrong with the file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Counted from 1.
    pub line: usize,
    /// Such as `vm[1].memory`; empty for the file as a whole.
    pub place: String,
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place.as_str() {
            "" => write!(f, "line {}: {}", self.line, self.message),
            place => write!(f, "line {}, {place}: {}", self.line, self.message),
        }
    }
}

/// The problems of one file, noted while it is read.
#[derive(Debug, Default)]
pub struct Problems {
    text: String,
    noted: RefCell<Vec<Problem>>,
}

impl Problems {
    pub fn of(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            noted: RefCell::default(),
        }
    }

    fn add(&self, offset: usize, place: impl Into<String>, message: impl Into<String>) {
        self.noted.borrow_mut().push(Problem {
            line: self.line(offset),
            place: place.into(),
            message: message.into(),
        });
    }

    fn line(&self, offset: usize) -> usize {
        let before = self.text.as_bytes().iter().take(offset);
        1 + before.filter(|octet| **octet == b'\n').count()
    }

    /// All of them in the file's order.
    pub fn into_sorted(self) -> Vec<Problem> {
        let mut noted = self.noted.into_inner();
        noted.sort();
        noted
    }
}

/// A table of the file: each key is taken once, what is left over is not known.
pub struct Table<'a> {
    place: String,
    offset: usize,
    entries: Vec<(String, usize, &'a Spanned<DeValue<'a>>)>,
    known: RefCell<Vec<&'static str>>,
    problems: &'a Problems,
}

/// A value, and where it stands.
#[derive(Clone, Debug)]
pub struct Found<T> {
    pub value: T,
    offset: usize,
    place: String,
}

impl<T> Found<T> {
    /// Notes that it is not what was wanted.
    pub fn wrong(&self, problems: &Problems, message: impl Into<String>) {
        problems.add(self.offset, &self.place, message);
    }

    fn with<U>(&self, value: U) -> Found<U> {
        Found {
            value,
            offset: self.offset,
            place: self.place.clone(),
        }
    }

    /// What a function makes of it; what the function says is wrong otherwise.
    pub fn parsed<U>(
        &self,
        problems: &Problems,
        parse: impl FnOnce(&T) -> Result<U, String>,
    ) -> Option<Found<U>> {
        match parse(&self.value) {
            Ok(value) => Some(self.with(value)),
            Err(message) => {
                self.wrong(problems, message);
                None
            }
        }
    }
}

impl<'a> Table<'a> {
    /// The table that a parsed file is.
    pub fn root(table: &'a DeTable<'a>, problems: &'a Problems) -> Self {
        Self::new(String::new(), 0, table, problems)
    }

    fn new(place: String, offset: usize, table: &'a DeTable<'a>, problems: &'a Problems) -> Self {
        let entries = table
            .iter()
            .map(|(key, value)| (key.get_ref().to_string(), key.span().start, value));
        Self {
            place,
            offset,
            entries: entries.collect(),
            known: RefCell::default(),
            problems,
        }
    }

    pub fn problems(&self) -> &'a Problems {
        self.problems
    }

    /// Notes that something is wrong with the table as a whole.
    pub fn wrong(&self, message: impl Into<String>) {
        self.problems.add(self.offset, &self.place, message);
    }

    fn place_of(&self, key: &str) -> String {
        match self.place.as_str() {
            "" => key.to_owned(),
            place => format!("{place}.{key}"),
        }
    }

    fn take(&self, key: &'static str) -> Option<Found<&'a DeValue<'a>>> {
        self.known.borrow_mut().push(key);
        let (_, _, value) = self.entries.iter().find(|(name, _, _)| name == key)?;
        Some(Found {
            value: value.get_ref(),
            offset: value.span().start,
            place: self.place_of(key),
        })
    }

    fn typed<T>(
        &self,
        key: &'static str,
        wanted: &str,
        get: impl FnOnce(&'a DeValue<'a>) -> Option<T>,
    ) -> Option<Found<T>> {
        let found = self.take(key)?;
        match get(found.value) {
            Some(value) => Some(found.with(value)),
            None => {
                let kind = kind(found.value);
                found.wrong(self.problems, format!("wanted {wanted}, found {kind}"));
                None
            }
        }
    }

    pub fn string(&self, key: &'static str) -> Option<Found<String>> {
        self.typed(key, "a string", |value| Some(value.as_str()?.to_owned()))
    }

    pub fn bool(&self, key: &'static str) -> Option<Found<bool>> {
        self.typed(key, "true or false", DeValue::as_bool)
    }

    pub fn integer(&self, key: &'static str) -> Option<Found<i64>> {
        self.typed(key, "a whole number", integer)
    }

    /// One of these words.
    pub fn word<T: Copy>(&self, key: &'static str, words: &[(&str, T)]) -> Option<Found<T>> {
        let names: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
        self.string(key)?.parsed(self.problems, |text| {
            let found = words.iter().find(|(name, _)| name == text);
            found
                .map(|(_, value)| *value)
                .ok_or_else(|| format!("wanted one of {}, found \"{text}\"", names.join(", ")))
        })
    }

    pub fn strings(&self, key: &'static str) -> Option<Vec<Found<String>>> {
        let list = self.typed(key, "a list of strings", DeValue::as_array)?;
        let mut strings = Vec::new();
        for (index, value) in list.value.iter().enumerate() {
            let found = Found {
                value: value.get_ref(),
                offset: value.span().start,
                place: format!("{}[{index}]", list.place),
            };
            match found.value.as_str() {
                Some(text) => strings.push(found.with(text.to_owned())),
                None => {
                    let kind = kind(found.value);
                    found.wrong(self.problems, format!("wanted a string, found {kind}"));
                }
            }
        }
        Some(strings)
    }

    pub fn table(&self, key: &'static str) -> Option<Self> {
        let found = self.typed(key, "a table", DeValue::as_table)?;
        Some(Self::new(
            found.place,
            found.offset,
            found.value,
            self.problems,
        ))
    }

    /// The tables of `[[key]]`.
    pub fn tables(&self, key: &'static str) -> Vec<Self> {
        let wanted = format!("tables, each under [[{key}]]");
        let Some(found) = self.typed(key, &wanted, DeValue::as_array) else {
            return Vec::new();
        };
        let mut tables = Vec::new();
        for (index, value) in found.value.iter().enumerate() {
            let (place, offset) = (format!("{}[{index}]", found.place), value.span().start);
            match value.get_ref().as_table() {
                Some(table) => tables.push(Self::new(place, offset, table, self.problems)),
                None => self.problems.add(offset, place, "wanted a table"),
            }
        }
        tables
    }

    /// Values for templates, whatever they are.
    pub fn json_object(&self, key: &'static str) -> serde_json::Map<String, serde_json::Value> {
        let found = self.typed(key, "a table", DeValue::as_table);
        found.map(|found| object(found.value)).unwrap_or_default()
    }

    /// Notes every key that nobody asked for, with the one that was likely meant.
    pub fn finish(self) {
        let known = self.known.into_inner();
        for (name, offset, _) in &self.entries {
            if known.contains(&name.as_str()) {
                continue;
            }
            let near = known
                .iter()
                .map(|key| (strsim::damerau_levenshtein(key, name), key))
                .min()
                .filter(|(distance, _)| *distance <= 2);
            let place = match self.place.as_str() {
                "" => name.clone(),
                place => format!("{place}.{name}"),
            };
            let message = match near {
                Some((_, key)) => format!("unknown key; did you mean {key}?"),
                None => format!("unknown key; known here: {}", known.join(", ")),
            };
            self.problems.add(*offset, place, message);
        }
    }
}

/// Parses the file; what is no TOML is the one problem that hides all others.
pub fn parse<'a>(text: &'a str, problems: &Problems) -> Option<Spanned<DeTable<'a>>> {
    match DeTable::parse(text) {
        Ok(table) => Some(table),
        Err(error) => {
            let offset = error.span().map_or(0, |span| span.start);
            let message = error.message().trim().replace('\n', "; ");
            problems.add(offset, "", format!("this is no TOML: {message}"));
            None
        }
    }
}

fn integer(value: &DeValue<'_>) -> Option<i64> {
    let integer = value.as_integer()?;
    i64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "a truth value",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

fn object(table: &DeTable<'_>) -> serde_json::Map<String, serde_json::Value> {
    let entries = table.iter();
    entries
        .map(|(key, value)| (key.get_ref().to_string(), json(value.get_ref())))
        .collect()
}

fn json(value: &DeValue<'_>) -> serde_json::Value {
    match value {
        DeValue::String(text) => text.as_ref().into(),
        DeValue::Integer(number) => match integer(value) {
            Some(number) => number.into(),
            None => number.as_str().into(),
        },
        DeValue::Float(number) => match number.as_str().replace('_', "").parse::<f64>() {
            Ok(number) => number.into(),
            Err(_) => number.as_str().into(),
        },
        DeValue::Boolean(value) => (*value).into(),
        DeValue::Datetime(date) => date.to_string().into(),
        DeValue::Array(values) => values.iter().map(|value| json(value.get_ref())).collect(),
        DeValue::Table(table) => serde_json::Value::Object(object(table)),
    }
}
