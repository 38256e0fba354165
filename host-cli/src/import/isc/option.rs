//! `option …;`: a value, or the definition of an option that dhcpd does not know.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use super::syntax::{Statement, Word};
use crate::import::Imported;
use crate::options::{self, Kind};
use crate::wanted::Place;

/// An option that the configuration defines; without a kind it is of parts, which Bootjack takes as octets alone.
#[derive(Clone, Copy, Debug)]
pub struct Defined {
    code: u8,
    kind: Option<Kind>,
}

/// Why an option does not come over.
#[derive(Debug)]
pub struct Why {
    why: String,
    todo: &'static str,
    is_malformed: bool,
}

impl Why {
    pub fn tell(self, place: &Place, statement: &Statement, out: &mut Imported) {
        match self.is_malformed {
            true => out.malformed(place, statement.shown(), self.why),
            false => out.leave(place, statement.shown(), self.why, self.todo),
        }
    }
}

fn left(why: &str, todo: &'static str) -> Why {
    Why {
        why: why.to_owned(),
        todo,
        is_malformed: false,
    }
}

fn malformed(why: String) -> Why {
    Why {
        why,
        todo: "",
        is_malformed: true,
    }
}

/// The code and the value; nothing for a definition, which is noted in `defined`.
pub fn read(
    statement: &Statement,
    defined: &mut BTreeMap<String, Defined>,
) -> Result<Option<(u8, Json)>, Why> {
    let name = statement.word(1);
    if statement.word(2) == "code" {
        return define(name, statement, defined).map(|()| None);
    }
    if name == "space" || statement.word(0) == "option" && name.contains('.') {
        return Err(left(
            "it is of a vendor's space",
            "write the octets: options = { vendor_specific = \"01:…\" }",
        ));
    }
    let known = defined.get(name).copied().or_else(|| {
        let code = options::by_isc(name)?;
        Some(Defined {
            code,
            kind: options::kind_of(code),
        })
    });
    let Some(Defined { code, kind }) = known else {
        return Err(malformed(format!(
            "`{name}` is no option that dhcpd knows, and none that is defined before"
        )));
    };
    if statement.word(2) == "="
        || statement.words.iter().any(|word| word.text().contains('(')) && !is_quoted(statement)
    {
        return Err(left(
            "it is an expression, and Bootjack has none",
            "write what it comes to",
        ));
    }
    if let Some(why) = options::decided_by_bootjack(code) {
        return Err(left(why, ""));
    }
    let values = statement.values(2);
    let parts: Vec<&str> = values.iter().map(String::as_str).collect();
    if parts.is_empty() {
        return Err(malformed("it has no value".to_owned()));
    }
    let value = match kind {
        // Octets may be said as text, and text as octets.
        Some(Kind::Hex) if is_quoted(statement) => Ok(json!({ "text": parts.join(",") })),
        Some(Kind::Text) if !is_quoted(statement) && options::unhex(parts[0]).is_some() => {
            Ok(json!({ "hex": parts[0] }))
        }
        // Addresses are separated by commas, and names of hosts are resolved by dhcpd.
        Some(Kind::Address | Kind::Addresses) if has_name(&parts) => {
            return Err(left(
                "dhcpd asks DNS for a name in it when it starts",
                "write the address",
            ));
        }
        Some(kind) => options::value_of(code, kind, &parts),
        None => match options::unhex(&parts.join(":")) {
            Some(octets) => Ok(json!({ "hex": options::hex(&octets) })),
            None => {
                return Err(left(
                    "it is of several parts",
                    "write its octets: options = { option_NNN = \"01:…\" }",
                ));
            }
        },
    };
    value.map(|value| Some((code, value))).map_err(malformed)
}

fn is_quoted(statement: &Statement) -> bool {
    statement
        .words
        .iter()
        .any(|word| matches!(word, Word::Quoted(_)))
}

fn has_name(parts: &[&str]) -> bool {
    let is_name = |part: &&str| {
        part.chars().any(|c| c.is_ascii_alphabetic()) && crate::wanted::check_hostname(part).is_ok()
    };
    parts.iter().any(is_name)
}

/// `option NAME code NUMBER = TYPE;`
fn define(
    name: &str,
    statement: &Statement,
    defined: &mut BTreeMap<String, Defined>,
) -> Result<(), Why> {
    let code = statement.word(3).parse::<u8>();
    let Ok(code) = code else {
        return Err(malformed(format!(
            "`{}` is no option's number",
            statement.word(3)
        )));
    };
    let types: Vec<&str> = statement.words.iter().skip(5).map(Word::text).collect();
    let kind = match types.as_slice() {
        ["text" | "string"] => Some(Kind::Text),
        ["ip-address"] => Some(Kind::Address),
        ["array", "of", "ip-address"] => Some(Kind::Addresses),
        ["boolean"] => Some(Kind::Bool),
        ["domain-list", ..] | ["domain-name", ..] => Some(Kind::Domains),
        ["unsigned", "integer", "8"] => Some(Kind::U8),
        ["unsigned", "integer", "16"] => Some(Kind::U16),
        ["unsigned", "integer", "32"] => Some(Kind::U32),
        ["integer", "32"] | ["signed", "integer", "32"] => Some(Kind::I32),
        ["array", "of", ..] if options::kind_of(code) == Some(Kind::Routes) => Some(Kind::Routes),
        _ => None,
    };
    defined.insert(name.to_owned(), Defined { code, kind });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Result<Option<(u8, Json)>, Why> {
        let mut defined = BTreeMap::new();
        let (statements, _) = super::super::syntax::read(text);
        statements
            .iter()
            .map(|statement| read(statement, &mut defined))
            .last()
            .unwrap()
    }

    #[test]
    fn values_are_read_by_what_they_are() {
        for (text, code, wanted) in [
            (
                "option routers 198.18.0.1, 198.18.0.2;",
                3,
                json!(["198.18.0.1", "198.18.0.2"]),
            ),
            (
                "option domain-name \"lab.internal\";",
                15,
                json!("lab.internal"),
            ),
            (
                "option domain-search \"a.b\", \"c\";",
                119,
                json!(["a.b", "c"]),
            ),
            (
                "option vendor-encapsulated-options 01:04:00;",
                43,
                json!("01:04:00"),
            ),
            (
                "option vendor-encapsulated-options \"ab\";",
                43,
                json!({"text": "ab"}),
            ),
            (
                "option wpad code 252 = text; option wpad \"http://a\";",
                252,
                json!({"text": "http://a"}),
            ),
            (
                "option n code 224 = unsigned integer 16; option n 300;",
                224,
                json!({"hex": "01:2c"}),
            ),
            (
                "option r code 121 = array of unsigned integer 8; option r 24, 192,0,2, 198,18,0,1;",
                121,
                json!(["192.0.2.0/24 via 198.18.0.1"]),
            ),
            ("option option-224 1:2;", 224, json!({"hex": "01:02"})),
        ] {
            assert_eq!(value(text).unwrap(), Some((code, wanted)), "{text}");
        }
    }

    #[test]
    fn what_needs_dhcpd_stays_behind_and_what_is_broken_is_said() {
        for text in [
            "option routers gw.lab.internal;",
            "option dhcp-lease-time 3600;",
            "option PXE.menu 1;",
            "option host-name = concat(\"a\", hardware);",
        ] {
            assert!(!value(text).unwrap_err().is_malformed, "{text}");
        }
        for text in [
            "option no-such 1;",
            "option routers;",
            "option interface-mtu many;",
            "option x code y = text;",
        ] {
            assert!(value(text).unwrap_err().is_malformed, "{text}");
        }
    }
}
