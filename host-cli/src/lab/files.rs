//! The files that profiles name. In: directories of the lab's file, or single files. Out: every file below them by the name that
//! profiles know it by, `DIRECTORY/FILE`. It refuses names that are no UTF-8; hidden files are marks of how something was made.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::exit::{Exit, Failure};

/// Whether all of them are there: said before anything is started.
pub fn check(sources: &[PathBuf]) -> Result<(), Failure> {
    let Some(absent) = sources.iter().find(|source| !source.exists()) else {
        return Ok(());
    };
    let text = format!(
        "provisioner.artifacts of lab.toml: wanted a file or directory, found no {}; deploy/guest/*.sh makes those of the lab's profiles",
        absent.display()
    );
    Err(Failure::new(Exit::Missing, text))
}

/// All of them, links followed. Of two of one name the last is taken.
pub fn named(sources: &[PathBuf]) -> Result<BTreeMap<String, PathBuf>, Failure> {
    let mut all = BTreeMap::new();
    for source in sources {
        collect(source, name_of(source)?.to_owned(), &mut all)?;
    }
    Ok(all)
}

fn collect(path: &Path, name: String, all: &mut BTreeMap<String, PathBuf>) -> Result<(), Failure> {
    if !fs::metadata(path)
        .map_err(Failure::io("read", path))?
        .is_dir()
    {
        all.insert(name, path.to_owned());
        return Ok(());
    }
    for entry in fs::read_dir(path).map_err(Failure::io("read", path))? {
        let path = entry.map_err(Failure::io("read", path))?.path();
        let file = name_of(&path)?;
        if !file.starts_with('.') {
            collect(&path, format!("{name}/{file}"), all)?;
        }
    }
    Ok(())
}

fn name_of(path: &Path) -> Result<&str, Failure> {
    let name = path.file_name().and_then(|name| name.to_str());
    name.ok_or_else(|| {
        let text = format!(
            "{}: wanted the path of a directory or file with a name in UTF-8",
            path.display()
        );
        Failure::new(Exit::Invalid, text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_go_by_their_directory_and_hidden_ones_by_nothing() {
        let dir = tempfile::tempdir().unwrap();
        for file in [
            "guest/vmlinuz",
            "guest/deep/initrd.img",
            "guest/.lock",
            "one.img",
        ] {
            let file = dir.path().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "").unwrap();
        }
        let at = |name: &str| dir.path().join(name);
        let all = named(&[at("guest"), at("one.img")]).unwrap();
        let names: Vec<&str> = all.keys().map(String::as_str).collect();
        assert_eq!(names, ["guest/deep/initrd.img", "guest/vmlinuz", "one.img"]);
        assert_eq!(all["guest/vmlinuz"], at("guest/vmlinuz"));
        assert_eq!(named(&["/".into()]).unwrap_err().exit, Exit::Invalid);
        assert!(named(&[at("nowhere")]).is_err());
    }
}
