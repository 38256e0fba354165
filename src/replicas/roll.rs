//! All that stands about replicas in the shared store, as it is read and as it changes. In: keys and values. Out: the group they
//! make, and what could not be read.

use std::collections::BTreeMap;

use super::group::{Canary, Group, Member, Override};
use super::record::{self, Key, Record};
use crate::model::MacAddr;

/// The records as they stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roll {
    members: BTreeMap<String, Member>,
    canary: Option<Canary>,
    overrides: BTreeMap<MacAddr, Override>,
}

impl Roll {
    /// Takes one key's new value, or that it is gone; a key of somebody else's changes nothing. A value that cannot be read is
    /// refused, and what was there before it is gone: another replica follows it.
    pub fn take(&mut self, key: &str, value: Option<&[u8]>) -> Result<(), String> {
        let Some(key) = record::read_key(key) else {
            return Ok(());
        };
        let record = match value {
            None => None,
            Some(value) => match record::read(key.clone(), value) {
                Ok(record) => Some(record),
                Err(problem) => {
                    self.forget(&key);
                    return Err(problem);
                }
            },
        };
        match record {
            None => self.forget(&key),
            Some(Record::Member(member)) => {
                self.members.insert(member.id.clone(), member);
            }
            Some(Record::Canary(canary)) => self.canary = Some(canary),
            Some(Record::Override(told)) => {
                self.overrides.insert(told.mac, told);
            }
        }
        Ok(())
    }

    fn forget(&mut self, key: &Key) {
        match key {
            Key::Member(id) => drop(self.members.remove(id)),
            Key::Canary => self.canary = None,
            Key::Override(mac) => drop(self.overrides.remove(mac)),
        }
    }

    /// The group as it is now; who was in the one before and is not in this one has left.
    pub fn group(&self, before: Group) -> Group {
        before
            .with_members(self.members.values().cloned().collect())
            .with_canary(self.canary.clone())
            .with_overrides(self.overrides.values().cloned())
    }
}

#[cfg(test)]
mod tests {
    use super::super::group::tests::member;
    use super::*;

    #[test]
    fn the_roll_follows_each_change_and_forgets_what_it_cannot_read() {
        let mut roll = Roll::default();
        let put = |roll: &mut Roll, n: u8| {
            let member = member(n);
            let text = record::member_text(&member);
            roll.take(&record::member_key(&member.id), Some(&text))
        };
        for n in [2, 1] {
            assert_eq!(put(&mut roll, n), Ok(()));
        }
        let canary = Canary {
            replica: "replica-2".to_owned(),
            percent: 5,
        };
        let text = record::canary_text(&canary);
        assert_eq!(roll.take(record::CANARY_KEY, Some(&text)), Ok(()));
        assert_eq!(
            roll.take("reservations/x", Some(b"nothing of ours")),
            Ok(())
        );
        let group = roll.group(Group::new("replica-1".to_owned()));
        assert_eq!(group.members(), [member(1), member(2)]);
        assert_eq!(group.canary(), Some(&canary));

        assert!(roll.take("replicas/replica-2", Some(b"?")).is_err());
        assert_eq!(roll.take(record::CANARY_KEY, None), Ok(()));
        let group = roll.group(group);
        assert_eq!(group.members(), [member(1)]);
        assert_eq!(group.canary(), None);
        assert!(group.has_left(member(2).addresses[0]));
    }
}
