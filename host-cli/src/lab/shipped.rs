//! The profiles that every lab has: part of this program.

/// The lab's profiles: file names below the profiles directory, and their text.
pub const PROFILES: [(&str, &str); 3] = [
    (
        "debian-12/profile.toml",
        include_str!("../../../deploy/lab/profiles/debian-12/profile.toml"),
    ),
    (
        "debian-12/user-data.yaml.j2",
        include_str!("../../../deploy/lab/profiles/debian-12/user-data.yaml.j2"),
    ),
    (
        "tiny/profile.toml",
        include_str!("../../../deploy/lab/profiles/tiny/profile.toml"),
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

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
