//! `bootjackd check`: every problem at once, each with its line, and nothing else happens.

use std::process::{Command, Output};

use crate::support::profiles;
use crate::support::service::{Home, program};

fn check(home: &Home, config: &str) -> Output {
    let file = home.write("bootjackd.toml", config);
    run_on(&file)
}

fn run_on(file: &std::path::Path) -> Output {
    Command::new(program())
        .arg("check")
        .arg("--config")
        .arg(file)
        .output()
        .expect("it runs")
}

/// What is said of a file that is wrong.
fn said_of(home: &Home, config: &str) -> String {
    let output = check(home, config);
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(64), "{said}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    said
}

/// Compares what is said with these lines under the heading.
#[track_caller]
fn assert_problems(said: &str, problems: &[&str]) {
    let (heading, list) = said.split_once('\n').expect("more than one line");
    let noun = if problems.len() == 1 {
        "problem"
    } else {
        "problems"
    };
    let list: Vec<&str> = list.lines().map(str::trim_start).collect();
    assert_eq!(list, problems);
    let count = problems.len();
    assert_eq!(
        heading,
        format!("bootjackd: bootjackd.toml has {count} {noun}")
    );
}

#[test]
fn a_sound_file_is_said_to_be_sound() {
    let home = Home::new();
    let output = check(&home, &home.config(""));
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("is sound: 1 subnet"));
}

#[test]
fn a_sound_file_is_counted_and_nothing_is_made_on_disk() {
    let home = Home::new();
    let config = home.config("[[reservation]]\nmac = \"52:54:00:00:00:01\"\n");
    let output = check(&home, &config);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        format!(
            "{}/bootjackd.toml is sound: 1 subnet, 1 reservation, {} profiles\n",
            home.path().display(),
            profiles(&[]).len()
        )
    );
    assert!(!home.path().join("data").exists());
    assert!(!home.path().join("api.sock").exists());
}

#[test]
fn every_problem_is_reported_at_once_with_its_line() {
    let home = Home::new();
    let config = home
        .config("")
        .replace("198.18.0.199\"]", "198.18.1.5\"]")
        .replace("router = \"198.18.0.1\"", "router = \"198.18.9.1\"")
        .replace("listen = \"198.18.0.1:80\"", "listne = \"198.18.0.1:80\"");
    let output = check(&home, &config);
    assert_eq!(output.status.code(), Some(64));
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "bootjackd: bootjackd.toml has 3 problems\n  \
         line 8, subnet[0].pools[0]: 198.18.0.100-198.18.1.5 is outside subnet 198.18.0.0/24\n  \
         line 9, subnet[0].router: 198.18.9.1 is outside subnet 198.18.0.0/24\n  \
         line 19, http.listne: unknown key; did you mean http.listen?\n"
    );
}

#[test]
fn an_unknown_key_of_any_section_is_answered_with_the_one_that_was_meant() {
    let config = r#"dat_dir = "/x"
wholly_unknown = 1
[dhcp]
interface = ["lan0"]
[[subnet]]
cidr = "198.18.0.0/24"
ruoter = "198.18.0.1"
[tftp]
lissten = "198.18.0.1:69"
[http]
file = "/x"
[grpc]
listne = "127.0.0.1:50051"
[boot]
program = "/x"
[admin]
port = 1
[[reservation]]
mac = "52:54:00:00:00:01"
[[reservation]]
mac = "52:54:00:00:00:02"
hostnmae = "node-2"
[htpp]
listen = "198.18.0.1:80"
"#;
    assert_problems(
        &said_of(&Home::new(), config),
        &[
            "line 1, dat_dir: unknown key; did you mean data_dir?",
            "line 2, wholly_unknown: unknown key; known here: boot, data_dir, tftp, http, secrets, admin, process, dhcp, grpc, artifacts, artifact, store, options, subnet, class, vars, group, reservation",
            "line 4, dhcp.interface: unknown key; did you mean dhcp.interfaces?",
            "line 7, subnet[0].ruoter: unknown key; did you mean subnet[0].router?",
            "line 9, tftp.lissten: unknown key; did you mean tftp.listen?",
            "line 11, http.file: unknown key; did you mean http.files?",
            "line 13, grpc.listne: unknown key; did you mean grpc.listen?",
            "line 15, boot.program: unknown key; did you mean boot.programs?",
            "line 17, admin.port: unknown key; known here: listen",
            "line 22, reservation[1].hostnmae: unknown key; did you mean reservation[1].hostname?",
            "line 23, htpp: unknown key; did you mean http?",
        ],
    );
}

#[test]
fn a_value_of_the_wrong_type_is_answered_with_the_right_one() {
    let config = r#"data_dir = 1
tftp = true
boot = "x"
[dhcp]
interfaces = ["lan0", 5]
authoritative = "yes"
[[subnet]]
cidr = 24
pools = "198.18.0.100-198.18.0.199"
router = ["198.18.0.1"]
dns = [1.5]
lease_time = 3600
[http]
listen = 80
[grpc]
listen = 2026-01-01
[[reservation]]
mac = "52:54:00:00:00:01"
address = 10
vars = "ssh_key"
[[reservation]]
mac = "52:54:00:00:00:02"
vars = { when = 2026-01-01, list = [1, 2026-01-01], "not-a-name" = 1 }
"#;
    assert_problems(
        &said_of(&Home::new(), config),
        &[
            "line 1, data_dir: wanted a string, got the number 1",
            "line 2, tftp: wanted a table: [tftp], got true",
            "line 3, boot: wanted a table: [boot], got the string \"x\"",
            "line 5, dhcp.interfaces[1]: wanted a string, got the number 5",
            "line 6, dhcp.authoritative: wanted true or false, got the string \"yes\"",
            "line 8, subnet[0].cidr: wanted a string, got the number 24",
            "line 9, subnet[0].pools: wanted a list of strings, got the string \"198.18.0.100-198.18.0.199\"",
            "line 10, subnet[0].router: wanted a string, got a list",
            "line 11, subnet[0].dns[0]: wanted a string, got the number 1.5",
            "line 12, subnet[0].lease_time: wanted a string, got the number 3600",
            "line 14, http.listen: wanted a string, got the number 80",
            "line 16, grpc.listen: wanted a string, got a date",
            "line 19, reservation[0].address: wanted a string, got the number 10",
            "line 20, reservation[0].vars: wanted a table of variables, got the string \"ssh_key\"",
            "line 23, reservation[1].vars.list: wanted a string, number, true, false, list or table, got a list",
            "line 23, reservation[1].vars.not-a-name: wanted a variable name of letters, digits and _",
            "line 23, reservation[1].vars.when: wanted a string, number, true, false, list or table, got a date",
        ],
    );
    assert_problems(
        &said_of(
            &Home::new(),
            "reservation = 1\n[subnet]\ncidr = \"198.18.0.0/24\"\n",
        ),
        &[
            "line 1, reservation: wanted a list of tables: [[reservation]], got the number 1",
            "line 2, subnet: wanted a list of tables: [[subnet]], got a table",
        ],
    );
}

#[test]
fn subnets_and_their_pools_must_make_sense_together() {
    let config = r#"[[subnet]]
cidr = "198.18.0.5/24"
[[subnet]]
cidr = "198.18.0.128/25"
[[subnet]]
cidr = "198.18.2.0/24"
pools = [
  "198.18.2.100-198.18.2.199",
  "198.18.2.150-198.18.2.160",
  "198.18.2.250-198.18.3.5",
  "198.18.2.20-198.18.2.10",
  "198.18.2.x-198.18.2.9",
]
router = "198.18.0.1"
dns = ["198.18.2.1", "localhost"]
domain = "-lab-"
lease_time = "1s"
[[subnet]]
cidr = "198.18.4.0"
lease_time = "soon"
[[subnet]]
router = "198.18.5.1"
[[subnet]]
cidr = "16.0.0.0/4"
"#;
    assert_problems(
        &said_of(&Home::new(), config),
        &[
            "line 2, subnet[0].cidr: 198.18.0.5/24 has host bits set; write 198.18.0.0/24",
            "line 3, subnet[1].cidr: 198.18.0.128/25 overlaps subnet 198.18.0.5/24 of line 1",
            "line 9, subnet[2].pools[1]: 198.18.2.150-198.18.2.160 overlaps pool 198.18.2.100-198.18.2.199",
            "line 10, subnet[2].pools[2]: 198.18.2.250-198.18.3.5 is outside subnet 198.18.2.0/24",
            "line 11, subnet[2].pools[3]: `198.18.2.20-198.18.2.10` does not parse: 198.18.2.10 comes before 198.18.2.20; write it like 198.18.0.100-198.18.0.199",
            "line 12, subnet[2].pools[4]: `198.18.2.x-198.18.2.9` does not parse: `198.18.2.x` is not an IPv4 address; write it like 198.18.0.100-198.18.0.199",
            "line 14, subnet[2].router: 198.18.0.1 is outside subnet 198.18.2.0/24",
            "line 15, subnet[2].dns[1]: `localhost` does not parse: invalid IPv4 address syntax; write it like 198.18.0.1",
            "line 16, subnet[2].domain: `-lab-` is not a host name; use letters, digits and hyphens in labels of at most 63",
            "line 17, subnet[2].lease_time: 1s is not between 1m and 136 years",
            "line 19, subnet[3].cidr: `198.18.4.0` does not parse: invalid IP address syntax; write it like 198.18.0.0/24",
            "line 20, subnet[3].lease_time: `soon` does not parse: expected number at 0; write it like 1h or 90m",
            "line 21, subnet[4].cidr: is missing; write it like cidr = \"198.18.0.0/24\"",
            "line 24, subnet[5].cidr: 16.0.0.0/4 is larger than any real network; use a prefix from /8 to /32",
        ],
    );
}

#[test]
fn a_file_without_a_subnet_serves_nobody_and_is_wrong() {
    for config in ["", "data_dir = \"/x\"\n"] {
        assert_problems(
            &said_of(&Home::new(), config),
            &["subnet: none is given; add [[subnet]] with its cidr"],
        );
    }
}

#[test]
fn reservations_are_held_against_each_other_the_subnets_and_the_profiles() {
    let config = r#"[[subnet]]
cidr = "198.18.0.0/24"
router = "198.18.0.1"
[[reservation]]
mac = "52:54:00:00:00:01"
address = "198.18.0.10"
hostname = "node-1"
[[reservation]]
mac = "52-54-00-00-00-01"
[[reservation]]
mac = "52:54:00:00:00:03"
address = "198.18.0.10"
hostname = "node-3"
[[reservation]]
mac = "52:54:00:00:00:04"
hostname = "NODE-1"
id = "node-4"
[[reservation]]
mac = "52:54:00:00:00:05"
address = "198.19.0.10"
[[reservation]]
mac = "52:54:00:00:00:06"
address = "198.18.0.255"
[[reservation]]
mac = "52:54:00:00:00:07"
address = "198.18.0.1"
[[reservation]]
mac = "52:54:00:00:00:08"
profile = "debain-12"
[[reservation]]
mac = "01:00:5e:00:00:09"
[[reservation]]
mac = "52:54:00:00:00:0a"
address = "198.18.0.256"
[[reservation]]
hostname = "node-b"
"#;
    assert_problems(
        &said_of(&Home::new(), config),
        &[
            "line 9, reservation[1].mac: 52:54:00:00:00:01 already belongs to node-1 (198.18.0.10)",
            "line 12, reservation[2].address: 198.18.0.10 already belongs to node-1 (52:54:00:00:00:01)",
            "line 16, reservation[3].hostname: NODE-1 already belongs to node-1 (198.18.0.10)",
            "line 20, reservation[4].address: 198.19.0.10 is outside every subnet (198.18.0.0/24); pick one inside, or add its subnet to the configuration file",
            "line 23, reservation[5].address: 198.18.0.255 is the network, broadcast or router address of subnet 198.18.0.0/24; pick another address",
            "line 26, reservation[6].address: 198.18.0.1 is the network, broadcast or router address of subnet 198.18.0.0/24; pick another address",
            &format!(
                "line 29, reservation[7].profile: debain-12 does not exist; known are: {}",
                profiles(&[]).join(", ")
            ),
            "line 31, reservation[8].mac: 01:00:5e:00:00:09 is a group address or empty; give the network card's own address",
            "line 34, reservation[9].address: `198.18.0.256` does not parse: invalid IPv4 address syntax; write it like 198.18.0.10",
            "line 35, reservation[10].mac: is missing; write it like mac = \"52:54:00:00:00:01\"",
        ],
    );
}

#[test]
fn a_mac_that_does_not_parse_is_said_once_with_one_example() {
    let config =
        "[[subnet]]\ncidr = \"198.18.0.0/24\"\n[[reservation]]\nmac = \"52:54:00:00:00\"\n";
    assert_problems(
        &said_of(&Home::new(), config),
        &[
            "line 4, reservation[0].mac: `52:54:00:00:00` is not a MAC address; write it like 52:54:00:00:00:01",
        ],
    );
}

#[test]
fn a_hostname_or_an_id_that_is_none_is_said_of_the_key_that_has_it() {
    let config = r#"[[subnet]]
cidr = "198.18.0.0/24"
[[reservation]]
mac = "52:54:00:00:00:01"
hostname = "under_score"
[[reservation]]
mac = "52:54:00:00:00:02"
id = "Bad Id"
[[reservation]]
mac = "52:54:00:00:00:03"
hostname = "node-3"
[[reservation]]
mac = "52:54:00:00:00:04"
id = "node-3"
"#;
    assert_problems(
        &said_of(&Home::new(), config),
        &[
            "line 5, reservation[0].hostname: `under_score` is not a host name; use letters, digits and hyphens in labels of at most 63",
            "line 8, reservation[1].id: `Bad Id` is not a reservation id; use 1 to 253 of a-z 0-9 . -",
            "line 14, reservation[3].id: node-3 already belongs to node-3 (52:54:00:00:00:03)",
        ],
    );
}

#[test]
fn a_pool_keeps_its_number_behind_one_that_does_not_parse() {
    let config =
        "[[subnet]]\ncidr = \"198.18.0.0/24\"\npools = [\"nonsense\", \"198.18.9.1-198.18.9.2\"]\n";
    let said = said_of(&Home::new(), config);
    assert!(
        said.contains(
            "line 3, subnet[0].pools[1]: 198.18.9.1-198.18.9.2 is outside subnet 198.18.0.0/24"
        ),
        "{said}"
    );
}

#[test]
fn listen_addresses_must_be_addresses_and_the_api_must_not_be_open_to_a_network() {
    let long = "x".repeat(120);
    let config = |grpc: &str| {
        format!(
            "[[subnet]]\ncidr = \"198.18.0.0/24\"\n[grpc]\nlisten = \"{grpc}\"\n[tftp]\nlisten = \"198.18.0.1\"\n[http]\nlisten = \"node-1:80\"\n[admin]\nlisten = \"198.18.0.1:99999\"\n"
        )
    };
    let others = [
        "line 6, tftp.listen: `198.18.0.1` does not parse: invalid socket address syntax; write it like 198.18.0.1:69",
        "line 8, http.listen: `node-1:80` does not parse: invalid socket address syntax; write it like 198.18.0.1:80",
        "line 10, admin.listen: `198.18.0.1:99999` does not parse: invalid socket address syntax; write it like 127.0.0.1:9469",
    ];
    for (grpc, why) in [
        (
            "0.0.0.0:50051".to_owned(),
            "0.0.0.0:50051 would open the reservation API to everyone on that network without any authentication; use a loopback address or unix:PATH, or name in grpc.auth what bootjack auth init makes".to_owned(),
        ),
        (
            "198.18.0.1:50051".to_owned(),
            "198.18.0.1:50051 would open the reservation API to everyone on that network without any authentication; use a loopback address or unix:PATH, or name in grpc.auth what bootjack auth init makes".to_owned(),
        ),
        (
            "[::]:50051".to_owned(),
            "[::]:50051 would open the reservation API to everyone on that network without any authentication; use a loopback address or unix:PATH, or name in grpc.auth what bootjack auth init makes".to_owned(),
        ),
        (
            "unix:api.sock".to_owned(),
            "`unix:api.sock` does not parse: the socket's path is not absolute; write it like unix:/run/bootjack/api.sock or 127.0.0.1:50051".to_owned(),
        ),
        (
            "localhost:50051".to_owned(),
            "`localhost:50051` does not parse: neither unix:PATH nor ADDRESS:PORT nor tls:ADDRESS:PORT; write it like unix:/run/bootjack/api.sock or 127.0.0.1:50051".to_owned(),
        ),
        (
            format!("unix:/{long}"),
            format!("`unix:/{long}` does not parse: the socket's path has 121 octets; the kernel takes 107; write it like unix:/run/bootjack/api.sock or 127.0.0.1:50051"),
        ),
    ] {
        let said = said_of(&Home::new(), &config(&grpc));
        let grpc_line = format!("line 4, grpc.listen: {why}");
        assert_problems(&said, &[&[grpc_line.as_str()], &others[..]].concat());
    }
}

#[test]
fn interfaces_must_be_names_and_each_be_named_once() {
    let config = r#"[[subnet]]
cidr = "198.18.0.0/24"
[dhcp]
interfaces = ["lan0", "lan0", "a/b", "", "sixteen-letters-"]
"#;
    assert_problems(
        &said_of(&Home::new(), config),
        &[
            "line 4, dhcp.interfaces[1]: lan0 is named twice",
            "line 4, dhcp.interfaces[2]: `a/b` is not an interface name",
            "line 4, dhcp.interfaces[3]: `` is not an interface name",
            "line 4, dhcp.interfaces[4]: `sixteen-letters-` is not an interface name",
        ],
    );
    assert_problems(
        &said_of(
            &Home::new(),
            "dhcp.interfaces = []\n[[subnet]]\ncidr = \"198.18.0.0/24\"\n",
        ),
        &[
            "line 1, dhcp.interfaces: wanted at least one interface name; leave the key out to serve every interface with an address in a subnet",
        ],
    );
}

/// A configuration that is sound but for directories that are not there.
const WITHOUT_DIRECTORIES: &str = r#"[[subnet]]
cidr = "198.18.0.0/24"
[tftp]
root = "/nonexistent/tftp"
[http]
files = "/nonexistent/http"
[boot]
programs = "/nonexistent/ipxe"
profiles = "/nonexistent/profiles"
"#;

const MISSING_DIRECTORIES: [&str; 4] = [
    "line 4, tftp.root: /nonexistent/tftp is not a directory; make it, or leave the key out",
    "line 6, http.files: /nonexistent/http is not a directory; make it, or leave the key out",
    "line 8, boot.programs: /nonexistent/ipxe is not a directory; install the package ipxe, or name another directory",
    "line 9, boot.profiles: /nonexistent/profiles is not a directory; make it, or leave the key out to use the shipped profiles alone",
];

#[test]
fn directories_that_are_missing_are_all_named() {
    let home = Home::new();
    let mut said: Vec<String> = said_of(&home, WITHOUT_DIRECTORIES)
        .lines()
        .map(|line| line.trim_start().to_owned())
        .collect();
    assert_eq!(said.remove(0), "bootjackd: bootjackd.toml has 4 problems");
    said.sort();
    assert_eq!(said, MISSING_DIRECTORIES);
}

#[test]
fn directories_that_are_missing_are_reported_in_the_order_of_their_lines() {
    assert_problems(
        &said_of(&Home::new(), WITHOUT_DIRECTORIES),
        &MISSING_DIRECTORIES,
    );
}

#[test]
fn directories_that_are_missing_are_reported_together_with_everything_else() {
    let config = format!(
        "{WITHOUT_DIRECTORIES}[[reservation]]\nmac = \"52:54:00:00:00:01\"\nprofile = \"mine\"\n"
    );
    let said = said_of(&Home::new(), &config);
    assert!(
        said.contains("line 12, reservation[0].profile: mine does not exist"),
        "{said}"
    );
    for problem in MISSING_DIRECTORIES {
        assert!(said.contains(problem), "{problem}\nis not in\n{said}");
    }
}

#[test]
fn an_empty_path_is_no_path() {
    let config = "data_dir = \"\"\n[[subnet]]\ncidr = \"198.18.0.0/24\"\n[http]\nfiles = \"\"\n";
    assert_problems(
        &said_of(&Home::new(), config),
        &[
            "line 1, data_dir: wanted a path, got an empty string",
            "line 5, http.files: wanted a path, got an empty string",
        ],
    );
}

#[test]
fn the_profiles_of_the_file_are_read_too_and_their_problems_reported_at_once() {
    let home = Home::new();
    home.write(
        "profiles/broken/profile.toml",
        r#"descripton = "x"
[vars]
"bad-name" = 1
[x86_64]
kernal = "k"
initrd = "i"
args = ["{{ oops"]
[documents]
user-data = "missing.j2"
"a/b" = "user-data.j2"
"#,
    );
    home.write(
        "profiles/broken/user-data.j2",
        "#cloud-config\n{% if x %}\na: 1\n{% endfor %}\n",
    );
    std::fs::create_dir(home.path().join("profiles/empty")).expect("made");
    let said = said_of(&home, &home.config("[[reservation]]\nmak = \"x\"\n"));
    let profiles = home.path().join("profiles");
    let profiles = profiles.display();
    assert_eq!(
        said,
        format!(
            "bootjackd: bootjackd.toml has 2 problems\n  \
             line 28, reservation[0].mac: is missing; write it like mac = \"52:54:00:00:00:01\"\n  \
             line 29, reservation[0].mak: unknown key; did you mean reservation[0].mac?\n\
             {profiles}/broken/profile.toml has 9 problems\n  \
             line 1, descripton: unknown key; did you mean description?\n  \
             line 3, vars.bad-name: wanted a variable name of letters, digits and _\n  \
             line 4, x86_64.kernel: is missing; give a path below http.files, or a URL\n  \
             line 5, x86_64.kernal: unknown key; did you mean x86_64.kernel?\n  \
             line 6, x86_64.initrd: wanted a list of strings, got the string \"i\"\n  \
             line 7, x86_64.args: template args line 1: syntax error: unexpected end of input, expected end of variable block\n  \
             line 9, documents.user-data: no file missing.j2 in the profile's directory\n  \
             line 10, documents.a/b: wanted a document's name of letters, digits and . _ -\n  \
             template user-data.j2 line 4: syntax error: unknown statement endfor\n\
             {profiles}/empty/profile.toml has 1 problem\n  \
             profile.toml is missing\n"
        )
    );
}

#[test]
fn a_variable_that_would_hide_what_bootjack_gives_is_refused_with_its_line() {
    let home = Home::new();
    home.write(
        "profiles/broken/profile.toml",
        "description = \"x\"\n[vars]\nmachine = \"mine\"\n",
    );
    let said = said_of(&home, &home.config(""));
    assert!(
        said.contains(
            "  line 3, vars.machine: is a name that Bootjack gives to templates; choose another\n"
        ),
        "{said}"
    );
}

#[test]
fn a_syntax_error_is_reported_with_its_line_and_what_stands_before_it_is_still_read() {
    let config = "data_dir = \"/x\"\n[[subnet]]\ncidr = \"198.18.0.1/24\"\nrouter = \"198.18.0.1\ndomain = \"lab\"\n";
    assert_problems(
        &said_of(&Home::new(), config),
        &[
            "line 3, subnet[0].cidr: 198.18.0.1/24 has host bits set; write 198.18.0.0/24",
            "line 4: invalid basic string, expected `\"`",
        ],
    );
}

#[test]
fn a_key_that_is_given_twice_is_a_syntax_error() {
    let config = "[[subnet]]\ncidr = \"198.18.0.0/24\"\ncidr = \"198.18.1.0/24\"\n";
    assert_problems(&said_of(&Home::new(), config), &["line 3: duplicate key"]);
}

#[test]
fn a_file_that_cannot_be_read_is_no_wrong_configuration_and_is_said_in_one_sentence() {
    let home = Home::new();
    for (file, why) in [
        (
            home.path().join("nothing.toml"),
            "No such file or directory (os error 2)",
        ),
        (home.path().to_owned(), "Is a directory (os error 21)"),
        (
            home.write("binary.toml", [0xff, 0xfe]),
            "stream did not contain valid UTF-8",
        ),
    ] {
        let output = run_on(&file);
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(
            String::from_utf8_lossy(&output.stderr),
            format!("bootjackd: cannot read {}: {why}\n", file.display())
        );
    }
}

#[test]
fn replicas_without_a_store_that_they_share_and_values_that_are_none_are_refused() {
    let home = Home::new();
    let replicas = r#"
[replicas]
id = "rack/1"
addresses = ["198.18.0.2", "198.18.0.2", "0.0.0.0", "here"]
ttl_secs = 2
weight = 101
weigth = 1
"#;
    let config = home.config(replicas);
    let first = config.lines().count() - 5;
    let said = said_of(&home, &config).replace(&format!("line {first}"), "line 0");
    let said = (1..=6).fold(said, |said, n| {
        said.replace(&format!("line {}", first + n), &format!("line {n}"))
    });
    assert_problems(
        &said,
        &[
            "line 0, replicas: replicas share one store; set store.backend = \"etcd\", or leave [replicas] out",
            "line 1, replicas.id: `rack/1` is no name of a replica; wanted 1 to 63 letters, digits, `-`, `_` and `.`, the first a letter or digit",
            "line 2, replicas.addresses[1]: 198.18.0.2 is named twice",
            "line 2, replicas.addresses[2]: 0.0.0.0 is nobody's address; wanted one that the others reach this replica at",
            "line 2, replicas.addresses[3]: `here` is no IPv4 address, such as 198.18.0.2",
            "line 3, replicas.ttl_secs: wanted a whole number from 3 to 300, got the number 2",
            "line 4, replicas.weight: wanted a whole number from 0 to 100, got the number 101",
            "line 5, replicas.weigth: unknown key; did you mean replicas.weight?",
        ],
    );
}
