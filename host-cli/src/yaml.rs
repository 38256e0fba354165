//! YAML for people and programs. In: a value. Out: text that every reader of YAML 1.1 and 1.2 reads back as that value.
//!
//! What could be read as anything but text is quoted: a MAC of digits is a number to base 60 in YAML 1.1, and `no` is a truth value.

use serde_json::Value as Json;

/// The value as one document, closed with a line end.
pub fn document(value: &Json) -> String {
    let mut out = String::new();
    match value {
        Json::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                entry(&mut out, 0, key, value);
            }
        }
        Json::Array(list) if !list.is_empty() => items(&mut out, 0, list),
        scalar => {
            out.push_str(&inline(scalar));
            out.push('\n');
        }
    }
    out
}

/// `key: value`, `indent` columns in; what is nested follows two columns further in.
pub fn entry(out: &mut String, indent: usize, key: &str, value: &Json) {
    out.push_str(&" ".repeat(indent));
    rest_of_entry(out, indent, key, value);
}

fn rest_of_entry(out: &mut String, indent: usize, key: &str, value: &Json) {
    out.push_str(&text(key));
    out.push(':');
    match value {
        Json::Object(map) if !map.is_empty() => {
            out.push('\n');
            for (key, value) in map {
                entry(out, indent + 2, key, value);
            }
        }
        Json::Array(list) if !list.is_empty() => {
            out.push('\n');
            items(out, indent, list);
        }
        Json::String(text) if is_block(text) => block(out, indent + 2, text),
        scalar => {
            out.push(' ');
            out.push_str(&inline(scalar));
            out.push('\n');
        }
    }
}

fn items(out: &mut String, indent: usize, list: &[Json]) {
    for value in list {
        out.push_str(&" ".repeat(indent));
        out.push_str("- ");
        match value {
            Json::Object(map) if !map.is_empty() => {
                for (at, (key, value)) in map.iter().enumerate() {
                    if at > 0 {
                        out.push_str(&" ".repeat(indent + 2));
                    }
                    rest_of_entry(out, indent + 2, key, value);
                }
            }
            // A list in a list stays on its line: JSON is YAML.
            other => {
                out.push_str(&inline(other));
                out.push('\n');
            }
        }
    }
}

/// Lines as they are, where nothing in them needs an escape.
fn block(out: &mut String, indent: usize, text: &str) {
    out.push_str(if text.ends_with('\n') {
        " |\n"
    } else {
        " |-\n"
    });
    for line in text.lines() {
        if !line.is_empty() {
            out.push_str(&" ".repeat(indent));
            out.push_str(line);
        }
        out.push('\n');
    }
}

fn is_block(text: &str) -> bool {
    let first = text.chars().next();
    text.trim_end_matches('\n').contains('\n')
        && first.is_some_and(|first| !first.is_whitespace())
        && !text.ends_with("\n\n")
        && text.chars().all(|c| c == '\n' || is_printable(c))
        && text
            .lines()
            .all(|line| line.is_empty() || !line.trim().is_empty())
}

fn inline(value: &Json) -> String {
    match value {
        Json::String(value) => text(value),
        Json::Array(_) | Json::Object(_) => value.to_string(),
        other => other.to_string(),
    }
}

/// Text as it is where nobody can take it for something else, or else as a JSON string, which is YAML too.
fn text(text: &str) -> String {
    match is_plain(text) {
        true => text.to_owned(),
        false => Json::from(text).to_string(),
    }
}

fn is_plain(text: &str) -> bool {
    const WORDS: [&str; 10] = [
        "y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan",
    ];
    let first = text.chars().next();
    let is_address = text.split('.').count() == 4 && text.parse::<std::net::Ipv4Addr>().is_ok();
    is_address
        || first.is_some_and(|first| first.is_ascii_alphabetic() || first == '/')
            && !text.ends_with(' ')
            && (text.chars()).all(|c| c.is_ascii_alphanumeric() || " _./@+-".contains(c))
            && !WORDS.contains(&text.to_ascii_lowercase().as_str())
}

fn is_printable(c: char) -> bool {
    !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_could_be_read_as_something_else_is_quoted() {
        for (value, written) in [
            ("node-1", "node-1"),
            ("198.18.0.10", "198.18.0.10"),
            ("/srv/a b", "/srv/a b"),
            ("52:54:00:00:00:01", "\"52:54:00:00:00:01\""),
            ("no", "\"no\""),
            ("Off", "\"Off\""),
            ("0755", "\"0755\""),
            ("1e3", "\"1e3\""),
            ("", "\"\""),
            ("~", "\"~\""),
            ("- x", "\"- x\""),
            ("a: b", "\"a: b\""),
            ("a #b", "\"a #b\""),
            ("a ", "\"a \""),
            ("tab\there", "\"tab\\there\""),
        ] {
            assert_eq!(text(value), written);
        }
    }

    #[test]
    fn what_is_nested_is_indented_and_lines_stay_lines() {
        let value = json!({
            "empty": [], "none": null, "map": {"a": 1, "b": {}},
            "list": [{"x": "1", "y": [true]}, [1, 2], "z"],
            "text": "#!/bin/sh\n\nexit 0\n",
        });
        let written = "empty: []\nlist:\n- x: \"1\"\n  \"y\":\n  - true\n- [1,2]\n- z\nmap:\n  a: 1\n  b: {}\nnone: null\n\
                       text: |\n  #!/bin/sh\n\n  exit 0\n";
        assert_eq!(document(&value), written);
        assert_eq!(document(&json!([])), "[]\n");
    }
}
