//! What a document may hold, as a shape. In: a shape's text (`shapes/*.txt`), and a YAML tree. Out: every place where the tree is
//! of another shape, with its line.
//!
//! ```text
//! name: str                one key for each line; lines that are indented go on
//! name!: int               a key that must be there
//! bool num null any map    the other kinds of value; "word" is that word alone
//! [str]  {a: str, *: any}  a list of one kind; a map, with * for every other key
//! str|[str]                one or another
//! @name = {…}              a shape by name, used as @name
//! ```

use std::collections::BTreeMap;
use std::fmt;

use super::yaml::{Node, Value};

/// What a value may be.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    Any,
    Null,
    Bool,
    Integer,
    Number,
    Text,
    Word(String),
    /// `true` or `false` alone.
    Truth(bool),
    List(Box<Shape>),
    Map {
        fields: Vec<Field>,
        rest: Option<Box<Shape>>,
    },
    OneOf(Vec<Shape>),
}

/// One key of a map.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    pub name: String,
    pub is_required: bool,
    pub shape: Shape,
}

/// One place where a tree is of another shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    pub line: usize,
    /// Such as `users[0].sudo`.
    pub place: String,
    pub what: What,
}

/// What is wrong there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    Kind { wanted: String, got: String },
    Missing(String),
    Unknown { closest: Option<String> },
}

impl Shape {
    /// Reads a shape's text. It is ours, and tested: a mistake in it is a mistake in the program.
    pub fn read(text: &str) -> Result<Self, String> {
        let mut named = BTreeMap::new();
        let mut fields = Vec::new();
        for entry in entries(text) {
            if let Some(rest) = entry.strip_prefix('@') {
                let (name, shape) = rest.split_once('=').ok_or(format!("no = in {entry}"))?;
                let shape = Parser::all(shape.trim(), &named)?;
                named.insert(name.trim().to_owned(), shape);
            } else {
                let mut parser = Parser::new(&entry, &named);
                fields.push(parser.field()?);
                parser.end()?;
            }
        }
        Ok(Self::Map { fields, rest: None })
    }

    /// Where the node is of another shape.
    pub fn check(&self, node: &Node) -> Vec<Misfit> {
        let mut found = Vec::new();
        self.check_at(node, String::new(), &mut found);
        found
    }

    fn check_at(&self, node: &Node, place: String, found: &mut Vec<Misfit>) {
        match (self, &node.value) {
            (Self::OneOf(shapes), _) => {
                let mut closest: Option<Vec<Misfit>> = None;
                for shape in shapes {
                    let mut misfits = Vec::new();
                    shape.check_at(node, place.clone(), &mut misfits);
                    if misfits.is_empty() {
                        return;
                    }
                    // Of the shapes that are of the right kind at all, the one that fits best is what was meant.
                    let is_closer = closest.as_ref().is_none_or(|c| misfits.len() < c.len());
                    if shape.is_kind_of(&node.value) && is_closer {
                        closest = Some(misfits);
                    }
                }
                match closest {
                    Some(misfits) => found.extend(misfits),
                    None => found.push(self.misfit(node, place)),
                }
            }
            (Self::List(shape), Value::List(nodes)) => {
                for (index, node) in nodes.iter().enumerate() {
                    shape.check_at(node, format!("{place}[{index}]"), found);
                }
            }
            (Self::Map { fields, rest }, Value::Map(entries)) => {
                check_map(fields, rest.as_deref(), entries, node.line, &place, found);
            }
            _ if self.is_kind_of(&node.value) => {}
            _ => found.push(self.misfit(node, place)),
        }
    }

    fn misfit(&self, node: &Node, place: String) -> Misfit {
        Misfit {
            line: node.line,
            place,
            what: What::Kind {
                wanted: self.to_string(),
                got: node.value.to_string(),
            },
        }
    }

    /// Whether the value is of this kind, whatever is in it.
    fn is_kind_of(&self, value: &Value) -> bool {
        match self {
            Self::Any => true,
            Self::Null => *value == Value::Null,
            Self::Bool => matches!(value, Value::Bool(_)),
            Self::Integer => matches!(value, Value::Integer(..)),
            Self::Number => matches!(value, Value::Integer(..) | Value::Number(_)),
            Self::Text => matches!(value, Value::Text(_)),
            Self::Word(word) => matches!(value, Value::Text(text) if text == word),
            Self::Truth(truth) => *value == Value::Bool(*truth),
            Self::List(_) => matches!(value, Value::List(_)),
            Self::Map { .. } => matches!(value, Value::Map(_)),
            Self::OneOf(shapes) => shapes.iter().any(|shape| shape.is_kind_of(value)),
        }
    }

    /// The names of the keys of a map.
    #[cfg(test)]
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let fields = match self {
            Self::Map { fields, .. } => fields.as_slice(),
            _ => &[],
        };
        fields.iter().map(|field| field.name.as_str())
    }
}

fn check_map(
    fields: &[Field],
    rest: Option<&Shape>,
    entries: &[(Node, Node)],
    line: usize,
    place: &str,
    found: &mut Vec<Misfit>,
) {
    let below = |name: &str| match place {
        "" => name.to_owned(),
        place => format!("{place}.{name}"),
    };
    for (key, value) in entries {
        let name = match &key.value {
            Value::Text(text) => text.clone(),
            Value::Integer(_, written) => written.clone(),
            other => other.to_string(),
        };
        if let Some(field) = fields.iter().find(|field| field.name == name) {
            field.shape.check_at(value, below(&name), found);
        } else if let Some(rest) = rest {
            rest.check_at(value, below(&name), found);
        } else {
            let closest = super::closest(&name, fields.iter().map(|field| field.name.as_str()));
            found.push(Misfit {
                line: key.line,
                place: below(&name),
                what: What::Unknown { closest },
            });
        }
    }
    for field in fields.iter().filter(|field| field.is_required) {
        let is_it = |key: &Node| matches!(&key.value, Value::Text(text) if *text == field.name);
        if !entries.iter().any(|(key, _)| is_it(key)) {
            found.push(Misfit {
                line: entries.first().map_or(line, |(key, _)| key.line),
                place: place.to_owned(),
                what: What::Missing(field.name.clone()),
            });
        }
    }
}

impl fmt::Display for Shape {
    /// As a problem has it: `a string or a list of strings`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("a value"),
            Self::Null => f.write_str("nothing"),
            Self::Bool => f.write_str("true or false"),
            Self::Integer => f.write_str("a whole number"),
            Self::Number => f.write_str("a number"),
            Self::Text => f.write_str("a string"),
            Self::Word(word) => f.write_str(word),
            Self::Truth(truth) => truth.fmt(f),
            Self::List(shape) if **shape == Self::Text => f.write_str("a list of strings"),
            Self::List(_) => f.write_str("a list"),
            Self::Map { .. } => f.write_str("a map"),
            Self::OneOf(shapes) => {
                let mut said: Vec<String> = Vec::new();
                for shape in shapes.iter().map(ToString::to_string) {
                    if !said.contains(&shape) {
                        said.push(shape);
                    }
                }
                f.write_str(&said.join(" or "))
            }
        }
    }
}

/// Entries of a shape's text: lines that are indented belong to the one before.
fn entries(text: &str) -> Vec<String> {
    let mut entries: Vec<String> = Vec::new();
    for line in text.lines() {
        let is_comment = line.trim_start().starts_with('#');
        if is_comment || line.trim().is_empty() {
            continue;
        }
        match entries.last_mut().filter(|_| line.starts_with(' ')) {
            Some(last) => {
                last.push(' ');
                last.push_str(line.trim());
            }
            None => entries.push(line.trim().to_owned()),
        }
    }
    entries
}

struct Parser<'a> {
    rest: &'a str,
    named: &'a BTreeMap<String, Shape>,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str, named: &'a BTreeMap<String, Shape>) -> Self {
        Self { rest: text, named }
    }

    fn all(text: &'a str, named: &'a BTreeMap<String, Shape>) -> Result<Shape, String> {
        let mut parser = Self::new(text, named);
        let shape = parser.shape()?;
        parser.end()?;
        Ok(shape)
    }

    fn end(&mut self) -> Result<(), String> {
        self.rest = self.rest.trim_start();
        match self.rest {
            "" => Ok(()),
            rest => Err(format!("too much: {rest}")),
        }
    }

    fn takes(&mut self, mark: &str) -> bool {
        self.rest = self.rest.trim_start();
        match self.rest.strip_prefix(mark) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn until(&mut self, stop: &[char]) -> Result<&'a str, String> {
        self.rest = self.rest.trim_start();
        let end = self.rest.find(stop).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        match word.trim() {
            "" => Err(format!("nothing before {rest}")),
            word => Ok(word),
        }
    }

    fn field(&mut self) -> Result<Field, String> {
        let name = self.until(&[':'])?;
        if !self.takes(":") {
            return Err(format!("no : after {name}"));
        }
        let (name, is_required) = match name.strip_suffix('!') {
            Some(name) => (name, true),
            None => (name, false),
        };
        Ok(Field {
            name: name.to_owned(),
            is_required,
            shape: self.shape()?,
        })
    }

    fn shape(&mut self) -> Result<Shape, String> {
        let mut shapes = vec![self.one()?];
        while self.takes("|") {
            shapes.push(self.one()?);
        }
        Ok(match shapes.len() {
            1 => shapes.remove(0),
            _ => Shape::OneOf(shapes),
        })
    }

    fn one(&mut self) -> Result<Shape, String> {
        if self.takes("[") {
            let shape = self.shape()?;
            return match self.takes("]") {
                true => Ok(Shape::List(Box::new(shape))),
                false => Err(format!("no ] before {}", self.rest)),
            };
        }
        if self.takes("{") {
            return self.map();
        }
        if self.takes("\"") {
            let end = self.rest.find('"').ok_or("a word without an end")?;
            let (word, rest) = self.rest.split_at(end);
            self.rest = &rest[1..];
            return Ok(Shape::Word(word.to_owned()));
        }
        match self.until(&['|', ',', ']', '}'])? {
            "any" => Ok(Shape::Any),
            "null" => Ok(Shape::Null),
            "bool" => Ok(Shape::Bool),
            "int" => Ok(Shape::Integer),
            "num" => Ok(Shape::Number),
            "str" => Ok(Shape::Text),
            "true" => Ok(Shape::Truth(true)),
            "false" => Ok(Shape::Truth(false)),
            "map" => Ok(Shape::Map {
                fields: Vec::new(),
                rest: Some(Box::new(Shape::Any)),
            }),
            word => match word.strip_prefix('@').map(|name| self.named.get(name)) {
                Some(Some(shape)) => Ok(shape.clone()),
                _ => Err(format!("{word} is no shape")),
            },
        }
    }

    fn map(&mut self) -> Result<Shape, String> {
        let (mut fields, mut rest) = (Vec::new(), None);
        loop {
            if self.takes("}") {
                return Ok(Shape::Map { fields, rest });
            }
            let field = self.field()?;
            match field.name.as_str() {
                "*" => rest = Some(Box::new(field.shape)),
                _ => fields.push(field),
            }
            if !self.takes(",") && !self.rest.trim_start().starts_with('}') {
                return Err(format!("no , or }} before {}", self.rest));
            }
        }
    }
}

#[cfg(test)]
mod tests;
