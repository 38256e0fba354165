//! Directories out of paths, and where each of them and each file lies in the image.

use std::collections::{BTreeMap, BTreeSet};

use super::record::{self, DIRECTORY, FILE, Member, is_plain};
use super::{BLOCK, Entry, blocks};

/// Directories by their numbers, the root first, each level before the next; that is the order of the path table.
pub struct Tree<'a> {
    directories: Vec<Directory<'a>>,
    files: Vec<&'a Entry>,
}

struct Directory<'a> {
    parent: usize,
    identifier: Vec<u8>,
    /// By their identifiers.
    members: Vec<(Vec<u8>, &'a str, Kind)>,
}

#[derive(Clone, Copy)]
enum Kind {
    Directory(usize),
    File(usize),
}

/// The blocks where everything begins.
pub struct Places {
    directories: Vec<u32>,
    /// In octets, whole blocks.
    sizes: Vec<u32>,
    files: Vec<u32>,
    pub end: u32,
}

/// What is found at a path while paths are read.
enum Node<'a> {
    Directory(BTreeMap<&'a str, Node<'a>>),
    File(&'a Entry),
}

impl<'a> Tree<'a> {
    pub fn of(entries: &'a [Entry]) -> Result<Self, String> {
        let mut root = BTreeMap::new();
        for entry in entries {
            put(&mut root, &entry.path, entry).map_err(|why| format!("{}: {why}", entry.path))?;
        }
        let mut tree = Self {
            directories: vec![Directory {
                parent: 0,
                identifier: vec![0],
                members: Vec::new(),
            }],
            files: Vec::new(),
        };
        let mut level = vec![(0, root)];
        while !level.is_empty() {
            level = tree.number(level);
        }
        for index in 0..tree.directories.len() {
            tree.refuse_long_names(index)?;
        }
        Ok(tree)
    }

    /// Numbers the members of these directories; answers the next level.
    fn number(
        &mut self,
        level: Vec<(usize, BTreeMap<&'a str, Node<'a>>)>,
    ) -> Vec<(usize, BTreeMap<&'a str, Node<'a>>)> {
        let mut next = Vec::new();
        for (index, members) in level {
            let mut taken = BTreeSet::new();
            let mut named: Vec<_> = members
                .into_iter()
                .map(|(name, node)| (identifier(name, &node, &mut taken), name, node))
                .collect();
            named.sort_by(|(one, ..), (other, ..)| one.cmp(other));
            for (identifier, name, node) in named {
                let kind = match node {
                    Node::File(entry) => {
                        self.files.push(entry);
                        Kind::File(self.files.len() - 1)
                    }
                    Node::Directory(members) => {
                        self.directories.push(Directory {
                            parent: index,
                            identifier: identifier.clone(),
                            members: Vec::new(),
                        });
                        next.push((self.directories.len() - 1, members));
                        Kind::Directory(self.directories.len() - 1)
                    }
                };
                self.directories[index]
                    .members
                    .push((identifier, name, kind));
            }
        }
        next
    }

    fn refuse_long_names(&self, index: usize) -> Result<(), String> {
        let nowhere = self.nowhere();
        for (identifier, name, kind) in &self.directories[index].members {
            let member = self.member(identifier, *kind, &nowhere);
            if record::rock_ridge(&member, Some(name), false).is_none() {
                return Err(format!("{name}: the name is too long for an ISO image"));
            }
        }
        Ok(())
    }

    pub fn directories(&self) -> usize {
        self.directories.len()
    }

    /// In the order of their contents.
    pub fn files(&self) -> impl Iterator<Item = &'a Entry> {
        self.files.iter().copied()
    }

    /// To measure with.
    pub fn nowhere(&self) -> Places {
        Places {
            directories: vec![0; self.directories.len()],
            sizes: vec![0; self.directories.len()],
            files: vec![0; self.files.len()],
            end: 0,
        }
    }

    /// Everything one after the other, from this block on.
    pub fn places(&self, first: u32) -> Result<Places, String> {
        let mut places = self.nowhere();
        places.end = first;
        for index in 0..self.directories.len() {
            let size = self.directory(index, &places).len();
            places.directories[index] = places.end;
            places.sizes[index] = size as u32;
            places.end += blocks(size as u64);
        }
        for (index, entry) in self.files.iter().enumerate() {
            let size = entry.content.size();
            places.files[index] = places.end;
            let end = (u32::try_from(size).ok()).and_then(|_| places.end.checked_add(blocks(size)));
            places.end = end.ok_or_else(|| {
                format!(
                    "{}: {size} octets are too many for an ISO image",
                    entry.path
                )
            })?;
        }
        Ok(places)
    }

    fn member<'i>(&self, identifier: &'i [u8], kind: Kind, places: &Places) -> Member<'i> {
        match kind {
            Kind::Directory(index) => {
                let below = self.directories[index].members.iter();
                let directories = below.filter(|(.., kind)| matches!(kind, Kind::Directory(_)));
                Member {
                    identifier,
                    block: places.directories[index],
                    size: places.sizes[index],
                    mode: DIRECTORY | 0o755,
                    links: 2 + directories.count() as u32,
                    owner: 0,
                }
            }
            Kind::File(index) => {
                let entry = self.files[index];
                Member {
                    identifier,
                    block: places.files[index],
                    // Refused where it is more.
                    size: entry.content.size() as u32,
                    mode: FILE | entry.mode & 0o7777,
                    links: 1,
                    owner: entry.owner,
                }
            }
        }
    }

    pub fn root_record(&self, places: &Places) -> Vec<u8> {
        record::bare(&self.member(&[0], Kind::Directory(0), places))
    }

    /// The records of a directory, none of them across the end of a block.
    pub fn directory(&self, index: usize, places: &Places) -> Vec<u8> {
        let directory = &self.directories[index];
        let own = self.member(&[0], Kind::Directory(index), places);
        let parent = self.member(&[1], Kind::Directory(directory.parent), places);
        let members = directory.members.iter().map(|(identifier, name, kind)| {
            let member = self.member(identifier, *kind, places);
            record::rock_ridge(&member, Some(name), false)
        });
        let records = [
            record::rock_ridge(&own, None, index == 0),
            record::rock_ridge(&parent, None, false),
        ];
        let mut octets: Vec<u8> = Vec::new();
        for record in records.into_iter().chain(members) {
            let record = record.expect("long names were refused");
            if octets.len() % BLOCK + record.len() > BLOCK {
                super::pad(&mut octets);
            }
            octets.extend(record);
        }
        super::pad(&mut octets);
        octets
    }

    /// A path table (ECMA-119 §9.4), its numbers by `order`.
    pub fn path_table(&self, places: &Places, order: fn(u32) -> [u8; 4]) -> Vec<u8> {
        let mut table = Vec::new();
        for (directory, block) in self.directories.iter().zip(&places.directories) {
            table.extend([directory.identifier.len() as u8, 0]);
            table.extend(order(*block));
            // In two octets: those of four that are not always zero.
            let parent = order(directory.parent as u32 + 1);
            table.extend(match order(1)[0] {
                1 => &parent[..2],
                _ => &parent[2..],
            });
            table.extend(&directory.identifier);
            if table.len() % 2 == 1 {
                table.push(0);
            }
        }
        table
    }
}

fn put<'a>(
    directory: &mut BTreeMap<&'a str, Node<'a>>,
    path: &'a str,
    entry: &'a Entry,
) -> Result<(), &'static str> {
    let (first, rest) = match path.split_once('/') {
        Some((first, rest)) => (first, Some(rest)),
        None => (path, None),
    };
    if matches!(first, "" | "." | "..") || first.contains('\0') {
        return Err("this is no path of a file in an image; wanted names with slashes between");
    }
    match (rest, directory.get_mut(first)) {
        (Some(rest), Some(Node::Directory(members))) => put(members, rest, entry),
        (_, Some(_)) => Err("it is there twice"),
        (Some(rest), None) => {
            let mut members = BTreeMap::new();
            put(&mut members, rest, entry)?;
            directory.insert(first, Node::Directory(members));
            Ok(())
        }
        (None, None) => {
            directory.insert(first, Node::File(entry));
            Ok(())
        }
    }
}

/// A name of capitals, digits and underscores that no other member has (ECMA-119 §7.5, §7.6).
fn identifier(name: &str, node: &Node<'_>, taken: &mut BTreeSet<Vec<u8>>) -> Vec<u8> {
    let plain = |text: &str, longest: usize| -> String {
        let octets = text.bytes().map(|octet| octet.to_ascii_uppercase());
        let octets = octets.map(|octet| if is_plain(octet) { octet } else { b'_' });
        octets.take(longest).map(char::from).collect()
    };
    let (stem, ending) = match (node, name.rsplit_once('.')) {
        (Node::File(_), Some((stem, ending))) if !stem.is_empty() => (stem, ending),
        _ => (name, ""),
    };
    for turn in 0_u32.. {
        let number = if turn == 0 {
            String::new()
        } else {
            turn.to_string()
        };
        let stem = plain(stem, 20 - number.len()) + &number;
        let identifier = match node {
            Node::Directory(_) => stem,
            Node::File(_) => format!("{stem}.{};1", plain(ending, 8)),
        };
        if taken.insert(identifier.clone().into_bytes()) {
            return identifier.into_bytes();
        }
    }
    unreachable!("there are more numbers than members")
}
