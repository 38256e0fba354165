//! Templates. In: a template's text and the values it may use. Out: the document, or the place and reason for which there is
//! none.
//!
//! A name that is not defined is an error, never an empty string; nothing is escaped for HTML; quoting is asked for by name:
//! `yaml`, `json`, `sh`, `karg`, `ipxe`, `grub`, `uri`, `preseed`. `sha512crypt` makes of a password what `/etc/shadow` holds.

mod filters;
mod password;
pub mod profile;

pub(crate) use self::filters::{check_argument, grub_word};
pub use self::password::Salt;

use std::collections::BTreeMap;

use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior, Value};
use thiserror::Error;

/// A template cannot spin for ever: this many instructions are a thousand times what a document needs.
const FUEL: u64 = 5_000_000;

/// Why there is no document.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RenderError {
    #[error("template {template} line {line}: {problem}")]
    Template {
        template: String,
        line: usize,
        problem: String,
    },
    #[error("template {0} does not exist in the profile")]
    Missing(String),
}

/// Renders the template `name` of `templates` (by name); it may include and extend the others.
pub fn render(
    templates: &BTreeMap<String, String>,
    name: &str,
    values: &Value,
    salt: &Salt,
) -> Result<String, RenderError> {
    let mut environment = environment();
    password::add_to(&mut environment, salt);
    for (name, source) in templates {
        environment
            .add_template(name, source)
            .map_err(|error| describe(name, &error))?;
    }
    let template = environment
        .get_template(name)
        .map_err(|_| RenderError::Missing(name.to_owned()))?;
    template
        .render(values)
        .map_err(|error| describe(name, &error))
}

/// Renders one template that stands alone; `name` is what errors call it.
pub fn render_text(
    name: &str,
    source: &str,
    values: &Value,
    salt: &Salt,
) -> Result<String, RenderError> {
    let mut environment = environment();
    password::add_to(&mut environment, salt);
    environment
        .render_named_str(name, source, values)
        .map_err(|error| describe(name, &error))
}

/// Whether the text is a template at all, before anything is rendered with it.
pub fn check(name: &str, source: &str) -> Result<(), RenderError> {
    let mut environment = environment();
    password::add_to(&mut environment, &Salt::default());
    environment
        .template_from_named_str(name, source)
        .map(|_| ())
        .map_err(|error| describe(name, &error))
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_fuel(Some(FUEL));
    let syntax = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .keep_trailing_newline(true)
        .build()
        .expect("the default delimiters are apart");
    environment.set_syntax(syntax);
    filters::add_to(&mut environment);
    environment
}

fn describe(name: &str, error: &minijinja::Error) -> RenderError {
    // An error in an included template comes wrapped in one of the template that includes it.
    let mut inner = std::error::Error::source(error);
    while let Some(source) = inner {
        if let Some(source) = source.downcast_ref::<minijinja::Error>() {
            return describe(name, source);
        }
        inner = source.source();
    }
    let problem = match (error.kind(), undefined_name(error)) {
        (ErrorKind::UndefinedError, Some(name)) => format!("`{name}` is not defined"),
        (kind, _) => match error.detail() {
            Some(detail) => format!("{kind}: {detail}"),
            None => kind.to_string(),
        },
    };
    RenderError::Template {
        template: error.name().unwrap_or(name).to_owned(),
        line: error.line().unwrap_or(0),
        problem,
    }
}

/// What the template names at the place of the error: the value before its filters, where the error is in one.
fn undefined_name(error: &minijinja::Error) -> Option<&str> {
    let (source, range) = (error.template_source()?, error.range()?);
    let opened = source.get(..range.start)?.rfind("{{").map(|at| at + 2);
    let expression = opened
        .and_then(|from| source.get(from..)?.split("}}").next())
        .filter(|text| opened.is_some_and(|from| range.start < from + text.len()));
    let name = match expression {
        Some(expression) if expression.contains('|') => expression.split('|').next()?,
        _ => source.get(range)?,
    };
    let name = name.trim_matches(|c: char| "{}%- ".contains(c) || c.is_whitespace());
    (!name.is_empty() && name.len() < 80).then_some(name)
}

#[cfg(test)]
mod tests;
