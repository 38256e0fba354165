//! YAML as PyYAML reads it, since that is what cloud-init and subiquity use: YAML 1.1, with the line of every value. In: a text.
//! Out: a tree, and what PyYAML would refuse or silently drop.

mod scalar;

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, Tag};

pub use self::scalar::Value;

/// A value and the line it begins on, counted from 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub line: usize,
    pub value: Value,
}

/// What is wrong with a text as YAML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub line: usize,
    pub message: String,
    pub next_step: &'static str,
}

/// Aliases multiply: a text is refused before it becomes more than this many values.
const MOST_NODES: usize = 200_000;
/// The parser goes as deep as the text does.
const DEEPEST: usize = 128;

/// Reads a text of one document. Without a value it is `None`; with faults there may be one all the same.
pub fn read(text: &str) -> (Option<Node>, Vec<Fault>) {
    let mut reader = Reader {
        events: Parser::new_from_str(text),
        anchors: HashMap::new(),
        faults: Vec::new(),
        nodes: 0,
        quoted: Vec::new(),
    };
    let node = match reader.stream() {
        Ok(node) => node,
        Err(fault) => {
            reader.faults.push(fault);
            None
        }
    };
    let Reader {
        mut faults, quoted, ..
    } = reader;
    // A tab is mostly why nothing else could be read: it is said first, and alone.
    if let Some(line) = stray_tab(text, &quoted) {
        faults.retain(|fault| fault.line < line);
        faults.push(Fault {
            line,
            message: "a tab, where YAML takes spaces alone".to_owned(),
            next_step: "indent with spaces",
        });
    }
    faults.sort_by_key(|fault| fault.line);
    (node, faults)
}

struct Reader<'a> {
    events: Parser<'a, saphyr_parser::StrInput<'a>>,
    anchors: HashMap<usize, Node>,
    faults: Vec<Fault>,
    nodes: usize,
    /// Where tabs are content, in characters: quoted and block scalars.
    quoted: Vec<(usize, usize)>,
}

impl Reader<'_> {
    fn next(&mut self) -> Result<(Event<'_>, Span), Fault> {
        match self.events.next() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(unreadable(&error)),
            None => Err(fault(
                0,
                "the text ends in the middle",
                "close what is open",
            )),
        }
    }

    fn stream(&mut self) -> Result<Option<Node>, Fault> {
        let mut root = None;
        let mut documents = 0;
        loop {
            let (event, span) = self.next()?;
            let line = span.start.line();
            match event {
                Event::StreamEnd => return Ok(root),
                Event::DocumentStart(_) => {
                    documents += 1;
                    if documents == 2 {
                        let text = "a second document begins here, and one is all that is read";
                        self.faults.push(fault(line, text, "take the line --- out"));
                        return Ok(root);
                    }
                    let (event, span) = self.next()?;
                    let event = owned(event);
                    root = Some(self.node(event, span, 0)?);
                }
                _ => {}
            }
        }
    }

    fn node(&mut self, event: Owned, span: Span, depth: usize) -> Result<Node, Fault> {
        let line = span.start.line();
        self.nodes += 1;
        if self.nodes > MOST_NODES || depth > DEEPEST {
            let text = "the document is larger or deeper than any that is meant";
            return Err(fault(
                line,
                text,
                "look for an alias or a loop that multiplies it",
            ));
        }
        let (anchor, value) = match event {
            Owned::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor).cloned() else {
                    let text = "an alias of what has no anchor";
                    return Err(fault(line, text, "set the anchor with & before it"));
                };
                self.nodes += size(&node);
                return Ok(Node { line, ..node });
            }
            Owned::Scalar(text, style, anchor, tag) => {
                if style != ScalarStyle::Plain {
                    self.quoted.push((span.start.index(), span.end.index()));
                }
                let known = tag.as_deref().is_none_or(scalar::is_known_tag);
                self.check_tag(known, tag.as_deref(), line);
                let is_plain = style == ScalarStyle::Plain && tag.is_none();
                (anchor, scalar::value(text, is_plain, tag.as_deref()))
            }
            Owned::List(anchor, tag) => {
                self.check_tag(
                    tag.is_none() || tag.as_deref() == Some("seq"),
                    tag.as_deref(),
                    line,
                );
                (anchor, self.list(depth)?)
            }
            Owned::Map(anchor, tag) => {
                let known = matches!(tag.as_deref(), None | Some("map" | "omap" | "set"));
                self.check_tag(known, tag.as_deref(), line);
                (anchor, self.map(depth)?)
            }
            Owned::End => return Err(fault(line, "a value is missing", "say one")),
        };
        let node = Node { line, value };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn list(&mut self, depth: usize) -> Result<Value, Fault> {
        let mut values = Vec::new();
        loop {
            let (event, span) = self.next()?;
            match owned(event) {
                Owned::End => return Ok(Value::List(values)),
                event => values.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Value, Fault> {
        let mut entries: Vec<(Node, Node)> = Vec::new();
        let mut merged: Vec<(Node, Node)> = Vec::new();
        loop {
            let (event, span) = self.next()?;
            let key = match owned(event) {
                Owned::End => break,
                event => self.node(event, span, depth + 1)?,
            };
            let (event, span) = self.next()?;
            let event = owned(event);
            let value = self.node(event, span, depth + 1)?;
            if key.value == Value::Text("<<".to_owned()) {
                merged.extend(self.merge(value));
                continue;
            }
            if let Some((first, _)) = entries.iter().find(|(known, _)| known.value == key.value) {
                let text = format!("{} is said on line {} already", key.value, first.line);
                self.faults.push(fault(
                    key.line,
                    &text,
                    "keep one of them: the first would be dropped without a word",
                ));
            }
            entries.push((key, value));
        }
        // What is said here wins over what is merged in.
        merged.retain(|(key, _)| entries.iter().all(|(own, _)| own.value != key.value));
        entries.extend(merged);
        Ok(Value::Map(entries))
    }

    fn merge(&mut self, node: Node) -> Vec<(Node, Node)> {
        match node.value {
            Value::Map(entries) => entries,
            Value::List(maps) => maps.into_iter().flat_map(|map| self.merge(map)).collect(),
            _ => {
                let text = "<< takes a map, or a list of maps";
                self.faults
                    .push(fault(node.line, text, "merge an alias of a map"));
                Vec::new()
            }
        }
    }

    fn check_tag(&mut self, is_known: bool, tag: Option<&str>, line: usize) {
        if let Some(tag) = tag.filter(|_| !is_known) {
            let text = format!("the tag {tag} means nothing to PyYAML's safe loader");
            self.faults.push(fault(line, &text, "leave the tag out"));
        }
    }
}

/// An event without what it borrows.
enum Owned {
    Alias(usize),
    Scalar(String, ScalarStyle, usize, Option<String>),
    List(usize, Option<String>),
    Map(usize, Option<String>),
    End,
}

fn owned(event: Event<'_>) -> Owned {
    let name = |tag: Option<std::borrow::Cow<'_, Tag>>| {
        tag.map(|tag| {
            if tag.is_yaml_core_schema() || tag.handle == "!!" {
                tag.suffix.clone()
            } else {
                format!("{}{}", tag.handle, tag.suffix)
            }
        })
    };
    match event {
        Event::Alias(anchor) => Owned::Alias(anchor),
        Event::Scalar(text, style, anchor, tag) => {
            Owned::Scalar(text.into_owned(), style, anchor, name(tag))
        }
        Event::SequenceStart(anchor, tag) => Owned::List(anchor, name(tag)),
        Event::MappingStart(anchor, tag) => Owned::Map(anchor, name(tag)),
        _ => Owned::End,
    }
}

fn size(node: &Node) -> usize {
    match &node.value {
        Value::List(nodes) => 1 + nodes.iter().map(size).sum::<usize>(),
        Value::Map(entries) => {
            1 + (entries.iter())
                .map(|(key, value)| size(key) + size(value))
                .sum::<usize>()
        }
        _ => 1,
    }
}

/// The line of the first tab that is neither content of a quoted or block scalar nor in a comment.
fn stray_tab(text: &str, quoted: &[(usize, usize)]) -> Option<usize> {
    let mut at = 0;
    for (number, line) in text.split('\n').enumerate() {
        let is_content = |index: usize| {
            let inside = |(start, end): &(usize, usize)| (*start..*end).contains(&index);
            quoted.iter().any(inside)
        };
        let mut before = ' ';
        for (column, c) in line.chars().enumerate() {
            if is_content(at + column) {
                before = c;
                continue;
            }
            match c {
                '\t' => return Some(number + 1),
                '#' if before == ' ' => break,
                _ => before = c,
            }
        }
        at += line.chars().count() + 1;
    }
    None
}

fn unreadable(error: &ScanError) -> Fault {
    Fault {
        line: error.marker().line(),
        message: format!("it is no YAML: {}", error.info()),
        next_step: "look at the indentation, colons and quotes there; a value goes through |yaml",
    }
}

fn fault(line: usize, message: &str, next_step: &'static str) -> Fault {
    Fault {
        line,
        message: message.to_owned(),
        next_step,
    }
}

impl Node {
    /// The value of this key, if it is a map that has it.
    pub fn get(&self, key: &str) -> Option<&Node> {
        Some(self.entry(key)?.1)
    }

    /// The same, with the line that the key stands on.
    pub fn entry(&self, key: &str) -> Option<(usize, &Node)> {
        let Value::Map(entries) = &self.value else {
            return None;
        };
        let mut entries = entries.iter();
        entries
            .find(|(known, _)| matches!(&known.value, Value::Text(text) if text == key))
            .map(|(known, value)| (known.line, value))
    }

    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The values of a list; none of what is none.
    pub fn list(&self) -> &[Node] {
        match &self.value {
            Value::List(nodes) => nodes,
            _ => &[],
        }
    }
}

#[cfg(test)]
mod tests;
