//! Maps of a few entries, by the million. In and out: the same as of a `BTreeMap`, in the order of the keys; but one entry takes
//! the room of one, where a node of a tree has room for eleven.

use std::borrow::Borrow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A map as a slice that is sorted by its keys, each there once. To insert or to remove costs a copy of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Sorted<K, V>(Box<[(K, V)]>);

impl<K, V> Sorted<K, V> {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn iter(&self) -> Entries<'_, K, V> {
        self.0.iter().map(|(key, value)| (key, value))
    }

    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.0.iter().map(|(key, _)| key)
    }

    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.0.iter().map(|(_, value)| value)
    }

    pub fn iter_mut(&mut self) -> EntriesMut<'_, K, V> {
        self.0.iter_mut().map(|(key, value)| (&*key, value))
    }
}

/// Keys and values, in the order of the keys.
pub type Entries<'a, K, V> =
    std::iter::Map<std::slice::Iter<'a, (K, V)>, fn(&'a (K, V)) -> (&'a K, &'a V)>;
/// The same, with values that can be changed.
pub type EntriesMut<'a, K, V> =
    std::iter::Map<std::slice::IterMut<'a, (K, V)>, fn(&'a mut (K, V)) -> (&'a K, &'a mut V)>;

impl<K: Ord, V> Sorted<K, V> {
    fn find<Q: Ord + ?Sized>(&self, key: &Q) -> Result<usize, usize>
    where
        K: Borrow<Q>,
    {
        (self.0).binary_search_by(|(known, _)| known.borrow().cmp(key))
    }

    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.find(key).ok().map(|at| &self.0[at].1)
    }

    /// Answers the value that it had.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self.find(&key) {
            Ok(at) => Some(std::mem::replace(&mut self.0[at].1, value)),
            Err(at) => {
                let mut entries = std::mem::take(&mut self.0).into_vec();
                entries.reserve_exact(1);
                entries.insert(at, (key, value));
                self.0 = entries.into_boxed_slice();
                None
            }
        }
    }

    /// Answers the value that it had.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let at = self.find(key).ok()?;
        let mut entries = std::mem::take(&mut self.0).into_vec();
        let (_, value) = entries.remove(at);
        self.0 = entries.into_boxed_slice();
        Some(value)
    }
}

impl<K, V> Default for Sorted<K, V> {
    fn default() -> Self {
        Self(Box::default())
    }
}

/// Of two entries with one key the later one.
impl<K: Ord, V> FromIterator<(K, V)> for Sorted<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut entries: Vec<(K, V)> = entries.into_iter().collect();
        let is_sorted = (entries.windows(2)).all(|pair| pair[0].0 < pair[1].0);
        if !is_sorted {
            entries.reverse();
            entries.sort_by(|(a, _), (b, _)| a.cmp(b));
            entries.dedup_by(|(later, _), (first, _)| later == first);
        }
        Self(entries.into_boxed_slice())
    }
}

impl<K: Ord, V> Extend<(K, V)> for Sorted<K, V> {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, entries: I) {
        let known = std::mem::take(&mut self.0).into_vec();
        *self = known.into_iter().chain(entries).collect();
    }
}

impl<K: Ord, V, const N: usize> From<[(K, V); N]> for Sorted<K, V> {
    fn from(entries: [(K, V); N]) -> Self {
        entries.into_iter().collect()
    }
}

impl<K, V> IntoIterator for Sorted<K, V> {
    type Item = (K, V);
    type IntoIter = std::vec::IntoIter<(K, V)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_vec().into_iter()
    }
}

impl<'a, K, V> IntoIterator for &'a Sorted<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = Entries<'a, K, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'a, K, V> IntoIterator for &'a mut Sorted<K, V> {
    type Item = (&'a K, &'a mut V);
    type IntoIter = EntriesMut<'a, K, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter_mut()
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for Sorted<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<K: Serialize, V: Serialize> Serialize for Sorted<K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self)
    }
}

impl<'de, K, V> Deserialize<'de> for Sorted<K, V>
where
    K: Deserialize<'de> + Ord,
    V: Deserialize<'de>,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(OfMap(PhantomData))
    }
}

struct OfMap<K, V>(PhantomData<(K, V)>);

impl<'de, K, V> Visitor<'de> for OfMap<K, V>
where
    K: Deserialize<'de> + Ord,
    V: Deserialize<'de>,
{
    type Value = Sorted<K, V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(entries.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::de::value::{Error, MapDeserializer, StrDeserializer};

    use super::*;

    #[test]
    fn it_is_read_like_any_map_and_of_two_values_of_a_key_the_later_one() {
        let entries = [("b", 2), ("a", 1), ("b", 3)].into_iter();
        let read = Sorted::<String, u8>::deserialize(MapDeserializer::<_, Error>::new(entries));
        let read = read.expect("a map");
        assert_eq!(format!("{read:?}"), r#"{"a": 1, "b": 3}"#);
        let text = StrDeserializer::<Error>::new("a");
        assert!(Sorted::<String, u8>::deserialize(text).is_err());
    }

    /// Whatever is done to it.
    #[test]
    fn it_is_what_a_tree_would_be() {
        let (mut map, mut tree) = (Sorted::new(), BTreeMap::new());
        let mut random = 7_u32;
        for _ in 0..2000 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let [what, key, value, _] = random.to_be_bytes();
            let key = key % 12;
            match what % 5 {
                0 | 1 => assert_eq!(map.insert(key, value), tree.insert(key, value)),
                2 => assert_eq!(map.remove(&key), tree.remove(&key)),
                3 => {
                    let more = [(key, value), (value % 12, key), (key, 1)];
                    map.extend(more);
                    tree.extend(more);
                }
                _ => {
                    for (_, value) in &mut map {
                        *value /= 2;
                    }
                    tree.values_mut().for_each(|value| *value /= 2);
                }
            }
            assert_eq!(map.get(&key), tree.get(&key));
            assert_eq!(map.len(), tree.len());
            assert!(map.keys().eq(tree.keys()) && map.values().eq(tree.values()));
        }
        assert!(map.into_iter().eq(tree));
    }
}
