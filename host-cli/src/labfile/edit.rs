//! A lab's file, changed as a person would change it: comments, order and spacing stay. Pure. In: the text, and what is to be another.
//! Out: the new text, which its reader still has to accept. It refuses text that is no TOML, and machines that are written in one line
//! instead of under [[vm]].

use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, value};

/// A value of a machine's table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    Text(String),
    Number(i64),
    Flag(bool),
    List(Vec<String>),
}

/// The text with a machine more, after the others; its entries in this order, without its name.
pub fn with_machine(text: &str, name: &str, entries: &[(&str, Word)]) -> Result<String, String> {
    let mut document = parse(text)?;
    let mut table = Table::new();
    table.decor_mut().set_prefix("\n");
    table.insert("name", value(name));
    for (key, word) in entries {
        table.insert(key, item(word));
    }
    if !document.contains_key("vm") {
        document.insert("vm", Item::ArrayOfTables(ArrayOfTables::new()));
    }
    machines(&mut document)?.push(table);
    Ok(document.to_string())
}

/// The text in which a machine has another name, and the MAC address that it had under the old one.
pub fn with_other_name(text: &str, old: &str, new: &str, mac: &str) -> Result<String, String> {
    let mut document = parse(text)?;
    let machines = machines(&mut document)?;
    let machine = machines.iter_mut().find(|machine| is_called(machine, old));
    let machine = machine.ok_or_else(|| format!("it has no machine {old}"))?;
    if let Some(name) = machine.get_mut("name").and_then(Item::as_value_mut) {
        let decor = name.decor().clone();
        *name = new.into();
        *name.decor_mut() = decor;
    }
    if !machine.contains_key("mac") {
        machine.insert("mac", value(mac));
    }
    Ok(document.to_string())
}

/// The text without a machine, and without the comments above it.
pub fn without_machine(text: &str, name: &str) -> Result<String, String> {
    let mut document = parse(text)?;
    let machines = machines(&mut document)?;
    let before = machines.len();
    machines.retain(|machine| !is_called(machine, name));
    match machines.len() < before {
        true => Ok(document.to_string()),
        false => Err(format!("it has no machine {name}")),
    }
}

fn parse(text: &str) -> Result<DocumentMut, String> {
    text.parse()
        .map_err(|error: toml_edit::TomlError| format!("it is no TOML: {}", error.message()))
}

fn machines(document: &mut DocumentMut) -> Result<&mut ArrayOfTables, String> {
    let vm = document.get_mut("vm");
    vm.and_then(Item::as_array_of_tables_mut)
        .ok_or_else(|| "its machines are not under [[vm]], each; write them so first".to_owned())
}

fn is_called(machine: &Table, name: &str) -> bool {
    machine.get("name").and_then(Item::as_str) == Some(name)
}

fn item(word: &Word) -> Item {
    match word {
        Word::Text(text) => value(text),
        Word::Number(number) => value(*number),
        Word::Flag(flag) => value(*flag),
        Word::List(words) => value(words.iter().collect::<toml_edit::Array>()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# My lab.\nversion = 1\n\n[lab]\nname = \"demo\" # short\n\n# The first.\n[[vm]]\nname   = \"a\"  # of all\nprofile = \"tiny\"\n\n# The second.\n[[vm]]\nname = \"b\"\nprofile = \"tiny\"\n[vm.vars]\nx = 1\n";

    #[test]
    fn a_machine_comes_last_and_nothing_else_is_touched() {
        let entries = [
            ("profile", Word::Text("debian-12".to_owned())),
            ("cpus", Word::Number(2)),
            (
                "boot",
                Word::List(vec!["disk".to_owned(), "net".to_owned()]),
            ),
            ("display", Word::Flag(true)),
        ];
        let text = with_machine(FILE, "c", &entries).unwrap();
        let added = text.strip_prefix(FILE).unwrap();
        assert_eq!(
            added,
            "\n[[vm]]\nname = \"c\"\nprofile = \"debian-12\"\ncpus = 2\nboot = [\"disk\", \"net\"]\ndisplay = true\n"
        );
        let first = with_machine("version = 1\n", "a", &entries[..1]).unwrap();
        assert_eq!(
            first,
            "version = 1\n\n[[vm]]\nname = \"a\"\nprofile = \"debian-12\"\n"
        );
    }

    #[test]
    fn another_name_keeps_comments_and_the_address_that_the_old_one_gave() {
        let text = with_other_name(FILE, "a", "z", "52:54:00:00:00:01").unwrap();
        let wanted = FILE.replace(
            "name   = \"a\"  # of all\nprofile = \"tiny\"\n\n# The second",
            "name   = \"z\"  # of all\nprofile = \"tiny\"\nmac = \"52:54:00:00:00:01\"\n\n# The second",
        );
        assert_eq!(text, wanted);
        let again = with_other_name(&text, "z", "y", "52:54:00:00:00:02").unwrap();
        assert!(again.contains("mac = \"52:54:00:00:00:01\""), "{again}");
    }

    #[test]
    fn a_machine_goes_with_its_comments_and_its_tables() {
        let text = without_machine(FILE, "b").unwrap();
        let end = FILE.find("\n# The second.").unwrap();
        assert_eq!(text, FILE[..end]);
        let none = without_machine(&text, "a").unwrap();
        assert!(
            !none.contains("[[vm]]") && none.contains("# short"),
            "{none}"
        );
    }

    #[test]
    fn what_is_written_otherwise_is_left_to_its_owner() {
        let inline = "version = 1\nvm = [{ name = \"a\" }]\n";
        for refused in [
            with_machine(inline, "b", &[]),
            with_other_name(inline, "a", "b", ""),
            without_machine(inline, "a"),
        ] {
            assert!(refused.unwrap_err().contains("[[vm]]"));
        }
        assert_eq!(
            without_machine(FILE, "c"),
            Err("it has no machine c".to_owned())
        );
    }
}
