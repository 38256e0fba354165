//! Profiles: directories of `boot.profiles`, the shipped ones, and what their templates may say.

use bootjack_api::v1::Reservation;

use crate::support::api::{self, Api, Response, node, text};
use crate::support::netns::{Netns, server_and_client};
use crate::support::service::{Home, Service, known_profiles};

struct Server {
    netns: Netns,
    home: Home,
    service: Service,
    api: Api,
    _client: Netns,
}

/// A machine of the file: what is broken about it is told at start, and not refused.
const NODE_12: &str = "[[reservation]]\nmac = \"52:54:00:00:00:0c\"\naddress = \"198.18.0.12\"\nhostname = \"node-12\"\nprofile = \"mine\"\n";

/// A service with these files below `profiles`.
fn serve(files: &[(&str, &str)]) -> Server {
    serve_with("", files)
}

/// The same, with more at the end of its configuration.
fn serve_with(config: &str, files: &[(&str, &str)]) -> Server {
    let (netns, client) = server_and_client("52:54:00:00:00:01");
    let home = Home::new();
    for (path, content) in files {
        home.write(&format!("profiles/{path}"), content);
    }
    let service = Service::start(&netns, &home, &home.config(config));
    let api = Api::unix(&home);
    Server {
        netns,
        home,
        service,
        api,
        _client: client,
    }
}

impl Server {
    /// Makes `node(n)` with this profile and these variables.
    fn reserve(&self, n: u8, profile: &str, vars: &[(&str, &str)]) {
        let vars = vars
            .iter()
            .map(|(name, value)| ((*name).to_owned(), text(value)));
        let reservation = Reservation {
            profile: profile.to_owned(),
            vars: vars.collect(),
            ..node(n)
        };
        self.api.create(reservation).expect("nothing in the way");
    }

    fn get(&self, n: u8, path: &str) -> Response {
        api::get_from(
            &self.netns,
            &format!("198.18.0.{n}"),
            &format!("/machines/52-54-00-00-00-{n:02x}/{path}"),
        )
    }

    /// A document that must be there.
    fn document(&self, n: u8, name: &str) -> String {
        let got = self.get(n, &format!("documents/{name}"));
        assert_eq!(got.status, 200, "{name}: {}", got.text());
        got.text().to_owned()
    }

    fn script(&self, n: u8, arch: &str, firmware: &str) -> String {
        let got = self.get(n, &format!("boot.ipxe?arch={arch}&firmware={firmware}"));
        assert_eq!(got.status, 200, "{}", got.text());
        got.text().to_owned()
    }
}

#[test]
fn a_directory_takes_the_place_of_the_shipped_profile_of_its_name() {
    let server = serve(&[
        (
            "debian-12/profile.toml",
            "[x86_64]\nkernel = \"mine/vmlinuz\"\n",
        ),
        (
            "extra/profile.toml",
            "[x86_64]\nkernel = \"extra/vmlinuz\"\n",
        ),
    ]);
    server.reserve(12, "debian-12", &[]);
    server.reserve(13, "extra", &[]);
    server.reserve(14, "local-disk", &[]);
    let mine = server.script(12, "x86_64", "bios");
    assert!(
        mine.contains("kernel --name kernel http://198.18.0.1/files/mine/vmlinuz || goto"),
        "{mine}"
    );
    assert!(
        !mine.contains("initrd"),
        "nothing of the shipped one is left: {mine}"
    );
    assert!(
        server
            .script(13, "x86_64", "bios")
            .contains("/files/extra/vmlinuz ")
    );
    assert!(server.script(14, "x86_64", "bios").contains("sanboot"));
    let unknown = Reservation {
        profile: "nothing".to_owned(),
        ..node(15)
    };
    let status = server.api.create(unknown).expect_err("there is none");
    assert_eq!(
        status.message(),
        format!(
            "reservation node-15: profile nothing does not exist; {}",
            known_profiles(&["extra"])
        )
    );
}

#[test]
fn a_reservations_variables_win_over_the_profiles() {
    let server = serve(&[
        (
            "mine/profile.toml",
            "[vars]\na = \"default\"\nb = \"default\"\nc = 3\nlist = [1, \"two\"]\n[documents]\nd = \"d.j2\"\n",
        ),
        ("mine/d.j2", "{{ a }} {{ b }} {{ c }} {{ list|json }}\n"),
    ]);
    server.reserve(12, "mine", &[("b", "own"), ("list", "instead")]);
    server.reserve(13, "mine", &[]);
    assert_eq!(server.document(12, "d"), "default own 3 \"instead\"\n");
    assert_eq!(server.document(13, "d"), "default default 3 [1,\"two\"]\n");
}

#[test]
fn templates_include_extend_and_import_each_other() {
    let server = serve_with(
        NODE_12,
        &[
            (
                "mine/profile.toml",
                "[documents]\nincluding = \"including.j2\"\nextending = \"extending.j2\"\nimporting = \"importing.j2\"\nmissing = \"missing.j2\"\n",
            ),
            ("mine/part.j2", "part of {{ machine.hostname }}\n"),
            ("mine/base.j2", "<{% block body %}nothing{% endblock %}>\n"),
            (
                "mine/macros.j2",
                "{% macro twice(x) %}{{ x }}{{ x }}{% endmacro %}",
            ),
            ("mine/including.j2", "a\n{% include \"part.j2\" %}b\n"),
            (
                "mine/extending.j2",
                "{% extends \"base.j2\" %}{% block body %}{{ machine.id }}{% endblock %}",
            ),
            (
                "mine/importing.j2",
                "{% from \"macros.j2\" import twice %}{{ twice(\"x\") }}",
            ),
            ("mine/missing.j2", "{% include \"nothing.j2\" %}"),
        ],
    );
    assert_eq!(server.document(12, "including"), "a\npart of node-12\nb\n");
    assert_eq!(server.document(12, "extending"), "<node-12>\n");
    assert_eq!(server.document(12, "importing"), "xx");
    assert_eq!(server.get(12, "documents/missing").status, 500);
}

#[test]
fn an_error_in_an_included_template_is_told_of_that_template() {
    let server = serve_with(
        NODE_12,
        &[
            ("mine/profile.toml", "[documents]\nd = \"d.j2\"\n"),
            ("mine/d.j2", "\n\n{% include \"part.j2\" %}\n"),
            ("mine/part.j2", "one\n{{ nothing }}\n"),
        ],
    );
    let got = server.get(12, "documents/d");
    assert_eq!(got.status, 500);
    let id = got.header("x-request-id").expect("a request id");
    let line = server
        .service
        .wait_for("not rendered", |line| line["request_id"] == id);
    assert_eq!(
        line["error"],
        "template part.j2 line 2: `nothing` is not defined"
    );
}

#[test]
fn only_the_documents_that_the_profile_names_are_there() {
    let server = serve(&[
        (
            "mine/profile.toml",
            "[documents]\n\"preseed.cfg\" = \"secret-name.j2\"\nvendor-data = \"vendor.j2\"\nmeta-data = \"meta.j2\"\n",
        ),
        (
            "mine/secret-name.j2",
            "d-i passwd/root-login boolean false\n",
        ),
        ("mine/vendor.j2", "#cloud-config\nvendor: true\n"),
        ("mine/meta.j2", "instance-id: fixed\n"),
        ("mine/unused.j2", "unused\n"),
    ]);
    server.reserve(12, "mine", &[]);
    let preseed = server.get(12, "documents/preseed.cfg");
    assert_eq!(preseed.text(), "d-i passwd/root-login boolean false\n");
    assert_eq!(
        preseed.header("content-type"),
        Some("text/plain; charset=utf-8")
    );
    for path in ["nocloud/vendor-data", "documents/vendor-data"] {
        assert_eq!(server.get(12, path).text(), "#cloud-config\nvendor: true\n");
    }
    assert_eq!(
        server.get(12, "nocloud/meta-data").text(),
        "instance-id: fixed\n"
    );
    assert_eq!(
        server.get(12, "nocloud/user-data").text(),
        "#cloud-config\n{}\n",
        "the default"
    );
    for name in [
        "secret-name.j2",
        "unused.j2",
        "profile.toml",
        "preseed",
        "PRESEED.CFG",
        "..%2fprofile.toml",
        "other",
    ] {
        let got = server.get(12, &format!("documents/{name}"));
        assert_eq!((got.status, got.text()), (404, "404 Not Found\n"), "{name}");
    }
    let got = server.get(12, "nocloud/preseed.cfg");
    assert_eq!(got.status, 404, "NoCloud has four documents");
    let line = server
        .service
        .wait_for("refused", |line| line["path"] == "other");
    assert_eq!(line["reason"], "node-12 has no document other");
}

#[test]
fn each_processor_has_its_own_section() {
    let server = serve(&[(
        "mine/profile.toml",
        r#"[vars]
suite = "bookworm"
[aarch64]
kernel = "arm/{{ suite }}/Image"
initrd = ["arm/one.img", "http://elsewhere.example/two.img"]
args = ["arch={{ arch }}", "firmware={{ firmware }}", "seed={{ seed_url }}"]
[riscv64]
kernel = "http://elsewhere.example/{{ machine.mac }}/Image"
"#,
    )]);
    server.reserve(12, "mine", &[]);
    let kernel_lines = |script: &str| {
        let lines = script
            .lines()
            .filter(|l| l.starts_with("kernel ") || l.starts_with("initrd "));
        lines
            .map(|l| l.replace(" || goto failed", ""))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        kernel_lines(&server.script(12, "aarch64", "uefi")),
        [
            "kernel --name kernel http://198.18.0.1/files/arm/bookworm/Image initrd=initrd0 initrd=initrd1 arch=aarch64 firmware=uefi seed=http://198.18.0.1/machines/52-54-00-00-00-0c/nocloud/",
            "initrd --name initrd0 http://198.18.0.1/files/arm/one.img",
            "initrd --name initrd1 http://elsewhere.example/two.img",
        ]
    );
    assert_eq!(
        kernel_lines(&server.script(12, "riscv64", "uefi")),
        ["kernel --name kernel http://elsewhere.example/52:54:00:00:00:0c/Image"]
    );
    for arch in ["x86_64", "i386", "arm", "loongarch64"] {
        assert_eq!(
            server.script(12, arch, "uefi"),
            format!(
                "#!ipxe\n# node-12: profile mine has nothing for this processor\necho bootjack: profile mine has no files for {arch}; add an [{arch}] table to its profile.toml\nsleep 10\nexit 1\n"
            )
        );
    }
}

#[test]
fn a_template_is_given_the_machine_its_subnet_and_the_server() {
    let server = serve(&[
        ("mine/profile.toml", "[documents]\nall = \"all.j2\"\n"),
        (
            "mine/all.j2",
            "{{ machine.id }} {{ machine.mac }} {{ machine.address }} {{ machine.hostname }} {{ machine.profile }}\n\
             {% if subnet %}{{ subnet.cidr }} {{ subnet.prefix }} {{ subnet.netmask }} {{ subnet.router }} {{ subnet.dns|join(\",\") }} {{ subnet.domain }}\n{% endif %}\
             {{ server_url }} {{ seed_url }}\n",
        ),
    ]);
    server.reserve(12, "mine", &[]);
    assert_eq!(
        server.document(12, "all"),
        "node-12 52:54:00:00:00:0c 198.18.0.12 node-12 mine\n\
         198.18.0.0/24 24 255.255.255.0 198.18.0.1 198.18.0.1 lab.internal\n\
         http://198.18.0.1 http://198.18.0.1/machines/52-54-00-00-00-0c/nocloud/\n"
    );
    // A machine without a reserved address has no subnet that could be known before it asks.
    let unplaced = Reservation {
        address: String::new(),
        hostname: String::new(),
        profile: "mine".to_owned(),
        ..node(13)
    };
    server.api.create(unplaced).expect("nothing in the way");
    assert_eq!(
        server.document(13, "all"),
        "52-54-00-00-00-0d 52:54:00:00:00:0d None None mine\n\
         http://198.18.0.1 http://198.18.0.1/machines/52-54-00-00-00-0d/nocloud/\n"
    );
}

#[test]
fn what_bootjack_gives_cannot_be_replaced_by_a_variable() {
    let server = serve(&[
        ("mine/profile.toml", "[documents]\nd = \"d.j2\"\n"),
        ("mine/d.j2", "{{ machine.hostname }} {{ server_url }}\n"),
    ]);
    server.reserve(
        12,
        "mine",
        &[("machine", "other"), ("server_url", "http://evil.example")],
    );
    assert_eq!(server.document(12, "d"), "node-12 http://198.18.0.1\n");
}

#[test]
fn quoting_is_asked_for_by_name_and_nothing_else_is_quoted() {
    let server = serve(&[
        ("mine/profile.toml", "[documents]\nd = \"d.j2\"\n"),
        (
            "mine/d.j2",
            "{{ v }}\n{{ v|yaml }}\n{{ v|json }}\n{{ v|sh }}\n",
        ),
    ]);
    server.reserve(12, "mine", &[("v", "it's <b>\"x\"</b> & $y")]);
    assert_eq!(
        server.document(12, "d"),
        "it's <b>\"x\"</b> & $y\n\
         \"it's <b>\\\"x\\\"</b> & $y\"\n\
         \"it's <b>\\\"x\\\"</b> & $y\"\n\
         'it'\\''s <b>\"x\"</b> & $y'\n"
    );
}

#[test]
fn what_editors_and_version_control_leave_is_no_part_of_a_profile() {
    let broken = "{% if %}";
    let server = serve(&[
        ("mine/profile.toml", "[documents]\nd = \"d.j2\"\n"),
        ("mine/d.j2", "d\n"),
        ("mine/d.j2~", broken),
        ("mine/.d.j2.swp", broken),
        ("mine/sub/e.j2", broken),
        (".git/config", broken),
        ("README", broken),
    ]);
    server.reserve(12, "mine", &[]);
    assert_eq!(server.document(12, "d"), "d\n");
}

#[test]
fn a_reservation_whose_profile_is_gone_is_set_aside_until_it_is_back() {
    let server = serve(&[("mine/profile.toml", "[x86_64]\nkernel = \"vmlinuz\"\n")]);
    server.reserve(12, "mine", &[]);
    let Server {
        netns,
        home,
        service,
        api,
        _client,
    } = server;
    drop(api);
    assert_eq!(service.terminate().0.code(), Some(0));
    let profile = home.path().join("profiles/mine");
    let away = home.path().join("away");
    std::fs::rename(&profile, &away).expect("moved");
    let service = Service::start(&netns, &home, &home.config(""));
    let line = service.wait_for("reservation set aside", |_| true);
    assert_eq!(
        line["reason"],
        format!(
            "reservation node-12: profile mine does not exist; {}",
            known_profiles(&[])
        )
    );
    assert_eq!(Api::unix(&home).names(), [""; 0]);
    assert_eq!(service.terminate().0.code(), Some(0));
    std::fs::rename(&away, &profile).expect("moved");
    let _service = Service::start(&netns, &home, &home.config(""));
    assert_eq!(Api::unix(&home).names(), ["reservations/node-12"]);
}

#[test]
fn a_profile_with_a_file_that_is_no_text_is_refused_by_name() {
    let home = Home::new();
    home.write("profiles/mine/profile.toml", "description = \"x\"\n");
    home.write("profiles/mine/logo.png", [0x89, b'P', 0xff]);
    home.write("profiles/large/profile.toml", "description = \"x\"\n");
    home.write("profiles/large/initrd.img", vec![b' '; (1 << 20) + 1]);
    let file = home.write("bootjackd.toml", home.config(""));
    let output = std::process::Command::new(crate::support::service::program())
        .args(["check", "--config"])
        .arg(file)
        .output()
        .expect("it runs");
    assert_eq!(output.status.code(), Some(64));
    let profiles = home.path().join("profiles").display().to_string();
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        format!(
            "bootjackd: {profiles}/large has 1 problem\n  \
             initrd.img has 1048577 octets; a template has at most 1048576, large files belong under http.files\n\
             {profiles}/mine has 1 problem\n  \
             logo.png: stream did not contain valid UTF-8\n"
        )
    );
}

// Lint.

#[test]
fn a_reservation_that_would_break_a_document_is_refused_with_its_line_and_changes_nothing() {
    let server = serve(&[
        (
            "mine/profile.toml",
            "[vars]\nrun = [\"ls\"]\n[documents]\nuser-data = \"u.j2\"\n",
        ),
        (
            "mine/u.j2",
            "#cloud-config\nruncmd: {{ run|yaml }}\n{% if name is defined %}hostname: {{ name }}{% endif %}\n{% if proxy is defined %}x: {{ gone }}{% endif %}\n",
        ),
    ]);
    let create = |vars: &[(&str, &str)]| {
        let vars = vars
            .iter()
            .map(|(name, value)| ((*name).to_owned(), text(value)));
        server.api.create(Reservation {
            profile: "mine".to_owned(),
            vars: vars.collect(),
            ..node(12)
        })
    };
    for (vars, message, violations) in [
        (
            &[("run", "ls")][..],
            "reservation node-12: user-data line 2: runcmd: wanted a list, got `ls`; write a list",
            &[(
                "profile",
                "user-data line 2: runcmd: wanted a list, got `ls`; write a list",
            )][..],
        ),
        (
            &[("proxy", "x")],
            "reservation node-12: u.j2 line 4: `gone` is not defined; say it in vars of the reservation, a group or the profile, or ask `is defined` first",
            &[(
                "vars.gone",
                "u.j2 line 4: `gone` is not defined; say it in vars of the reservation, a group or the profile, or ask `is defined` first",
            )],
        ),
        (
            &[("name", "a\nusers: x\nruncmd: y")],
            "reservation node-12: user-data line 4: users: wanted a string or a list or a map",
            &[],
        ),
    ] {
        let status = create(vars).expect_err(message);
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        if violations.is_empty() {
            continue;
        }
        assert_eq!(status.message(), message);
        let details = tonic_types::StatusExt::get_error_details(&status);
        let found: Vec<(String, String)> = (details
            .bad_request()
            .expect("details")
            .field_violations
            .iter())
        .map(|v| (v.field.clone(), v.description.clone()))
        .collect();
        let found: Vec<(&str, &str)> = found
            .iter()
            .map(|(f, d)| (f.as_str(), d.as_str()))
            .collect();
        assert_eq!(found, violations);
    }
    assert_eq!(server.api.names(), [""; 0]);
    create(&[("name", "fine")]).expect("nothing wrong");
    let changed = Reservation {
        name: "reservations/node-12".to_owned(),
        vars: [("run".to_owned(), text("ls"))].into(),
        ..Reservation::default()
    };
    let status = server.api.update(&["vars"], changed).expect_err("refused");
    assert!(
        status.message().contains("runcmd: wanted a list"),
        "{status}"
    );
    assert!(server.document(12, "user-data").contains("hostname: fine"));
}

// Groups and layers.

const GROUPS: &str = r#"
[vars]
a = "global"
b = "global"
[[group]]
name = "rack 1"
match = { rack = "r1" }
profile = "mine"
vars = { b = "rack", c = "rack" }
[[group]]
name = "databases"
match = { role = "db", rack = "r1" }
vars = { c = "role", d = "role" }
[[group]]
name = "others"
match = { role = "other" }
profile = "local-disk"
"#;
const LAYERED: [(&str, &str); 2] = [
    (
        "mine/profile.toml",
        "required = [\"d\"]\n[vars]\na = \"default\"\nz = \"default\"\n[documents]\nd = \"d.j2\"\n",
    ),
    (
        "mine/d.j2",
        "{{ a }} {{ b }} {{ c }} {{ d }} {{ z }} {{ machine.labels.rack }}\n",
    ),
];

fn labels(pairs: &[(&str, &str)]) -> std::collections::BTreeMap<String, String> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    pairs.iter().map(owned).collect()
}

#[test]
fn labels_choose_groups_that_give_a_machine_its_profile_and_variables() {
    let server = serve_with(GROUPS, &LAYERED);
    let create = |n: u8, of: &[(&str, &str)], vars: &[(&str, &str)]| {
        let vars = vars
            .iter()
            .map(|(name, value)| ((*name).to_owned(), text(value)));
        let reservation = Reservation {
            labels: labels(of),
            vars: vars.collect(),
            ..node(n)
        };
        server.api.create(reservation)
    };
    let made = create(12, &[("rack", "r1"), ("role", "db")], &[]).expect("nothing in the way");
    assert_eq!(made.labels, labels(&[("rack", "r1"), ("role", "db")]));
    assert_eq!(made.profile, "", "its own is none");
    assert_eq!(
        server.document(12, "d"),
        "global rack role role default r1\n"
    );
    create(13, &[("rack", "r1")], &[("a", "own"), ("d", "own")]).expect("nothing in the way");
    assert_eq!(server.document(13, "d"), "own rack rack own default r1\n");
    // Without a label it boots its own disk.
    create(14, &[], &[]).expect("nothing in the way");
    assert!(server.script(14, "x86_64", "bios").contains("sanboot"));

    for (of, said) in [
        (
            &[("rack", "r1")][..],
            "reservation node-15: vars lack d, which profile mine requires; give it in the reservation's vars, a group's, or [vars] of the configuration",
        ),
        (
            &[("rack", "r1"), ("role", "other")],
            "reservation node-15: labels put it into the groups rack 1 (profile mine) and others (profile local-disk); give the reservation a profile of its own, or change a group",
        ),
        (
            &[("a b", "x")],
            "reservation node-15: labels: `a b` is not a label's name; use 1 to 63 letters, digits and . _ - /",
        ),
    ] {
        let status = create(15, of, &[]).expect_err(said);
        assert_eq!(status.message(), said);
    }
    // Labels are changed like any other field, and what they choose follows.
    let changed = Reservation {
        name: "reservations/node-13".to_owned(),
        labels: labels(&[("rack", "r1"), ("role", "db")]),
        ..Reservation::default()
    };
    server.api.update(&["labels"], changed).expect("changed");
    assert_eq!(server.document(13, "d"), "own rack role own default r1\n");
}

#[test]
fn a_profile_of_groups_that_contradict_each_other_or_do_not_exist_is_found_by_check() {
    let home = Home::new();
    for (path, content) in LAYERED {
        home.write(&format!("profiles/{path}"), content);
    }
    let more = format!(
        "{GROUPS}[[group]]\nname = \"others\"\nprofile = \"gone\"\n\
         [[reservation]]\nmac = \"52:54:00:00:00:0c\"\nlabels = {{ rack = \"r1\", role = \"other\" }}\n\
         [[reservation]]\nmac = \"52:54:00:00:00:0d\"\nlabels = {{ rack = \"r1\" }}\nvars = {{ x = 1 }}\n"
    );
    let config = home.config(&more);
    let line = |what: &str| 1 + config.lines().position(|l| l.contains(what)).expect(what);
    let file = home.write("bootjackd.toml", &config);
    let output = std::process::Command::new(crate::support::service::program())
        .args(["check", "--config"])
        .arg(file)
        .output()
        .expect("it runs");
    assert_eq!(output.status.code(), Some(64));
    let gone = line("\"gone\"");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    for wanted in [
        format!(
            "line {}, group[3].match: has no label, so nobody would be in it",
            gone - 2
        ),
        format!(
            "line {}, group[3].name: others is the name of two groups",
            gone - 2
        ),
        format!("line {gone}, group[3].profile: gone does not exist; known are: "),
        format!(
            "line {}, reservation[0].labels: put it into the groups rack 1 (profile mine) and others (profile local-disk); ",
            line("labels = { rack = \"r1\", role")
        ),
        format!(
            "line {}, reservation[1].vars: lack d, which profile mine requires; ",
            line("x = 1")
        ),
    ] {
        assert!(said.contains(&wanted), "{wanted}\nin\n{said}");
    }
}
