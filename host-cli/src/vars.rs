//! Template variables: from what was typed to protobuf values, and from those to JSON.

use std::collections::BTreeMap;

use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
use serde_json::Value as Json;

use crate::options;

/// Variables by name.
pub type Vars = BTreeMap<String, Value>;

/// `key=value` as text.
pub fn text(argument: &str) -> Result<(String, Value), String> {
    let (key, value) = split(argument)?;
    Ok((
        key,
        Value {
            kind: Some(Kind::StringValue(value.to_owned())),
        },
    ))
}

/// `key=JSON`: number, boolean, list, object, null or quoted string.
pub fn json(argument: &str) -> Result<(String, Value), String> {
    let (key, value) = split(argument)?;
    let value: Json = serde_json::from_str(value).map_err(|error| {
        format!("{key}: wanted JSON, got `{value}` ({error}); for plain text use --var")
    })?;
    Ok((key, from_json(value)))
}

/// `name=value` of a DHCP option, by what the option is made of; a list is parted by commas.
pub fn option(argument: &str) -> Result<(String, Value), String> {
    let (name, text) = split(argument)?;
    let value = options::typed_of(&name, text).map_err(|problem| format!("{name}: {problem}"))?;
    Ok((name, from_json(value)))
}

/// A file's text: one JSON object.
pub fn object(text: &str) -> Result<Vars, String> {
    match serde_json::from_str(text) {
        Ok(Json::Object(map)) => Ok(map.into_iter().map(|(k, v)| (k, from_json(v))).collect()),
        Ok(_) => Err("wanted a JSON object, got another value".to_owned()),
        Err(error) => Err(format!("wanted a JSON object: {error}")),
    }
}

/// The value as JSON; whole numbers without a decimal point.
pub fn to_json(value: &Value) -> Json {
    match &value.kind {
        None | Some(Kind::NullValue(_)) => Json::Null,
        Some(Kind::BoolValue(value)) => Json::Bool(*value),
        Some(Kind::StringValue(value)) => Json::String(value.clone()),
        Some(Kind::NumberValue(value)) => number(*value),
        Some(Kind::ListValue(list)) => list.values.iter().map(to_json).collect(),
        Some(Kind::StructValue(map)) => map_to_json(&map.fields),
    }
}

/// Variables as one JSON object.
pub fn map_to_json(vars: &Vars) -> Json {
    let pairs = vars
        .iter()
        .map(|(key, value)| (key.clone(), to_json(value)));
    Json::Object(pairs.collect())
}

/// Protobuf knows one kind of number, the double: whole ones up to 2^53 are exact.
fn number(value: f64) -> Json {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() <= EXACT {
        return Json::from(value as i64);
    }
    serde_json::Number::from_f64(value).map_or(Json::Null, Json::Number)
}

/// JSON as a protobuf value.
pub fn from_json(value: Json) -> Value {
    let kind = match value {
        Json::Null => Kind::NullValue(0),
        Json::Bool(value) => Kind::BoolValue(value),
        // A number that no double can hold does not come out of serde_json without its arbitrary_precision.
        Json::Number(value) => Kind::NumberValue(value.as_f64().unwrap_or(f64::NAN)),
        Json::String(value) => Kind::StringValue(value),
        Json::Array(values) => Kind::ListValue(ListValue {
            values: values.into_iter().map(from_json).collect(),
        }),
        Json::Object(map) => Kind::StructValue(Struct {
            fields: map
                .into_iter()
                .map(|(key, value)| (key, from_json(value)))
                .collect(),
        }),
    };
    Value { kind: Some(kind) }
}

fn split(argument: &str) -> Result<(String, &str), String> {
    match argument.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value)),
        _ => Err(format!("wanted KEY=VALUE, got `{argument}`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typed_variables_survive_the_way_to_protobuf_and_back() {
        let text = r#"{"n":3,"half":0.5,"on":true,"none":null,"list":["a",1],"deep":{"k":"v"}}"#;
        let vars = object(text).unwrap();
        let back = map_to_json(&vars);
        assert_eq!(back, serde_json::from_str::<Json>(text).unwrap());
        assert_eq!(to_json(&vars["n"]).to_string(), "3");
    }

    #[test]
    fn text_stays_text_even_if_it_looks_like_a_number() {
        let (key, value) = text("vlan=0012").unwrap();
        assert_eq!(
            (key.as_str(), to_json(&value)),
            ("vlan", Json::from("0012"))
        );
        let (_, value) = text("ssh_key=ssh-ed25519 AAAA= me").unwrap();
        assert_eq!(to_json(&value), Json::from("ssh-ed25519 AAAA= me"));
        let (_, value) = json("vlan=12").unwrap();
        assert_eq!(to_json(&value), Json::from(12));
    }

    #[test]
    fn what_is_not_a_variable_is_refused_with_what_was_wanted() {
        assert_eq!(text("vlan").unwrap_err(), "wanted KEY=VALUE, got `vlan`");
        assert_eq!(text("=12").unwrap_err(), "wanted KEY=VALUE, got `=12`");
        let error = json("name=node").unwrap_err();
        assert!(
            error.starts_with("name: wanted JSON, got `node`"),
            "{error}"
        );
        assert!(object("[1]").unwrap_err().contains("wanted a JSON object"));
    }
}
