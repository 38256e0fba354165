//! `dhcp-host=…`, and the lines of hosts files, which are the same without the key.

use std::net::Ipv4Addr;

use bootjack_api::v1::Reservation;

use super::line::Word;
use crate::import::Imported;
use crate::options::{hex, unhex};
use crate::wanted::{self, Place};

/// One line's host, before it is known what its tags mean.
#[derive(Debug)]
pub struct Host {
    pub place: Place,
    pub reservation: Reservation,
    pub tags: Vec<String>,
}

/// Reads one host; what of it does not come over is left in `out`. `None`: nothing of it does.
pub fn read(place: &Place, value: &Word, out: &mut Imported) -> Option<Host> {
    let mut host = Host {
        place: place.clone(),
        reservation: Reservation::default(),
        tags: Vec::new(),
    };
    let parts: Vec<Word> = value
        .parts()
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect();
    let mut macs = Vec::new();
    let mut notes: Vec<Note> = Vec::new();
    for part in &parts {
        match self::part(part, &mut host, &mut macs) {
            Ok(None) => {}
            Ok(Some(note)) => notes.push(note),
            Err(problem) => {
                out.malformed(place, format!("dhcp-host={}", value.text()), problem);
                return None;
            }
        }
    }
    let r = &mut host.reservation;
    let mut macs = macs.into_iter();
    r.mac = macs.next().unwrap_or_default();
    r.macs = macs.collect();
    let who = match r.hostname.as_str() {
        "" => wanted::known_by(r),
        name => name.to_owned(),
    };
    if notes.iter().any(|note| note.is_whole) || wanted::known_by(r).is_empty() {
        if !notes.iter().any(|note| note.is_whole) {
            notes.insert(0, nameless(r));
        }
        for note in notes.iter().filter(|note| note.is_whole) {
            out.leave(
                place,
                format!("dhcp-host={}", value.text()),
                note.why,
                note.todo,
            );
        }
        return None;
    }
    for note in notes {
        out.leave(place, format!("{who}: {}", note.what), note.why, note.todo);
    }
    Some(host)
}

/// Something of a host that does not come over.
struct Note {
    what: String,
    why: &'static str,
    todo: &'static str,
    /// Without it the rest means nothing, or something else.
    is_whole: bool,
}

fn note(what: &str, why: &'static str, todo: &'static str) -> Note {
    Note {
        what: what.to_owned(),
        why,
        todo,
        is_whole: false,
    }
}

fn whole(what: &str, why: &'static str, todo: &'static str) -> Note {
    Note {
        is_whole: true,
        ..note(what, why, todo)
    }
}

fn nameless(r: &Reservation) -> Note {
    let why = match r.hostname.is_empty() {
        true => "it names no machine",
        false => {
            "it knows the machine by the host name that its client sends, which any client can send"
        }
    };
    whole("", why, "bootjack reservation create --mac MAC …")
}

fn part(word: &Word, host: &mut Host, macs: &mut Vec<String>) -> Result<Option<Note>, String> {
    let text = word.text();
    let r = &mut host.reservation;
    if text.starts_with('[') {
        return Ok(Some(note(&text, "Bootjack gives IPv4 addresses", "")));
    }
    let lower = text.to_ascii_lowercase();
    if let Some(client_id) = lower
        .strip_prefix("id:")
        .map(|rest| &text[text.len() - rest.len()..])
    {
        if client_id == "*" {
            return Ok(Some(note(
                "id:*",
                "its client-id is ignored already, unless the subnet says lease_key = \"client_id\"",
                "",
            )));
        }
        let octets = match client_id.contains(':') {
            true => unhex(client_id).ok_or_else(|| format!("`{client_id}` is not hexadecimal"))?,
            false => client_id.as_bytes().to_vec(),
        };
        if octets.is_empty() {
            return Err("the client-id is empty".to_owned());
        }
        r.client_ids.push(hex(&octets));
        return Ok(None);
    }
    if let Some(tag) = text
        .strip_prefix("set:")
        .or_else(|| text.strip_prefix("net:"))
    {
        host.tags.push(tag.to_owned());
        return Ok(None);
    }
    if text.starts_with("tag:") {
        return Ok(Some(whole(
            &text,
            "it holds only for clients with another tag",
            "write a [[class]] in bootjackd.toml",
        )));
    }
    if text.contains(':') && !word.is_quoted() {
        return hardware(&text, macs);
    }
    if let Ok(address) = text.parse::<Ipv4Addr>() {
        if !r.address.is_empty() {
            return Err(format!("{} and {text} are two addresses", r.address));
        }
        r.address = address.to_string();
        return Ok(None);
    }
    if lease_time(&text) {
        return Ok(Some(note(
            &format!("lease time {text}"),
            "lease times are of subnets and classes",
            "set lease_time there",
        )));
    }
    if text == "ignore" {
        return Ok(Some(whole(
            "ignore",
            "it is a machine that is to get no answer",
            "write a [[class]] with its mac_prefix and ignore = true",
        )));
    }
    if !r.hostname.is_empty() {
        return Err(format!("{} and {text} are two host names", r.hostname));
    }
    r.hostname = text.trim_end_matches('.').to_owned();
    Ok(None)
}

/// `52:54:00:00:00:01`, with a type before it (`06-…`), or with wildcards.
fn hardware(text: &str, macs: &mut Vec<String>) -> Result<Option<Note>, String> {
    let (kind, address) = match text.split_once('-') {
        Some((kind, address)) if kind.len() <= 2 && address.contains(':') => (kind, address),
        _ => ("", text),
    };
    let is_wild = address.contains('*');
    if is_wild
        && address
            .split(':')
            .all(|group| group == "*" || group.len() <= 2)
    {
        return Ok(Some(whole(
            text,
            "it is many machines: wildcards in a MAC",
            "write a [[class]] with their mac_prefix in bootjackd.toml",
        )));
    }
    if !matches!(kind, "" | "1" | "01" | "6" | "06") {
        return Ok(Some(whole(
            text,
            "it is no Ethernet card",
            "reserve it by its client-id",
        )));
    }
    macs.push(wanted::mac(address)?);
    Ok(None)
}

/// Digits with a unit of seconds, minutes, hours, days or weeks.
fn lease_time(text: &str) -> bool {
    let digits = text.trim_end_matches(['s', 'S', 'm', 'M', 'h', 'H', 'd', 'D', 'w', 'W']);
    let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    text == "infinite" || is_number && text.len() - digits.len() <= 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> (Option<Host>, Vec<String>) {
        let place = Place {
            file: "d".into(),
            line: 1,
        };
        let mut out = Imported::default();
        let word = super::super::line::read(text).unwrap();
        let host = read(&place, &word, &mut out);
        let left = out.left.iter().map(|l| {
            format!(
                "{}{}: {}",
                if l.is_malformed { "!" } else { "" },
                l.what,
                l.why
            )
        });
        (host, left.collect())
    }

    #[test]
    fn every_form_of_a_host_is_understood() {
        let (found, left) =
            host("52:54:00:00:00:01,12:34:56:78:90:12,id:01:02:03,set:red,198.18.0.10,node-1,45m");
        let r = found.as_ref().unwrap().reservation.clone();
        assert_eq!(
            (r.mac.as_str(), r.macs.as_slice()),
            ("52:54:00:00:00:01", &["12:34:56:78:90:12".to_owned()][..])
        );
        assert_eq!(
            (r.address.as_str(), r.hostname.as_str()),
            ("198.18.0.10", "node-1")
        );
        assert_eq!(r.client_ids, ["01:02:03"]);
        assert_eq!(found.unwrap().tags, ["red"]);
        assert_eq!(
            left,
            ["node-1: lease time 45m: lease times are of subnets and classes"]
        );

        let (found, _) = host("06-52:54:00:00:00:01, id:marjorie, bert, infinite");
        let r = found.unwrap().reservation;
        assert_eq!(
            (r.mac.as_str(), r.hostname.as_str()),
            ("52:54:00:00:00:01", "bert")
        );
        assert_eq!(r.client_ids, ["6d:61:72:6a:6f:72:69:65"]);

        let (found, left) = host("52:54:00:00:00:01,[2001:db8::1],id:*,7");
        assert!(found.is_some());
        assert_eq!(left.len(), 3, "{left:?}");
    }

    #[test]
    fn what_is_no_single_machine_stays_behind() {
        for (text, part) in [
            ("52:54:00:*:*:*,set:lab", "many machines"),
            ("bert,198.18.0.70", "host name that its client sends"),
            ("52:54:00:00:00:01,ignore", "no answer"),
            ("tag:lab,52:54:00:00:00:01,198.18.0.9", "another tag"),
            ("20-52:54:00:00:00:01", "no Ethernet card"),
            ("198.18.0.70", "names no machine"),
        ] {
            let (found, left) = host(text);
            assert!(found.is_none(), "{text}");
            assert!(
                left[0].contains(part) && !left[0].starts_with('!'),
                "{text}: {left:?}"
            );
        }
    }

    #[test]
    fn what_cannot_be_read_is_malformed() {
        for text in [
            "52:54:00:00:00,198.18.0.9",
            "52:54:00:00:00:zz",
            "52:54:00:00:00:01,198.18.0.9,198.18.0.10",
            "52:54:00:00:00:01,a,b",
            "52:54:00:00:00:01,id:0x:y",
        ] {
            let (found, left) = host(text);
            assert!(
                found.is_none() && left[0].starts_with('!'),
                "{text}: {left:?}"
            );
        }
    }
}
