//! The lab's bootjackd.toml and profiles: templates that are part of this program, filled in.

use std::path::{Path, PathBuf};

use crate::paths::Paths;

const TEMPLATE: &str = include_str!("../../deploy/lab/bootjackd.toml.in");

/// The network of the lab, as it stands in the template.
pub const INTERFACE: &str = "lan0";
pub const SERVER: std::net::Ipv4Addr = std::net::Ipv4Addr::new(198, 18, 0, 1);
pub const PREFIX: u8 = 24;

/// The lab's profiles: file names below the profiles directory, and their text.
pub const PROFILES: [(&str, &str); 3] = [
    (
        "debian-12/profile.toml",
        include_str!("../../deploy/lab/profiles/debian-12/profile.toml"),
    ),
    (
        "debian-12/user-data.yaml.j2",
        include_str!("../../deploy/lab/profiles/debian-12/user-data.yaml.j2"),
    ),
    (
        "tiny/profile.toml",
        include_str!("../../deploy/lab/profiles/tiny/profile.toml"),
    ),
];

/// Directories that are not the lab's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sources {
    /// Kernels and initial RAM disks.
    pub guests: PathBuf,
    /// Network boot programs.
    pub programs: PathBuf,
    /// Profiles instead of the built-in ones.
    pub profiles: Option<PathBuf>,
}

/// The text of bootjackd.toml.
pub fn bootjackd_toml(paths: &Paths, sources: &Sources) -> String {
    let own_profiles = paths.profiles();
    let profiles = sources.profiles.as_deref().unwrap_or(&own_profiles);
    let mut text = TEMPLATE.to_owned();
    for (name, value) in [
        ("data_dir", toml_path(&paths.data())),
        ("interface", toml_string(INTERFACE)),
        ("tftp_root", toml_path(&paths.tftp())),
        ("http_files", toml_path(&sources.guests)),
        (
            "grpc",
            toml_string(&format!("unix:{}", paths.socket().display())),
        ),
        ("programs", toml_path(&sources.programs)),
        ("profiles", toml_path(profiles)),
    ] {
        text = text.replace(&format!("@{name}@"), &value);
    }
    text
}

fn toml_path(path: &Path) -> String {
    toml_string(&path.display().to_string())
}

/// A basic string: JSON's escapes are TOML's.
fn toml_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(root: &str) -> toml::Table {
        let paths = Paths::new(root.into(), Path::new("/tmp"));
        let sources = Sources {
            guests: "/srv/guest".into(),
            programs: "/srv/ipxe".into(),
            profiles: None,
        };
        bootjackd_toml(&paths, &sources).parse().unwrap()
    }

    #[test]
    fn the_template_is_toml_with_nothing_left_to_fill_in() {
        let config = config("/srv/lab");
        assert_eq!(config["data_dir"].as_str(), Some("/srv/lab/data"));
        assert_eq!(
            config["grpc"]["listen"].as_str(),
            Some("unix:/srv/lab/run/api.sock")
        );
        assert_eq!(config["boot"]["programs"].as_str(), Some("/srv/ipxe"));
        assert_eq!(
            config["boot"]["profiles"].as_str(),
            Some("/srv/lab/profiles")
        );
        assert_eq!(config["dhcp"]["interfaces"][0].as_str(), Some(INTERFACE));
        assert_eq!(
            config["subnet"][0]["router"].as_str(),
            Some(SERVER.to_string().as_str())
        );
        assert_eq!(
            config["subnet"][0]["cidr"].as_str(),
            Some(format!("198.18.0.0/{PREFIX}").as_str())
        );
        assert!(!format!("{config:?}").contains('@'), "{config:?}");
    }

    #[test]
    fn odd_directory_names_stay_what_they_are() {
        let root = "/home/me/my \"lab\"\\new\ttab";
        assert_eq!(
            config(root)["data_dir"].as_str(),
            Some(format!("{root}/data").as_str())
        );
    }

    #[test]
    fn the_profiles_are_toml_and_name_their_templates() {
        let files: Vec<&str> = PROFILES.iter().map(|(name, _)| *name).collect();
        for (name, text) in PROFILES {
            let Some(directory) = name.strip_suffix("/profile.toml") else {
                continue;
            };
            let profile: toml::Table = text.parse().unwrap();
            assert!(profile.contains_key("description"), "{name}");
            for template in profile
                .get("documents")
                .and_then(|d| d.as_table())
                .into_iter()
                .flatten()
            {
                let file = format!("{directory}/{}", template.1.as_str().unwrap());
                assert!(files.contains(&file.as_str()), "{file}");
            }
        }
    }
}
