use super::*;
use minijinja::context;

fn refused(source: &str) -> String {
    let values = context! { machine => context! { hostname => "node-1" }, list => [1, 2], tricky => "a\n${b}" };
    render_text("user-data.yaml.j2", source, &values, &Salt::default())
        .expect_err(source)
        .to_string()
}

#[test]
fn a_name_that_is_not_defined_is_an_error_with_its_line_also_inside_a_filter() {
    assert_eq!(
        refused("#cloud-config\n\nproxy: {{ proxy }}\n"),
        "template user-data.yaml.j2 line 3: `proxy` is not defined"
    );
    for filter in ["yaml", "json", "tojson", "sh", "karg", "upper"] {
        let text = refused(&format!("{{{{ machine.nmae|{filter} }}}}"));
        assert!(
            text.contains("not defined") && text.contains("nmae"),
            "{filter}: {text}"
        );
    }
}

#[test]
fn values_are_data_in_yaml_and_in_a_shell() {
    let values = context! { name => "x: [\"y\"]\n- ' $(z) & <" };
    let yaml = render_text("t", "v: {{ name|yaml }}", &values, &Salt::default()).expect("renders");
    assert_eq!(yaml, r#"v: "x: [\"y\"]\n- ' $(z) & <""#);
    let shell = render_text("t", "{{ name|sh }}", &values, &Salt::default()).expect("renders");
    assert_eq!(shell, "'x: [\"y\"]\n- '\\'' $(z) & <'");
    let plain = render_text("t", "{{ name }}", &values, &Salt::default()).expect("renders");
    assert_eq!(
        plain, "x: [\"y\"]\n- ' $(z) & <",
        "and nothing is escaped for HTML"
    );
}

#[test]
fn a_kernel_argument_cannot_become_two_or_a_command() {
    let text = refused("{{ tricky|karg }}");
    assert!(text.contains("white space"), "{text}");
    assert!(refused("{{ list|karg }}").contains("wanted one word"));
}

#[test]
fn a_template_that_never_ends_is_stopped() {
    let source = "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}";
    assert!(refused(source).contains("fuel"), "{}", refused(source));
}

#[test]
fn a_word_of_a_grub_script_ends_no_command_and_expands_nothing() {
    for (text, word) in [
        ("console=ttyS0,115200n8", "console=ttyS0,115200n8"),
        (
            "ds=nocloud;s=http://198.18.0.1/",
            "'ds=nocloud;s=http://198.18.0.1/'",
        ),
        ("a b", "'a b'"),
        ("$x", "'$x'"),
        ("it's", r"'it'\''s'"),
        ("", "''"),
    ] {
        let values = context! { text };
        let made = render_text("t", "{{ text|grub }}", &values, &Salt::default());
        assert_eq!(made.as_deref(), Ok(word), "{text}");
    }
    assert!(refused("{{ 'a\nb'|grub }}").contains("control character"));
}

#[test]
fn what_stands_in_a_url_or_a_preseed_line_cannot_leave_it() {
    let values = context! { text => "a b&c=d/é" };
    let made = render_text("t", "{{ text|uri }}", &values, &Salt::default());
    assert_eq!(made.as_deref(), Ok("a%20b%26c%3Dd%2F%C3%A9"));
    let made = render_text("t", "{{ 'a  b'|preseed }}", &values, &Salt::default());
    assert_eq!(made.as_deref(), Ok("a  b"));
    for bad in ["a\\nb", "a\\\\", " a"] {
        let text = refused(&format!("{{{{ \"{bad}\"|preseed }}}}"));
        assert!(text.contains("wanted one line"), "{bad}: {text}");
    }
}
