//! What a client means by a file name. In: the name as it was sent. Out: a path below the served directories, or why there is
//! none. Touches no file.

use thiserror::Error;

/// A relative path of plain parts: no `..`, no root, no drive.
pub type Parts = Vec<String>;

/// Names longer than this are no file of ours.
const LONGEST_NAME: usize = 512;

/// Why a name means no file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Unfit {
    #[error("the name is empty")]
    Empty,
    #[error("the name leads out of the served directories")]
    LeadsOut,
    #[error("the name is longer than 512 octets, or has control characters")]
    Malformed,
}

/// Reads a name: a leading slash counts for nothing, a backslash is a slash (Windows and some ROMs), and so are several in a
/// row (shim 16 asks for `//grubx64.efi`).
pub fn resolve(name: &str) -> Result<Parts, Unfit> {
    if name.len() > LONGEST_NAME || name.chars().any(char::is_control) {
        return Err(Unfit::Malformed);
    }
    let parts: Parts = name
        .split(['/', '\\'])
        .filter(|part| !part.is_empty() && *part != ".")
        .map(str::to_owned)
        .collect();
    if parts.is_empty() {
        Err(Unfit::Empty)
    } else if parts.iter().any(|part| part == "..") {
        Err(Unfit::LeadsOut)
    } else {
        Ok(parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ways_in_which_firmware_writes_a_name_mean_the_same_file() {
        for name in [
            "arm64/snponly.efi",
            "/arm64/snponly.efi",
            "\\arm64\\snponly.efi",
            "//arm64/./snponly.efi",
        ] {
            assert_eq!(
                resolve(name),
                Ok(vec!["arm64".into(), "snponly.efi".into()]),
                "{name}"
            );
        }
    }

    #[test]
    fn no_name_leads_out() {
        for name in ["../etc/passwd", "/a/../../b", "a\\..\\b", ".."] {
            assert_eq!(resolve(name), Err(Unfit::LeadsOut), "{name}");
        }
        assert_eq!(resolve("/"), Err(Unfit::Empty));
        assert_eq!(resolve("a\nb"), Err(Unfit::Malformed));
        assert_eq!(resolve(&"a/".repeat(300)), Err(Unfit::Malformed));
    }
}
