//! Records decoded while the next ones are read. In: keys and values, as they come from a disk. Out: what they say, in the same
//! order; or the first that makes no sense. Two threads share the work of a start; a few hundred kilobytes wait between them.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::Records;
use super::record;

/// How many octets go to the other thread at once.
const PARCEL: usize = 64 << 10;
/// How many parcels may wait.
const WAITING: usize = 4;

/// What reading gives its records to.
pub(super) struct To {
    parcel: Parcel,
    parcels: SyncSender<Parcel>,
}

/// Keys and values, one behind the other.
#[derive(Default)]
struct Parcel {
    octets: Vec<u8>,
    /// How long each key is, and each value.
    lengths: Vec<(usize, usize)>,
}

/// All that `read` gives, decoded.
pub(super) fn decoded(read: impl FnOnce(&mut To) -> Result<(), String>) -> Result<Records, String> {
    std::thread::scope(|scope| {
        let (parcels, waiting) = sync_channel(WAITING);
        let decoding = scope.spawn(|| decode(waiting));
        let mut to = To {
            parcel: Parcel::default(),
            parcels,
        };
        let read = read(&mut to).and_then(|()| to.send());
        drop(to);
        let decoded = decoding.join().map_err(|_| "its decoder died".to_owned())?;
        // A record that makes no sense is why reading ended, where it did.
        let records = decoded?;
        read.map(|()| records)
    })
}

fn decode(waiting: Receiver<Parcel>) -> Result<Records, String> {
    let mut records = Records::default();
    for Parcel { octets, lengths } in waiting {
        let mut rest = octets.as_slice();
        for (key, value) in lengths {
            let (key, values) = rest.split_at(key);
            let (value, next) = values.split_at(value);
            record::decode(key, value, &mut records)
                .map_err(|problem| format!("record {}: {problem}", key.escape_ascii()))?;
            rest = next;
        }
    }
    Ok(records)
}

impl To {
    pub(super) fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        let parcel = &mut self.parcel;
        parcel.octets.extend(key);
        parcel.octets.extend(value);
        parcel.lengths.push((key.len(), value.len()));
        match parcel.octets.len() < PARCEL {
            true => Ok(()),
            false => self.send(),
        }
    }

    fn send(&mut self) -> Result<(), String> {
        let parcel = std::mem::take(&mut self.parcel);
        (self.parcels.send(parcel)).map_err(|_| "its decoder has ended".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Reservation, Source};
    use crate::store::RecordChange;

    fn encoded(n: usize) -> (Vec<u8>, Vec<u8>) {
        let reservation = Reservation::of(format!("node-{n}"), Source::Api);
        let change = RecordChange::PutReservation(reservation);
        let (key, value) = record::encode(&change).expect("encodes");
        (key, value.expect("a value"))
    }

    #[test]
    fn all_come_out_in_the_order_in_which_they_went_in() {
        let records = decoded(|to| {
            (0..5000)
                .map(encoded)
                .try_for_each(|(key, value)| to.put(&key, &value))
        });
        let ids: Vec<String> = (records.expect("sound").reservations.iter())
            .map(|own| own.id.clone())
            .collect();
        assert!(
            ids.iter()
                .cloned()
                .eq((0..5000).map(|n| format!("node-{n}")))
        );
    }

    #[test]
    fn one_that_makes_no_sense_is_named_and_ends_the_reading() {
        let mut read = 0;
        let refused = decoded(|to| {
            to.put(b"reservation/bad", b"\x01{")?;
            (0..1_000_000)
                .map(|_| encoded(1))
                .try_for_each(|(key, value)| {
                    read += 1;
                    to.put(&key, &value)
                })
        });
        let problem = refused.expect_err("refused");
        assert!(problem.starts_with("record reservation/bad: "), "{problem}");
        assert!(read < 1_000_000, "it has read on to the end");
        let failed = decoded(|_| Err("the disk is gone".to_owned()));
        assert_eq!(failed.expect_err("refused"), "the disk is gone");
    }
}
