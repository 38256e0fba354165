//! What a JSON or YAML text says, with the place of every value. In: a text. Out: a tree, or one fault with its place.

mod json;
mod yaml;

pub use self::json::{Dialect, read as read_json};
pub use self::yaml::read_all as read_yaml;

use serde_json::Value as Json;

/// Where something begins: line and column, counted from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct At {
    pub line: usize,
    pub column: usize,
}

/// A value and where it begins.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub at: At,
    pub value: Value,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    /// As it is written, and what it is worth.
    Number(String, f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// One key of a map, with its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub at: At,
    pub key: String,
    pub node: Node,
}

/// What is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub at: At,
    /// Wanted, got and next step; lower case, no final stop.
    pub message: String,
}

/// No text that is meant goes deeper.
const DEEPEST: usize = 64;

impl Fault {
    pub fn new(at: At, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { at, message }
    }
}

impl Node {
    /// What it is, for people.
    pub fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "a truth value",
            Value::Number(..) => "a number",
            Value::Text(_) => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }

    /// Text, or a number as it is written.
    pub fn text(&self) -> Result<&str, Fault> {
        match &self.value {
            Value::Text(text) | Value::Number(text, _) => Ok(text),
            _ => Err(self.wanted("text")),
        }
    }

    pub fn list(&self) -> Result<&[Node], Fault> {
        match &self.value {
            Value::List(list) => Ok(list),
            _ => Err(self.wanted("a list")),
        }
    }

    pub fn map(&self) -> Result<&[Entry], Fault> {
        match &self.value {
            Value::Map(entries) => Ok(entries),
            _ => Err(self.wanted("a map")),
        }
    }

    /// The value of this key of a map.
    pub fn get(&self, key: &str) -> Option<&Node> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|e| e.key == key).map(|e| &e.node),
            _ => None,
        }
    }

    pub fn is_null(&self) -> bool {
        self.value == Value::Null
    }

    /// Without places.
    pub fn json(&self) -> Json {
        match &self.value {
            Value::Null => Json::Null,
            Value::Bool(value) => Json::Bool(*value),
            Value::Number(text, value) => match text.parse::<i64>() {
                Ok(whole) => Json::from(whole),
                Err(_) => Json::from(*value),
            },
            Value::Text(text) => Json::from(text.as_str()),
            Value::List(list) => list.iter().map(Self::json).collect(),
            Value::Map(entries) => {
                let pairs = entries.iter().map(|e| (e.key.clone(), e.node.json()));
                Json::Object(pairs.collect())
            }
        }
    }

    fn wanted(&self, what: &str) -> Fault {
        Fault::new(self.at, format!("wanted {what}, got {}", self.kind()))
    }
}

/// The closest of the known words, if it is close.
pub fn did_you_mean(word: &str, known: &[&'static str]) -> Option<&'static str> {
    let closest = (known.iter())
        .map(|known| (strsim::damerau_levenshtein(word, known), *known))
        .min()?;
    (closest.0 <= 2.max(word.len() / 3)).then_some(closest.1)
}
