//! The whole state as text that people and other programs can read: one JSON object a line. In: records, in the order of their
//! keys. Out: a header, a line for each record, and a closing line that says how many there are and what the digest of all lines
//! before it is. What is read must say the same: a file that was cut off or changed is refused by line.
//!
//! ```text
//! {"bootjack":"store","form":1,"version":"0.1.0","written_secs":1800000000,"checkpoint":12}
//! {"key":"lease/198.18.0.100","form":1,"value":{"address":"198.18.0.100", …}}
//! {"key":"reservation/node-1","form":1,"value":{"id":"node-1", …}}
//! {"key":"revision","form":1,"value":7}
//! {"end":{"records":3,"kinds":{"lease":1,"reservation":1,"revision":1},"revision":7,"sha256":"…"}}
//! ```
//!
//! `form` of the header is that of the file; that of a record is the one its value is kept in (`record`). `checkpoint` is there
//! where the file is a snapshot: all journals before the one of this number are in it. The digest is that of
//! `head -n -1 FILE | sha256sum`.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use super::record;
use super::{RecordChange, Records};

/// The form that is written and read.
const FORM: u32 = 1;
/// No record comes near: what a line may have, so that a file that is none is not read whole.
const LONGEST_LINE: u64 = 16 << 20;

/// What the closing line says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Summary {
    pub records: u64,
    /// How many there are of each kind.
    pub kinds: BTreeMap<String, u64>,
    /// The last revision given out.
    pub revision: u64,
    /// Of all lines before this one, in hexadecimal.
    pub sha256: String,
}

/// What is wrong with a file.
#[derive(Debug, Error)]
pub enum ReadError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("line {line}: {problem}")]
    Line { line: usize, problem: String },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    bootjack: String,
    form: u32,
    version: String,
    written_secs: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    checkpoint: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    key: Option<String>,
    form: Option<u8>,
    #[serde(borrow)]
    value: Option<&'a RawValue>,
    end: Option<Summary>,
}

/// A record as the database has it.
pub(super) type KeyAndValue = (Vec<u8>, Vec<u8>);

/// Writes records as text.
pub(super) struct Encoder<W> {
    to: W,
    digest: Sha256,
    summary: Summary,
    line: Vec<u8>,
}

impl<W: Write> Encoder<W> {
    /// Begins a file; `checkpoint` is that of a snapshot.
    pub(super) fn begin(to: W, checkpoint: Option<u64>, written_secs: u64) -> io::Result<Self> {
        let header = Header {
            bootjack: "store".to_owned(),
            form: FORM,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            written_secs,
            checkpoint,
        };
        let mut encoder = Self {
            to,
            digest: Sha256::new(),
            summary: Summary::default(),
            line: Vec::new(),
        };
        serde_json::to_writer(&mut encoder.line, &header)?;
        encoder.line()?;
        Ok(encoder)
    }

    /// Adds a record as the database has it; keys only ever get larger.
    pub(super) fn put(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        let name = record::name(key).map_err(io::Error::other)?;
        let (form, json) = (value.split_first())
            .ok_or_else(|| io::Error::other(format!("record {name} is empty")))?;
        *(self.summary.kinds.entry(record::kind(&name).to_owned())).or_default() += 1;
        self.summary.records += 1;
        if let Some(revision) = record::revision(key, value) {
            self.summary.revision = revision;
        }
        self.line.extend(b"{\"key\":");
        serde_json::to_writer(&mut self.line, &name)?;
        write!(self.line, ",\"form\":{form},\"value\":")?;
        self.line.extend(json);
        self.line.push(b'}');
        self.line()
    }

    /// Writes the closing line.
    pub(super) fn end(mut self) -> io::Result<(W, Summary)> {
        self.summary.sha256 = hex(&self.digest.finalize_reset());
        self.line.extend(b"{\"end\":");
        serde_json::to_writer(&mut self.line, &self.summary)?;
        self.line.push(b'}');
        self.line()?;
        self.to.flush()?;
        Ok((self.to, self.summary))
    }

    fn line(&mut self) -> io::Result<()> {
        self.line.push(b'\n');
        self.digest.update(&self.line);
        self.to.write_all(&self.line)?;
        self.line.clear();
        Ok(())
    }
}

/// Reads records from text. What it gives is sound as a whole once it has given nothing more.
pub(super) struct Decoder<R> {
    from: R,
    number: usize,
    line: Vec<u8>,
    digest: Sha256,
    /// Of what was read so far.
    seen: Summary,
    last_key: Vec<u8>,
    checkpoint: Option<u64>,
    is_at_end: bool,
}

impl<R: BufRead> Decoder<R> {
    pub(super) fn begin(from: R) -> Result<Self, ReadError> {
        let mut decoder = Self {
            from,
            number: 0,
            line: Vec::new(),
            digest: Sha256::new(),
            seen: Summary::default(),
            last_key: Vec::new(),
            checkpoint: None,
            is_at_end: false,
        };
        decoder.read_line()?;
        let header: Header = serde_json::from_slice(&decoder.line)
            .map_err(|_| decoder.problem("it is no header of a store's export or snapshot"))?;
        if header.bootjack != "store" || header.form != FORM {
            return Err(decoder.problem(&format!(
                "written in form {} by version {}, wanted form {FORM}; use the version that wrote it",
                header.form, header.version
            )));
        }
        decoder.checkpoint = header.checkpoint;
        decoder.digest.update(&decoder.line);
        Ok(decoder)
    }

    /// The checkpoint of a snapshot.
    pub(super) fn checkpoint(&self) -> Option<u64> {
        self.checkpoint
    }

    /// The line of what was read last, counted from 1.
    pub(super) fn line_number(&self) -> usize {
        self.number
    }

    /// The next record as the database has it; nothing when all of them are read, and the closing line says so.
    pub(super) fn next(&mut self) -> Result<Option<KeyAndValue>, ReadError> {
        if self.is_at_end {
            return Ok(None);
        }
        self.read_line()?;
        let text = std::str::from_utf8(&self.line).map_err(|e| self.problem(&e.to_string()))?;
        let line: Line =
            serde_json::from_str(text).map_err(|error| self.problem(&plain(&error)))?;
        match line {
            Line {
                key: Some(name),
                form: Some(form),
                value: Some(value),
                end: None,
            } => {
                let key = record::key(&name).map_err(|problem| self.problem(&problem))?;
                if key <= self.last_key {
                    return Err(self.problem(&format!(
                        "key {name} stands twice, or not in the order of the keys"
                    )));
                }
                let octets = [&[form], value.get().as_bytes()].concat();
                if let Some(revision) = record::revision(&key, &octets) {
                    self.seen.revision = revision;
                }
                *(self.seen.kinds.entry(record::kind(&name).to_owned())).or_default() += 1;
                self.seen.records += 1;
                self.digest.update(&self.line);
                self.last_key.clone_from(&key);
                Ok(Some((key, octets)))
            }
            Line {
                key: None,
                form: None,
                value: None,
                end: Some(said),
            } => self.end(&said).map(|()| None),
            _ => Err(self.problem("wanted the fields key, form and value, or end alone")),
        }
    }

    /// What was read, with its digest.
    pub(super) fn summary(&self) -> &Summary {
        &self.seen
    }

    fn end(&mut self, said: &Summary) -> Result<(), ReadError> {
        self.seen.sha256 = hex(&self.digest.finalize_reset());
        if self.seen.sha256 != said.sha256 {
            return Err(self.problem(
                "its sha256 is not that of the lines before it: they were changed after they were written",
            ));
        }
        if self.seen != *said {
            return Err(self.problem("it does not count the lines before it"));
        }
        self.is_at_end = true;
        match self.from.fill_buf()? {
            [] => Ok(()),
            _ => Err(self.problem("something stands behind it, though it is the closing line")),
        }
    }

    fn read_line(&mut self) -> Result<(), ReadError> {
        self.number += 1;
        self.line.clear();
        let mut limited = io::Read::take(&mut self.from, LONGEST_LINE);
        limited.read_until(b'\n', &mut self.line)?;
        match self.line.last() {
            Some(b'\n') => Ok(()),
            _ => Err(self.problem("the file ends here, without its closing line")),
        }
    }

    fn problem(&self, problem: &str) -> ReadError {
        ReadError::Line {
            line: self.number,
            problem: problem.to_owned(),
        }
    }
}

/// Writes the whole state as text; `written_secs` is the time of it, in seconds since 1970.
pub fn write(records: &Records, written_secs: u64, to: impl Write) -> io::Result<Summary> {
    let mut all = BTreeMap::new();
    for change in changes(records) {
        let (key, value) = record::encode(&change).map_err(io::Error::other)?;
        all.insert(key, value.unwrap_or_default());
    }
    let mut encoder = Encoder::begin(to, None, written_secs)?;
    for (key, value) in &all {
        encoder.put(key, value)?;
    }
    Ok(encoder.end()?.1)
}

/// Reads the whole state, and holds every record against what this version knows: nothing is left out silently.
pub fn read(from: impl BufRead) -> Result<Records, ReadError> {
    let mut decoder = Decoder::begin(from)?;
    let mut records = Records::default();
    while let Some((key, value)) = decoder.next()? {
        let line = decoder.line_number();
        record::check(&key, &value)
            .and_then(|()| record::decode(&key, &value, &mut records))
            .map_err(|problem| ReadError::Line { line, problem })?;
    }
    let newest = records.reservations.iter().map(|r| r.revision).max();
    if newest.is_some_and(|newest| newest > records.revision) {
        return Err(
            decoder.problem("a reservation has a later revision than the last one given out")
        );
    }
    Ok(records)
}

/// What makes these records of nothing.
pub(super) fn changes(records: &Records) -> impl Iterator<Item = RecordChange> {
    let reservations = records.reservations.iter().map(|own| (**own).clone());
    let leases = records.leases.iter().cloned();
    let machines = records.machines.iter().cloned();
    (reservations.map(RecordChange::PutReservation))
        .chain(leases.map(RecordChange::PutLease))
        .chain(machines.map(RecordChange::PutMachine))
        .chain([RecordChange::Revision(records.revision)])
}

/// What a JSON parser says, without the line, which is always the first of its own.
fn plain(error: &serde_json::Error) -> String {
    error.to_string().replace(" at line 1 column ", ", column ")
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::model::{ClientKey, Lease, LeaseState, MacAddr, Machine, Reservation, Source};

    fn some() -> Records {
        let mut reservation = Reservation::of("node-1".to_owned(), Source::Api);
        reservation.mac = Some(MacAddr([2, 0, 0, 0, 0, 1]));
        reservation.revision = 7;
        let lease = |last| Lease {
            address: Ipv4Addr::new(198, 18, 0, last),
            client: ClientKey::Mac(MacAddr([2, 0, 0, 0, 0, last])),
            state: LeaseState::Bound,
            expires_secs: 9,
            hostname: None,
            reservation: None,
            circuit_id: None,
        };
        Records {
            reservations: vec![reservation.into()],
            leases: vec![lease(9), lease(100)],
            machines: vec![Machine::idle("node-1", 3)],
            revision: 8,
        }
    }

    fn written() -> String {
        let mut octets = Vec::new();
        write(&some(), 1_800_000_000, &mut octets).expect("written");
        String::from_utf8(octets).expect("text")
    }

    /// What form 1 wrote must stay readable for ever: this text is not to be changed, only added to.
    #[test]
    fn form_1_is_written_and_read_octet_by_octet() {
        let golden = concat!(
            r#"{"bootjack":"store","form":1,"version":"0.1.0","written_secs":1800000000}"#,
            "\n",
            r#"{"key":"lease/198.18.0.9","form":1,"value":{"address":"198.18.0.9","client":"02:00:00:00:00:09","state":"bound","expires_secs":9,"hostname":null}}"#,
            "\n",
            r#"{"key":"lease/198.18.0.100","form":1,"value":{"address":"198.18.0.100","client":"02:00:00:00:00:64","state":"bound","expires_secs":9,"hostname":null}}"#,
            "\n",
            r#"{"key":"machine/node-1","form":1,"value":{"id":"node-1","attempt":0,"phase":"idle","since_secs":3}}"#,
            "\n",
            r#"{"key":"reservation/node-1","form":1,"value":{"id":"node-1","mac":"02:00:00:00:00:01","address":null,"hostname":null,"profile":null,"vars":{},"source":"api","revision":7,"created_secs":0,"updated_secs":0}}"#,
            "\n",
            r#"{"key":"revision","form":1,"value":8}"#,
            "\n",
        );
        let text = written();
        assert_eq!(
            text.rsplit_once("{\"end\"").map(|(lines, _)| lines),
            Some(golden)
        );
        assert_eq!(read(text.as_bytes()).expect("sound"), some());
    }

    #[test]
    fn every_octet_that_is_changed_and_every_line_that_is_missing_is_noticed() {
        let text = written();
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] ^= 1;
            // The version is only said, and everything said is in the digest.
            assert!(read(&changed[..]).is_err(), "octet {at}");
            assert!(read(&text.as_bytes()[..at]).is_err(), "{at} octets");
        }
        let twice = text.repeat(2);
        let refused = read(twice.as_bytes()).expect_err("refused").to_string();
        assert!(refused.contains("something stands behind it"), "{refused}");
    }

    /// The same file with one line replaced, and a digest that fits it.
    fn with_line(number: usize, line: &str) -> String {
        let text = written();
        let mut lines: Vec<&str> = text.lines().collect();
        lines[number - 1] = line;
        let end = lines.pop().expect("a closing line");
        let body = lines.join("\n") + "\n";
        let (before, _) = end.split_once("\"sha256\"").expect("a digest");
        let digest = hex(&Sha256::digest(&body));
        format!("{body}{before}\"sha256\":\"{digest}\"}}}}\n")
    }

    #[test]
    fn what_this_version_does_not_know_is_refused_by_line_and_field() {
        for (number, line, said) in [
            (
                1,
                r#"{"bootjack":"store","form":2,"version":"9.0","written_secs":1}"#,
                "line 1: written in form 2 by version 9.0",
            ),
            (
                2,
                r#"{"key":"lease/198.18.0.9","form":1,"value":{"address":"198.18.0.9"}}"#,
                "line 2: lease/198.18.0.9: missing field `client`",
            ),
            (
                2,
                r#"{"key":"lease/198.18.0.8","form":1,"value":{"address":"198.18.0.9","client":"02:00:00:00:00:09","state":"bound","expires_secs":9,"hostname":null}}"#,
                "line 2: lease/198.18.0.8: its value is that of lease/198.18.0.9",
            ),
            (
                2,
                r#"{"key":"lease/198.18.0.300","form":1,"value":1}"#,
                "line 2: key lease/198.18.0.300 is no lease's",
            ),
            (
                4,
                r#"{"key":"machine/node-1","form":1,"value":{"id":"node-1","attempt":0,"phase":"idle","since_secs":3,"colour":"red"}}"#,
                "line 4: machine/node-1: unknown field `colour`",
            ),
            (
                4,
                r#"{"key":"machine/node-1","form":3,"value":1}"#,
                "line 4: machine/node-1: written in form 3",
            ),
            (
                4,
                r#"{"key":"monkey/node-1","form":1,"value":1}"#,
                "line 4: monkey/node-1: unknown key",
            ),
            (
                5,
                r#"{"key":"lease/198.18.0.9","form":1,"value":1}"#,
                "line 5: key lease/198.18.0.9 stands twice",
            ),
            (
                6,
                r#"{"key":"revision","form":1,"value":6}"#,
                "it does not count the lines",
            ),
            (3, "gibberish", "line 3: expected value, column 1"),
        ] {
            let refused = read(with_line(number, line).as_bytes())
                .expect_err(line)
                .to_string();
            assert!(refused.contains(said), "{refused}, wanted {said}");
        }
    }
}
