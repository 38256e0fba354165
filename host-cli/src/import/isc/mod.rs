//! ISC dhcpd: its configuration with everything that it includes.
//!
//! What a `group` says becomes each of its hosts' own, as dhcpd has it; what a subnet, a shared network or nobody in particular says
//! is of the subnet in Bootjack, too.

mod host;
mod option;
mod syntax;

use std::collections::{BTreeMap, HashSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use self::option::Defined;
use self::syntax::Statement;
use super::network::{Settings, Subnet, prefix_of};
use super::{Files, Imported, beside, place};
use crate::wanted::Place;

/// Reads each configuration.
pub fn read(paths: &[String], files: &dyn Files) -> Imported {
    let mut reader = Reader {
        files,
        out: Imported::default(),
        including: HashSet::new(),
        defined: BTreeMap::new(),
    };
    for path in paths {
        let start = place(&path.as_str().into(), 0);
        let statements = reader.file(&start, path);
        reader.block(statements, &Scope::default());
    }
    reader.out.sorted()
}

/// A statement and the file it is in.
struct Located {
    file: Arc<str>,
    statement: Statement,
}

/// What holds where a statement stands.
#[derive(Clone, Debug, Default)]
struct Scope {
    /// Said by the groups around it.
    options: Settings,
    boot_file: Option<String>,
    boot_server: Option<String>,
    uses_declared_names: bool,
    is_group: bool,
    /// Index of the subnet it is in.
    subnet: Option<usize>,
    /// Said by the shared network around it.
    shared: Option<(Settings, Option<u64>)>,
}

struct Reader<'a> {
    files: &'a dyn Files,
    out: Imported,
    /// The files that are being read: one may not include itself.
    including: HashSet<String>,
    /// Options that the configuration defines.
    defined: BTreeMap<String, Defined>,
}

impl Reader<'_> {
    fn file(&mut self, from: &Place, path: &str) -> Vec<Located> {
        if !self.including.insert(path.to_owned()) {
            self.out
                .malformed(from, format!("include \"{path}\""), "it includes itself");
            return Vec::new();
        }
        let text = match self.files.read(path) {
            Ok(text) => text,
            Err(problem) => {
                let why =
                    format!("{problem}; a copy of another host's files is read with --root DIR");
                self.out.malformed(from, path, why);
                return Vec::new();
            }
        };
        let file: Arc<str> = path.into();
        let (statements, broken) = syntax::read(&text);
        for broken in broken {
            self.out
                .malformed(&place(&file, broken.line), path, broken.why);
        }
        let statements = self.expanded(&file, statements);
        self.including.remove(path);
        statements
    }

    /// With the statements of included files in their places.
    fn expanded(&mut self, file: &Arc<str>, statements: Vec<Statement>) -> Vec<Located> {
        let mut all = Vec::new();
        for statement in statements {
            if statement.word(0) == "include" && statement.body.is_none() {
                let from = place(file, statement.line);
                let path = beside(file, statement.word(1));
                all.extend(self.file(&from, &path));
            } else {
                let file = Arc::clone(file);
                all.push(Located { file, statement });
            }
        }
        all
    }

    /// What is said first, then what it is said of: order does not count for dhcpd.
    fn block(&mut self, statements: Vec<Located>, around: &Scope) {
        let mut scope = around.clone();
        let (inner, said): (Vec<Located>, Vec<Located>) = statements
            .into_iter()
            .partition(|located| located.statement.body.is_some());
        for located in said {
            let place = place(&located.file, located.statement.line);
            self.said(&place, &located.statement, &mut scope);
        }
        for located in inner {
            self.inner(located, &scope);
        }
    }

    fn inner(&mut self, located: Located, scope: &Scope) {
        let Located { file, statement } = located;
        let place = place(&file, statement.line);
        let shown = statement.shown();
        let words: Vec<String> = statement
            .words
            .iter()
            .map(|word| word.text().to_owned())
            .collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let body = statement.body.unwrap_or_default();
        match words.as_slice() {
            ["host", name] => {
                let body = self.expanded(&file, body);
                self.host(&place, name, body, scope);
            }
            ["group"] | ["group", _] => {
                let body = self.expanded(&file, body);
                let scope = Scope {
                    is_group: true,
                    ..scope.clone()
                };
                self.block(body, &scope);
            }
            ["shared-network", _] => {
                let body = self.expanded(&file, body);
                let shared = Some((Settings::new(), None));
                let scope = Scope {
                    is_group: false,
                    shared,
                    ..scope.clone()
                };
                self.block(body, &scope);
            }
            ["subnet", address, "netmask", mask] => {
                let parsed = (address.parse(), mask.parse().ok().and_then(prefix_of));
                let (Ok(address), Some(prefix)) = parsed else {
                    return self
                        .out
                        .malformed(&place, shown, "its address or netmask is none");
                };
                let body = self.expanded(&file, body);
                self.subnet(place, address, prefix, body, scope);
            }
            ["pool"] => {
                let body = self.expanded(&file, body);
                self.block(body, scope);
            }
            ["class" | "subclass", ..] => self.out.leave(
                &place,
                shown,
                "Bootjack's classes are rules, not expressions",
                "write a [[class]] in bootjackd.toml",
            ),
            ["if" | "elsif" | "else" | "switch", ..] => self.out.leave(
                &place,
                shown,
                "Bootjack has no expressions, so what is in these braces holds for nobody",
                "write a [[class]] in bootjackd.toml",
            ),
            ["subnet6", ..] => self
                .out
                .leave(&place, shown, "Bootjack gives IPv4 addresses", ""),
            ["on", ..] => self.out.leave(
                &place,
                shown,
                "Bootjack runs no script",
                "watch leases with: bootjack lease watch",
            ),
            ["key" | "zone", ..] => self.out.unrelated += 1,
            ["failover", ..] => self.out.leave(
                &place,
                shown,
                "Bootjack shares its store instead",
                "see store.backend and [replicas] in bootjackd.toml",
            ),
            _ => self.out.leave(&place, shown, "it has no counterpart", ""),
        }
    }

    fn subnet(
        &mut self,
        place: Place,
        address: Ipv4Addr,
        prefix: u8,
        body: Vec<Located>,
        scope: &Scope,
    ) {
        let mut subnet = Subnet::new(place, address, prefix);
        if let Some((settings, lease_secs)) = &scope.shared {
            subnet.settings.clone_from(settings);
            subnet.lease_secs = *lease_secs;
        }
        self.out.network.subnets.push(subnet);
        let subnet = Some(self.out.network.subnets.len() - 1);
        let scope = Scope {
            is_group: false,
            subnet,
            ..scope.clone()
        };
        self.block(body, &scope);
    }

    /// A statement without braces, outside hosts.
    fn said(&mut self, place: &Place, statement: &Statement, scope: &mut Scope) {
        match statement.word(0) {
            "option" => self.option(place, statement, scope),
            "use-host-decl-names" => {
                scope.uses_declared_names = matches!(statement.word(1), "on" | "true");
            }
            "filename" if scope.is_group => scope.boot_file = Some(statement.word(1).to_owned()),
            "next-server" if scope.is_group => scope.boot_server = Some(statement.word(1).to_owned()),
            "filename" => self.out.leave(
                place,
                statement.shown(),
                "Bootjack chooses the network boot program by architecture, and then boots the profile",
                "nothing, or name a program in a [[class]]",
            ),
            "next-server" | "server-name" => self.out.leave(place, statement.shown(), "machines fetch boot files from Bootjack itself", ""),
            "range" => self.range(place, statement, scope),
            "default-lease-time" => self.lease_time(place, statement, scope),
            _ => self.other(place, statement),
        }
    }

    fn option(&mut self, place: &Place, statement: &Statement, scope: &mut Scope) {
        let read = match option::read(statement, &mut self.defined) {
            Ok(Some(read)) => read,
            Ok(None) => return,
            Err(why) => return why.tell(place, statement, &mut self.out),
        };
        let (code, value) = read;
        if let (Some(at), false) = (scope.subnet, scope.is_group) {
            self.out.network.subnets[at].settings.insert(code, value);
        } else if scope.is_group {
            scope.options.insert(code, value);
        } else if let Some((settings, _)) = &mut scope.shared {
            settings.insert(code, value);
        } else {
            self.out.network.options.insert(code, value);
        }
    }

    fn range(&mut self, place: &Place, statement: &Statement, scope: &Scope) {
        let words: Vec<&str> = statement.words[1..]
            .iter()
            .map(syntax::Word::text)
            .filter(|word| *word != "dynamic-bootp")
            .collect();
        let addresses: Vec<Option<Ipv4Addr>> = words.iter().map(|word| word.parse().ok()).collect();
        let pool = match addresses.as_slice() {
            [Some(one)] => (*one, *one),
            [Some(first), Some(last)] if first <= last => (*first, *last),
            _ => {
                return self
                    .out
                    .malformed(place, statement.shown(), "it is no range of addresses");
            }
        };
        match scope.subnet {
            Some(at) => self.out.network.subnets[at].pools.push(pool),
            // A pool of a shared network stands outside its subnets.
            None => match self
                .out
                .network
                .subnets
                .iter_mut()
                .find(|subnet| subnet.holds(pool.0))
            {
                Some(subnet) => subnet.pools.push(pool),
                None => self.out.leave(
                    place,
                    statement.shown(),
                    "it stands before the subnet it is in",
                    "add it to the pools of that [[subnet]]",
                ),
            },
        }
    }

    fn lease_time(&mut self, place: &Place, statement: &Statement, scope: &mut Scope) {
        let Ok(secs) = statement.word(1).parse() else {
            return self
                .out
                .malformed(place, statement.shown(), "wanted a number of seconds");
        };
        match (scope.subnet, &mut scope.shared) {
            _ if scope.is_group => self.out.leave(
                place,
                statement.shown(),
                "lease times are of subnets and classes",
                "set lease_time there",
            ),
            (Some(at), _) => self.out.network.subnets[at].lease_secs = Some(secs),
            (None, Some((_, lease_secs))) => *lease_secs = Some(secs),
            (None, None) => self.out.network.lease_secs = Some(secs),
        }
    }

    fn other(&mut self, place: &Place, statement: &Statement) {
        let (why, todo) = match statement.word(0) {
            "max-lease-time" | "min-lease-time" => {
                ("a client gets lease_time, or less if it asks for less", "")
            }
            "authoritative" => (
                "Bootjack answers for its subnets",
                "authoritative = true in [dhcp] refuses strangers, too",
            ),
            "not" => return,
            "allow" | "deny" | "ignore" => (
                "clients are left out by class, and strangers by a subnet without pools",
                "see [[class]] and pools in bootjackd.toml",
            ),
            "failover" => (
                "Bootjack shares its store instead",
                "see store.backend and [replicas] in bootjackd.toml",
            ),
            "range6" | "prefix6" => ("Bootjack gives IPv4 addresses", ""),
            name if [
                "ddns-",
                "omapi-",
                "log-",
                "lease-file-name",
                "pid-file-name",
                "server-identifier",
                "local-",
                "update-",
                "do-forward",
                "db-",
            ]
            .iter()
            .any(|p| name.starts_with(p)) =>
            {
                self.out.unrelated += 1;
                return;
            }
            _ => ("it has no counterpart", ""),
        };
        self.out.leave(place, statement.shown(), why, todo);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::tests_support::Texts;

    fn found(text: &str) -> Imported {
        read(
            &["d.conf".to_owned()],
            &Texts::of(&[
                ("d.conf", text),
                (
                    "more.conf",
                    "host b { hardware ethernet 52:54:00:00:00:02; }",
                ),
            ]),
        )
    }

    #[test]
    fn groups_hand_down_what_they_say_and_subnets_keep_it() {
        let found = found(
            "option domain-name \"lab.internal\";\nsubnet 198.18.0.0 netmask 255.255.255.0 {\n range 198.18.0.100 198.18.0.199;\n \
             option routers 198.18.0.1;\n group {\n  host a { hardware ethernet 52:54:00:00:00:01; option ntp-servers 198.18.0.9; }\n  \
             option ntp-servers 198.18.0.8; option root-path \"/nfs\"; filename \"/efi/ipxe.efi\"; include \"more.conf\";\n }\n}\n",
        );
        assert!(found.left.is_empty(), "{:?}", found.left);
        let of = |at: usize| &found.wanted[at].reservation;
        let options = |at: usize| crate::vars::map_to_json(&of(at).options);
        assert_eq!(
            options(0),
            serde_json::json!({"ntp_servers": ["198.18.0.9"], "root_path": "/nfs"})
        );
        assert_eq!(
            options(1),
            serde_json::json!({"ntp_servers": ["198.18.0.8"], "root_path": "/nfs"})
        );
        assert_eq!(
            (of(0).program.as_str(), of(1).name.as_str()),
            ("ipxe", "reservations/b")
        );
        assert_eq!(found.wanted[1].place.to_string(), "more.conf:1");
        let subnet = &found.network.subnets[0];
        assert_eq!((subnet.pools.len(), subnet.settings.len()), (1, 1));
    }

    #[test]
    fn what_is_in_a_condition_holds_for_nobody() {
        let found = found(
            "if option arch = 00:07 {\n filename \"a\";\n} else {\n filename \"b\";\n}\nclass \"x\" { match hardware; }\nsubclass \"x\" 1:52:54:00:00:00:01;\n",
        );
        let lines: Vec<usize> = found.left.iter().map(|left| left.place.line).collect();
        assert_eq!(lines, [1, 3, 6, 7]);
        assert!(found.left.iter().all(|left| !left.is_malformed));
    }

    #[test]
    fn a_file_that_includes_itself_is_malformed() {
        let found = found("include \"d.conf\";");
        assert!(
            found.left[0].is_malformed && found.left[0].why == "it includes itself",
            "{:?}",
            found.left
        );
    }
}
