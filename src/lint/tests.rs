use super::*;
use crate::catalog::{Catalog, Settings};
use crate::model::{Group, Profile, Var};

fn of(name: &str, text: &str) -> Vec<String> {
    let reader = Reader {
        cloud_init: Some((22, 4)),
    };
    let said = |f: Finding| format!("{} {}: {}", f.severity, f.line, f.message);
    document(name, text, reader).into_iter().map(said).collect()
}

#[track_caller]
fn one(name: &str, text: &str, said: &str) {
    assert_eq!(of(name, text), [said], "{text}");
}

const HASH: &str = "$6$TLR3bXr8AAAAAAAA$abcdefghijklmnopqrstuvwxyz";

#[test]
fn a_sound_cloud_config_is_passed_over() {
    let text = format!(
        "#cloud-config\nusers:\n  - name: root\n    lock_passwd: false\n    passwd: {HASH}\n    ssh_authorized_keys:\n      - ssh-ed25519 AAAA me\n\
         write_files:\n  - path: /a\n    permissions: '0644'\n    content: |\n      \tx\nruncmd:\n  - [sh, -c, \"x\"]\n  - y\nphone_home:\n  url: http://s/\n  post: all\n"
    );
    assert_eq!(of("user-data", &text), [""; 0]);
    for other in [
        "#!/bin/sh\nx: [\n",
        "#cloud-config\n{}\n",
        "#cloud-config\n",
        "## template: jinja\n#cloud-config\na: {% if %}\n",
    ] {
        assert_eq!(of("vendor-data", other), [""; 0], "{other}");
    }
}

#[test]
fn user_data_that_cloud_init_would_drop_is_an_error_on_its_first_line() {
    for text in [
        "\n#cloud-config\n",
        " #cloud-config\n",
        "users: []\n",
        "# cloud-config\n",
        "",
    ] {
        let found = of("user-data", text);
        assert!(
            found.len() == 1
                && found[0].starts_with("error 1: the first line is `")
                && found[0].contains("drops the whole document"),
            "{text:?}: {found:?}"
        );
    }
}

#[test]
fn what_cloud_init_makes_something_else_of_is_said_with_its_line() {
    for (text, said) in [
        ("a: [", "error 3: it is no YAML: "),
        ("runcmd: ls", "error 2: runcmd: wanted a list, got `ls`"),
        (
            "write_files:\n  - path: /a\n    permissions: 0644",
            "error 4: write_files[0].permissions: wanted a string, got the number 420, which is what 0644 means in YAML",
        ),
        (
            "write_files:\n  - content: x",
            "error 3: write_files[0]: path is missing",
        ),
        (
            "hostname: 22:00",
            "error 2: hostname: wanted a string, got the number 1320, which is what 22:00 means in YAML",
        ),
        (
            "package_update: 'yes'",
            "error 2: package_update: wanted true or false, got `yes`",
        ),
        (
            "packges: [vim]",
            "warning 2: packges: cloud-init does not know this key",
        ),
        (
            "timezone: UTC\nruncmd:\n  - a\ntimezone: UTC",
            "error 5: `timezone` is said on line 2 already",
        ),
        (
            "runcmd:\n\t- a",
            "error 3: a tab, where YAML takes spaces alone",
        ),
        ("apt_update: true", "info 2: apt_update is outdated"),
        (
            "ubuntu_pro: {}",
            "warning 2: ubuntu_pro is known since cloud-init 24.1, and the profile says an older one",
        ),
        (
            "ssh_authorized_keys: [AAAA]",
            "warning 2: `AAAA` does not look like a public key",
        ),
        (
            "users:\n  - name: x\n    lock_passwd: false\n    passwd: clear",
            "error 5: passwd is no hash: the user could not log in, and the password would stand in the clear",
        ),
        ("- a", "error 2: wanted a map of keys, got a list"),
    ] {
        let found = of("user-data", &format!("#cloud-config\n{text}\n"));
        assert!(
            found.len() == 1 && found[0].starts_with(said),
            "{text}: {found:?}"
        );
    }
    let found = of(
        "user-data",
        &format!("#cloud-config\nusers: [{{name: x, passwd: {HASH}}}]\n"),
    );
    assert!(found[0].contains("locked all the same"), "{found:?}");
}

#[test]
fn meta_data_has_an_instance_id() {
    assert_eq!(
        of("meta-data", "instance-id: i-1\nlocal-hostname: \"n\"\n"),
        [""; 0]
    );
    assert!(
        of("meta-data", "local-hostname: n\n")[0].starts_with("error 1: instance-id is missing")
    );
    assert!(of("meta-data", "")[0].starts_with("error 1: wanted a map"));
    one(
        "meta-data",
        "instance-id: x\nlocal-hostname: 12\n",
        "error 2: local-hostname: wanted a string, got the number 12",
    );
}

#[test]
fn a_network_config_has_a_version_and_no_wrapper() {
    assert_eq!(
        of(
            "network-config",
            "version: 2\nethernets:\n  a:\n    match: {macaddress: \"52:54:00:00:00:01\"}\n    dhcp4: true\n"
        ),
        [""; 0]
    );
    one(
        "network-config",
        "ethernets: {}\n",
        "error 1: version is missing",
    );
    one(
        "network-config",
        "version: 3\n",
        "error 1: version: wanted 1 or 2, got the number 3",
    );
    one(
        "network-config",
        "network:\n  version: 2\n",
        "warning 1: network: around it is not taken by every release of cloud-init",
    );
    one(
        "network-config",
        "version: 2\nethernets:\n  a:\n    match:\n      macaddress: 52:54:00:00:00:01\n",
        "error 5: ethernets.a.match.macaddress: wanted a string, got the number 41135040001, which is what 52:54:00:00:00:01 means in YAML",
    );
}

#[test]
fn autoinstall_says_who_may_log_in_and_keeps_nobody_waiting() {
    let with = |text: &str| of("user-data", &format!("#cloud-config\nautoinstall:\n{text}"));
    let identity = format!(
        "  version: 1\n  storage: {{layout: {{name: lvm}}}}\n  identity: {{username: u, hostname: h, password: {HASH}}}\n"
    );
    assert_eq!(with(&identity), [""; 0]);
    let found = with("  version: 1\n  storage: {}\n");
    assert_eq!(
        found,
        ["error 3: nobody could log in: there is neither identity nor user-data"]
    );
    let found = with(&identity.replace(HASH, "clear"));
    assert_eq!(
        found,
        ["error 5: autoinstall.identity.password is no hash: nobody could log in with it"]
    );
    let found = with(&identity.replace("version: 1", "version: 2"));
    assert_eq!(
        found,
        ["error 3: autoinstall.version: wanted 1, got the number 2"]
    );
    let found = with(&format!("{identity}  late-command: [x]\n"));
    assert_eq!(
        found,
        ["warning 6: autoinstall.late-command: subiquity does not know this key"]
    );
    let found = with(&format!(
        "{identity}  interactive-sections: [storage]\n  reporting: {{a: {{type: webhook}}}}\n"
    ));
    assert_eq!(
        found,
        ["warning 6: the installer waits for somebody at its console, and reports nothing"]
    );
    let found = with("  version: 1\n  storage: {}\n  user-data:\n    runcmd: x\n");
    assert_eq!(found, ["error 6: runcmd: wanted a list, got `x`"]);
    let found = with(&format!("{identity}timezone: UTC\n"));
    assert!(
        found[0].starts_with("info 6: timezone beside autoinstall"),
        "{found:?}"
    );
}

#[test]
fn ignition_is_json_of_a_version_that_knows_its_parts() {
    let good = r#"{"ignition":{"version":"3.3.0"},"storage":{"files":[{"path":"/a","mode":420,"contents":{"source":"data:,x"}}]},"kernelArguments":{"shouldExist":["x"]}}"#;
    assert_eq!(of("config.ign", good), [""; 0]);
    one(
        "config.ign",
        "{\n  \"ignition\": {\"version\": \"3.3.0\"},\n}\n",
        "error 3: it is no JSON: key must be a string",
    );
    for (text, said) in [
        ("{}", "error 1: ignition is missing"),
        (
            r#"{"ignition":{}}"#,
            "error 1: ignition: version is missing",
        ),
        (
            r#"{"ignition":{"version":"3.9.0"}}"#,
            "error 1: no Ignition that is known here takes version 3.9.0",
        ),
        (
            r#"{"ignition":{"version":"3.4.0-experimental"}}"#,
            "error 1: 3.4.0-experimental is taken by the one release that it was made for",
        ),
        (
            r#"{"ignition":{"version":"3.2.0"},"kernelArguments":{}}"#,
            "error 1: kernelArguments came with 3.3, and the version says 3.2.0",
        ),
        (
            r#"{"ignition":{"version":"3.3.0"},"storage":{"files":[{"path":"a"}]}}"#,
            "error 1: `a` is not absolute",
        ),
        (
            r#"{"ignition":{"version":"3.3.0"},"storage":{"files":[{"path":"/a"}],"links":[{"path":"/a"}]}}"#,
            "error 1: `/a` is written on line 1 already",
        ),
        (
            r#"{"ignition":{"version":"3.3.0"},"storage":{"files":[{"path":"/a","contents":{"source":"x"}}]}}"#,
            "error 1: `x` is no URL that Ignition fetches",
        ),
        (
            r#"{"ignition":{"version":"3.3.0"},"storage":{"files":[{"path":"/a","mode":"0644"}]}}"#,
            "error 1: storage.files[0].mode: wanted a whole number or nothing, got `0644`",
        ),
        (
            r#"{"ignition":{"version":"3.3.0"},"systemd":{"unit":[]}}"#,
            "warning 1: systemd.unit: Ignition 3.5 does not know this key",
        ),
    ] {
        one("config.ign", text, said);
    }
}

#[test]
fn preseed_lines_are_answers_that_debconf_understands() {
    let good = format!(
        "# a comment\nd-i mirror/country string manual\nd-i preseed/early_command string a; \\\n  b\nd-i netcfg/get_hostname string\n\
         d-i passwd/root-password-crypted password {HASH}\ntasksel tasksel/first multiselect standard, ssh-server\n"
    );
    assert_eq!(of("preseed.cfg", &good), [""; 0]);
    for (line, said) in [
        (
            "d-i passwd/root-login",
            "error 1: `d-i passwd/root-login` is no answer: wanted owner, question, type and value",
        ),
        (
            "d-i passwd/root-login bolean true",
            "error 1: passwd/root-login: `bolean` is no type of a question",
        ),
        (
            "d-i passwd/root-login boolean yes",
            "error 1: passwd/root-login: wanted true or false, got `yes`",
        ),
        (
            "D-I! passwd/root-login boolean true",
            "error 1: `D-I!` is no owner of a question",
        ),
        (
            "d-i passwd/root-password-crypted password x",
            "error 1: passwd/root-password-crypted is no hash: nobody could log in with it",
        ),
        (
            "d-i passwd/root-password password x",
            "warning 1: passwd/root-password: the password stands in the clear",
        ),
        (
            "d-i netcfg/choose_interface select auto",
            "warning 1: netcfg/choose_interface comes too late: the network was set up to fetch this file",
        ),
        (
            "d-i a/b string x\nd-i a/b string y",
            "warning 2: a/b is answered on line 1 already, and this one counts",
        ),
    ] {
        one("preseed.cfg", line, said);
    }
}

#[test]
fn kickstart_has_known_commands_and_sections_that_end() {
    let good = format!(
        "# x\nurl --url=http://s/\nrootpw --iscrypted {HASH}\nautopart \\\n  --type=lvm\n%packages\n@core\n%end\n%post --log=/x\nif true; then\nfi\n%end\n%include /tmp/x\n"
    );
    assert_eq!(of("host.ks", &good), [""; 0]);
    for (more, said) in [
        ("%post\n", "error 14: %post does not end"),
        ("%end\n", "error 14: %end ends nothing"),
        (
            "sshkey --username=x 'a'\nsshkey --username=x 'b'\n",
            "error 15: sshkey takes one key for each user, and this one has one",
        ),
        ("%packges\n%end\n", "error 14: %packges is no section"),
        ("clearprt --all\n", "error 14: `clearprt` is no command"),
        (
            "authconfig --x\n",
            "warning 14: authconfig is gone: Anaconda stops at it since Fedora 35; say authselect",
        ),
        (
            "user --name=x --iscrypted --password=x\n",
            "error 14: user --iscrypted has no hash: nobody could log in with it",
        ),
        (
            "%pre\n%post\n%end\n",
            "error 15: %post begins inside %pre of line 14",
        ),
    ] {
        let found = of("ks.cfg", &format!("{good}{more}"));
        assert!(found.iter().any(|found| found == said), "{more}: {found:?}");
    }
    let found = of("ks.cfg", "%packages\n%end\n");
    assert_eq!(found.len(), 3, "{found:?}");
}

fn profile(name: &str, toml: &str, files: &[(&str, &str)]) -> Profile {
    let mut all: std::collections::BTreeMap<String, String> = (files.iter())
        .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
        .collect();
    all.insert("profile.toml".into(), toml.into());
    crate::render::profile::read(name, all).expect("a sound profile")
}

#[test]
fn all_documents_of_all_machines_of_a_profile_are_looked_at_and_a_sample_where_there_is_none() {
    let toml = "required = [\"ssh_key\"]\ninstalls = true\nmin_ram = 2048\n[x86_64]\nkernel = \"k\"\nargs = [\"ds=nocloud;s={{ seed_url }}\", \"x={{ gone }}\"]\n[documents]\nuser-data = \"u.j2\"\n";
    let installer = profile(
        "installer",
        toml,
        &[(
            "u.j2",
            "#cloud-config\nssh_authorized_keys: [{{ ssh_key|yaml }}]\n{% if bad is defined %}runcmd: {{ bad }}{% endif %}\n",
        )],
    );
    let mut catalog = Catalog::new(Settings {
        profiles: [(installer.name.clone(), installer)].into(),
        groups: vec![Group {
            name: "r".into(),
            matches: [("rack".to_owned(), "r1".to_owned())].into(),
            profile: Some("installer".into()),
            vars: [
                ("ssh_key".to_owned(), Var::Text("ssh-ed25519 A".into())),
                ("gone".to_owned(), Var::Integer(1)),
            ]
            .into(),
        }],
        ..Settings::default()
    });
    let said = |catalog: &Catalog| -> Vec<String> {
        let surveyed = machine::survey(catalog, catalog.profiles().values()).into_iter();
        surveyed
            .map(|s| format!("{:?} {}", s.machines, s.finding))
            .collect()
    };
    let of_sample = said(&catalog);
    assert!(
        of_sample.contains(&"[] installer/args line 1: `gone` is not defined; say it in vars of the reservation, a group or the profile, or ask `is defined` first".to_owned()),
        "{of_sample:#?}"
    );
    for n in 1..3 {
        let mut node =
            crate::model::Reservation::of(format!("node-{n}"), crate::model::Source::Api);
        node.mac = Some(crate::model::MacAddr([0x52, 0x54, 0, 0, 0, n]));
        node.labels = [("rack".to_owned(), "r1".to_owned())].into();
        if n == 2 {
            node.vars.insert("bad".into(), Var::Text("ls".into()));
        }
        let errors = machine::errors(&catalog, &node);
        assert_eq!(errors.len(), usize::from(n == 2), "{errors:?}");
        catalog = catalog
            .with(&crate::catalog::Change::Create(node))
            .expect("fits");
    }
    let said = said(&catalog);
    for wanted in [
        "[\"node-2\"] user-data line 3: runcmd: wanted a list, got `ls`; write a list",
        "[\"node-1\", \"node-2\"] profile.toml: no document tells Bootjack that the installation is done: it runs into its deadline; fetch {{ events_url }}done at the end, or report to {{ events_url }}webhook",
    ] {
        assert!(
            said.iter().any(|said| said == wanted),
            "{wanted}\nin {said:#?}"
        );
    }
}

#[test]
fn a_log_has_nothing_of_what_stands_in_a_document() {
    let logged = |name: &str, text: &str| -> Vec<String> {
        let found = document(name, text, Reader::default());
        found.iter().map(Finding::for_log).collect()
    };
    for (name, text) in [
        ("user-data", "#cloud-config\nruncmd: hunter2\n"),
        ("user-data", "hunter2\n"),
        (
            "user-data",
            "#cloud-config\nssh_authorized_keys: [hunter2]\n",
        ),
        (
            "user-data",
            "#cloud-config\nusers: [{name: x, lock_passwd: false, passwd: hunter2}]\n",
        ),
        (
            "preseed.cfg",
            "hunter2\nd-i a/b boolean hunter2\nd-i passwd/root-password password hunter2\n",
        ),
        ("host.ks", "hunter2\nrootpw --iscrypted hunter2\n"),
        (
            "config.ign",
            "{\"ignition\":{\"version\":\"hunter2\"},\"storage\":{\"files\":[{\"path\":\"hunter2\",\"contents\":{\"source\":\"hunter2\"}}]}}",
        ),
    ] {
        let logged = logged(name, text);
        assert!(!logged.is_empty(), "{text}");
        assert!(!logged.concat().contains("hunter2"), "{logged:#?}");
    }
    assert_eq!(
        logged("user-data", "#cloud-config\nruncmd: hunter2\n"),
        ["user-data line 2: runcmd: wanted a list; write a list"]
    );
}
