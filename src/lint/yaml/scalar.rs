//! What a word without quotes means in YAML 1.1, as PyYAML resolves it: `no` is false, `0644` is 420, and a MAC of small numbers
//! is a number of seconds.

use std::fmt;

use super::Node;

/// What a value is.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    /// As it was written: `0644` is a number, and not the one it looks like.
    Integer(i64, String),
    Number(f64),
    /// What PyYAML makes a date of.
    Date(String),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
}

/// Whether the safe loader knows a scalar of this tag.
pub(super) fn is_known_tag(tag: &str) -> bool {
    matches!(
        tag,
        "str" | "int" | "bool" | "float" | "null" | "binary" | "timestamp" | "!"
    )
}

pub(super) fn value(text: String, is_plain: bool, tag: Option<&str>) -> Value {
    match tag {
        Some("int") => integer(&text).unwrap_or(Value::Text(text)),
        Some("bool") => boolean(&text).map_or(Value::Text(text), Value::Bool),
        Some("null") => Value::Null,
        _ if is_plain => plain(text),
        _ => Value::Text(text),
    }
}

fn plain(text: String) -> Value {
    if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL") {
        return Value::Null;
    }
    if let Some(value) = boolean(&text) {
        return Value::Bool(value);
    }
    if let Some(value) = integer(&text) {
        return value;
    }
    if let Some(number) = number(&text) {
        return Value::Number(number);
    }
    if is_date(&text) {
        return Value::Date(text);
    }
    Value::Text(text)
}

fn boolean(text: &str) -> Option<bool> {
    match text {
        "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => Some(true),
        "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => Some(false),
        _ => None,
    }
}

fn integer(text: &str) -> Option<Value> {
    let (sign, rest) = match text.as_bytes().first()? {
        b'-' => (-1, &text[1..]),
        b'+' => (1, &text[1..]),
        _ => (1, text),
    };
    let digits = rest.replace('_', "");
    let all = |digits: &str, of: fn(u8) -> bool| !digits.is_empty() && digits.bytes().all(of);
    let radix = |digits: &str, radix| i64::from_str_radix(digits, radix).unwrap_or(i64::MAX);
    let number = if let Some(hex) = digits.strip_prefix("0x") {
        all(hex, |b| b.is_ascii_hexdigit()).then(|| radix(hex, 16))?
    } else if let Some(binary) = digits.strip_prefix("0b") {
        all(binary, |b| matches!(b, b'0' | b'1')).then(|| radix(binary, 2))?
    } else if digits.contains(':') {
        sexagesimal(&digits)?
    } else if !rest.starts_with('_') && all(&digits, |b| b.is_ascii_digit()) {
        match digits.strip_prefix('0') {
            None | Some("") => radix(&digits, 10),
            Some(octal) if all(octal, |b| (b'0'..=b'7').contains(&b)) => radix(octal, 8),
            Some(_) => return None,
        }
    } else {
        return None;
    };
    Some(Value::Integer(sign * number, text.to_owned()))
}

/// `1:30` is ninety, and so is every MAC whose octets are all below 60.
fn sexagesimal(digits: &str) -> Option<i64> {
    let mut parts = digits.split(':');
    let first = parts.next()?;
    if first.starts_with('0') || first.is_empty() || !first.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let mut number: i64 = first.parse().ok()?;
    for part in parts {
        let digit: i64 = part.parse().ok().filter(|_| part.len() <= 2)?;
        if !(0..60).contains(&digit) || part.starts_with(['+', '-']) {
            return None;
        }
        number = number.checked_mul(60)?.checked_add(digit)?;
    }
    Some(number)
}

fn number(text: &str) -> Option<f64> {
    let plain = text.trim_start_matches(['-', '+']);
    match plain {
        ".inf" | ".Inf" | ".INF" => return Some(f64::INFINITY),
        ".nan" | ".NaN" | ".NAN" => return Some(f64::NAN),
        _ => {}
    }
    // YAML 1.1 wants a point in a number with an exponent, and a sign in the exponent.
    let is_number = plain.contains('.')
        && plain.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && plain.contains(|c: char| c.is_ascii_digit())
        && !plain.starts_with("._");
    let digits = text.replace('_', "");
    let exponent = digits.split_once(['e', 'E']).map(|(_, exponent)| exponent);
    if !is_number || exponent.is_some_and(|exponent| !exponent.starts_with(['-', '+'])) {
        return None;
    }
    digits.parse().ok()
}

fn is_date(text: &str) -> bool {
    let day = text.get(..10).unwrap_or_default();
    let is_day = day.len() == 10
        && day.bytes().enumerate().all(|(at, b)| match at {
            4 | 7 => b == b'-',
            _ => b.is_ascii_digit(),
        });
    is_day
        && match text.as_bytes().get(10) {
            None => true,
            Some(b'T' | b't' | b' ') => text.len() >= 16 && text.contains(':'),
            Some(_) => false,
        }
}

impl fmt::Display for Value {
    /// As a problem has it: `the number 7`, `a list`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("nothing"),
            Self::Bool(value) => write!(f, "the truth value {value}"),
            Self::Integer(value, written) if *written == value.to_string() => {
                write!(f, "the number {value}")
            }
            Self::Integer(value, written) => {
                write!(
                    f,
                    "the number {value}, which is what {written} means in YAML"
                )
            }
            Self::Number(value) => write!(f, "the number {value}"),
            Self::Date(text) => write!(f, "the date {text}"),
            Self::Text(text) => {
                let short: String = text.chars().take(40).collect();
                let dots = if short.len() < text.len() { "…" } else { "" };
                write!(f, "`{}{dots}`", short.escape_debug())
            }
            Self::List(_) => f.write_str("a list"),
            Self::Map(_) => f.write_str("a map"),
        }
    }
}
