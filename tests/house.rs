//! The floor plan of `src/lib.rs`, held against the code: who may import whom, and what the lower floors may not touch.
//!
//! In: the sources, read as tokens; comments and strings count for nothing. Out: one sentence for each import that goes up or
//! sideways, such as "dhcp/decide.rs (floor 1) uses store (floor 2)". What it cannot see: a name that a macro puts together.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

/// One room: files that may know each other.
struct Room {
    floor: u8,
    /// Module paths; a file belongs to the longest one that begins its own.
    parts: &'static [&'static str],
    /// Parts of other rooms on the same floor that this one may use.
    knows: &'static [&'static str],
}

/// The floor plan. A new file needs a place here and in the table of `src/lib.rs`.
const ROOMS: &[Room] = &[
    room(4, &["main"], &["cli"]),
    room(4, &["cli"], &["app"]),
    room(4, &["app"], &[]),
    room(
        3,
        &["dhcp/server", "dhcp/peers", "dhcp/rogue", "dhcp/prober"],
        &[],
    ),
    room(3, &["ndp/server"], &[]),
    room(
        3,
        &["tftp/server", "tftp/session", "tftp/places", "tftp/content"],
        &[],
    ),
    room(
        3,
        &[
            "http/server",
            "http/connections",
            "http/files",
            "http/pace",
            "http/tls",
            "http/artifacts",
            "http/machine",
            "http/attempt",
            "http/secrets",
        ],
        &[],
    ),
    room(
        3,
        &[
            "grpc/server",
            "grpc/convert",
            "grpc/listen",
            "grpc/accept",
            "grpc/connection",
            "grpc/access",
            "grpc/artifacts",
            "grpc/batch",
            "grpc/dhcp",
            "grpc/errors",
            "grpc/replicas",
            "grpc/events",
            "grpc/filter",
            "grpc/lease_filter",
            "grpc/lease_message",
            "grpc/following",
            "grpc/lease_watch",
            "grpc/leases",
            "grpc/machine_filter",
            "grpc/machines",
            "grpc/mask",
            "grpc/operations",
            "grpc/paging",
            "grpc/profile_message",
            "grpc/profiles",
            "grpc/reservation_filter",
            "grpc/reservation_size",
            "grpc/reservation_watch",
            "grpc/reservations",
            "grpc/server_info",
            "grpc/values",
        ],
        &[],
    ),
    room(
        2,
        &["replicas/membership", "replicas/following", "replicas/desk"],
        &["store", "observe"],
    ),
    room(2, &["store"], &[]),
    room(2, &["observe"], &[]),
    room(2, &["net"], &[]),
    room(
        2,
        &["artifact/store", "artifact/fetch", "artifact/import"],
        &[],
    ),
    room(
        1,
        &[
            "dhcp/request",
            "dhcp/answer",
            "dhcp/decide",
            "dhcp/pool",
            "dhcp/proxy",
            "dhcp/bootfile",
            "dhcp/options",
            "dhcp/chosen",
            "dhcp/reply",
            "dhcp/route",
            "dhcp/probe",
            "dhcp/pcap",
            "dhcp/limit",
            "dhcp/copies",
        ],
        &["dhcp/view"],
    ),
    // The two that are handed the world whole.
    room(
        1,
        &["dhcp/view", "dhcp/explain", "dhcp/away"],
        &[
            "catalog",
            "bindings",
            "lifecycle",
            "dhcp/request",
            "dhcp/answer",
            "dhcp/bootfile",
            "dhcp/chosen",
            "dhcp/decide",
            "dhcp/options",
            "dhcp/proxy",
            "dhcp/route",
        ],
    ),
    room(1, &["dhcp/forward"], &["dhcp/request", "replicas/group"]),
    room(
        1,
        &[
            "replicas/bucket",
            "replicas/shares",
            "replicas/group",
            "replicas/record",
            "replicas/roll",
            "replicas/shared",
        ],
        &[],
    ),
    room(1, &["ndp/advertisement"], &[]),
    room(
        1,
        &[
            "tftp/packet",
            "tftp/terms",
            "tftp/resolve",
            "tftp/transfer",
            "tftp/patience",
        ],
        &[],
    ),
    room(
        1,
        &[
            "artifact/name",
            "artifact/used",
            "artifact/inside",
            "artifact/iso",
        ],
        &[],
    ),
    room(1, &["http/document"], &["catalog", "render", "lifecycle"]),
    room(1, &["lint"], &["catalog", "render", "http/document"]),
    room(1, &["http/access"], &["catalog", "bindings"]),
    room(1, &["http/callback"], &["lifecycle"]),
    room(1, &["lifecycle"], &["catalog"]),
    room(1, &["stalls"], &[]),
    room(1, &["convergence"], &["bindings"]),
    room(1, &["render"], &["config"]),
    room(1, &["catalog"], &[]),
    room(1, &["bindings"], &[]),
    room(
        1,
        &["config"],
        &[
            "catalog",
            "dhcp/options",
            "dhcp/answer",
            "dhcp/limit",
            "http/access",
            "artifact/name",
            "replicas/group",
            "replicas/record",
            "replicas/shares",
        ],
    ),
    room(0, &["model"], &[]),
];

/// Files that only say which files there are. Importing one of them whole is importing the highest room behind it.
const CORRIDORS: &[(&str, u8)] = &[
    ("", 4),
    ("ndp", 3),
    ("replicas", 2),
    ("dhcp", 3),
    ("tftp", 3),
    ("http", 3),
    ("grpc", 3),
    ("artifact", 2),
];

/// What pure code does not name, and what it is called.
const EFFECTS: &[(&str, &[&str])] = &[
    ("tokio", &["tokio"]),
    ("logging", &["tracing", "metrics"]),
    (
        "the file system",
        &["std::fs", "std::os", "rustix", "include_dir"],
    ),
    ("the environment", &["std::env", "std::process"]),
    ("threads", &["std::thread"]),
    ("a clock", &["std::time::SystemTime", "std::time::Instant"]),
    (
        "a socket",
        &[
            "std::net::UdpSocket",
            "std::net::TcpListener",
            "std::net::TcpStream",
            "socket2",
            "nix",
            "libc",
        ],
    ),
];

/// What a `Path` does on disk.
const PATH_METHODS: &[&str] = &[
    "exists",
    "try_exists",
    "is_file",
    "is_dir",
    "canonicalize",
    "read_dir",
    "symlink_metadata",
];

/// Modules that hold effects beside values: pure code names what it takes out of them.
const MIXED_MODULES: &[&str] = &["std", "std::time", "std::net"];

/// Crates that one file alone may name.
const KEPT_IN_ONE_FILE: &[(&str, &str)] = &[
    ("sled", "store/sled.rs"),
    ("async_tftp", "no file: it is a rival, in benches/tftp.rs"),
    (
        "etcd_client",
        "no file: store/etcd/wire.rs speaks etcd's contract itself, docs/decisions.md says why",
    ),
];

/// Floor 0 is std and these.
const CRATES_OF_FLOOR_0: &[&str] = &["serde", "ipnet"];

const fn room(floor: u8, parts: &'static [&'static str], knows: &'static [&'static str]) -> Room {
    Room {
        floor,
        parts,
        knows,
    }
}

#[test]
fn every_file_imports_only_from_lower_floors_or_from_rooms_it_knows() {
    assert_nothing(sources().iter().flat_map(imports_that_go_up));
}

#[test]
fn pure_rooms_name_no_tokio_no_file_system_no_clock_no_socket_and_no_log() {
    assert_nothing(sources().iter().flat_map(effects_in_pure_rooms));
}

#[test]
fn the_nouns_know_std_serde_and_ipnet_alone() {
    let crates = crates_of(&read("Cargo.toml"));
    assert!(
        crates.contains("tokio"),
        "the manifest was read: {crates:?}"
    );
    assert_nothing(sources().iter().flat_map(|s| crates_on_floor_0(s, &crates)));
}

#[test]
fn sled_is_named_in_one_file_and_async_tftp_in_none() {
    let sources = sources();
    assert_nothing(sources.iter().flat_map(crates_out_of_place));
    let (name, file) = ("sled", "store/sled.rs");
    let home = sources.iter().find(|s| s.file == file).expect(file);
    assert!(
        home.paths()
            .iter()
            .any(|p| p.foreign().is_some_and(|c| c == name)),
        "{file} names {name}, or this test looks for the wrong thing"
    );
}

#[test]
fn every_file_of_src_has_a_place_and_every_place_a_file() {
    let sources = sources();
    assert_nothing(sources.iter().filter_map(|s| placed(&s.file).err()));
    let found: BTreeSet<&str> = (sources.iter())
        .filter_map(|s| Some(place_of(&module_of(&s.file))?.part))
        .collect();
    assert_nothing(parts().filter(|part| !found.contains(part)).map(|part| {
        format!("{part} stands in the table of tests/house.rs and has no file in src/")
    }));
}

#[test]
fn the_plan_that_lib_rs_opens_with_names_every_room_on_its_floor() {
    let plan = plan_of(&read("src/lib.rs"));
    assert_nothing(rooms_missing_from(&plan));
}

#[test]
fn the_command_line_and_the_contract_do_not_depend_on_the_service() {
    for manifest in ["host-cli/Cargo.toml", "api/Cargo.toml"] {
        let depends = crates_of(&read(manifest));
        assert!(
            depends.contains("tonic"),
            "{manifest} was read: {depends:?}"
        );
        assert!(
            !depends.contains("bootjackd"),
            "{manifest} depends on bootjackd"
        );
    }
    assert!(!crates_of(&read("api/Cargo.toml")).contains("bootjack"));
}

fn assert_nothing(wrong: impl IntoIterator<Item = impl fmt::Display>) {
    let wrong: BTreeSet<String> = wrong.into_iter().map(|w| w.to_string()).collect();
    let list: Vec<String> = wrong.into_iter().collect();
    assert!(
        list.is_empty(),
        "against the floor plan:\n  {}",
        list.join("\n  ")
    );
}

// The checks, each on one source.

fn imports_that_go_up(source: &Source) -> Vec<String> {
    let Ok(from) = placed(&source.file) else {
        return Vec::new(); // another test's failure
    };
    let mut wrong = Vec::new();
    for path in source.paths() {
        let Some(target) = path.inside() else {
            continue;
        };
        if from.is_corridor {
            wrong.push(format!(
                "{} uses {}: it only says which files there are",
                source.file,
                target.join("::")
            ));
            continue;
        }
        let Some(to) = place_of(target) else {
            wrong.push(format!(
                "{} uses crate::{}, which has no place in the table",
                source.file,
                target.join("::")
            ));
            continue;
        };
        let same_room = from.room.is_some() && from.room == to.room;
        let is_known = path.in_tests || from.knows.contains(&to.part);
        if to.floor > from.floor || (to.floor == from.floor && !same_room && !is_known) {
            wrong.push(format!(
                "{} (floor {}) uses {} (floor {})",
                source.file, from.floor, to.part, to.floor
            ));
        }
    }
    wrong.dedup();
    wrong
}

fn effects_in_pure_rooms(source: &Source) -> Vec<String> {
    let Some(place) = placed(&source.file).ok().filter(|place| place.floor <= 1) else {
        return Vec::new();
    };
    let mut wrong = Vec::new();
    for path in source.paths().iter().filter(|path| path.inside().is_none()) {
        let name = path.segments.join("::");
        let starts = |prefix: &str| name == prefix || name.starts_with(&format!("{prefix}::"));
        let effect = EFFECTS
            .iter()
            .find(|(_, prefixes)| prefixes.iter().any(|p| starts(p)));
        if let Some((what, _)) = effect {
            wrong.push(format!(
                "{} (floor {}) names {what}: {name}",
                source.file, place.floor
            ));
        } else if path.in_use {
            let whole = name.strip_suffix("::*").unwrap_or(&name);
            if MIXED_MODULES.contains(&whole) {
                wrong.push(format!(
                    "{} (floor {}) imports {whole} whole; name what it takes",
                    source.file, place.floor
                ));
            }
        }
    }
    for called in source.tokens.windows(3) {
        if let [Token::Mark('.'), Token::Word(method), Token::Mark('(')] = called
            && PATH_METHODS.contains(&method.as_str())
        {
            wrong.push(format!(
                "{} (floor {}) touches the file system: .{method}()",
                source.file, place.floor
            ));
        }
    }
    wrong
}

fn crates_on_floor_0(source: &Source, crates: &BTreeSet<String>) -> Vec<String> {
    if placed(&source.file)
        .ok()
        .is_none_or(|place| place.floor != 0)
    {
        return Vec::new();
    }
    (source.paths().iter())
        .filter_map(|path| path.foreign())
        .filter(|name| crates.contains(*name) && !CRATES_OF_FLOOR_0.contains(name))
        .map(|name| format!("{} (floor 0) uses the crate {name}", source.file))
        .collect()
}

fn crates_out_of_place(source: &Source) -> Vec<String> {
    let paths = source.paths();
    let kept = KEPT_IN_ONE_FILE
        .iter()
        .filter(|(_, file)| *file != source.file);
    kept.filter(|(name, _)| paths.iter().any(|path| path.foreign() == Some(name)))
        .map(|(name, file)| {
            format!(
                "{} names the crate {name}, which only {file} may",
                source.file
            )
        })
        .collect()
}

fn rooms_missing_from(plan: &BTreeMap<u8, BTreeSet<String>>) -> Vec<String> {
    let missing =
        |floor: u8, part: &str| plan.get(&floor).is_none_or(|words| !words.contains(part));
    (ROOMS.iter())
        .flat_map(|room| room.parts.iter().map(|part| (room.floor, *part)))
        .filter(|(floor, part)| missing(*floor, part))
        .map(|(floor, part)| {
            format!("the table of src/lib.rs does not name {part} on floor {floor}")
        })
        .collect()
}

// Places.

struct Place {
    floor: u8,
    part: &'static str,
    /// Index in ROOMS; none for corridors.
    room: Option<usize>,
    knows: &'static [&'static str],
    is_corridor: bool,
}

fn parts() -> impl Iterator<Item = &'static str> {
    ROOMS.iter().flat_map(|room| room.parts).copied()
}

/// The place of a source file, or a sentence that it has none.
fn placed(file: &str) -> Result<Place, String> {
    let homeless =
        || format!("src/{file} has no place in the tables of tests/house.rs and src/lib.rs");
    let module = module_of(file);
    let place = place_of(&module).ok_or_else(homeless)?;
    // A file beside a corridor is not the corridor: it needs a room.
    if place.is_corridor && module.join("/") != place.part {
        return Err(homeless());
    }
    Ok(place)
}

/// The place of a module, or of what is in it.
fn place_of(path: &[String]) -> Option<Place> {
    for length in (1..=path.len()).rev() {
        let part = path[..length].join("/");
        let is_it = |room: &Room| room.parts.contains(&part.as_str());
        if let Some(index) = ROOMS.iter().position(is_it) {
            let room = &ROOMS[index];
            let part = room.parts.iter().find(|p| **p == part)?;
            return Some(Place {
                floor: room.floor,
                part,
                room: Some(index),
                knows: room.knows,
                is_corridor: false,
            });
        }
    }
    let whole: Vec<&str> = path
        .iter()
        .map(String::as_str)
        .filter(|s| *s != "*")
        .collect();
    let name = whole.join("/");
    let (part, floor) = CORRIDORS.iter().find(|(part, _)| *part == name)?;
    Some(Place {
        floor: *floor,
        part,
        room: None,
        knows: &[],
        is_corridor: true,
    })
}

/// `dhcp/decide.rs` is `dhcp::decide`, `dhcp/mod.rs` is `dhcp`, `lib.rs` the crate itself.
fn module_of(file: &str) -> Vec<String> {
    let stem = file.strip_suffix(".rs").unwrap_or(file);
    let stem = if stem == "lib" { "" } else { stem };
    let stem = stem.strip_suffix("/mod").unwrap_or(stem);
    stem.split('/')
        .filter(|s| !s.is_empty())
        .map(str::to_owned)
        .collect()
}

// What is read.

fn read(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// Every Rust file below src/.
fn sources() -> Vec<Source> {
    fn walk(dir: &Path, root: &Path, found: &mut Vec<Source>) {
        for entry in std::fs::read_dir(dir).expect("a readable directory") {
            let path = entry.expect("a readable entry").path();
            if path.is_dir() {
                walk(&path, root, found);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let file = path.strip_prefix(root).expect("below it").to_string_lossy();
                let text = std::fs::read_to_string(&path).expect("a readable file");
                found.push(Source::new(&file, &text));
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    walk(&root, &root, &mut found);
    assert!(found.len() > 20, "the sources were found: {}", found.len());
    found
}

/// The words on each floor of the plan, `a/{b,c}` written out.
fn plan_of(lib_rs: &str) -> BTreeMap<u8, BTreeSet<String>> {
    let docs = lib_rs.lines().map_while(|line| line.strip_prefix("//!"));
    let mut plan: BTreeMap<u8, BTreeSet<String>> = BTreeMap::new();
    let mut floor = None;
    for line in docs
        .skip_while(|l| !l.contains("```text"))
        .skip(1)
        .take_while(|l| !l.contains("```"))
    {
        let mut words = line.split_whitespace().peekable();
        if words.peek() == Some(&"floor") {
            floor = words.nth(1).and_then(|n| n.parse().ok());
        }
        let Some(floor) = floor else { continue };
        for word in words {
            let word = word.trim_end_matches('/');
            match word
                .split_once('{')
                .map(|(head, tail)| (head, tail.trim_end_matches('}')))
            {
                Some((head, tail)) => {
                    let names = tail.split(',').map(|name| format!("{head}{name}"));
                    plan.entry(floor).or_default().extend(names);
                }
                None => {
                    plan.entry(floor).or_default().insert(word.to_owned());
                }
            }
        }
    }
    plan
}

/// The crates that a manifest depends on in any way, as Rust names them.
fn crates_of(manifest: &str) -> BTreeSet<String> {
    fn collect(table: &toml::Table, found: &mut BTreeSet<String>) {
        for (key, value) in table {
            let Some(inner) = value.as_table() else {
                continue;
            };
            if !key.ends_with("dependencies") {
                collect(inner, found);
                continue;
            }
            for (name, how) in inner {
                let package = how.get("package").and_then(|p| p.as_str());
                found.insert(package.unwrap_or(name).replace('-', "_"));
                if how.get("path").and_then(|p| p.as_str()) == Some("..") {
                    found.insert("bootjackd".to_owned());
                }
            }
        }
    }
    let mut found = BTreeSet::new();
    collect(&manifest.parse().expect("a manifest"), &mut found);
    found
}

/// One file of src/, as tokens.
struct Source {
    /// Below src/.
    file: String,
    tokens: Vec<Token>,
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    /// `::`
    Colons,
    Mark(char),
}

/// A path that the source names.
#[derive(Debug)]
struct Named {
    segments: Vec<String>,
    /// Segments from the crate's root, if it leads into this crate.
    within: Option<Vec<String>>,
    in_use: bool,
    in_tests: bool,
    is_local: bool,
}

impl Named {
    fn inside(&self) -> Option<&[String]> {
        self.within.as_deref()
    }

    /// The crate it leads into, if that may be another one.
    fn foreign(&self) -> Option<&str> {
        let first = self.segments.first()?;
        (self.within.is_none() && !self.is_local).then_some(first)
    }
}

impl Source {
    fn new(file: &str, text: &str) -> Self {
        Self {
            file: file.to_owned(),
            tokens: tokens(text),
        }
    }

    /// Every path of two or more segments, and every `use`.
    fn paths(&self) -> Vec<Named> {
        let home = module_of(&self.file);
        let mut module = home.clone();
        // Inline modules that are open, each with the depth of braces it opened at.
        let mut open: Vec<usize> = Vec::new();
        let mut depth = 0_usize;
        let mut declared = BTreeSet::new();
        let mut found = Vec::new();
        let mut at = 0;
        while at < self.tokens.len() {
            let previous = at.checked_sub(1).map(|before| &self.tokens[before]);
            match (
                &self.tokens[at],
                self.tokens.get(at + 1),
                self.tokens.get(at + 2),
            ) {
                (Token::Word(word), Some(Token::Word(name)), Some(Token::Mark('{')))
                    if word == "mod" =>
                {
                    module.push(name.clone());
                    open.push(depth);
                    depth += 1;
                    at += 3;
                }
                (Token::Word(word), Some(Token::Word(name)), Some(Token::Mark(';')))
                    if word == "mod" =>
                {
                    declared.insert(name.clone());
                    at += 3;
                }
                // `use<'a>` in a return type is no import.
                (Token::Word(word), next, _)
                    if word == "use" && next != Some(&Token::Mark('<')) =>
                {
                    let mut list = Vec::new();
                    at = use_tree(&self.tokens, at + 1, &[], &mut list);
                    found.extend(
                        list.into_iter()
                            .map(|(rooted, p)| named(rooted, p, &module, &home, true)),
                    );
                }
                (Token::Colons, Some(Token::Word(_)), _)
                    if !matches!(previous, Some(Token::Word(_) | Token::Mark('>'))) =>
                {
                    let (segments, next) = plain_path(&self.tokens, at + 1);
                    at = next;
                    found.push(named(true, segments, &module, &home, false));
                }
                (Token::Word(_), Some(Token::Colons), _)
                    if !matches!(previous, Some(Token::Mark('.') | Token::Colons)) =>
                {
                    let (segments, next) = plain_path(&self.tokens, at);
                    at = next;
                    found.push(named(false, segments, &module, &home, false));
                }
                (Token::Mark('{'), ..) => {
                    depth += 1;
                    at += 1;
                }
                (Token::Mark('}'), ..) => {
                    depth = depth.saturating_sub(1);
                    if open.last() == Some(&depth) {
                        open.pop();
                        module.pop();
                    }
                    at += 1;
                }
                _ => at += 1,
            }
        }
        for path in &mut found {
            path.is_local = path
                .segments
                .first()
                .is_some_and(|first| declared.contains(first));
        }
        // `::sled` beside `mod sled` is the crate.
        for path in &mut found {
            path.is_local &= !path.segments.first().is_some_and(String::is_empty);
            path.segments.retain(|segment| !segment.is_empty());
        }
        found
    }
}

/// Resolves a path; a rooted one (`::a::b`) keeps an empty first segment until its caller has seen it.
fn named(
    rooted: bool,
    mut segments: Vec<String>,
    module: &[String],
    home: &[String],
    in_use: bool,
) -> Named {
    let mut base: Option<Vec<String>> = None;
    let mut rest = &segments[..];
    if !rooted {
        match segments.first().map(String::as_str) {
            Some("crate" | "bootjackd") => (base, rest) = (Some(Vec::new()), &segments[1..]),
            Some("self") => (base, rest) = (Some(module.to_vec()), &segments[1..]),
            Some("super") => {
                let mut up = module.to_vec();
                while rest.first().is_some_and(|s| s == "super") {
                    up.pop();
                    rest = &rest[1..];
                }
                base = Some(up);
            }
            _ => {}
        }
    }
    let within = base.map(|mut base| {
        base.extend_from_slice(rest);
        base
    });
    // What is said inside this very file is no import.
    let within = within.filter(|path| !path.starts_with(home) || home.is_empty());
    if rooted {
        segments.insert(0, String::new());
    }
    Named {
        segments,
        within,
        in_use,
        in_tests: module.iter().any(|m| m == "tests"),
        is_local: false,
    }
}

/// Reads `a::b::c` from `at`; a path ends before generic arguments.
fn plain_path(tokens: &[Token], mut at: usize) -> (Vec<String>, usize) {
    let mut segments = Vec::new();
    while let Some(Token::Word(word)) = tokens.get(at) {
        segments.push(word.clone());
        at += 1;
        match (tokens.get(at), tokens.get(at + 1)) {
            (Some(Token::Colons), Some(Token::Word(_))) => at += 1,
            _ => break,
        }
    }
    (segments, at)
}

/// Reads one tree of a `use` from `at`; gives every path in it, and the place after it.
fn use_tree(
    tokens: &[Token],
    mut at: usize,
    prefix: &[String],
    found: &mut Vec<(bool, Vec<String>)>,
) -> usize {
    let rooted = prefix.is_empty() && tokens.get(at) == Some(&Token::Colons);
    let mut path = prefix.to_vec();
    loop {
        match tokens.get(at) {
            Some(Token::Word(word)) if word == "as" => at += 2,
            Some(Token::Word(word)) => {
                path.push(word.clone());
                at += 1;
            }
            Some(Token::Colons) => at += 1,
            Some(Token::Mark('*')) => {
                path.push("*".to_owned());
                at += 1;
            }
            Some(Token::Mark('{')) => {
                at += 1;
                while !matches!(tokens.get(at), None | Some(Token::Mark('}'))) {
                    let from = found.len();
                    at = use_tree(tokens, at, &path, found);
                    for (is_rooted, _) in &mut found[from..] {
                        *is_rooted |= rooted;
                    }
                    if tokens.get(at) == Some(&Token::Mark(',')) {
                        at += 1;
                    }
                }
                return at + 1;
            }
            _ => {
                // `use a::{self}` is a.
                if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
                    path.pop();
                }
                found.push((rooted, path));
                return at;
            }
        }
    }
}

/// Splits Rust source; comments, strings, characters, numbers and lifetimes are left out.
fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let mut found = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        let rest = &chars[at..];
        let starts = |text: &str| {
            rest.iter()
                .zip(text.chars())
                .filter(|(a, b)| **a == *b)
                .count()
                == text.len()
        };
        let c = chars[at];
        if starts("//") {
            at += rest.iter().position(|c| *c == '\n').unwrap_or(rest.len());
        } else if starts("/*") {
            at += block_comment(rest);
        } else if let Some(length) = raw_string(rest) {
            at += length;
        } else if c == '"' {
            at += quoted(rest, '"');
        } else if c == '\'' {
            at += character_or_lifetime(rest);
        } else if c.is_alphanumeric() || c == '_' {
            let length = rest
                .iter()
                .position(|c| !c.is_alphanumeric() && *c != '_')
                .unwrap_or(rest.len());
            let word: String = rest[..length].iter().collect();
            at += length;
            if !c.is_ascii_digit() && word != "b" && word != "c" || chars.get(at) != Some(&'"') {
                found.push(Token::Word(word));
            }
        } else if starts("::") {
            found.push(Token::Colons);
            at += 2;
        } else {
            if !c.is_whitespace() {
                found.push(Token::Mark(c));
            }
            at += 1;
        }
    }
    found
}

fn block_comment(rest: &[char]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        match (rest[at], rest.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn raw_string(rest: &[char]) -> Option<usize> {
    let prefix = rest
        .iter()
        .take_while(|c| matches!(c, 'b' | 'c'))
        .count()
        .min(1);
    let hashes_from = prefix + 1;
    if rest.get(prefix) != Some(&'r') {
        return None;
    }
    let hashes = rest[hashes_from..]
        .iter()
        .take_while(|c| **c == '#')
        .count();
    if rest.get(hashes_from + hashes) != Some(&'"') {
        return None;
    }
    let end: Vec<char> = std::iter::once('"')
        .chain(std::iter::repeat_n('#', hashes))
        .collect();
    let body = hashes_from + hashes + 1;
    let length = rest[body..].windows(end.len()).position(|w| w == end)?;
    Some(body + length + end.len())
}

fn quoted(rest: &[char], quote: char) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

fn character_or_lifetime(rest: &[char]) -> usize {
    match (rest.get(1), rest.get(2)) {
        (Some('\\'), _) | (_, Some('\'')) => quoted(rest, '\''),
        // A lifetime: the mark and its name.
        _ => {
            1 + rest[1..]
                .iter()
                .take_while(|c| c.is_alphanumeric() || **c == '_')
                .count()
        }
    }
}

// The checks, on made-up sources that break the plan.

mod of_the_checks_themselves {
    use super::*;

    fn up(file: &str, text: &str) -> Vec<String> {
        imports_that_go_up(&Source::new(file, text))
    }

    fn effects(file: &str, text: &str) -> Vec<String> {
        effects_in_pure_rooms(&Source::new(file, text))
    }

    #[test]
    fn an_import_that_goes_up_is_said_with_both_floors() {
        for text in [
            "use crate::store::Store;",
            "use crate::{model::MacAddr, store::{self, Store}};",
            "use super::super::store::Store;",
            "use super::{super::store as keeping};",
            "pub(crate) use crate::store::*;",
            "fn f() { let s: Option<crate::store::Store> = None; }",
            "fn f() { super::super::store::open_sled(); }",
            "mod inner { fn f() { super::super::super::store::open_sled(); } }",
            "fn f<'a>(c: char) -> bool { let x = '\"'; crate::store::X == c }",
            "use crate::model::MacAddr; // \"\nuse crate::store::Store; // \"",
        ] {
            let said = up("dhcp/decide.rs", text);
            assert_eq!(
                said,
                ["dhcp/decide.rs (floor 1) uses store (floor 2)"],
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_not_code_is_no_import() {
        for text in [
            "// use crate::store::Store;",
            "/* use crate::store::Store; /* nested */ crate::store */",
            "//! `crate::store::Store`",
            "const S: &str = \"use crate::store::Store;\";",
            "const S: &str = \"\\\" crate::store::Store\";",
            "const S: &str = r#\"\" crate::store::Store \"#;",
            "const S: &[u8] = b\"crate::store::Store\";",
        ] {
            assert!(up("dhcp/decide.rs", text).is_empty(), "{text}");
        }
    }

    #[test]
    fn lower_floors_the_same_room_and_rooms_one_knows_may_be_used() {
        for (file, text) in [
            (
                "dhcp/decide.rs",
                "use crate::model::MacAddr; use super::pool; use super::view::View;",
            ),
            (
                "dhcp/view.rs",
                "use crate::catalog::Catalog; use crate::bindings::Bindings;",
            ),
            (
                "dhcp/server.rs",
                "use super::decide::{Answer, decide}; use crate::store::Store;",
            ),
            (
                "render/profile.rs",
                "use crate::config::reader::Reader; fn f() { super::check() }",
            ),
            (
                "http/server.rs",
                "use super::files::Files; use super::document::Asker;",
            ),
            ("store/mod.rs", "mod sled; pub use self::sled::Sled;"),
            ("app.rs", "use crate::{grpc, http, tftp};"),
            (
                "dhcp/decide/tests.rs",
                "use super::*; use crate::catalog::Catalog;",
            ),
        ] {
            assert_eq!(up(file, text), [""; 0], "{file}: {text}");
        }
    }

    #[test]
    fn a_room_of_the_same_floor_that_one_does_not_know_is_refused() {
        for (file, text, said) in [
            (
                "catalog.rs",
                "use crate::config::Config;",
                "catalog.rs (floor 1) uses config (floor 1)",
            ),
            (
                "dhcp/decide.rs",
                "use crate::catalog::Catalog;",
                "dhcp/decide.rs (floor 1) uses catalog (floor 1)",
            ),
            (
                "http/server.rs",
                "use crate::dhcp::server::Server;",
                "http/server.rs (floor 3) uses dhcp/server (floor 3)",
            ),
            (
                "observe/mod.rs",
                "use crate::store::Store;",
                "observe/mod.rs (floor 2) uses store (floor 2)",
            ),
            (
                "app.rs",
                "use crate::cli;",
                "app.rs (floor 4) uses cli (floor 4)",
            ),
        ] {
            assert_eq!(up(file, text), [said]);
        }
    }

    #[test]
    fn importing_a_corridor_is_importing_all_that_lies_behind_it() {
        let said = up("store/mod.rs", "use crate::dhcp;");
        assert_eq!(said, ["store/mod.rs (floor 2) uses dhcp (floor 3)"]);
        let said = up("dhcp/decide.rs", "use super::*;");
        assert_eq!(said, ["dhcp/decide.rs (floor 1) uses dhcp (floor 3)"]);
        let said = up(
            "dhcp/mod.rs",
            "pub mod server; pub use self::server::Server;\nuse crate::store::Store;",
        );
        assert_eq!(
            said,
            ["dhcp/mod.rs uses store::Store: it only says which files there are"]
        );
    }

    #[test]
    fn an_effect_in_a_pure_room_is_named() {
        for (text, what) in [
            ("use tokio::sync::mpsc;", "tokio: tokio::sync::mpsc"),
            ("use std::{fmt, fs};", "the file system: std::fs"),
            (
                "fn f() { std::fs::read(p); }",
                "the file system: std::fs::read",
            ),
            (
                "use std::time::{Duration, Instant};",
                "a clock: std::time::Instant",
            ),
            (
                "fn f() { ::std::time::SystemTime::now(); }",
                "a clock: std::time::SystemTime::now",
            ),
            (
                "use std::net::{Ipv4Addr, UdpSocket};",
                "a socket: std::net::UdpSocket",
            ),
            (
                "fn f() { tracing::info!(x, \"y\"); }",
                "logging: tracing::info",
            ),
        ] {
            let said = effects("catalog.rs", text);
            assert_eq!(
                said,
                [format!("catalog.rs (floor 1) names {what}")],
                "{text}"
            );
        }
        for text in [
            "use std::time;",
            "use std::net::{self, Ipv4Addr};",
            "use std::time::*;",
        ] {
            assert_eq!(effects("catalog.rs", text).len(), 1, "{text}");
        }
        assert_eq!(
            effects("catalog.rs", "fn f(p: &Path) { p.is_dir(); }"),
            ["catalog.rs (floor 1) touches the file system: .is_dir()"]
        );
        let pure = "use std::net::Ipv4Addr; use std::time::Duration; use std::fmt; // tokio::spawn";
        assert_eq!(effects("catalog.rs", pure), [""; 0]);
        assert_eq!(effects("store/mod.rs", "use tokio::sync::mpsc;"), [""; 0]);
    }

    #[test]
    fn a_crate_out_of_its_place_is_named_and_a_module_of_that_name_is_not_the_crate() {
        let out = |file, text| crates_out_of_place(&Source::new(file, text));
        for text in [
            "use sled::Db;",
            "fn f(d: ::sled::Db) {}",
            "use ::{sled::Db};",
        ] {
            let said = out("store/memory.rs", text);
            assert_eq!(
                said,
                ["store/memory.rs names the crate sled, which only store/sled.rs may"],
                "{text}"
            );
        }
        assert_eq!(
            out(
                "store/mod.rs",
                "mod sled; use self::sled::Sled; fn f() { sled::Sled::open() }"
            ),
            [""; 0]
        );
        assert_eq!(
            out("store/mod.rs", "mod sled; fn f() { ::sled::open() }").len(),
            1
        );
        assert_eq!(out("store/sled.rs", "use sled::Db;"), [""; 0]);
        assert_eq!(out("tftp/resolve.rs", "use async_tftp::packet;").len(), 1);
    }

    #[test]
    fn a_file_without_a_place_a_room_without_a_line_and_a_crate_too_many_are_found() {
        assert!(
            placed("dhcp/lease.rs").is_err_and(|e| e.starts_with("src/dhcp/lease.rs has no place"))
        );
        assert!(placed("attic/mod.rs").is_err());
        assert!(placed("render/anything/new.rs").is_ok(), "a room may grow");
        let plan = plan_of(
            "//! ```text\n//! floor 1  dhcp/{request,pool}\n//!   catalog config/  words\n//! floor 0  model/\n//! ```\n",
        );
        assert!(
            plan[&1].is_superset(
                &["dhcp/request", "dhcp/pool", "catalog", "config"]
                    .map(String::from)
                    .into()
            )
        );
        let missing = rooms_missing_from(&plan);
        assert!(
            missing.contains(&"the table of src/lib.rs does not name store on floor 2".to_owned())
        );
        assert!(
            !missing
                .iter()
                .any(|m| m.contains("catalog") || m.contains("model"))
        );
        let crates = BTreeSet::from(["uuid".to_owned(), "serde".to_owned()]);
        let said = crates_on_floor_0(
            &Source::new("model/mac.rs", "use serde::Serialize; use uuid::Uuid;"),
            &crates,
        );
        assert_eq!(said, ["model/mac.rs (floor 0) uses the crate uuid"]);
    }

    #[test]
    fn a_dependency_is_found_under_any_name_and_in_any_table() {
        for manifest in [
            "[dependencies]\nbootjackd = { path = \"..\" }",
            "[dependencies]\nservice = { package = \"bootjackd\", version = \"1\" }",
            "[target.'cfg(unix)'.dev-dependencies]\nbootjackd = \"1\"",
            "[build-dependencies]\nroot = { path = \"..\" }",
        ] {
            assert!(crates_of(manifest).contains("bootjackd"), "{manifest}");
        }
    }
}
