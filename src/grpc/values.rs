//! Values of `google.protobuf` and ours: variables, JSON and times.

use std::time::Duration;

use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Timestamp, Value};

use crate::model::{HIDDEN, Var};

/// Objects in variables may be nested this deep.
pub(super) const DEEPEST: usize = 16;

/// Unix time in seconds.
pub(super) fn time(secs: u64) -> Timestamp {
    Timestamp {
        seconds: i64::try_from(secs).unwrap_or(i64::MAX),
        nanos: 0,
    }
}

/// Unix time in milliseconds.
pub(super) fn time_ms(ms: u64) -> Timestamp {
    Timestamp {
        nanos: i32::try_from(ms % 1000).unwrap_or(0) * 1_000_000,
        ..time(ms / 1000)
    }
}

/// A length of time.
pub(super) fn duration(length: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(length.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(length.subsec_nanos()).unwrap_or(0),
    }
}

/// The variable that a value says, unless it is null, no number, or nested too deep.
pub(super) fn to_var(value: &Value, depth: usize) -> Option<Var> {
    let inner = depth.checked_sub(1)?;
    Some(match value.kind.as_ref()? {
        Kind::NullValue(_) => return None,
        Kind::BoolValue(value) => Var::Bool(*value),
        // JSON has one kind of number; a whole one is an integer to a template, as far as all of them can be told apart (2^53).
        Kind::NumberValue(number)
            if number.fract() == 0.0 && number.abs() <= 9_007_199_254_740_992.0 =>
        {
            Var::Integer(*number as i64)
        }
        Kind::NumberValue(number) if number.is_finite() => Var::Number(*number),
        Kind::NumberValue(_) => return None,
        Kind::StringValue(text) => Var::Text(text.clone()),
        Kind::ListValue(list) => Var::List(
            (list.values.iter())
                .map(|value| to_var(value, inner))
                .collect::<Option<_>>()?,
        ),
        Kind::StructValue(object) => Var::Map(
            (object.fields.iter())
                .map(|(name, value)| Some((name.clone(), to_var(value, inner)?)))
                .collect::<Option<_>>()?,
        ),
    })
}

/// A secret is answered as `(secret)`, whatever place it names.
pub(super) fn to_value(var: &Var) -> Value {
    let kind = match var {
        secret if secret.secret().is_some() => Kind::StringValue(HIDDEN.to_owned()),
        Var::Bool(value) => Kind::BoolValue(*value),
        Var::Integer(number) => Kind::NumberValue(*number as f64),
        Var::Number(number) => Kind::NumberValue(*number),
        Var::Text(text) => Kind::StringValue(text.clone()),
        Var::List(values) => Kind::ListValue(ListValue {
            values: values.iter().map(to_value).collect(),
        }),
        Var::Map(fields) => Kind::StructValue(Struct {
            fields: (fields.iter())
                .map(|(name, var)| (name.clone(), to_value(var)))
                .collect(),
        }),
    };
    Value { kind: Some(kind) }
}

/// JSON as a value.
pub(super) fn json_value(json: &serde_json::Value) -> Value {
    use serde_json::Value as Json;
    let kind = match json {
        Json::Null => Kind::NullValue(0),
        Json::Bool(value) => Kind::BoolValue(*value),
        Json::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Json::String(text) => Kind::StringValue(text.clone()),
        Json::Array(values) => Kind::ListValue(ListValue {
            values: values.iter().map(json_value).collect(),
        }),
        Json::Object(_) => Kind::StructValue(json_struct(json).unwrap_or_default()),
    };
    Value { kind: Some(kind) }
}

/// A JSON object as one.
pub(super) fn json_struct(json: &serde_json::Value) -> Option<Struct> {
    let fields = json.as_object()?.iter();
    Some(Struct {
        fields: fields
            .map(|(name, value)| (name.clone(), json_value(value)))
            .collect(),
    })
}
