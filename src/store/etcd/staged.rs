//! Records of a batch that is too large for one transaction, packed into few values. In: keys and values. Out: octets, and back.
//!
//! A part is a version octet, then for each record: length and text of the key, and a 0 where it is deleted, or a 1 and length and
//! octets of the value. Lengths are 32 bit, most significant octet first.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

const VERSION: u8 = 1;
/// etcd takes 1.5 MiB in one request.
const LARGEST_PART: usize = 1 << 20;

/// A key below the prefix, and its value or none.
pub(super) type Entry = (String, Option<Bytes>);

/// Packs them into parts, in order; refuses a record that fits none.
pub(super) fn pack<'a>(entries: impl Iterator<Item = &'a Entry>) -> Result<Vec<Bytes>, String> {
    let mut parts = Vec::new();
    let mut part = BytesMut::from(&[VERSION][..]);
    for (name, value) in entries {
        let size = 9 + name.len() + value.as_ref().map_or(0, Bytes::len);
        if size >= LARGEST_PART {
            return Err(format!(
                "{name} has {size} octets; etcd takes no more than {LARGEST_PART}"
            ));
        }
        if part.len() + size > LARGEST_PART {
            parts.push(part.split().freeze());
            part.put_u8(VERSION);
        }
        put(&mut part, name.as_bytes());
        part.put_u8(u8::from(value.is_some()));
        if let Some(value) = value {
            put(&mut part, value);
        }
    }
    parts.push(part.freeze());
    Ok(parts)
}

/// Unpacks one part.
pub(super) fn unpack(mut part: Bytes) -> Result<Vec<Entry>, String> {
    let damaged = || "a part of a batch is damaged".to_owned();
    match part.try_get_u8() {
        Ok(VERSION) => {}
        Ok(version) => {
            return Err(format!(
                "a part of a batch is written in form {version}, which this bootjackd does not know; use the version that wrote it"
            ));
        }
        Err(_) => return Err(damaged()),
    }
    let mut entries = Vec::new();
    while part.has_remaining() {
        let name = take(&mut part).ok_or_else(damaged)?;
        let name = String::from_utf8(name.to_vec()).map_err(|_| damaged())?;
        let value = match part.try_get_u8() {
            Ok(0) => None,
            Ok(1) => Some(take(&mut part).ok_or_else(damaged)?),
            _ => return Err(damaged()),
        };
        entries.push((name, value));
    }
    Ok(entries)
}

fn put(part: &mut BytesMut, octets: &[u8]) {
    // No longer than a part.
    part.put_u32(u32::try_from(octets.len()).unwrap_or(u32::MAX));
    part.put_slice(octets);
}

fn take(part: &mut Bytes) -> Option<Bytes> {
    let length = usize::try_from(part.try_get_u32().ok()?).ok()?;
    (length <= part.remaining()).then(|| part.split_to(length))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_packed_comes_back_in_order_and_nothing_else_is_taken_for_it(
            entries in proptest::collection::vec(("[a-z]{0,9}", proptest::option::of(0usize..300_000)), 0..20),
            cut in 0usize..100,
        ) {
            let entries: Vec<Entry> = entries
                .into_iter()
                .map(|(name, size)| (name, size.map(|size| vec![7; size].into())))
                .collect();
            let parts = pack(entries.iter()).expect("they fit");
            prop_assert!(parts.iter().all(|part| part.len() <= LARGEST_PART));
            let back: Vec<Entry> = parts.iter().flat_map(|part| unpack(part.clone()).expect("whole")).collect();
            prop_assert_eq!(&back, &entries);
            let first = &parts[0];
            let cut = first.slice(..cut.min(first.len().saturating_sub(1)));
            if let Ok(fewer) = unpack(cut) {
                prop_assert!(entries.starts_with(&fewer), "cut between two records");
            }
        }
    }

    #[test]
    fn a_record_that_fits_no_part_is_refused() {
        let entry = ("reservation/a".to_owned(), Some(vec![0; 2 << 20].into()));
        assert!(pack([entry].iter()).is_err());
    }
}
