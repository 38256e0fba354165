use super::*;

fn root(text: &str) -> Node {
    let (node, faults) = read(text);
    assert_eq!(faults, [], "{text}");
    node.expect(text)
}

fn faults(text: &str) -> Vec<String> {
    let list = read(text).1.into_iter();
    list.map(|fault| format!("{}: {}", fault.line, fault.message))
        .collect()
}

#[test]
fn words_mean_what_pyyaml_makes_of_them() {
    let integer = |value, written: &str| Value::Integer(value, written.to_owned());
    let text = |text: &str| Value::Text(text.to_owned());
    for (written, meant) in [
        ("no", Value::Bool(false)),
        ("On", Value::Bool(true)),
        ("y", text("y")),
        ("~", Value::Null),
        ("", Value::Null),
        ("0644", integer(420, "0644")),
        ("0o644", text("0o644")),
        ("0899", text("0899")),
        ("1_000", integer(1000, "1_000")),
        ("0x1f", integer(31, "0x1f")),
        (
            "52:54:00:00:00:01",
            integer(41_135_040_001, "52:54:00:00:00:01"),
        ),
        ("52:54:00:aa:00:01", text("52:54:00:aa:00:01")),
        ("22:00", integer(1320, "22:00")),
        ("1.5", Value::Number(1.5)),
        ("1e3", text("1e3")),
        ("1.0e+3", Value::Number(1000.0)),
        ("2024-02-03", Value::Date("2024-02-03".into())),
        ("198.18.0.1", text("198.18.0.1")),
        ("'no'", text("no")),
        ("!!str 0644", text("0644")),
    ] {
        let node = root(&format!("a: {written}\n"));
        assert_eq!(
            node.get("a").map(|node| &node.value),
            Some(&meant),
            "{written}"
        );
    }
}

#[test]
fn every_value_has_its_line() {
    let node = root("#cloud-config\na: 1\nb:\n  - x\n  - c: |\n      text\n    d: 2\n");
    assert_eq!(
        node.entry("a").map(|(line, node)| (line, node.line)),
        Some((2, 2))
    );
    let list = node.get("b").expect("there").list();
    assert_eq!(
        list.iter().map(|node| node.line).collect::<Vec<_>>(),
        [4, 5]
    );
    assert_eq!(list[1].entry("d").map(|(line, _)| line), Some(7));
}

/// Checked against PyYAML 6.0.
#[test]
fn tabs_are_found_where_pyyaml_stops_at_them_and_nowhere_else() {
    for bad in [
        "a:\tb",
        "a: b\t",
        "a:\n\t- b",
        "a: [1,\t2]",
        "- \ta",
        "a: x\ty",
        "a: b\t# c",
        "\t# x\na: b",
        "a: b\n\t\nc: d",
        "a:\n  - b\n\t  - c",
    ] {
        let found = faults(bad);
        assert!(
            found
                .last()
                .is_some_and(|fault| fault.ends_with("a tab, where YAML takes spaces alone")),
            "{bad:?}: {found:?}"
        );
    }
    for good in [
        "a: \"x\ty\"",
        "a: b # c\td",
        "a: |\n  \tx\n",
        "a: 'x\ty' # z\t\n",
        "a: |\n  x\n  \ty\nb: 1\n",
    ] {
        assert_eq!(faults(good), [""; 0], "{good:?}");
    }
}

#[test]
fn what_is_dropped_or_refused_is_said_with_its_line() {
    assert_eq!(
        faults("a: 1\nb: 2\na: 3\n"),
        ["3: `a` is said on line 1 already"]
    );
    assert_eq!(
        faults("a: 1\n---\nb: 2\n"),
        ["2: a second document begins here, and one is all that is read"]
    );
    assert_eq!(
        faults("a: !vault x\n"),
        ["1: the tag !vault means nothing to PyYAML's safe loader"]
    );
    for broken in [
        "a: [1\n",
        "a: b: c\n",
        "a: *x\n",
        "a: \"x\n",
        "a: 1\n b: 2\n",
        "- a\nb: 1\n",
    ] {
        assert!(!faults(broken).is_empty(), "{broken}");
    }
}

#[test]
fn aliases_and_merges_are_followed_and_bombs_are_not() {
    let node = root("x: &x {a: 1, b: 2}\ny:\n  <<: *x\n  b: 3\n");
    let y = node.get("y").expect("there");
    let number = |key: &str| y.get(key).map(|node| node.value.to_string());
    assert_eq!(number("a").as_deref(), Some("the number 1"));
    assert_eq!(number("b").as_deref(), Some("the number 3"));
    let mut bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n".to_owned();
    for (name, last) in ('b'..='j').zip('a'..) {
        bomb.push_str(&format!(
            "{name}: &{name} [{}]\n",
            vec![format!("*{last}"); 9].join(",")
        ));
    }
    assert!(
        faults(&bomb)
            .iter()
            .any(|fault| fault.contains("larger or deeper"))
    );
    let deep = "[".repeat(5000);
    assert!(!faults(&deep).is_empty());
}
