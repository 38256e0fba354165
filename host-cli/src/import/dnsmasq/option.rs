//! `dhcp-option=…` and `dhcp-boot=…`.

use bootjack_api::v1::Reservation;
use serde_json::{Value as Json, json};

use super::line::Word;
use crate::import::program;
use crate::options::{self, Kind};
use crate::vars;
use crate::wanted::Place;

/// One option, and the tags that a client must have to be sent it.
#[derive(Debug)]
pub struct TaggedOption {
    pub place: Place,
    pub tags: Vec<String>,
    pub code: u8,
    pub value: Json,
}

/// One boot file, and the server it is fetched from.
#[derive(Debug)]
pub struct Boot {
    pub place: Place,
    pub tags: Vec<String>,
    pub file: String,
    pub server: Option<String>,
}

/// Why an option does not come over.
#[derive(Debug)]
pub struct Why {
    pub why: String,
    pub todo: &'static str,
    pub is_malformed: bool,
}

impl TaggedOption {
    pub fn what(&self) -> String {
        format!(
            "option {} for {}",
            options::name_of(self.code),
            self.tags.join(" and ")
        )
    }

    /// Makes it one machine's own.
    pub fn give_to(&self, r: &mut Reservation) {
        if self.code == options::BOOT_FILE {
            if let Some(Ok(program)) = self.value["text"].as_str().map(program) {
                r.program = program;
            }
            return;
        }
        let value = vars::from_json(self.value.clone());
        r.options.insert(options::name_of(self.code), value);
    }
}

fn left(why: impl Into<String>, todo: &'static str) -> Why {
    Why {
        why: why.into(),
        todo,
        is_malformed: false,
    }
}

/// Reads an option.
pub fn read(place: &Place, value: &Word) -> Result<TaggedOption, Why> {
    let words = value.parts();
    let texts: Vec<String> = words.iter().map(Word::text).collect();
    let mut tags = Vec::new();
    let mut rest = texts.iter().map(String::as_str).enumerate();
    let (at, code) = loop {
        let Some((at, text)) = rest.next() else {
            return Err(malformed("it names no option"));
        };
        if let Some(tag) = text
            .strip_prefix("tag:")
            .or_else(|| text.strip_prefix("net:"))
        {
            tags.push(tag.to_owned());
        } else if ["encap:", "vi-encap:", "vendor:"]
            .iter()
            .any(|p| text.starts_with(p))
        {
            return Err(left(
                "it is packed into a vendor's option",
                "write the octets: options = { vendor_specific = \"01:…\" }",
            ));
        } else if text.starts_with("option6:") {
            return Err(left("Bootjack answers DHCPv4", ""));
        } else if let Some(name) = text.strip_prefix("option:") {
            let code = options::by_dnsmasq(name).or_else(|| name.parse().ok());
            break (
                at,
                code.ok_or_else(|| {
                    malformed(&format!("`{name}` is no option that dnsmasq knows"))
                })?,
            );
        } else if let Ok(code) = text.parse::<u8>() {
            break (at, code);
        } else if at == 0 && !text.is_empty() {
            // As old versions wrote a tag.
            tags.push(text.to_owned());
        } else {
            return Err(malformed(&format!(
                "wanted an option's number or option:NAME, got `{text}`"
            )));
        }
    };
    if code != options::BOOT_FILE
        && let Some(why) = options::decided_by_bootjack(code)
    {
        return Err(left(why, ""));
    }
    let parts: Vec<&str> = texts[at + 1..].iter().map(String::as_str).collect();
    if parts.iter().all(|part| part.is_empty()) {
        return Err(left(
            "it keeps dnsmasq from sending its own default",
            "nothing: Bootjack sends what is configured",
        ));
    }
    if parts.contains(&"0.0.0.0") {
        return Err(left(
            "0.0.0.0 stands for dnsmasq's own address",
            "write that address",
        ));
    }
    let is_quoted = words[at + 1..].iter().any(Word::is_quoted);
    let value = content(code, &parts, is_quoted).map_err(|problem| malformed(&problem))?;
    let place = place.clone();
    Ok(TaggedOption {
        place,
        tags,
        code,
        value,
    })
}

fn malformed(why: &str) -> Why {
    Why {
        why: why.to_owned(),
        todo: "",
        is_malformed: true,
    }
}

/// Of an option that nobody knows, decimal numbers are octets, as few as hold them.
fn content(code: u8, parts: &[&str], is_quoted: bool) -> Result<Json, String> {
    if code == options::BOOT_FILE || is_quoted && options::kind_of(code).is_none() {
        return options::value_of(code, Kind::Text, parts);
    }
    let numbers: Option<Vec<u8>> = parts
        .iter()
        .map(|part| number(part))
        .collect::<Option<Vec<_>>>()
        .map(|n| n.concat());
    match numbers.filter(|_| options::kind_of(code).is_none()) {
        Some(octets) => Ok(json!({ "hex": options::hex(&octets) })),
        None => options::value(code, parts),
    }
}

fn number(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches(['b', 's', 'i']);
    let value: u32 = digits.parse().ok()?;
    let octets = value.to_be_bytes();
    let length = match &text[digits.len()..] {
        "b" => 1,
        "s" => 2,
        "i" => 4,
        "" if value > 0xffff => 4,
        "" if value > 0xff => 2,
        "" => 1,
        _ => return None,
    };
    Some(octets[4 - length..].to_vec())
}

/// `[tag:TAG,]FILE[,SERVER NAME[,SERVER ADDRESS]]`.
pub fn boot(place: &Place, value: &Word) -> Result<Boot, String> {
    let texts: Vec<String> = value.parts().iter().map(Word::text).collect();
    let is_tag = |text: &&String| text.starts_with("tag:") || text.starts_with("net:");
    let tags: Vec<String> = texts
        .iter()
        .take_while(is_tag)
        .map(|tag| tag[4..].to_owned())
        .collect();
    let rest = &texts[tags.len()..];
    let file = rest
        .first()
        .filter(|file| !file.is_empty())
        .ok_or("it names no boot file")?;
    let server = rest
        .get(2)
        .or(rest.get(1))
        .filter(|server| !server.is_empty());
    Ok(Boot {
        place: place.clone(),
        tags,
        file: file.clone(),
        server: server.cloned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn option(text: &str) -> Result<TaggedOption, Why> {
        let place = Place {
            file: "d".into(),
            line: 1,
        };
        read(&place, &super::super::line::read(text).unwrap())
    }

    #[test]
    fn options_are_read_by_name_and_by_number() {
        for (text, tags, code, value) in [
            ("3,198.18.0.1", &[][..], 3, json!(["198.18.0.1"])),
            (
                "option:ntp-server,198.18.0.1,198.18.0.2",
                &[],
                42,
                json!(["198.18.0.1", "198.18.0.2"]),
            ),
            ("tag:lab,option:mtu,9000", &["lab"], 26, json!(9000)),
            ("tag:a,tag:!b,26,9000", &["a", "!b"], 26, json!(9000)),
            ("lab,26,9000", &["lab"], 26, json!(9000)),
            (
                "252,\"http://a/wpad.dat\"",
                &[],
                252,
                json!({"text": "http://a/wpad.dat"}),
            ),
            ("224,5,300", &[], 224, json!({"hex": "05:01:2c"})),
            ("224,1i", &[], 224, json!({"hex": "00:00:00:01"})),
            (
                "119,lab.internal,example.org",
                &[],
                119,
                json!(["lab.internal", "example.org"]),
            ),
        ] {
            let found = option(text).unwrap();
            assert_eq!((found.code, &found.value), (code, &value), "{text}");
            assert_eq!(found.tags, tags, "{text}");
        }
    }

    #[test]
    fn what_bootjack_decides_or_cannot_say_is_told_apart_from_what_is_broken() {
        for text in [
            "51,3600",
            "3",
            "3,0.0.0.0",
            "vendor:PXEClient,1,0.0.0.0",
            "option6:dns-server,[::]",
        ] {
            assert!(!option(text).unwrap_err().is_malformed, "{text}");
        }
        for text in [
            "3,nowhere",
            "option:no-such,1",
            "26,x",
            "tag:a",
            "tag:a,b,1",
        ] {
            assert!(option(text).unwrap_err().is_malformed, "{text}");
        }
    }
}
