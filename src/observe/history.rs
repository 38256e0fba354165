//! What is remembered of what happened, in bounds: so much of each machine, less of each client that nobody knows, and so much in
//! all. In: entries in their order. Out: the entries of one subject, or of all, after a sequence number.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use crate::model::{Entry, Subject};

/// A boot has some thirty entries.
pub const MOST_OF_A_MACHINE: usize = 256;
const MOST_OF_A_CLIENT: usize = 32;
/// A stranger can have any number of MACs.
const MOST_CLIENTS: usize = 1024;
pub const MOST_IN_ALL: usize = 65_536;

/// The entries that are remembered.
#[derive(Debug, Default)]
pub struct History {
    by_sequence: BTreeMap<u64, Arc<Entry>>,
    by_subject: HashMap<Subject, VecDeque<u64>>,
    /// Clients by the sequence of their last entry: who has been silent for longest is forgotten first.
    clients: BTreeMap<u64, Subject>,
    last: u64,
}

/// What became of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Noted {
    pub entry: Arc<Entry>,
    /// It says what the subject's last entry says, and is counted there.
    pub is_repeat: bool,
}

impl History {
    /// The last sequence number given out.
    pub fn last(&self) -> u64 {
        self.last
    }

    pub fn len(&self) -> usize {
        self.by_sequence.len()
    }

    /// Adds what happened, under the next sequence number.
    pub fn note(&mut self, mut entry: Entry) -> Noted {
        let of_subject = self.by_subject.get(&entry.subject);
        let last = of_subject.and_then(|sequences| self.by_sequence.get(sequences.back()?));
        if let Some(last) = last.filter(|last| last.repeats(&entry)) {
            let mut again = (**last).clone();
            again.count = again.count.saturating_add(1);
            again.last_ms = Some(entry.at_ms);
            let entry = Arc::new(again);
            self.by_sequence.insert(entry.sequence, entry.clone());
            return Noted {
                entry,
                is_repeat: true,
            };
        }
        entry.sequence = self.last + 1;
        let entry = Arc::new(entry);
        self.keep(entry.clone());
        Noted {
            entry,
            is_repeat: false,
        }
    }

    /// Takes an entry as it was written before; a later one of the same sequence takes its place.
    pub fn restore(&mut self, entry: Entry) {
        if let Some(known) = self.by_sequence.get_mut(&entry.sequence) {
            *known = Arc::new(entry);
        } else if entry.sequence > self.last {
            self.keep(Arc::new(entry));
        }
    }

    fn keep(&mut self, entry: Arc<Entry>) {
        let (sequence, subject) = (entry.sequence, entry.subject.clone());
        self.last = sequence;
        self.by_sequence.insert(sequence, entry);
        let sequences = self.by_subject.entry(subject.clone()).or_default();
        let before = sequences.back().copied();
        sequences.push_back(sequence);
        let most = match subject {
            Subject::Machine(_) => MOST_OF_A_MACHINE,
            Subject::Client(_) => MOST_OF_A_CLIENT,
        };
        if sequences.len() > most
            && let Some(oldest) = sequences.pop_front()
        {
            self.by_sequence.remove(&oldest);
        }
        if matches!(subject, Subject::Client(_)) {
            if let Some(before) = before {
                self.clients.remove(&before);
            }
            self.clients.insert(sequence, subject);
        }
        while self.clients.len() > MOST_CLIENTS
            && let Some((_, silent)) = self.clients.pop_first()
        {
            for sequence in self.by_subject.remove(&silent).unwrap_or_default() {
                self.by_sequence.remove(&sequence);
            }
        }
        while self.by_sequence.len() > MOST_IN_ALL
            && let Some((sequence, entry)) = self.by_sequence.pop_first()
        {
            self.forget(sequence, &entry.subject);
        }
    }

    /// The oldest entry of all is its subject's oldest too.
    fn forget(&mut self, sequence: u64, subject: &Subject) {
        let Some(sequences) = self.by_subject.get_mut(subject) else {
            return;
        };
        sequences.retain(|other| *other != sequence);
        if sequences.is_empty() {
            self.by_subject.remove(subject);
            self.clients.remove(&sequence);
        }
    }

    /// What happened to one subject, in order.
    pub fn of(&self, subject: &Subject) -> Vec<Arc<Entry>> {
        let sequences = self.by_subject.get(subject).into_iter().flatten();
        sequences
            .filter_map(|sequence| self.by_sequence.get(sequence).cloned())
            .collect()
    }

    /// What happened after this sequence number, to one subject or to all; `most` of it.
    pub fn since(&self, sequence: u64, subject: Option<&Subject>, most: usize) -> Vec<Arc<Entry>> {
        let is_after = |entry: &Arc<Entry>| entry.sequence > sequence;
        match subject {
            Some(subject) => (self.of(subject).into_iter())
                .filter(is_after)
                .take(most)
                .collect(),
            None => (self.by_sequence.range(sequence.saturating_add(1)..))
                .map(|(_, entry)| entry.clone())
                .take(most)
                .collect(),
        }
    }

    /// Everybody to whom something happened since.
    pub fn subjects_since(&self, at_ms: u64) -> Vec<Subject> {
        let last = |sequences: &VecDeque<u64>| self.by_sequence.get(sequences.back()?);
        (self.by_subject.iter())
            .filter(|(_, sequences)| last(sequences).is_some_and(|e| e.until_ms() >= at_ms))
            .map(|(subject, _)| subject.clone())
            .collect()
    }

    /// All that is remembered, in order.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.by_sequence.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Kind;

    fn entry(subject: &Subject, what: &str, at_ms: u64) -> Entry {
        Entry {
            sequence: 0,
            at_ms,
            subject: subject.clone(),
            attempt: 0,
            kind: Kind::Offer,
            what: what.into(),
            detail: String::new(),
            bytes: None,
            elapsed_ms: None,
            count: 1,
            last_ms: None,
        }
    }

    fn machine(n: usize) -> Subject {
        Subject::Machine(format!("node-{n}"))
    }

    fn client(n: usize) -> Subject {
        Subject::Client(format!("02:00:00:00:{:02x}:{:02x}", n / 256, n % 256))
    }

    #[test]
    fn what_is_said_again_and_again_is_one_entry() {
        let mut history = History::default();
        let node = machine(1);
        for at in 0..1000 {
            history.note(entry(&node, "a", at));
        }
        history.note(entry(&node, "b", 1000));
        history.note(entry(&node, "a", 1001));
        let all = history.of(&node);
        let told: Vec<(u64, u32, u64)> = all
            .iter()
            .map(|e| (e.sequence, e.count, e.until_ms()))
            .collect();
        assert_eq!(told, [(1, 1000, 999), (2, 1, 1000), (3, 1, 1001)]);
    }

    #[test]
    fn a_machine_keeps_its_newest_entries_and_a_flood_of_strangers_takes_none_of_them() {
        let mut history = History::default();
        for at in 0..300 {
            history.note(entry(&machine(1), &at.to_string(), at));
        }
        for n in 0..20_000 {
            history.note(entry(&client(n), "x", 300));
        }
        let kept = history.of(&machine(1));
        assert_eq!(kept.len(), MOST_OF_A_MACHINE);
        assert_eq!(kept[0].what, "44");
        assert_eq!(history.len(), MOST_OF_A_MACHINE + MOST_CLIENTS);
        assert!(history.of(&client(0)).is_empty());
        assert_eq!(history.of(&client(19_999)).len(), 1);
        // A client that keeps talking is not the one that is forgotten.
        for n in 0..2000 {
            history.note(entry(&client(7), &n.to_string(), 400));
            history.note(entry(&client(30_000 + n), "x", 400));
        }
        assert_eq!(history.of(&client(7)).len(), MOST_OF_A_CLIENT);
        assert!(history.clients.len() <= MOST_CLIENTS);
        assert!(history.by_subject.len() <= MOST_CLIENTS + 1);
    }

    #[test]
    fn there_is_a_bound_to_all_of_it() {
        let mut history = History::default();
        for n in 0..400 {
            for at in 0..MOST_OF_A_MACHINE {
                history.note(entry(&machine(n), &at.to_string(), 0));
            }
        }
        assert_eq!(history.len(), MOST_IN_ALL);
        let known: usize = history.by_subject.values().map(VecDeque::len).sum();
        assert_eq!(known, MOST_IN_ALL);
        assert!(history.of(&machine(0)).is_empty());
    }

    #[test]
    fn what_happened_since_is_read_by_subject_and_over_all() {
        let mut history = History::default();
        for at in 0..10 {
            history.note(entry(&machine(at % 2), &at.to_string(), at as u64));
        }
        let whats = |entries: Vec<Arc<Entry>>| -> String {
            entries.iter().map(|e| e.what.as_str()).collect()
        };
        assert_eq!(whats(history.since(6, None, 9)), "6789");
        assert_eq!(whats(history.since(6, None, 2)), "67");
        assert_eq!(whats(history.since(6, Some(&machine(1)), 9)), "79");
        assert_eq!(whats(history.since(u64::MAX, None, 9)), "");
        assert_eq!(history.subjects_since(9), [machine(1)]);
    }
}
