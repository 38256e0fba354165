//! What a machine says of its installation. In: the kind of call-back, its query and its body. Out: what it means and how it is
//! told; or why it makes no sense. What it holds is a machine's word: it is cut to size and cleaned, and believed for that
//! machine alone.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::lifecycle::Said;

/// The longest reason and text that are kept, and the longest end of a log.
const LONGEST_TEXT: usize = 200;
const LONGEST_LOG: usize = 4096;

/// The last part of a call-back's URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Started,
    Progress,
    Done,
    Failed,
    /// cloud-init's `phone_home`: a form.
    PhoneHome,
    /// cloud-init's, curtin's and subiquity's `webhook` reporting: one JSON object for each event.
    Webhook,
}

/// A call-back as it is understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    pub said: Said,
    /// In one line, for the timeline.
    pub detail: String,
    pub percent: Option<u8>,
}

impl Kind {
    pub const ALL: [Self; 6] = [
        Self::Started,
        Self::Progress,
        Self::Done,
        Self::Failed,
        Self::PhoneHome,
        Self::Webhook,
    ];

    /// The word in the URL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Progress => "progress",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::PhoneHome => "phone-home",
            Self::Webhook => "webhook",
        }
    }

    /// The kind of this word.
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }

    /// Whether a GET will do: iPXE, and the wget of many an installer, know nothing else.
    pub fn may_be_fetched(self) -> bool {
        self != Self::Webhook && self != Self::PhoneHome
    }
}

/// Reads a call-back.
pub fn read(kind: Kind, query: &str, body: &[u8]) -> Result<Heard, &'static str> {
    if kind == Kind::Webhook {
        return webhook(body);
    }
    let Fields { named, rest } = Fields::of(query, body);
    let text = |name: &str| named.get(name).map(|value| line(value)).unwrap_or_default();
    let percent = match named.get("percent").map(|percent| percent.trim()) {
        None | Some("") => None,
        Some(percent) => {
            let number = percent.trim_end_matches('%').parse::<f64>();
            let number = number.ok().filter(|number| (0.0..=100.0).contains(number));
            Some(number.ok_or("percent is not a number from 0 to 100")? as u8)
        }
    };
    let (said, detail) = match kind {
        Kind::Started => (Said::Started, text("text")),
        Kind::Progress => {
            let told = text("text");
            let detail = if told.is_empty() { line(&rest) } else { told };
            (Said::Progress, detail)
        }
        Kind::Done => (Said::Done, text("text")),
        Kind::Failed => {
            let log = named.get("log").unwrap_or(&rest);
            let reason = match text("reason") {
                empty if empty.is_empty() => {
                    let last = log.lines().rfind(|line| !line.trim().is_empty());
                    last.map_or_else(|| "no reason given".to_owned(), line)
                }
                reason => reason,
            };
            let failed = Said::Failed {
                reason: reason.clone(),
                log: tail(log),
            };
            (failed, reason)
        }
        Kind::PhoneHome | Kind::Webhook => {
            let known = ["hostname", "instance_id"].map(|name| (name, text(name)));
            let told = known.iter().filter(|(_, value)| !value.is_empty());
            let told: Vec<String> = told
                .map(|(name, value)| format!("{name} {value}"))
                .collect();
            (Said::PhoneHome, told.join(", "))
        }
    };
    Ok(Heard {
        said,
        detail,
        percent,
    })
}

/// Values by name, of the query, a form or an object; and a body that is none of these.
struct Fields {
    named: BTreeMap<String, String>,
    rest: String,
}

impl Fields {
    fn of(query: &str, body: &[u8]) -> Self {
        let text = String::from_utf8_lossy(body).into_owned();
        let mut named = form(query);
        let known = [
            "reason",
            "log",
            "text",
            "percent",
            "instance_id",
            "hostname",
        ];
        if let Ok(Value::Object(object)) = serde_json::from_str::<Value>(&text) {
            named.extend(object.into_iter().filter_map(|(name, value)| match value {
                Value::String(text) => Some((name, text)),
                Value::Number(number) => Some((name, number.to_string())),
                _ => None,
            }));
            return Self {
                named,
                rest: String::new(),
            };
        }
        // curl calls every body a form, a log too.
        let fields = form(&text);
        if fields.keys().any(|name| known.contains(&name.as_str())) {
            named.extend(fields);
            return Self {
                named,
                rest: String::new(),
            };
        }
        Self { named, rest: text }
    }
}

fn form(text: &str) -> BTreeMap<String, String> {
    form_urlencoded::parse(text.as_bytes())
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect()
}

/// One event of curtin's reporting (its docs/topics/reporting.rst), which cloud-init and subiquity have taken over.
fn webhook(body: &[u8]) -> Result<Heard, &'static str> {
    let Ok(Value::Object(event)) = serde_json::from_slice::<Value>(body) else {
        return Err("wanted one JSON object with name and event_type");
    };
    let text = |name: &str| event.get(name).and_then(Value::as_str).map(line);
    let (Some(name), Some(kind)) = (text("name"), text("event_type")) else {
        return Err("wanted one JSON object with name and event_type");
    };
    let (origin, result) = (text("origin").unwrap_or_default(), text("result"));
    let description = text("description").unwrap_or_default();
    let is_fail = kind == "finish" && result.as_deref() == Some("FAIL");
    let is_of_the_installation = origin == "curtin" || name.starts_with("subiquity/Install/");
    let said = if is_fail && is_of_the_installation {
        Said::Failed {
            reason: line(&format!("{name}: {description}")),
            log: String::new(),
        }
    } else if name.starts_with("subiquity/Shutdown/") {
        // subiquity comes here when the installation and its late-commands have succeeded, and in no other way by itself.
        Said::Done
    } else if name == "modules-final" && kind == "finish" && result.as_deref() == Some("SUCCESS") {
        Said::Booted
    } else {
        Said::Progress
    };
    let result = result.map_or(String::new(), |result| format!(" {result}"));
    let what = if description.is_empty() {
        String::new()
    } else {
        format!(": {description}")
    };
    Ok(Heard {
        said,
        detail: line(&format!("{kind} {name}{result}{what}")),
        percent: None,
    })
}

/// The text's first line, cut, with nothing in it that would write another one.
fn line(text: &str) -> String {
    let first = text.trim().lines().next().unwrap_or_default();
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let mut kept: String = first.chars().map(plain).take(LONGEST_TEXT).collect();
    if first.chars().nth(LONGEST_TEXT).is_some() {
        kept.push('…');
    }
    kept.trim_end().to_owned()
}

/// The end of a log, from the start of a line where there is one.
fn tail(log: &str) -> String {
    let plain = |c: char| match c {
        '\n' | '\t' => c,
        c if c.is_control() => ' ',
        c => c,
    };
    let log: String = log.trim_end().chars().map(plain).collect();
    if log.len() <= LONGEST_LOG {
        return log;
    }
    let mut from = log.len() - LONGEST_LOG;
    while !log.is_char_boundary(from) {
        from += 1;
    }
    let kept = &log[from..];
    let start = kept.find('\n').map_or(0, |at| at + 1);
    kept[start..].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(kind: Kind, query: &str, body: &str) -> Heard {
        read(kind, query, body.as_bytes()).expect("it makes sense")
    }

    fn failure(query: &str, body: &str) -> (String, String) {
        match heard(Kind::Failed, query, body).said {
            Said::Failed { reason, log } => (reason, log),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_failure_is_told_by_query_form_object_or_log_alone() {
        let full = ("disk full".to_owned(), "a\nb".to_owned());
        assert_eq!(failure("reason=disk+full", "a\nb\n"), full);
        assert_eq!(failure("", "reason=disk%20full&log=a%0Ab"), full);
        assert_eq!(failure("", r#"{"reason":"disk full","log":"a\nb"}"#), full);
        assert_eq!(
            failure("", "x=1\nsomething broke\n\n"),
            ("something broke".into(), "x=1\nsomething broke".into())
        );
        assert_eq!(failure("", ""), ("no reason given".into(), String::new()));
    }

    #[test]
    fn what_a_machine_says_is_cut_and_cannot_write_lines_of_its_own() {
        let (reason, log) = failure("reason=a%1b%5b31m%0d%0aforged", &"line\n".repeat(10_000));
        assert_eq!(reason, "a [31m");
        assert!(
            log.len() <= LONGEST_LOG && log.starts_with("line\n"),
            "{log}"
        );
        let long = heard(Kind::Progress, "", &"ä".repeat(1000));
        assert_eq!(long.detail.chars().count(), LONGEST_TEXT + 1);
    }

    #[test]
    fn progress_has_a_percentage_or_a_text() {
        for (query, body) in [
            ("percent=42&text=unpacking", ""),
            ("", "percent=42.9&text=unpacking"),
            ("", r#"{"percent":42,"text":"unpacking"}"#),
            ("percent=42%25", "unpacking\n"),
        ] {
            let told = heard(Kind::Progress, query, body);
            assert_eq!(
                (told.percent, told.detail.as_str()),
                (Some(42), "unpacking"),
                "{query} {body}"
            );
        }
        for bad in ["percent=101", "percent=-1", "percent=x", "percent=nan"] {
            assert!(read(Kind::Progress, bad, b"").is_err(), "{bad}");
        }
    }

    #[test]
    fn cloud_init_phones_home_with_a_form() {
        let form = "pub_key_rsa=ssh-rsa+AAAA&instance_id=i-1&hostname=node-1&fqdn=node-1.lab";
        let told = heard(Kind::PhoneHome, "", form);
        assert_eq!(
            (told.said, told.detail.as_str()),
            (Said::PhoneHome, "hostname node-1, instance_id i-1")
        );
    }

    #[test]
    fn a_webhook_is_progress_until_it_says_more() {
        let event = |name: &str, kind: &str, result: &str, origin: &str| {
            let json = serde_json::json!({
                "name": name, "event_type": kind, "result": result, "origin": origin,
                "description": "what it does", "timestamp": 1.5, "level": "INFO",
            });
            heard(Kind::Webhook, "", &json.to_string()).said
        };
        for (name, kind, result, origin, said) in [
            ("subiquity/Network/wait", "start", "", "", Said::Progress),
            (
                "subiquity/Mirror/check",
                "finish",
                "FAIL",
                "",
                Said::Progress,
            ),
            (
                "init-network",
                "finish",
                "FAIL",
                "cloudinit",
                Said::Progress,
            ),
            (
                "modules-final",
                "finish",
                "SUCCESS",
                "cloudinit",
                Said::Booted,
            ),
            ("subiquity/Shutdown/shutdown", "start", "", "", Said::Done),
        ] {
            assert_eq!(event(name, kind, result, origin), said, "{name}");
        }
        for (name, origin) in [("cmd-install", "curtin"), ("subiquity/Install/install", "")] {
            let said = event(name, "finish", "FAIL", origin);
            assert!(matches!(said, Said::Failed { .. }), "{name}: {said:?}");
        }
        for bad in ["", "[]", "{}", "name=x&event_type=start", r#"{"name":1}"#] {
            assert!(read(Kind::Webhook, "", bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
