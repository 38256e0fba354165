use super::*;
use crate::lint::yaml;

fn misfits(shape: &str, text: &str) -> Vec<String> {
    let shape = Shape::read(shape).expect(shape);
    let (node, faults) = yaml::read(text);
    assert_eq!(faults, []);
    let found = shape.check(&node.expect(text)).into_iter();
    found
        .map(|misfit| match misfit.what {
            What::Kind { wanted, got } => {
                format!(
                    "{} {}: wanted {wanted}, got {got}",
                    misfit.line, misfit.place
                )
            }
            What::Missing(key) => format!("{} {}: no {key}", misfit.line, misfit.place),
            What::Unknown { closest } => {
                format!("{} {}: unknown, {closest:?}", misfit.line, misfit.place)
            }
        })
        .collect()
}

const SHAPE: &str = "# a comment
@user = {name!: str, sudo: str|bool,
    keys: [str]}
users: [str|@user]
mode: \"on\"|\"off\"|false
sizes: {*: int}
size: num|null
";

#[test]
fn what_fits_is_passed_over() {
    let text = "users:\n  - default\n  - {name: x, sudo: false, keys: [a]}\nmode: 'off'\nsizes: {a: 1}\nsize: 1.5\n";
    assert_eq!(misfits(SHAPE, text), [""; 0]);
    assert_eq!(misfits(SHAPE, "mode: off\nsize:\n"), [""; 0]);
}

#[test]
fn what_does_not_fit_is_said_with_its_line_and_place() {
    for (text, said) in [
        (
            "users:\n  - name: 7\n",
            "2 users[0].name: wanted a string, got the number 7",
        ),
        ("users:\n  - sudo: true\n", "2 users[0]: no name"),
        ("users: []\nuser: x\n", "2 user: unknown, Some(\"users\")"),
        (
            "users:\n  - name: x\n    suod: y\n",
            "3 users[0].suod: unknown, Some(\"sudo\")",
        ),
        ("users: x\n", "1 users: wanted a list, got `x`"),
        ("mode: x\n", "1 mode: wanted on or off or false, got `x`"),
        (
            "mode: on\n",
            "1 mode: wanted on or off or false, got the truth value true",
        ),
        (
            "sizes:\n  a: 0644\n  b: x\n",
            "3 sizes.b: wanted a whole number, got `x`",
        ),
        (
            "users: [{name: x, keys: a}]\n",
            "1 users[0].keys: wanted a list of strings, got `a`",
        ),
        (
            "users:\n  - 52:54:00:00:00:01\n",
            "2 users[0]: wanted a string or a map, got the number 41135040001, which is what 52:54:00:00:00:01 means in YAML",
        ),
    ] {
        assert_eq!(misfits(SHAPE, text), [said], "{text}");
    }
}

#[test]
fn a_shape_with_a_mistake_is_refused() {
    for bad in [
        "a",
        "a: x",
        "a: [str",
        "a: {b: str",
        "a: @x",
        "a: \"b",
        "a: str str",
        "@x str",
    ] {
        assert!(Shape::read(bad).is_err(), "{bad}");
    }
}
