//! Captures in the classic pcap format, Ethernet, microseconds, little-endian: written by the switch, read back by its client.
//!
//! <https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-05.html>

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::frame::FRAME_MAX;

const MAGIC: u32 = 0xa1b2_c3d4;
const VERSION: (u16, u16) = (2, 4);
const ETHERNET: u32 = 1;
/// Octets before the first record.
pub const HEADER: usize = 24;
/// Octets before each frame.
const RECORD_HEADER: usize = 16;

/// What a capture begins with.
pub fn header() -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..4].copy_from_slice(&MAGIC.to_le_bytes());
    header[4..6].copy_from_slice(&VERSION.0.to_le_bytes());
    header[6..8].copy_from_slice(&VERSION.1.to_le_bytes());
    // Eight octets of time zone and accuracy, zero by now everywhere.
    header[16..20].copy_from_slice(&(FRAME_MAX as u32).to_le_bytes());
    header[20..].copy_from_slice(&ETHERNET.to_le_bytes());
    header
}

/// Adds one frame, seen at `at`.
pub fn record(to: &mut Vec<u8>, at: SystemTime, frame: &[u8]) {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    // Seconds have 32 bits in this format; they last until 2106.
    let seconds = since.as_secs() as u32;
    let length = frame.len() as u32;
    for field in [seconds, since.subsec_micros(), length, length] {
        to.extend(field.to_le_bytes());
    }
    to.extend(frame);
}

/// Cuts what arrives in pieces into whole records.
#[derive(Debug, Default)]
pub struct Records {
    buffer: Vec<u8>,
    is_past_header: bool,
}

impl Records {
    /// Takes octets as they come.
    pub fn feed(&mut self, octets: &[u8]) {
        self.buffer.extend(octets);
    }

    /// Moves what is complete to `to`, the header first and then at most `limit` records; how many records those were.
    /// What is no capture of ours is refused.
    pub fn drain(&mut self, limit: u64, to: &mut Vec<u8>) -> Result<u64, String> {
        let mut end = 0;
        if !self.is_past_header {
            if self.buffer.len() < HEADER {
                return Ok(0);
            }
            if self.buffer[..HEADER] != header() {
                return Err("wanted a pcap header, got something else".to_owned());
            }
            (end, self.is_past_header) = (HEADER, true);
        }
        let mut records = 0;
        while records < limit && self.buffer.len() >= end + RECORD_HEADER {
            let field = &self.buffer[end + 8..end + 12];
            let length = field
                .iter()
                .rev()
                .fold(0, |sum, &o| sum << 8 | usize::from(o));
            if length > FRAME_MAX {
                return Err(format!("wanted a frame, got one of {length} octets"));
            }
            if self.buffer.len() < end + RECORD_HEADER + length {
                break;
            }
            end += RECORD_HEADER + length;
            records += 1;
        }
        to.extend(self.buffer.drain(..end));
        Ok(records)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capture(frames: &[&[u8]]) -> Vec<u8> {
        let mut capture = header().to_vec();
        for (number, frame) in frames.iter().enumerate() {
            let at = UNIX_EPOCH + Duration::new(number as u64 + 1, 5_000);
            record(&mut capture, at, frame);
        }
        capture
    }

    #[test]
    fn the_octets_are_those_of_the_format() {
        let golden = [
            0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 1, 0, 0,
            0, // the file
            1, 0, 0, 0, 5, 0, 0, 0, 3, 0, 0, 0, 3, 0, 0, 0, b'a', b'b', b'c', // the frame
        ];
        assert_eq!(capture(&[b"abc"]), golden);
    }

    #[test]
    fn records_come_out_whole_however_they_came_in_and_not_more_than_wanted() {
        let whole = capture(&[b"abc", b"", &[7; 2000]]);
        let mut records = Records::default();
        let mut out = Vec::new();
        let mut count = 0;
        for octet in &whole {
            records.feed(&[*octet]);
            count += records.drain(u64::MAX, &mut out).unwrap();
        }
        assert_eq!((count, &out), (3, &whole));
        let mut records = Records::default();
        records.feed(&whole);
        let mut out = Vec::new();
        assert_eq!(records.drain(2, &mut out), Ok(2));
        assert_eq!(out, capture(&[b"abc", b""]));
    }

    #[test]
    fn what_is_no_capture_is_refused() {
        let mut records = Records::default();
        records.feed(&[0; 30]);
        assert!(records.drain(1, &mut Vec::new()).is_err());
        let mut records = Records::default();
        records.feed(&header());
        records.feed(&[0xff; 16]);
        let refused = records.drain(1, &mut Vec::new()).unwrap_err();
        assert_eq!(refused, "wanted a frame, got one of 4294967295 octets");
    }
}
