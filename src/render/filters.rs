//! Quoting, by name. Each refuses what is not defined: a filter would otherwise turn a misspelt name into `null`.

use minijinja::value::ValueKind;
use minijinja::{Environment, Error, ErrorKind, Value};

pub(super) fn add_to(environment: &mut Environment<'_>) {
    environment.add_filter("yaml", json);
    environment.add_filter("json", json);
    environment.add_filter("tojson", json);
    environment.add_filter("sh", sh);
    environment.add_filter("karg", karg);
    // A word on a line of an iPXE script is held to what a kernel argument in one is.
    environment.add_filter("ipxe", karg);
    environment.add_filter("grub", grub);
    environment.add_filter("uri", uri);
    environment.add_filter("preseed", preseed);
}

/// A value as JSON, which is also YAML's flow style: no content can end the value it stands in. YAML 1.1, which cloud-init
/// reads, refuses some characters that JSON takes, and folds others: those are written as escapes, which mean the same to both.
fn json(value: &Value) -> Result<String, Error> {
    let text = serde_json::to_string(defined(value)?)
        .map_err(|error| Error::new(ErrorKind::InvalidOperation, error.to_string()))?;
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match u32::from(c) {
            code @ (0x7f..=0x9f | 0x2028 | 0x2029 | 0xfeff | 0xfffe | 0xffff) => {
                safe.push_str(&format!("\\u{code:04x}"));
            }
            _ => safe.push(c),
        }
    }
    Ok(safe)
}

/// One word for a POSIX shell.
fn sh(value: &Value) -> Result<String, Error> {
    let text = scalar(value)?;
    if text.contains('\0') {
        return Err(refused("a NUL octet", "a shell word"));
    }
    Ok(format!("'{}'", text.replace('\'', r"'\''")))
}

/// One word of a GRUB script: within single quotes GRUB expands nothing, and `;` ends no command.
fn grub(value: &Value) -> Result<String, Error> {
    let text = scalar(value)?;
    grub_word(&text).map_err(|what| refused(what, "a word of a GRUB script"))
}

/// The text as one word of a GRUB script; or what is wrong with it.
pub(crate) fn grub_word(text: &str) -> Result<String, &'static str> {
    if text.chars().any(char::is_control) {
        return Err("a control character");
    }
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"/:._,=-+@%()".contains(&b);
    if !text.is_empty() && text.bytes().all(is_plain) {
        Ok(text.to_owned())
    } else {
        Ok(format!("'{}'", text.replace('\'', r"'\''")))
    }
}

/// A part of a URL: everything but RFC 3986's unreserved characters is escaped.
fn uri(value: &Value) -> Result<String, Error> {
    let mut escaped = String::new();
    for octet in scalar(value)?.bytes() {
        if octet.is_ascii_alphanumeric() || b"-._~".contains(&octet) {
            escaped.push(char::from(octet));
        } else {
            escaped.push_str(&format!("%{octet:02X}"));
        }
    }
    Ok(escaped)
}

/// A preseed value: it goes to the end of its line, and debconf takes it as it is.
fn preseed(value: &Value) -> Result<String, Error> {
    let text = scalar(value)?;
    if text.contains(|c: char| c.is_control() && c != '\t') {
        return Err(refused("a line end or control character", "one line"));
    }
    // A line that ends in a backslash would go on with the next one.
    if text.ends_with('\\') || text.starts_with(' ') {
        return Err(refused("a value that debconf would not keep", "one line"));
    }
    Ok(text)
}

/// A part of a kernel argument: it must stay one argument, in a boot loader's script too.
fn karg(value: &Value) -> Result<String, Error> {
    let text = scalar(value)?;
    match check_argument(&text) {
        Ok(()) => Ok(text),
        Err(what) => Err(refused(what, "a kernel argument")),
    }
}

/// Whether the text stays one word, and means itself, on a line of an iPXE script; or what is wrong with it.
pub(crate) fn check_argument(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        Err("nothing")
    } else if text.contains(|c: char| c.is_whitespace()) {
        Err("white space")
    } else if text.contains(|c: char| c.is_control()) {
        Err("a control character")
    } else if text.contains("${") || text.contains("$(") {
        Err("`${`, which iPXE would expand")
    } else if matches!(text, "&&" | "||" | "!" | ";") || text.starts_with('#') {
        Err("an operator of iPXE scripts")
    } else {
        Ok(())
    }
}

fn defined(value: &Value) -> Result<&Value, Error> {
    if value.is_undefined() {
        Err(Error::from(ErrorKind::UndefinedError))
    } else {
        Ok(value)
    }
}

pub(super) fn scalar(value: &Value) -> Result<String, Error> {
    match defined(value)?.kind() {
        ValueKind::Bool | ValueKind::Number | ValueKind::String => Ok(value.to_string()),
        kind => Err(refused(&format!("a {kind}"), "one word")),
    }
}

pub(super) fn refused(what: &str, wanted: &str) -> Error {
    Error::new(
        ErrorKind::InvalidOperation,
        format!("wanted {wanted}, got {what}"),
    )
}
