//! Reads TOML so that every problem is found at once. In: text and the keys a caller asks for. Out: values with their line
//! numbers, and a list of problems: wrong types, unknown keys with the key that was probably meant, values that do not parse.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::str::FromStr;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::model::{SecretRef, Var, Vars};

/// A value and the line it stands on, counted from 1.
#[derive(Clone, Debug, PartialEq)]
pub struct At<T> {
    pub line: usize,
    pub value: T,
}

/// One thing that is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// 0 when it concerns the whole file.
    pub line: usize,
    /// The key's full path, such as `subnet[0].cidr`.
    pub place: String,
    /// What is wrong, and what would be right.
    pub text: String,
}

/// All that is wrong with one file, in the order of its lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    pub file: String,
    pub list: Vec<Problem>,
}

#[derive(Clone, Debug, PartialEq)]
enum Node {
    Bool(bool),
    Integer(i64),
    Number(f64),
    Text(String),
    List(Vec<At<Node>>),
    Table(BTreeMap<String, At<Node>>),
    Unfit(&'static str),
}

/// One table of the file. Ask for each key it may have, then `finish`: what was not asked for is a problem.
pub struct Section {
    path: String,
    line: usize,
    entries: BTreeMap<String, At<Node>>,
    asked: Vec<&'static str>,
    found: Rc<RefCell<Vec<Problem>>>,
}

/// The whole file as a section, and where its problems gather.
pub struct Reader {
    pub root: Section,
    found: Rc<RefCell<Vec<Problem>>>,
}

impl Reader {
    /// Parses the text. Syntax errors are problems too; what could be read around them is read.
    pub fn new(text: &str) -> Self {
        let lines = LineIndex::new(text);
        let (table, errors) = DeTable::parse_recoverable(text);
        let found: Vec<Problem> = errors
            .iter()
            .map(|error| Problem {
                line: error.span().map_or(0, |span| lines.line_of(span.start)),
                place: String::new(),
                text: error.message().replace('\n', ", "),
            })
            .collect();
        let found = Rc::new(RefCell::new(found));
        let root = Section {
            path: String::new(),
            line: 1,
            entries: table_of(table.into_inner(), &lines),
            asked: Vec::new(),
            found: found.clone(),
        };
        Self { root, found }
    }

    /// Reports a problem from outside the reader, such as one that needs several values to be seen.
    pub fn report(&self, line: usize, place: impl Into<String>, text: impl fmt::Display) {
        report(&self.found, line, place.into(), text);
    }

    /// Every problem found, once all sections are finished.
    pub fn problems(self) -> Vec<Problem> {
        self.root.finish();
        let mut list = self.found.take();
        list.sort();
        list.dedup();
        list
    }
}

fn report(found: &RefCell<Vec<Problem>>, line: usize, place: String, text: impl fmt::Display) {
    found.borrow_mut().push(Problem {
        line,
        place,
        text: text.to_string(),
    });
}

impl Section {
    /// The line its header stands on.
    pub fn line(&self) -> usize {
        self.line
    }

    /// The full path of one of its keys.
    pub fn place(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    /// Reports a problem with a key of this section.
    pub fn report(&self, line: usize, key: &str, text: impl fmt::Display) {
        report(&self.found, line, self.place(key), text);
    }

    /// The line a key stands on, without asking for it.
    pub fn line_of(&self, key: &str) -> Option<usize> {
        self.entries.get(key).map(|at| at.line)
    }

    /// Whether the key is there, without asking for it.
    pub fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    fn take(&mut self, key: &'static str) -> Option<At<Node>> {
        self.asked.push(key);
        self.entries.remove(key)
    }

    fn wanted<T>(&self, key: &str, at: &At<Node>, what: &str) -> Option<T> {
        self.report(
            at.line,
            key,
            format!("wanted {what}, got {}", at.value.kind()),
        );
        None
    }

    /// A string.
    pub fn text(&mut self, key: &'static str) -> Option<At<String>> {
        let at = self.take(key)?;
        match at.value {
            Node::Text(value) => Some(At {
                line: at.line,
                value,
            }),
            _ => self.wanted(key, &at, "a string"),
        }
    }

    /// A string that parses; `example` shows the right form.
    pub fn parsed<T: FromStr>(&mut self, key: &'static str, example: &str) -> Option<At<T>>
    where
        T::Err: fmt::Display,
    {
        let at = self.text(key)?;
        self.parse(key, at, example)
    }

    fn parse<T: FromStr>(&self, key: &str, at: At<String>, example: &str) -> Option<At<T>>
    where
        T::Err: fmt::Display,
    {
        match at.value.parse() {
            Ok(value) => Some(At {
                line: at.line,
                value,
            }),
            Err(error) => {
                // Some errors name the value and the right form themselves.
                let text = match error.to_string() {
                    whole if whole.starts_with(&format!("`{}`", at.value)) => whole,
                    error => format!(
                        "`{}` does not parse: {error}; write it like {example}",
                        at.value
                    ),
                };
                self.report(at.line, key, text);
                None
            }
        }
    }

    /// A truth value.
    pub fn boolean(&mut self, key: &'static str) -> Option<At<bool>> {
        let at = self.take(key)?;
        match at.value {
            Node::Bool(value) => Some(At {
                line: at.line,
                value,
            }),
            _ => self.wanted(key, &at, "true or false"),
        }
    }

    /// A whole number between two others.
    pub fn whole_number(&mut self, key: &'static str, least: u32, most: u32) -> Option<At<u32>> {
        let at = self.take(key)?;
        let number = match at.value {
            Node::Integer(number) => u32::try_from(number).ok(),
            _ => None,
        };
        match number.filter(|number| (least..=most).contains(number)) {
            Some(value) => Some(At {
                line: at.line,
                value,
            }),
            None => self.wanted(key, &at, &format!("a whole number from {least} to {most}")),
        }
    }

    /// A list of strings.
    pub fn texts(&mut self, key: &'static str) -> Option<At<Vec<At<String>>>> {
        let at = self.take(key)?;
        let Node::List(nodes) = at.value else {
            return self.wanted(key, &at, "a list of strings");
        };
        let mut value = Vec::new();
        for (index, node) in nodes.into_iter().enumerate() {
            match node.value {
                Node::Text(text) => value.push(At {
                    line: node.line,
                    value: text,
                }),
                _ => {
                    self.wanted::<()>(&format!("{key}[{index}]"), &node, "a string");
                }
            }
        }
        Some(At {
            line: at.line,
            value,
        })
    }

    /// A string or a list of strings that parse, each with its key; a list has one at least.
    pub fn one_or_more_parsed<T: FromStr>(
        &mut self,
        key: &'static str,
        example: &str,
    ) -> Vec<(String, At<T>)>
    where
        T::Err: fmt::Display,
    {
        let nodes = match self.entries.get(key) {
            Some(At {
                line,
                value: Node::List(nodes),
            }) => (*line, nodes.len()),
            _ => {
                let one = self.parsed(key, example).into_iter();
                return one.map(|at| (key.to_owned(), at)).collect();
            }
        };
        if let (line, 0) = nodes {
            self.report(line, key, "wanted one at least, got an empty list");
        }
        (self.all_parsed_by_index(key, example).into_iter())
            .map(|(index, at)| (format!("{key}[{index}]"), at))
            .collect()
    }

    /// A list of strings that parse.
    pub fn all_parsed<T: FromStr>(&mut self, key: &'static str, example: &str) -> Vec<At<T>>
    where
        T::Err: fmt::Display,
    {
        let parsed = self.all_parsed_by_index(key, example);
        parsed.into_iter().map(|(_, at)| at).collect()
    }

    /// The same, each with its place in the list, which those that do not parse keep.
    pub fn all_parsed_by_index<T: FromStr>(
        &mut self,
        key: &'static str,
        example: &str,
    ) -> Vec<(usize, At<T>)>
    where
        T::Err: fmt::Display,
    {
        let texts = self.texts(key).map(|at| at.value).unwrap_or_default();
        texts
            .into_iter()
            .enumerate()
            .filter_map(|(index, at)| {
                Some((index, self.parse(&format!("{key}[{index}]"), at, example)?))
            })
            .collect()
    }

    /// A table; an empty one if the key is missing.
    pub fn section(&mut self, key: &'static str) -> Section {
        let (line, entries) = match self.take(key) {
            None => (self.line, BTreeMap::new()),
            Some(at) => match at.value {
                Node::Table(entries) => (at.line, entries),
                _ => {
                    self.wanted::<()>(key, &at, &format!("a table: [{}]", self.place(key)));
                    (at.line, BTreeMap::new())
                }
            },
        };
        self.child(self.place(key), line, entries)
    }

    /// A list of tables: `[[key]]`.
    pub fn sections(&mut self, key: &'static str) -> Vec<Section> {
        let Some(at) = self.take(key) else {
            return Vec::new();
        };
        let what = format!("a list of tables: [[{}]]", self.place(key));
        let Node::List(nodes) = at.value else {
            self.wanted::<()>(key, &at, &what);
            return Vec::new();
        };
        let mut sections = Vec::new();
        for (index, node) in nodes.into_iter().enumerate() {
            let key = format!("{key}[{index}]");
            match node.value {
                Node::Table(entries) => {
                    sections.push(self.child(self.place(&key), node.line, entries));
                }
                _ => {
                    self.wanted::<()>(&key, &node, &what);
                }
            }
        }
        sections
    }

    /// A table of values, each with its line.
    pub fn values(&mut self, key: &'static str) -> BTreeMap<String, At<Var>> {
        let Some(at) = self.take(key) else {
            return BTreeMap::new();
        };
        let Node::Table(entries) = at.value else {
            self.wanted::<()>(key, &at, "a table");
            return BTreeMap::new();
        };
        let mut values = BTreeMap::new();
        for (name, at) in entries {
            match at.value.var() {
                Some(value) => {
                    let line = at.line;
                    values.insert(name, At { line, value });
                }
                None => {
                    self.wanted::<()>(&format!("{key}.{name}"), &at, "a value");
                }
            }
        }
        values
    }

    /// A table of template variables; the names in `given` are not theirs to use.
    pub fn vars(&mut self, key: &'static str, given: &[&str]) -> Vars {
        let Some(at) = self.take(key) else {
            return Vars::new();
        };
        let Node::Table(entries) = at.value else {
            self.wanted::<()>(key, &at, "a table of variables");
            return Vars::new();
        };
        entries
            .into_iter()
            .filter_map(|(name, at)| {
                let key = format!("{key}.{name}");
                if given.contains(&name.as_str()) {
                    let text = "is a name that Bootjack gives to templates; choose another";
                    self.report(at.line, &key, text);
                    return None;
                }
                if !is_variable_name(&name) {
                    self.report(
                        at.line,
                        &key,
                        "wanted a variable name of letters, digits and _",
                    );
                    return None;
                }
                let var = at.value.var().or_else(|| {
                    self.wanted(&key, &at, "a string, number, true, false, list or table")
                })?;
                if let Err(problem) = check_secrets(&var) {
                    self.report(at.line, &key, problem);
                    return None;
                }
                Some((name, var))
            })
            .collect()
    }

    /// A table of strings.
    pub fn text_map(&mut self, key: &'static str) -> BTreeMap<String, At<String>> {
        let Some(at) = self.take(key) else {
            return BTreeMap::new();
        };
        let Node::Table(entries) = at.value else {
            self.wanted::<()>(key, &at, "a table of strings");
            return BTreeMap::new();
        };
        let mut map = BTreeMap::new();
        for (name, at) in entries {
            match at.value {
                Node::Text(value) => {
                    map.insert(
                        name,
                        At {
                            line: at.line,
                            value,
                        },
                    );
                }
                _ => {
                    self.wanted::<()>(&format!("{key}.{name}"), &at, "a string");
                }
            }
        }
        map
    }

    /// Reports every key that nobody asked for, with the one that was probably meant.
    pub fn finish(&self) {
        for (key, at) in &self.entries {
            let closest = self
                .asked
                .iter()
                .map(|known| (strsim::damerau_levenshtein(key, known), known))
                .filter(|(distance, known)| *distance <= 1 + known.len() / 3)
                .min();
            let hint = match closest {
                Some((_, known)) => format!("did you mean {}?", self.place(known)),
                None => format!("known here: {}", self.asked.join(", ")),
            };
            self.report(at.line, key, format!("unknown key; {hint}"));
        }
    }

    fn child(&self, path: String, line: usize, entries: BTreeMap<String, At<Node>>) -> Section {
        Section {
            path,
            line,
            entries,
            asked: Vec::new(),
            found: self.found.clone(),
        }
    }
}

/// Whether what looks like a secret is one: what is misspelt there would be shown as it is.
pub fn check_secrets(var: &Var) -> Result<(), String> {
    if let Some(secret) = var.secret() {
        return match secret {
            SecretRef::File(path) if path.is_empty() => Err("secret_file names no file".to_owned()),
            SecretRef::Env(name) if !is_variable_name(&name) => Err(format!(
                "`{}` is not the name of an environment variable",
                name.escape_default()
            )),
            SecretRef::File(_) | SecretRef::Env(_) => Ok(()),
        };
    }
    match var {
        Var::List(vars) => vars.iter().try_for_each(check_secrets),
        Var::Map(fields) => {
            let is_secret = |key: &String| key.starts_with("secret_");
            if let Some(key) = fields.keys().find(|key| is_secret(key)) {
                return Err(format!(
                    "{key}: wanted {{ secret_file = \"/path\" }} or {{ secret_env = \"NAME\" }} and nothing beside it"
                ));
            }
            fields.values().try_for_each(check_secrets)
        }
        Var::Bool(_) | Var::Integer(_) | Var::Number(_) | Var::Text(_) => Ok(()),
    }
}

/// Whether a template can name the variable.
pub fn is_variable_name(name: &str) -> bool {
    let mut chars = name.chars();
    chars
        .next()
        .is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

impl Node {
    fn kind(&self) -> String {
        match self {
            Self::Bool(value) => value.to_string(),
            Self::Integer(value) => format!("the number {value}"),
            Self::Number(value) => format!("the number {value}"),
            Self::Text(value) => format!("the string {value:?}"),
            Self::List(_) => "a list".to_owned(),
            Self::Table(_) => "a table".to_owned(),
            Self::Unfit(kind) => format!("a {kind}"),
        }
    }

    fn var(&self) -> Option<Var> {
        Some(match self {
            Self::Bool(value) => Var::Bool(*value),
            Self::Integer(value) => Var::Integer(*value),
            Self::Number(value) => Var::Number(*value),
            Self::Text(value) => Var::Text(value.clone()),
            Self::List(nodes) => Var::List(
                nodes
                    .iter()
                    .map(|at| at.value.var())
                    .collect::<Option<_>>()?,
            ),
            Self::Table(entries) => Var::Map(
                entries
                    .iter()
                    .map(|(name, at)| Some((name.clone(), at.value.var()?)))
                    .collect::<Option<_>>()?,
            ),
            Self::Unfit(_) => return None,
        })
    }
}

fn table_of(table: DeTable<'_>, lines: &LineIndex) -> BTreeMap<String, At<Node>> {
    table
        .into_iter()
        .map(|(key, value)| {
            let line = lines.line_of(key.span().start);
            let node = node_of(value, lines);
            (key.into_inner().into_owned(), At { line, ..node })
        })
        .collect()
}

fn node_of(value: Spanned<DeValue<'_>>, lines: &LineIndex) -> At<Node> {
    let line = lines.line_of(value.span().start);
    let value = match value.into_inner() {
        DeValue::String(text) => Node::Text(text.into_owned()),
        DeValue::Integer(integer) => match i64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(integer) => Node::Integer(integer),
            Err(_) => Node::Unfit("number that is too large"),
        },
        DeValue::Float(float) => match float.as_str().parse() {
            Ok(number) => Node::Number(number),
            Err(_) => Node::Unfit("number out of range"),
        },
        DeValue::Boolean(value) => Node::Bool(value),
        DeValue::Datetime(_) => Node::Unfit("date"),
        DeValue::Array(values) => {
            Node::List(values.into_iter().map(|v| node_of(v, lines)).collect())
        }
        DeValue::Table(table) => Node::Table(table_of(table, lines)),
    };
    At { line, value }
}

/// Where each line starts.
struct LineIndex(Vec<usize>);

impl LineIndex {
    fn new(text: &str) -> Self {
        Self(text.match_indices('\n').map(|(at, _)| at + 1).collect())
    }

    fn line_of(&self, offset: usize) -> usize {
        1 + self.0.partition_point(|start| *start <= offset)
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let noun = if self.list.len() == 1 {
            "problem"
        } else {
            "problems"
        };
        write!(f, "{} has {} {noun}", self.file, self.list.len())?;
        for problem in &self.list {
            f.write_str("\n  ")?;
            match (problem.line, problem.place.as_str()) {
                (0, "") => {}
                (0, place) => write!(f, "{place}: ")?,
                (line, "") => write!(f, "line {line}: ")?,
                (line, place) => write!(f, "line {line}, {place}: ")?,
            }
            f.write_str(&problem.text)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
