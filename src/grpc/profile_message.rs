//! Profiles as messages. In: a profile and its files. Out: its message; and of what a client sent, what is wrong with names and sizes.

use bootjack_api::v1;
use bootjack_api::v1::profile::Source as Word;
use sha2::{Digest as _, Sha256};
use tonic::Status;

use super::errors::invalid;
use super::values::{duration, to_value};
use crate::catalog::Catalog;
use crate::model::{Octets, Profile, ProfileSource};
use crate::store::profiles::{Files, LARGEST_FILE};

/// What every resource name starts with.
pub(super) const COLLECTION: &str = "profiles/";
/// All files of one profile, in octets: a message carries 4 MiB.
const LARGEST: usize = 3 << 20;

/// The last part of a resource name.
pub(super) fn name_in(name: &str) -> Result<&str, Status> {
    match name.strip_prefix(COLLECTION).unwrap_or(name) {
        "" => Err(invalid("name", "name is missing; wanted profiles/ID")),
        id => Ok(id),
    }
}

/// What can be the name of a directory, everywhere.
pub(super) fn check_name(id: &str) -> Result<(), Status> {
    let is_plain =
        |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
    let begins_well = id.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    if (1..=63).contains(&id.len()) && begins_well && id.bytes().all(is_plain) {
        return Ok(());
    }
    let text = format!(
        "name: `{}` is not the name of a profile; use 1 to 63 of a-z 0-9 . _ -, a letter or digit first",
        id.escape_default()
    );
    Err(invalid("profile.name", &text))
}

/// Names and sizes of files.
pub(super) fn check_files(files: &Files) -> Result<(), Status> {
    let is_plain = |name: &str| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        (1..=100).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(plain)
    };
    for (name, text) in files {
        let field = format!("profile.files.{}", name.escape_default());
        if !is_plain(name) || name.ends_with('~') {
            let text = "wanted a file's name of letters, digits and . _ -, without a directory";
            return Err(invalid(&field, &format!("{field}: {text}")));
        }
        if text.len() as u64 > LARGEST_FILE {
            let text = format!(
                "{field} has {} octets; a template has at most {LARGEST_FILE}, large files are artefacts",
                text.len()
            );
            return Err(invalid(&field, &text));
        }
    }
    let octets: usize = files.values().map(String::len).sum();
    if octets > LARGEST {
        let text = format!("files have {octets} octets; all of a profile's have at most {LARGEST}");
        return Err(invalid("profile.files", &text));
    }
    Ok(())
}

/// Changes with the files.
pub(super) fn etag(files: &Files) -> String {
    let mut hash = Sha256::new();
    for (name, text) in files {
        for part in [name, text] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
    }
    Octets(hash.finalize()[..8].to_vec())
        .to_string()
        .replace(':', "")
}

fn word(source: ProfileSource) -> Word {
    match source {
        ProfileSource::Shipped => Word::Shipped,
        ProfileSource::Api => Word::Api,
        ProfileSource::Directory => Word::Directory,
    }
}

/// Without its files.
pub(super) fn to_message(
    catalog: &Catalog,
    profile: &Profile,
    hides: Option<ProfileSource>,
    files: &Files,
) -> v1::Profile {
    let machines = (catalog.reservations(None))
        .filter(|own| catalog.profile_name_of(own) == Some(&profile.name))
        .count();
    v1::Profile {
        name: format!("{COLLECTION}{}", profile.name),
        files: Files::new(),
        description: profile.description.clone(),
        source: word(profile.source).into(),
        hides: hides.map_or(Word::Unspecified, word).into(),
        installs: profile.install.is_some(),
        install_deadline: profile.install.map(|install| duration(install.deadline)),
        vars: (profile.vars.iter())
            .map(|(name, var)| (name.clone(), to_value(var)))
            .collect(),
        required_vars: profile.required.clone(),
        documents: profile.documents.keys().cloned().collect(),
        processors: (profile.boot.keys())
            .map(|cpu| cpu.as_str().to_owned())
            .collect(),
        machines: i32::try_from(machines).unwrap_or(i32::MAX),
        etag: etag(files),
    }
}
