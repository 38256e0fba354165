//! Filters of lists and watches: a small part of AIP-160. In: text such as `state = BOUND AND labels.rack = "r1"`. Out: its terms,
//! or a status that says where it stops being understood.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use tonic::Status;

use super::errors::invalid;

/// Longer ones are no filters.
const LONGEST: usize = 4096;

/// `field = value`, or `field != value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Term {
    pub(super) field: String,
    pub(super) is_not: bool,
    pub(super) value: String,
}

/// What a text is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Text {
    /// Anything but nothing.
    Any,
    Exactly(String),
    Begins(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Quoted(String),
    Is,
    IsNot,
}

/// The terms of a filter, all of which are to be true; none for an empty one.
pub(super) fn parse(text: &str) -> Result<Vec<Term>, Status> {
    if text.len() > LONGEST {
        return Err(refused(&format!("has more than {LONGEST} octets")));
    }
    let mut tokens = tokens(text)?.into_iter();
    let mut terms = Vec::new();
    while let Some(first) = tokens.next() {
        let Token::Word(field) = first else {
            return Err(refused("wanted a field's name where a term begins"));
        };
        if ["OR", "NOT", "AND"].contains(&field.as_str()) {
            let text = format!("`{field}` is not understood here; join terms by AND");
            return Err(refused(&text));
        }
        let is_not = match tokens.next() {
            Some(Token::Is) => false,
            Some(Token::IsNot) => true,
            _ => return Err(refused(&format!("wanted = or != after `{field}`"))),
        };
        let (Some(Token::Word(value)) | Some(Token::Quoted(value))) = tokens.next() else {
            return Err(refused(&format!("wanted a value after `{field} =`")));
        };
        terms.push(Term {
            field,
            is_not,
            value,
        });
        match tokens.next() {
            None => return Ok(terms),
            Some(Token::Word(and)) if and == "AND" => {}
            Some(_) => return Err(refused("wanted AND, or the end, after a term")),
        }
        if tokens.len() == 0 {
            return Err(refused("wanted another term after AND"));
        }
    }
    Ok(terms)
}

fn tokens(text: &str) -> Result<Vec<Token>, Status> {
    let is_of_a_word = |c: char| c.is_ascii_alphanumeric() || "._-:/*".contains(c);
    let mut tokens = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            c if c.is_whitespace() => {}
            '=' => tokens.push(Token::Is),
            '!' if chars.next_if_eq(&'=').is_some() => tokens.push(Token::IsNot),
            '"' => tokens.push(Token::Quoted(quoted(&mut chars)?)),
            c if is_of_a_word(c) => {
                let mut word = String::from(c);
                while let Some(c) = chars.next_if(|c| is_of_a_word(*c)) {
                    word.push(c);
                }
                tokens.push(Token::Word(word));
            }
            c => {
                let text = format!(
                    "`{}` is not understood; wanted terms such as field = \"value\", joined by AND",
                    c.escape_default()
                );
                return Err(refused(&text));
            }
        }
    }
    Ok(tokens)
}

fn quoted(chars: &mut impl Iterator<Item = char>) -> Result<String, Status> {
    let mut text = String::new();
    loop {
        match chars.next() {
            Some('"') => return Ok(text),
            Some('\\') => text.extend(chars.next()),
            Some(c) => text.push(c),
            None => return Err(refused("a value in quotes does not end")),
        }
    }
}

impl Term {
    /// What the value asks of a text: that it is this one, begins so (`node-*`), or is there at all (`*`).
    pub(super) fn text(&self) -> Text {
        match self.value.strip_suffix('*') {
            Some("") => Text::Any,
            Some(start) => Text::Begins(start.to_owned()),
            None => Text::Exactly(self.value.clone()),
        }
    }

    /// A subnet, or an address as a subnet of one.
    pub(super) fn network(&self) -> Result<Ipv4Net, Status> {
        let one = |address: Ipv4Addr| Ipv4Net::from(address);
        (self.value.parse::<Ipv4Net>().map(|net| net.trunc()))
            .or_else(|_| self.value.parse().map(one))
            .map_err(|_| self.unfit("wanted an address or a subnet such as 198.18.0.0/24"))
    }

    /// One of these words, whatever its case.
    pub(super) fn one_of<T: Copy>(&self, words: &[(&str, T)]) -> Result<T, Status> {
        let found = (words.iter()).find(|(word, _)| word.eq_ignore_ascii_case(&self.value));
        found.map(|(_, value)| *value).ok_or_else(|| {
            let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.unfit(&format!("wanted one of: {}", words.join(", ")))
        })
    }

    /// The status of a value that the field cannot have.
    pub(super) fn unfit(&self, wanted: &str) -> Status {
        let Self { field, value, .. } = self;
        let value = value.escape_default();
        refused(&format!("{field} cannot be `{value}`; {wanted}"))
    }

    /// The status of a field that there is not.
    pub(super) fn unknown(&self, known: &[&str]) -> Status {
        let field = self.field.escape_default();
        let known = known.join(", ");
        refused(&format!("`{field}` is not known; known are: {known}"))
    }
}

impl Text {
    pub(super) fn fits(&self, text: &str) -> bool {
        match self {
            Self::Any => !text.is_empty(),
            Self::Exactly(wanted) => text == wanted,
            Self::Begins(start) => text.starts_with(start.as_str()),
        }
    }

    /// The same where case does not count, as in host names.
    pub(super) fn fits_name(&self, name: &str) -> bool {
        self.lowered().fits(&name.to_ascii_lowercase())
    }

    fn lowered(&self) -> Self {
        match self {
            Self::Any => Self::Any,
            Self::Exactly(text) => Self::Exactly(text.to_ascii_lowercase()),
            Self::Begins(text) => Self::Begins(text.to_ascii_lowercase()),
        }
    }
}

fn refused(problem: &str) -> Status {
    invalid("filter", &format!("filter: {problem}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn term(field: &str, is_not: bool, value: &str) -> Term {
        Term {
            field: field.to_owned(),
            is_not,
            value: value.to_owned(),
        }
    }

    #[test]
    fn terms_are_fields_and_values_joined_by_and() {
        let parsed = |text: &str| parse(text).expect(text);
        assert_eq!(parsed("  "), []);
        assert_eq!(parsed("state=BOUND"), [term("state", false, "BOUND")]);
        assert_eq!(
            parsed(r#"labels.rack/a = "r 1\"\\" AND address != 198.18.0.0/24"#),
            [
                term("labels.rack/a", false, r#"r 1"\"#),
                term("address", true, "198.18.0.0/24")
            ]
        );
        assert_eq!(parsed("hostname = \"\""), [term("hostname", false, "")]);
        assert_eq!(
            parsed("mac=52:54:00:00:00:01"),
            [term("mac", false, "52:54:00:00:00:01")]
        );
    }

    #[test]
    fn what_is_no_such_filter_is_refused_in_a_sentence() {
        for (text, wanted) in [
            ("hostname", "wanted = or != after `hostname`"),
            ("= a", "wanted a field's name where a term begins"),
            ("a =", "wanted a value after `a =`"),
            ("a = = b", "wanted a value after `a =`"),
            ("a = b OR c = d", "wanted AND, or the end, after a term"),
            ("a = b c = d", "wanted AND, or the end, after a term"),
            ("NOT a = b", "`NOT` is not understood here"),
            ("a = b AND", "wanted another term after AND"),
            ("a > 1", "`>` is not understood"),
            ("(a = b)", "`(` is not understood"),
            ("a ! b", "`!` is not understood"),
            ("a = \"b", "a value in quotes does not end"),
            ("a = ü", "`\\u{fc}` is not understood"),
        ] {
            let status = parse(text).expect_err(text);
            assert!(
                status.message().contains(wanted),
                "{text}: {}",
                status.message()
            );
        }
        assert!(parse(&"a".repeat(5000)).is_err());
    }

    #[test]
    fn a_text_is_exact_or_begins_so_or_is_there() {
        let fits = |value: &str, text: &str| term("f", false, value).text().fits(text);
        assert!(fits("node-1", "node-1") && !fits("node-1", "node-12"));
        assert!(fits("node-*", "node-12") && !fits("node-*", "ode-12"));
        assert!(fits("*", "x") && !fits("*", "") && fits("", "") && !fits("", "x"));
    }
}
