//! `bootjack auth`: who may use the API over a network. In: what was typed, and the authority's directory. Out: certificates,
//! tokens and lists in it; a token on standard output, once. It refuses to replace an authority.

use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use bootjack_api::access::{self, Revocation, Scope, is_name};
use serde_json::{Value as Json, json};
use sha2::{Digest as _, Sha256};

use crate::auth::authority::{AUTHORITY_DAYS, Authority, NewToken, Signed, now_secs};
use crate::auth::directory::{Directory, Issued, Kind, replace, usual};
use crate::cli::{AuthArgs, AuthCommand, Format, InitArgs, IssueArgs};
use crate::exit::{Exit, Failure};
use crate::output::{self, Style};

/// Whom an installed bootjackd runs as.
const SERVICE_USER: &str = "bootjack";

/// Does it.
pub fn run(args: AuthArgs, format: Format) -> Result<(), Failure> {
    let dir = args.dir.unwrap_or_else(usual);
    match args.command {
        AuthCommand::Init(init) => make(&dir, init, format),
        AuthCommand::Issue(issue) => give(&dir, issue, format),
        AuthCommand::Revoke { which } => revoke(&dir, &which, format),
        AuthCommand::List => list(&dir, format),
    }
}

fn make(dir: &Path, args: InitArgs, format: Format) -> Result<(), Failure> {
    let directory = Directory::make(dir)?;
    let names = match args.names.is_empty() {
        true => found_names(),
        false => args.names,
    };
    let now = now_secs();
    match (directory.has_authority(), args.server) {
        (true, true) | (false, false) => {}
        (true, false) => {
            let text = format!(
                "there is an authority in {} already, and what it signed would be worth nothing; for a new certificate of the server alone give --server",
                dir.display()
            );
            return Err(Failure::new(Exit::Conflict, text));
        }
        (false, true) => {
            return Err(Directory::open(dir)
                .err()
                .unwrap_or_else(|| no_authority(dir)));
        }
    }
    if !args.server {
        let expires = now + days(AUTHORITY_DAYS);
        let made = Authority::make(expires)?;
        // Signed with before it is kept: names that are none leave nothing behind.
        Authority::read(&made.certificate, &made.key)?.server(&names, now)?;
        directory.keep_authority(&made.certificate, &made.key)?;
        directory.add_issued(&issued(
            Kind::Authority,
            &made.serial,
            "authority",
            None,
            expires,
        ))?;
    }
    let expires = now + days(args.days);
    let (certificate, key) = directory.authority()?;
    let server = Authority::read(&certificate, &key)?.server(&names, expires)?;
    directory.keep_server(&server.certificate, &server.key)?;
    let name = names.join(" ");
    directory.add_issued(&issued(Kind::Server, &server.serial, &name, None, expires))?;
    let given = directory.give_to_service(SERVICE_USER);
    let service = directory.service();
    let value = || {
        json!({
            "dir": dir,
            "service": service,
            "ca": dir.join(access::CA_CERTIFICATE),
            "names": names,
            "expires": date(expires),
        })
    };
    output::answer(format, value, || {
        let whose = given.map_or(String::new(), |user| format!(" (given to user {user})"));
        format!(
            "authority and server certificate for {name} are in {}\n\nin bootjackd.toml:   [grpc]\n                     auth = \"{}\"{whose}\nfor clients:         --ca {}, and what bootjack auth issue makes",
            dir.display(),
            service.display(),
            dir.join(access::CA_CERTIFICATE).display(),
        )
    })
}

fn no_authority(dir: &Path) -> Failure {
    Failure::new(
        Exit::NotFound,
        format!("there is no authority in {}", dir.display()),
    )
}

fn give(dir: &Path, args: IssueArgs, format: Format) -> Result<(), Failure> {
    if !is_name(&args.name) {
        let text = format!(
            "name `{}` is none for a client; wanted up to 64 letters, digits, -, _, . and @",
            args.name.escape_default()
        );
        return Err(Failure::new(Exit::Invalid, text));
    }
    let directory = Directory::open(dir)?;
    let expires = now_secs() + days(args.days);
    match args.token {
        true => give_token(&directory, &args, expires, format),
        false => give_certificate(&directory, &args, expires, format),
    }
}

fn give_token(
    directory: &Directory,
    args: &IssueArgs,
    expires: u64,
    format: Format,
) -> Result<(), Failure> {
    let NewToken { id, token } = NewToken::make()?;
    let digest = Sha256::digest(token.as_bytes());
    directory.add_token(&access::Token {
        id: id.clone(),
        name: args.name.clone(),
        scope: args.scope,
        sha256: digest.iter().map(|octet| format!("{octet:02x}")).collect(),
        created: now_secs(),
        expires,
    })?;
    directory.add_issued(&issued(
        Kind::Token,
        &id,
        &args.name,
        Some(args.scope),
        expires,
    ))?;
    let value = || json!({ "id": id, "name": args.name, "scope": args.scope, "expires": date(expires), "token": token });
    match format {
        // Alone, so that it can be written to a file as it is.
        Format::Table | Format::Wide => {
            eprintln!(
                "token {id} of {} with scope {} expires on {}; it is shown this once",
                args.name,
                args.scope,
                date(expires)
            );
            output::say(&token)
        }
        _ => output::say_value(format, &value()),
    }
}

fn give_certificate(
    directory: &Directory,
    args: &IssueArgs,
    expires: u64,
    format: Format,
) -> Result<(), Failure> {
    let (certificate, key) = directory.authority()?;
    let authority = Authority::read(&certificate, &key)?;
    let Signed {
        certificate,
        key,
        serial,
    } = authority.client(&args.name, args.scope, expires)?;
    let (certificate_file, key_file) = directory.client(&args.name, args.out.as_deref());
    replace(&key_file, &key, 0o600)?;
    replace(&certificate_file, &certificate, 0o644)?;
    let entry = issued(
        Kind::Certificate,
        &serial,
        &args.name,
        Some(args.scope),
        expires,
    );
    directory.add_issued(&entry)?;
    let value = || {
        json!({
            "id": serial,
            "name": args.name,
            "scope": args.scope,
            "expires": date(expires),
            "certificate": certificate_file,
            "key": key_file,
        })
    };
    output::answer(format, value, || {
        format!(
            "certificate {serial} of {} with scope {} expires on {}\n--cert {} --key {}",
            args.name,
            args.scope,
            date(expires),
            certificate_file.display(),
            key_file.display()
        )
    })
}

/// Every one of these ids, and everything of these names.
fn revoke(dir: &Path, which: &[String], format: Format) -> Result<(), Failure> {
    let directory = Directory::open(dir)?;
    let (issued, revoked) = (directory.issued()?, directory.revoked()?);
    let of = |which: &String| -> Vec<&Issued> {
        let is_it = |entry: &&Issued| entry.scope.is_some();
        let fits = |entry: &&Issued| entry.id == *which || entry.name == *which;
        issued.iter().filter(is_it).filter(fits).collect()
    };
    let mut chosen: Vec<&Issued> = Vec::new();
    for which in which {
        let found = of(which);
        if found.is_empty() {
            let text = format!(
                "no certificate or token has the id or name {which}; nothing was revoked; see: bootjack auth list"
            );
            return Err(Failure::new(Exit::NotFound, text));
        }
        chosen.extend(found);
    }
    chosen.retain(|entry| !revoked.iter().any(|known| known.id == entry.id));
    for entry in &chosen {
        directory.add_revoked(&Revocation {
            id: entry.id.clone(),
            name: entry.name.clone(),
            at: now_secs(),
        })?;
    }
    let value = || {
        chosen
            .iter()
            .map(|entry| json!({ "id": entry.id, "name": entry.name }))
            .collect::<Json>()
    };
    output::answer(format, value, || match chosen.len() {
        0 => "revoked before".to_owned(),
        _ => {
            let lines = chosen.iter().map(|entry| {
                format!(
                    "revoked {} {} of {}",
                    entry.kind.as_str(),
                    entry.id,
                    entry.name
                )
            });
            lines.collect::<Vec<_>>().join("\n")
        }
    })
}

fn list(dir: &Path, format: Format) -> Result<(), Failure> {
    let directory = Directory::open(dir)?;
    let (issued, revoked, now) = (directory.issued()?, directory.revoked()?, now_secs());
    let state = |entry: &Issued| match entry {
        entry if revoked.iter().any(|known| known.id == entry.id) => "revoked",
        entry if entry.expires <= now => "expired",
        _ => "good",
    };
    let scope = |entry: &Issued| entry.scope.map_or("", Scope::as_str);
    let value = || {
        let entries = issued.iter().map(|entry| {
            json!({
                "kind": entry.kind.as_str(),
                "id": entry.id,
                "name": entry.name,
                "scope": entry.scope,
                "state": state(entry),
                "created": date(entry.created),
                "expires": date(entry.expires),
            })
        });
        entries.collect()
    };
    output::answer(format, value, || {
        let rows = issued.iter().map(|entry| {
            let texts = [
                entry.name.as_str(),
                entry.kind.as_str(),
                scope(entry),
                state(entry),
                &date(entry.expires),
                &entry.id,
            ];
            texts.map(str::to_owned).to_vec()
        });
        let header = ["NAME", "KIND", "SCOPE", "STATE", "EXPIRES", "ID"];
        output::table(Style::stdout(), &header, rows.collect())
    })
}

fn issued(kind: Kind, id: &str, name: &str, scope: Option<Scope>, expires: u64) -> Issued {
    Issued {
        kind,
        id: id.to_owned(),
        name: name.to_owned(),
        scope,
        created: now_secs(),
        expires,
    }
}

fn days(days: u32) -> u64 {
    u64::from(days) * 86_400
}

fn date(unix_secs: u64) -> String {
    let at = UNIX_EPOCH + Duration::from_secs(unix_secs.min(253_402_300_799));
    humantime::format_rfc3339_seconds(at).to_string()
}

/// What this machine is called, and its addresses.
fn found_names() -> Vec<String> {
    let host = nix::unistd::gethostname().ok();
    let host = host.and_then(|name| name.into_string().ok());
    let mut names: Vec<String> = host.into_iter().collect();
    names.extend([
        "localhost".to_owned(),
        "127.0.0.1".to_owned(),
        "::1".to_owned(),
    ]);
    let all = nix::ifaddrs::getifaddrs().into_iter().flatten();
    for address in all.filter_map(|entry| entry.address) {
        let (four, six) = (address.as_sockaddr_in(), address.as_sockaddr_in6());
        let text = match (four, six) {
            (Some(four), _) => four.ip().to_string(),
            (_, Some(six)) if !six.ip().is_unicast_link_local() => six.ip().to_string(),
            _ => continue,
        };
        names.push(text);
    }
    let mut seen = std::collections::BTreeSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names
}
