//! A machine's life under a profile that installs: the right script to the right machine, once, and its call-backs.

use bootjack_api::v1;
use bootjack_api::v1::machine::{Mode, State};
use serde_json::Value;
use tonic::Code;

use crate::support::api::{self, Api, Http, Response, node};
use crate::support::dhcp::{Packet, Segment};
use crate::support::netns::{Netns, server_and_client};
use crate::support::qemu::{Firmware, Machine};
use crate::support::service::{Home, Service};

/// An installing profile and one that is served on every boot, with a document each.
const INSTALLER: &str = r#"installs = true
deadline = "1h"
[x86_64]
kernel = "installer/vmlinuz"
initrd = ["installer/initrd.img"]
args = ["seed={{ seed_url }}", "events={{ events_url }}"]
[documents]
user-data = "user-data.j2"
"answers.txt" = "user-data.j2"
"#;
const LIVE: &str = "[x86_64]\nkernel = \"live/vmlinuz\"\n";
const USER_DATA: &str = "#cloud-config\nattempt: {{ machine.attempt }}\n";
const MACHINE: &str = "198.18.0.10";
const STRANGER: &str = "198.18.0.66";
const SCRIPT: &str = "/machines/52-54-00-00-00-0a/boot.ipxe?arch=x86_64&firmware=";

struct Lab {
    netns: Netns,
    home: Home,
    service: Service,
    config: String,
    client: Netns,
}

impl Lab {
    /// A service with these lines at the end of its configuration.
    fn new(more: &str) -> Self {
        Self::with(more, |_| ())
    }

    fn with(more: &str, prepare: impl FnOnce(&Home)) -> Self {
        let (netns, client) = server_and_client("52:54:00:00:00:0a");
        let home = Home::new();
        home.write("profiles/installer/profile.toml", INSTALLER);
        home.write("profiles/installer/user-data.j2", USER_DATA);
        home.write("profiles/live/profile.toml", LIVE);
        home.write("http/installer/vmlinuz", b"the installer's kernel");
        home.write("http/installer/initrd.img", b"the installer's initrd");
        home.write("http/live/vmlinuz", b"another kernel");
        home.write("tftp/grub/grub.cfg", b"a file of the root");
        prepare(&home);
        let config = home.config(more);
        let service = Service::start(&netns, &home, &config);
        Self {
            netns,
            home,
            service,
            config,
            client,
        }
    }

    fn reserve(&self, profile: &str) {
        let made = Api::unix(&self.home).create(bootjack_api::v1::Reservation {
            profile: profile.to_owned(),
            ..node(10)
        });
        made.expect("created");
    }

    fn get(&self, target: &str) -> Response {
        api::get_from(&self.netns, MACHINE, target)
    }

    fn post(&self, target: &str, body: &str) -> Response {
        let mut http = Http::connect_from(&self.netns, MACHINE);
        let length = body.len();
        http.send(format!(
            "POST {target} HTTP/1.1\r\nHost: boot\r\nContent-Length: {length}\r\n\r\n{body}"
        ));
        http.answer(true)
    }

    fn script(&self, firmware: &str) -> String {
        let got = self.get(&format!("{SCRIPT}{firmware}"));
        assert_eq!(got.status, 200, "{}", got.text());
        got.text().to_owned()
    }

    /// Fetches the script as a machine that begins to install does; answers where its attempt's things are.
    fn begin(&self) -> String {
        let script = self.script("bios");
        let (_, rest) = script
            .split_once("seed=http://198.18.0.1")
            .unwrap_or_else(|| panic!("it does not install:\n{script}"));
        let (base, _) = rest.split_once("/nocloud/").expect("a seed URL");
        assert!(base.starts_with("/t/") && base.len() == 3 + 32, "{base}");
        base.to_owned()
    }

    /// SIGKILL at whatever it is doing, and a new start.
    fn kill_and_restart(self) -> Self {
        self.service.kill();
        let service = Service::start(&self.netns, &self.home, &self.config);
        Self { service, ..self }
    }

    /// What happened to the machine, as far as it is kept.
    fn events(&self) -> Vec<v1::Event> {
        let request = v1::WatchEventsRequest {
            name: "machines/node-10".to_owned(),
            ..v1::WatchEventsRequest::default()
        };
        let events = Api::unix(&self.home).machines(async |client| {
            let mut stream = client.watch_events(request).await?.into_inner();
            let mut events = Vec::new();
            while let Some(told) = stream.message().await? {
                events.extend(told.event);
            }
            Ok(tonic::Response::new(events))
        });
        events.expect("they are kept")
    }

    /// The same in a word each, with what they are about.
    fn steps(&self) -> Vec<String> {
        let step = |event: &v1::Event| {
            let kind = event.kind().as_str_name().to_ascii_lowercase();
            let what = event.what.rsplit('/').next().unwrap_or_default();
            format!("{kind} {}", what.split('?').next().unwrap_or_default())
        };
        self.events().iter().map(step).collect()
    }

    /// Runs the command line, and answers its exit status and what it said.
    fn bootjack(&self, arguments: &[&str]) -> (i32, String) {
        let output = bootjack(&self.home)
            .args(arguments)
            .output()
            .expect("it runs");
        let said = [output.stdout, output.stderr].concat();
        let code = output.status.code().expect("it ends");
        (code, String::from_utf8(said).expect("UTF-8"))
    }

    /// Waits until this was told of the machine's life.
    fn wait_for_change(&self, change: &str) -> Value {
        self.service
            .wait_for("lifecycle", |line| line["change"] == change)
    }
}

/// Calls that have a name and nothing more.
macro_rules! call {
    ($lab:expr, $method:ident, $request:ident) => {
        Api::unix(&$lab.home).machines(async |client| {
            let name = "machines/node-10".to_owned();
            client.$method(v1::$request { name }).await
        })
    };
}

impl Lab {
    fn machine(&self) -> v1::Machine {
        call!(self, get_machine, GetMachineRequest).expect("it is there")
    }

    fn next_boot(&self, next_boot: v1::NextBoot) -> Result<v1::Machine, tonic::Status> {
        let request = v1::SetNextBootRequest {
            name: "52:54:00:00:00:0a".to_owned(),
            next_boot: next_boot.into(),
        };
        Api::unix(&self.home).machines(async |client| client.set_next_boot(request).await)
    }
}

/// The command line beside the service, told where it listens.
fn bootjack(home: &Home) -> std::process::Command {
    let program = std::path::Path::new(crate::support::service::program());
    let mut command = std::process::Command::new(program.with_file_name("bootjack"));
    command.env("BOOTJACK_SERVER", home.api());
    command
}

fn is_local(script: &str) -> bool {
    script.contains("boots its local disk") && !script.contains("kernel ")
}

#[test]
fn an_installed_machine_boots_its_disk_as_its_firmware_does_it() {
    let lab = Lab::new("");
    lab.reserve("installer");
    let base = lab.begin();
    assert_eq!(
        lab.begin(),
        base,
        "one boot fetches its script more than once"
    );
    assert_eq!(
        lab.get(&format!("{base}/nocloud/user-data")).text(),
        "#cloud-config\nattempt: 1\n"
    );
    let kernel = lab.get(&format!("{base}/files/installer/vmlinuz"));
    assert_eq!(kernel.text(), "the installer's kernel");
    assert_eq!(lab.post(&format!("{base}/events/done"), "").status, 200);
    let bios = lab.script("bios");
    assert!(is_local(&bios) && bios.contains("sanboot --no-describe --drive 0x80 ||\n"));
    let uefi = lab.script("uefi");
    assert!(is_local(&uefi) && !uefi.contains("sanboot") && uefi.ends_with("exit 0\n"));
    assert!(uefi.contains("# node-10: installed\n"), "{uefi}");
}

#[test]
fn a_kill_between_done_and_the_next_boot_keeps_the_machine_installed() {
    let lab = Lab::new("");
    lab.reserve("installer");
    let base = lab.begin();
    assert_eq!(lab.get(&format!("{base}/events/done")).status, 200);
    let lab = lab.kill_and_restart();
    assert!(is_local(&lab.script("bios")));
    let lab = lab.kill_and_restart();
    assert!(is_local(&lab.script("bios")));
    assert_eq!(lab.get(&format!("{base}/nocloud/user-data")).status, 410);
}

#[test]
fn a_kill_in_the_middle_of_an_installation_goes_on_with_the_same_attempt() {
    let lab = Lab::new("");
    lab.reserve("installer");
    let base = lab.begin();
    let lab = lab.kill_and_restart();
    assert_eq!(lab.begin(), base);
    assert_eq!(lab.get(&format!("{base}/nocloud/user-data")).status, 200);
}

#[test]
fn reservations_of_the_file_are_armed_when_they_are_first_seen_and_keep_their_state() {
    let reservation = |profile: &str| {
        format!(
            "[[reservation]]\nmac = \"52:54:00:00:00:0a\"\naddress = \"198.18.0.10\"\nhostname = \"node-10\"\nprofile = \"{profile}\"\n"
        )
    };
    let mut lab = Lab::new(&reservation("installer"));
    let base = lab.begin();
    assert_eq!(lab.get(&format!("{base}/events/done")).status, 200);
    lab = lab.kill_and_restart();
    assert!(is_local(&lab.script("bios")), "a restart arms nothing");
    // Taken out of the file, and in again: that is a new reservation.
    let with = lab.config.clone();
    lab.config = lab.home.config("");
    lab = lab.kill_and_restart();
    lab.config = with;
    lab = lab.kill_and_restart();
    assert_ne!(lab.begin(), base);

    // One that was served on every boot is not installed because its profile now installs.
    let mut lab = Lab::new(&reservation("live"));
    assert!(lab.script("bios").contains("/files/live/vmlinuz"));
    lab.config = lab.home.config(&reservation("installer"));
    lab = lab.kill_and_restart();
    let script = lab.script("bios");
    assert!(
        is_local(&script) && script.contains("not armed"),
        "{script}"
    );
}

#[test]
fn a_reservation_that_is_made_again_is_armed_again() {
    let lab = Lab::new("");
    lab.reserve("installer");
    let first = lab.begin();
    assert_eq!(lab.get(&format!("{first}/events/done")).status, 200);
    let api = Api::unix(&lab.home);
    api.delete("node-10", "").expect("deleted");
    lab.reserve("installer");
    let second = lab.begin();
    assert_ne!(second, first);
    assert_eq!(
        lab.get(&format!("{first}/events/done")).status,
        404,
        "nothing is known of the machine that was"
    );
}

#[test]
fn call_backs_are_heard_by_post_and_by_get_and_told() {
    let lab = Lab::new("");
    lab.reserve("installer");
    let base = lab.begin();
    for (event, body, detail) in [
        ("started", "", ""),
        ("progress", "percent=42&text=unpacking", "unpacking"),
        ("progress?percent=50&text=half+way", "", "half way"),
        (
            "webhook",
            r#"{"name":"subiquity/Network/apply","event_type":"start","description":"applying"}"#,
            "start subiquity/Network/apply: applying",
        ),
    ] {
        let got = lab.post(&format!("{base}/events/{event}"), body);
        assert_eq!((got.status, got.text()), (200, "ok\n"), "{event}");
        let line = lab
            .service
            .wait_for("called back", |line| line["detail"] == detail);
        assert_eq!(line["attempt"], 1);
    }
    assert_eq!(
        lab.get(&format!("{base}/events/started")).status,
        200,
        "iPXE and wget can only GET"
    );
    for (event, code) in [("webhook", 405), ("phone-home", 405), ("anything", 404)] {
        assert_eq!(lab.get(&format!("{base}/events/{event}")).status, code);
    }
    let bad = lab.post(&format!("{base}/events/progress"), "percent=1000");
    assert_eq!((bad.status, bad.text()), (400, "400 Bad Request\n"));
    let large = lab.post(&format!("{base}/events/failed"), &"x".repeat(70_000));
    assert_eq!(large.status, 413);
    let failed = lab.post(
        &format!("{base}/events/failed?reason=no+disk"),
        "line one\nline two\n",
    );
    assert_eq!(failed.status, 200);
    assert_eq!(lab.wait_for_change("failed")["reason"], "no disk");
    assert!(is_local(&lab.script("uefi")));
}

#[test]
fn the_installed_system_phones_home_with_a_form() {
    let lab = Lab::new("");
    lab.reserve("installer");
    let base = lab.begin();
    assert_eq!(lab.post(&format!("{base}/events/done"), "").status, 200);
    let form = "pub_key_rsa=ssh-rsa+AAAA&instance_id=i-1&hostname=node-10";
    let home = format!("{base}/events/phone-home");
    assert_eq!(lab.post(&home, form).status, 200);
    lab.wait_for_change("ready");
}

#[test]
fn call_backs_of_an_older_attempt_are_refused_and_change_nothing() {
    let lab = Lab::with("", |home| {
        let hasty = INSTALLER.replace("deadline = \"1h\"", "deadline = \"5s\"\nretries = 1");
        home.write("profiles/installer/profile.toml", hasty);
    });
    lab.reserve("installer");
    let first = lab.begin();
    lab.service.wait_for("lifecycle", |line| {
        line["change"] == "armed" && line["attempt"] == 2
    });
    for event in ["done", "failed?reason=late", "started"] {
        let got = lab.get(&format!("{first}/events/{event}"));
        assert_eq!((got.status, got.text()), (410, "410 Gone\n"), "{event}");
    }
    let line = lab
        .service
        .wait_for("refused", |line| line["path"] == "events/done");
    assert_eq!(
        (&line["reason"], &line["machine"]),
        (
            &"the attempt it was made for is over".into(),
            &"node-10".into()
        )
    );
    let second = lab.begin();
    assert_ne!(second, first);
    lab.service.wait_for("lifecycle", |line| {
        line["change"] == "failed" && line["reason"] == "deadline"
    });
    assert!(is_local(&lab.script("bios")));
}

#[test]
fn tftp_and_files_keep_what_is_installed_from_a_machine_that_is_installed() {
    let lab = Lab::new("");
    lab.reserve("installer");
    let base = lab.begin();
    assert_eq!(lab.get("/files/installer/vmlinuz").status, 200);
    assert_eq!(lab.get(&format!("{base}/events/done")).status, 200);
    for path in ["installer/vmlinuz", "/installer//initrd.img"] {
        assert_eq!(lab.get(&format!("/files/{path}")).status, 403, "{path}");
    }
    assert_eq!(lab.get("/files/live/vmlinuz").status, 200, "not its own");
    assert_eq!(
        lab.get(&format!("{base}/files/installer/vmlinuz")).status,
        410
    );
    assert_eq!(tftp(&lab, MACHINE, "grub/grub.cfg"), 5);
    assert_eq!(
        tftp(&lab, MACHINE, "undionly.kpxe"),
        3,
        "to be told the rest"
    );
    assert_eq!(tftp(&lab, STRANGER, "grub/grub.cfg"), 3);
}

/// The operation code of the first packet that answers a read request from this address.
fn tftp(lab: &Lab, from: &str, name: &str) -> u8 {
    lab.netns
        .ip(&["address", "replace", &format!("{from}/32"), "dev", "lo"]);
    lab.netns.inside(|| {
        let socket = std::net::UdpSocket::bind((from, 0)).expect("the address is there");
        let hang = std::time::Duration::from_secs(60);
        socket.set_read_timeout(Some(hang)).expect("it can be set");
        let request = [&[0, 1][..], name.as_bytes(), b"\0octet\0"].concat();
        socket.send_to(&request, "198.18.0.1:69").expect("sent");
        let mut answer = [0; 600];
        let (_, server) = socket.recv_from(&mut answer).expect("an answer");
        let _ = socket.send_to(&[0, 5, 0, 0, 0], server);
        answer[1]
    })
}

#[test]
fn reinstalling_and_holding_a_machine_are_one_call_each() {
    let lab = Lab::new("");
    lab.reserve("installer");
    assert_eq!(lab.machine().state(), State::Armed);
    let first = lab.begin();
    assert_eq!(lab.machine().answer, "installs, attempt 1");
    let refused = call!(lab, arm_machine, ArmMachineRequest).expect_err("it installs");
    assert_eq!(
        (refused.code(), refused.message()),
        (
            Code::FailedPrecondition,
            "machine node-10: it is installing; use reinstall to install it again"
        )
    );
    assert_eq!(lab.get(&format!("{first}/events/done")).status, 200);
    let done = lab.machine();
    assert_eq!((done.state(), done.attempt), (State::Installed, 1));
    assert_eq!(done.answer, "boots its local disk: installed");

    let armed = call!(lab, reinstall_machine, ReinstallMachineRequest).expect("it may");
    assert_eq!((armed.state(), armed.attempt), (State::Armed, 2));
    let second = lab.begin();
    assert_ne!(second, first);
    assert_eq!(lab.get(&format!("{first}/nocloud/user-data")).status, 410);
    assert_eq!(
        lab.get(&format!("{second}/nocloud/user-data")).text(),
        "#cloud-config\nattempt: 2\n"
    );

    let held = call!(lab, hold_machine, HoldMachineRequest).expect("it may");
    assert_eq!(held.mode(), Mode::Held);
    for target in [
        format!("{SCRIPT}bios"),
        format!("{second}/nocloud/user-data"),
    ] {
        let got = lab.get(&target);
        assert_eq!(
            (got.status, got.header("retry-after")),
            (503, Some("30")),
            "{target}"
        );
    }
    let lab = lab.kill_and_restart();
    assert_eq!(lab.machine().mode(), Mode::Held);
    call!(lab, release_machine, ReleaseMachineRequest).expect("it may");
    assert_eq!(lab.begin(), second, "it goes on where it was");
}

#[test]
fn a_machine_is_rescued_or_sent_elsewhere_for_one_boot() {
    // What installs rescues nobody, whatever it is called.
    let lab = Lab::with("", |home| {
        home.write("profiles/rescue/profile.toml", INSTALLER);
        home.write("profiles/rescue/user-data.j2", USER_DATA);
    });
    lab.reserve("installer");
    let none = call!(lab, rescue_machine, RescueMachineRequest).expect_err("there is none");
    assert_eq!(none.code(), Code::FailedPrecondition, "{none:?}");

    let lab = Lab::with("rescue = \"live\"\n", |_| ());
    lab.reserve("installer");
    lab.next_boot(v1::NextBoot::Disk).expect("it may");
    assert!(is_local(&lab.script("bios")));
    // Once: it is used up, but for a client that asks again at once.
    lab.service
        .wait_for("lifecycle", |line| line["change"] == "next_boot");
    call!(lab, rescue_machine, RescueMachineRequest).expect("it may");
    lab.next_boot(v1::NextBoot::Unspecified).expect("it may");
    let rescue = lab.script("bios");
    assert!(rescue.contains("/files/live/vmlinuz"), "{rescue}");
    assert_eq!(lab.machine().state(), State::Armed, "nothing was installed");
    lab.next_boot(v1::NextBoot::Network).expect("it is armed");
    let base = lab.begin();
    assert_eq!(lab.get(&format!("{base}/events/done")).status, 200);
    let refused = lab
        .next_boot(v1::NextBoot::Network)
        .expect_err("it is installed");
    assert_eq!(
        refused.message(),
        "machine node-10: it is installed; use reinstall to install it again"
    );
}

#[test]
fn a_machine_is_sent_to_its_disk_as_its_profile_or_its_reservation_says() {
    let lab = Lab::with("", |home| {
        let toml = format!("local_boot = \"reboot\"\n{INSTALLER}");
        home.write("profiles/installer/profile.toml", toml);
    });
    lab.reserve("installer");
    let base = lab.begin();
    assert_eq!(lab.get(&format!("{base}/events/done")).status, 200);
    assert!(lab.script("uefi").contains("\nreboot ||\n"));
    let api = Api::unix(&lab.home);
    let mut changed = node(10);
    changed.name = "reservations/node-10".to_owned();
    changed.local_boot = "exit".to_owned();
    api.update(&["local_boot"], changed.clone())
        .expect("it may");
    let bios = lab.script("bios");
    assert!(
        !bios.contains("sanboot") && !bios.contains("reboot"),
        "{bios}"
    );
    changed.local_boot = "sanboot".to_owned();
    api.update(&["local_boot"], changed.clone())
        .expect("it may");
    assert!(lab.script("uefi").contains("sanboot"));
    changed.local_boot = "fly".to_owned();
    let refused = api
        .update(&["local_boot"], changed)
        .expect_err("no such way");
    assert_eq!(
        refused.message(),
        "local_boot: `fly` is none of: exit, sanboot, reboot"
    );
}

#[test]
fn what_is_made_for_a_machine_goes_to_its_own_address_alone() {
    let lab = Lab::new("");
    lab.reserve("installer");
    let ask = |from: &str, target: &str| api::get_from(&lab.netns, from, target);
    for from in [STRANGER, "198.18.0.1", "127.0.0.1"] {
        let got = ask(from, &format!("{SCRIPT}bios"));
        assert_eq!((got.status, got.text()), (403, "403 Forbidden\n"), "{from}");
    }
    assert_eq!(
        lab.machine().state(),
        State::Armed,
        "strangers begin nothing"
    );
    let line = (lab.service).wait_for("refused", |line| line["client"] == STRANGER);
    assert_eq!(
        (&line["machine"], &line["path"], &line["reason"]),
        (
            &"node-10".into(),
            &"boot.ipxe".into(),
            &"it was asked for from an address that is not the machine's".into()
        )
    );
    let base = lab.begin();
    for path in [
        "nocloud/user-data",
        "documents/answers.txt",
        "files/installer/vmlinuz",
    ] {
        assert_eq!(
            ask(STRANGER, &format!("{base}/{path}")).status,
            403,
            "{path}"
        );
        assert_eq!(lab.get(&format!("{base}/{path}")).status, 200, "{path}");
    }
    assert_eq!(ask(STRANGER, &format!("{base}/events/done")).status, 403);
    assert_eq!(lab.machine().state(), State::Installing);
    for path in ["nocloud/user-data", "documents/answers.txt"] {
        let by_name = format!("/machines/52-54-00-00-00-0a/{path}");
        assert_eq!(lab.get(&by_name).status, 403, "by its token alone");
    }
    // One that is served on every boot is bound to its address too.
    let live = v1::Reservation {
        profile: "live".to_owned(),
        ..node(11)
    };
    Api::unix(&lab.home).create(live).expect("created");
    let target = "/machines/52-54-00-00-00-0b/nocloud/user-data";
    assert_eq!(ask("198.18.0.11", target).status, 200);
    assert_eq!(ask(STRANGER, target).status, 403);
}

#[test]
fn where_no_lease_says_who_a_machine_is_it_is_who_fetched_its_script_first() {
    let lab = Lab::new("");
    let unplaced = v1::Reservation {
        profile: "installer".to_owned(),
        address: String::new(),
        ..node(10)
    };
    Api::unix(&lab.home).create(unplaced).expect("created");
    let base = lab.begin();
    let lab = lab.kill_and_restart();
    let ask = |from: &str, target: &str| api::get_from(&lab.netns, from, target).status;
    assert_eq!(ask(STRANGER, &format!("{SCRIPT}bios")), 403);
    assert_eq!(ask(STRANGER, &format!("{base}/nocloud/user-data")), 403);
    assert_eq!(ask(MACHINE, &format!("{base}/nocloud/user-data")), 200);
}

#[test]
fn behind_a_translator_of_addresses_the_token_opens_alone() {
    let (netns, client) = server_and_client("52:54:00:00:00:0a");
    let home = Home::new();
    home.write("profiles/installer/profile.toml", INSTALLER);
    home.write("profiles/installer/user-data.j2", USER_DATA);
    let listen = "listen = \"198.18.0.1:80\"";
    let config = home
        .config("")
        .replace(listen, &format!("{listen}\nbind_documents = \"token\""));
    let service = Service::start(&netns, &home, &config);
    let lab = Lab {
        netns,
        home,
        service,
        config,
        client,
    };
    lab.reserve("installer");
    let base = lab.begin();
    let got = api::get_from(&lab.netns, STRANGER, &format!("{base}/nocloud/user-data"));
    assert_eq!(got.status, 200);
}

#[test]
fn a_token_is_never_told_and_opens_nothing_once_its_attempt_is_over() {
    let lab = Lab::new("");
    lab.reserve("installer");
    let base = lab.begin();
    for unknown in [
        "0".repeat(32),
        "x".to_owned(),
        "%00".to_owned(),
        "..".to_owned(),
    ] {
        let got = lab.get(&format!("/t/{unknown}/nocloud/user-data"));
        assert_eq!(
            (got.status, got.text()),
            (404, "404 Not Found\n"),
            "{unknown}"
        );
    }
    for path in [
        "",
        "/",
        "/nocloud",
        "/nocloud/other",
        "/%ff",
        "/files/none",
        "/events/x",
    ] {
        assert_eq!(lab.get(&format!("{base}{path}")).status, 404, "{path}");
    }
    assert_eq!(
        lab.post(&format!("{base}/nocloud/user-data"), "").status,
        405
    );
    assert_eq!(lab.post(&format!("{base}/events/done"), "").status, 200);
    assert_eq!(
        lab.get(&format!("{base}/events/done")).status,
        200,
        "whoever lost the answer asks again"
    );
    for path in [
        "nocloud/user-data",
        "documents/answers.txt",
        "files/installer/vmlinuz",
        "events/failed",
        "events/started",
    ] {
        let got = lab.get(&format!("{base}/{path}"));
        assert_eq!((got.status, got.text()), (410, "410 Gone\n"), "{path}");
    }
    let line = (lab.service).wait_for("refused", |line| line["path"] == "answers.txt");
    assert_eq!(line["reason"], "the attempt it was made for is over");
    let token = &base[3..];
    let (_, log) = lab.service.terminate();
    let told: Vec<&Value> = log
        .iter()
        .filter(|l| l.to_string().contains(token))
        .collect();
    assert!(told.is_empty(), "{told:#?}");
    // What is written down of it is for the service's user alone.
    let file = lab.home.path().join("data/db/db");
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(file).expect("it is there").permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
}

const SECRET: &str = "s3cret: \"&<";

/// A service whose secrets lie in `secrets` of its home, and in its environment.
fn with_secrets(more: &str) -> Lab {
    let (netns, client) = server_and_client("52:54:00:00:00:0a");
    let home = Home::new();
    home.write("secrets/root.password", format!("{SECRET}\n"));
    home.write("other/file", "of somebody else");
    std::os::unix::fs::symlink("../other/file", home.path().join("secrets/link")).expect("made");
    let place = home.path().display().to_string();
    let profile = format!(
        "{LIVE}[vars]\nown = {{ secret_file = \"{place}/other/file\" }}\n[documents]\nd = \"d.j2\"\nbroken = \"broken.j2\"\n"
    );
    home.write("profiles/live/profile.toml", profile);
    home.write("profiles/live/d.j2", "{{ own }}|{{ password|json }}\n");
    home.write(
        "profiles/live/broken.j2",
        // What is looked at before it is served has no secrets, and would be refused when it is reserved.
        "{% if password != '(secret)' %}{{ password|karg }}{{ password|int }}{% endif %}\n",
    );
    let config = home.config(&format!("{more}\n[secrets]\ndir = \"{place}/secrets\"\n"));
    let file = home.write("bootjackd.toml", &config);
    let mut command = netns.command("env");
    command.arg(format!("ROOT_PASSWORD={SECRET}"));
    command.arg(crate::support::service::program());
    command.args([
        "serve",
        "--log-format",
        "json",
        "--log",
        "debug",
        "--config",
    ]);
    command.arg(file);
    let service = Service::run(command);
    service.wait_for("ready", |_| true);
    Lab {
        netns,
        home,
        service,
        config,
        client,
    }
}

fn secret_file(path: &str) -> prost_types::Value {
    use prost_types::value::Kind;
    let fields = [("secret_file".to_owned(), api::text(path))].into();
    prost_types::Value {
        kind: Some(Kind::StructValue(prost_types::Struct { fields })),
    }
}

#[test]
fn a_secret_is_read_when_it_is_needed_and_shown_to_its_machine_alone() {
    let lab = with_secrets("");
    let api = Api::unix(&lab.home);
    let mut wanted = node(10);
    wanted.profile = "live".to_owned();
    wanted.vars = [("password".to_owned(), secret_file("root.password"))].into();
    let made = api.create(wanted.clone()).expect("created");
    assert_eq!(made.vars["password"], api::text("(secret)"));
    let document = || lab.get("/machines/52-54-00-00-00-0a/documents/d");
    assert_eq!(document().text(), "of somebody else|\"s3cret: \\\"&<\"\n");
    // What was shown may be sent back with what is changed.
    let mut changed = made.clone();
    changed.vars.insert("x".to_owned(), api::text("y"));
    let changed = api.update(&["vars"], changed).expect("it may");
    assert_eq!(changed.vars["password"], api::text("(secret)"));
    lab.home.write("secrets/root.password", "another");
    assert_eq!(document().text(), "of somebody else|\"another\"\n");
    lab.home.write("secrets/root.password", SECRET);
    assert_eq!(
        lab.get("/machines/52-54-00-00-00-0a/documents/broken")
            .status,
        500
    );
    std::fs::remove_file(lab.home.path().join("secrets/root.password")).expect("removed");
    assert_eq!(document().status, 500);
    let (_, log) = lab.service.terminate();
    for line in &log {
        let text = line.to_string();
        assert!(
            !text.contains("s3cret") && !text.contains("of somebody else"),
            "{text}"
        );
    }
    let why = log.iter().rfind(|line| line["message"] == "not rendered");
    let why = why.expect("it is told")["error"].clone();
    assert_eq!(
        why,
        "secret_file root.password: No such file or directory (os error 2)"
    );
}

#[test]
fn the_api_has_nothing_read_but_what_lies_in_secrets_dir() {
    let lab = with_secrets("");
    let api = Api::unix(&lab.home);
    let create = |value: prost_types::Value| {
        let mut wanted = node(10);
        wanted.profile = "live".to_owned();
        wanted.vars = [("password".to_owned(), value)].into();
        api.create(wanted)
    };
    for path in ["/etc/shadow", "../other/file", "a/../../other/file"] {
        let refused = create(secret_file(path)).expect_err(path);
        assert_eq!(refused.code(), Code::InvalidArgument, "{path}");
        assert!(
            refused.message().contains("outside secrets.dir"),
            "{refused:?}"
        );
    }
    use prost_types::value::Kind;
    let of_environment = prost_types::Value {
        kind: Some(Kind::StructValue(prost_types::Struct {
            fields: [("secret_env".to_owned(), api::text("ROOT_PASSWORD"))].into(),
        })),
    };
    let refused = create(of_environment).expect_err("not over the API");
    assert!(
        refused.message().contains("secret_env ROOT_PASSWORD"),
        "{refused:?}"
    );
    create(secret_file("link")).expect("a link looks like a file from here");
    let got = lab.get("/machines/52-54-00-00-00-0a/documents/d");
    assert_eq!(got.status, 500, "and is followed nowhere");
}

#[test]
fn a_reservation_of_the_file_may_name_a_secret_of_the_environment() {
    let lab = with_secrets(
        "[[reservation]]\nmac = \"52:54:00:00:00:0a\"\naddress = \"198.18.0.10\"\nprofile = \"live\"\nvars = { password = { secret_env = \"ROOT_PASSWORD\" } }\n",
    );
    let got = lab.get("/machines/52-54-00-00-00-0a/documents/d");
    assert_eq!(got.text(), "of somebody else|\"s3cret: \\\"&<\"\n");
}

#[test]
fn a_real_machine_installs_once_and_boots_its_disk_the_next_time() {
    let lab = Lab::with("", |home| {
        let guest = crate::firmware::guest();
        for file in ["vmlinuz", "initrd.img"] {
            let content = std::fs::read(guest.join(file)).expect("tiny.sh made it");
            home.write(&format!("http/tiny/{file}"), content);
        }
        let profile = r#"installs = true
[x86_64]
kernel = "tiny/vmlinuz"
initrd = ["tiny/initrd.img"]
args = ["console=ttyS0,115200n8", "ds=nocloud;s={{ seed_url }}", "bootjack.events={{ events_url }}"]
"#;
        home.write("profiles/installer/profile.toml", profile);
    });
    lab.netns.without_offloads("lan0");
    lab.reserve("installer");
    let boot = || {
        Machine::boot(
            Firmware::BiosIpxeRom,
            &lab.client,
            "52:54:00:00:00:0a",
            &lab.home,
        )
    };
    let mut waiting = bootjack(&lab.home)
        .args(["wait", "node-10", "--for", "installed", "--timeout", "10m"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("it runs");
    let console = boot().wait_until_off();
    for said in [
        "reported started",
        "user-data: #cloud-config",
        "reported done",
    ] {
        assert!(console.contains(said), "no `{said}`:\n{console}");
    }
    // Its address is its own for minutes, not for the subnet's hour.
    assert!(console.contains(" lease=300 "), "{console}");
    assert!(waiting.wait().expect("it ends").success());
    let machine = lab.machine();
    assert_eq!((machine.state(), machine.attempt), (State::Installed, 1));
    let steps = lab.steps();
    let mut rest = steps.iter();
    for step in [
        "reserved created",
        "offer boot.ipxe",
        "ack boot.ipxe",
        "lifecycle installing",
        "script boot.ipxe",
        "kernel vmlinuz",
        "initrd initrd.img",
        "offer ",
        "ack ",
        "call_back started",
        "document meta-data",
        "document user-data",
        "call_back done",
        "lifecycle installed",
    ] {
        assert!(rest.any(|other| other == step), "no `{step}`: {steps:#?}");
    }

    let lab = lab.kill_and_restart();
    let kept = lab.steps();
    assert_eq!(kept, steps, "the timeline is kept over a kill");
    Machine::boot(
        Firmware::BiosIpxeRom,
        &lab.client,
        "52:54:00:00:00:0a",
        &lab.home,
    )
    .wait_for("bootjack: node-10 boots its local disk");
    let (code, shown) = lab.bootjack(&["machine", "show", "node-10"]);
    assert_eq!(code, 0, "{shown}");
    for line in [
        "state     installed\n",
        "next boot boots its local disk: installed\n",
        " script           installs, attempt 1\n",
        " kernel           tiny/vmlinuz, ",
        " call-back        done\n",
        " script           boots its local disk: installed\n",
    ] {
        assert!(shown.contains(line), "no `{line}`:\n{shown}");
    }
}

#[test]
fn the_timeline_is_a_stream_that_goes_on_where_it_broke() {
    let lab = Lab::new("");
    lab.reserve("installer");
    let base = lab.begin();
    let follow = |resume_token: &str| v1::WatchEventsRequest {
        name: "node-10".to_owned(),
        resume_token: resume_token.to_owned(),
        follow: true,
    };
    let api = Api::unix(&lab.home);
    // Follows until this step has come.
    let until = |token: &str, kind: v1::event::Kind, what: &str| {
        let request = follow(token);
        let told = api.machines(async |client| {
            let mut stream = client.watch_events(request).await?.into_inner();
            let mut told: Vec<v1::WatchEventsResponse> = Vec::new();
            loop {
                let next = stream.message().await?.expect("it goes on");
                let event = next.event.clone().expect("an event");
                told.push(next);
                if event.kind() == kind && event.what == what {
                    return Ok(tonic::Response::new(told));
                }
            }
        });
        told.expect("it came")
    };
    let first = until("", v1::event::Kind::Script, "boot.ipxe");
    let token = first.last().expect("some").resume_token.clone();
    assert_eq!(
        lab.get(&format!("{base}/events/progress?percent=7")).status,
        200
    );
    assert_eq!(lab.get(&format!("{base}/events/done")).status, 200);
    let second = until(&token, v1::event::Kind::Lifecycle, "installed");
    let whats: Vec<String> = (second.iter())
        .filter_map(|told| Some(told.event.as_ref()?.what.clone()))
        .collect();
    assert_eq!(whats, ["progress", "done", "installed"]);
    drop(api);
    let lab = lab.kill_and_restart();
    let request = follow("no number");
    let refused = Api::unix(&lab.home)
        .machines(async |client| {
            client
                .watch_events(request)
                .await
                .map(|_| tonic::Response::new(()))
        })
        .expect_err("not ours");
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[test]
fn every_refusal_and_silent_drop_is_on_the_timeline_with_its_reason() {
    let lab = Lab::new("");
    lab.reserve("installer");
    assert_eq!(
        api::get_from(&lab.netns, STRANGER, &format!("{SCRIPT}bios")).status,
        403
    );
    let base = lab.begin();
    assert_eq!(lab.get(&format!("{base}/documents/nothing")).status, 404);
    let wait = lab.bootjack(&["wait", "node-10", "--timeout", "1s"]);
    assert_eq!(wait.0, 7, "{}", wait.1);
    assert_eq!(
        lab.get(&format!("{base}/events/failed?reason=no+disk"))
            .status,
        200
    );
    let (code, said) = lab.bootjack(&["wait", "node-10", "--for", "installed"]);
    assert_eq!(
        (code, said.as_str()),
        (
            5,
            "bootjack: machine node-10 failed: no disk; see: bootjack machine show node-10\n"
        )
    );
    assert_eq!(lab.bootjack(&["wait", "node-10", "--for", "failed"]).0, 0);
    let details: Vec<String> = (lab.events().into_iter())
        .filter(|event| event.kind() == v1::event::Kind::Refused)
        .map(|event| event.detail)
        .collect();
    assert_eq!(
        details,
        [
            "it was asked for from an address that is not the machine's (198.18.0.66)",
            "node-10 has no document nothing",
        ]
    );
    let token = &base[3..];
    let journal = std::fs::read_to_string(lab.home.path().join("data/timeline.jsonl"));
    assert!(!journal.expect("it is there").contains(token));
    let (code, json) = lab.bootjack(&["machine", "show", "node-10", "--output", "json"]);
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((code, &json["state"]), (0, &"failed".into()));
    assert_eq!(json["failure_reason"], "no disk");
    assert!(
        json["events"]
            .as_array()
            .is_some_and(|events| events.len() > 4)
    );
}

#[test]
fn a_boot_that_stands_still_is_named_with_a_hint() {
    let (netns, segment) = Segment::new();
    let home = Home::new();
    home.write("profiles/installer/profile.toml", INSTALLER);
    home.write("profiles/installer/user-data.j2", USER_DATA);
    let service = Service::start(&netns, &home, &home.config(""));
    let made = Api::unix(&home).create(v1::Reservation {
        profile: "installer".to_owned(),
        ..node(10)
    });
    made.expect("created");
    let pxe = Packet::discover([0x52, 0x54, 0, 0, 0, 10])
        .with(60, b"PXEClient:Arch:00000")
        .with(93, &[0, 0]);
    segment.ask(&pxe);
    let line = service.wait_for("stalled", |_| true);
    assert_eq!(
        (&line["subject"], &line["what"]),
        (&"machines/node-10".into(), &"offer sent, no request".into())
    );
    let request = v1::GetMachineRequest {
        name: "node-10".to_owned(),
    };
    let machine = Api::unix(&home).machines(async |client| client.get_machine(request).await);
    let machine = machine.expect("it is there");
    assert_eq!(machine.stall, "offer sent, no request");
    assert!(machine.stall_hint.contains("DHCP"), "{machine:?}");
    let shown = bootjack(&home)
        .args(["machine", "show", "node-10"])
        .output();
    let shown = String::from_utf8(shown.expect("it runs").stdout).expect("UTF-8");
    assert!(
        shown.contains("stalled   offer sent, no request"),
        "{shown}"
    );
    // Whom nobody has reserved goes by its MAC.
    segment.ask(&Packet::discover([2, 0, 0, 0, 0, 0x77]));
    service.wait_for("offered", |line| line["mac"] == "02:00:00:00:00:77");
    let shown = bootjack(&home)
        .args(["machine", "show", "02-00-00-00-00-77"])
        .output();
    let shown = String::from_utf8(shown.expect("it runs").stdout).expect("UTF-8");
    assert!(shown.contains("discover → offer 198.18.0.1"), "{shown}");
}

#[test]
fn a_machine_that_is_held_waits_in_ipxe_and_goes_on_when_it_is_released() {
    let lab = Lab::new("");
    lab.reserve("live");
    lab.netns.without_offloads("lan0");
    call!(lab, hold_machine, HoldMachineRequest).expect("it may");
    let mac = "52:54:00:00:00:0a";
    let machine = Machine::boot(Firmware::BiosIpxeRom, &lab.client, mac, &lab.home);
    let line = (lab.service).wait_for("refused", |line| line["path"] == "boot.ipxe");
    assert_eq!(line["reason"], "held");
    call!(lab, release_machine, ReleaseMachineRequest).expect("it may");
    machine.wait_for("bootjack: node-10 boots live");
}

#[test]
fn machines_that_are_installing_get_short_leases() {
    let (netns, segment) = Segment::new();
    let home = Home::new();
    home.write("profiles/installer/profile.toml", INSTALLER);
    home.write("profiles/installer/user-data.j2", USER_DATA);
    home.write("profiles/live/profile.toml", LIVE);
    let config = home
        .config("")
        .replace("[dhcp]", "[dhcp]\ninstall_lease_secs = 120");
    let _service = Service::start(&netns, &home, &config);
    let api = Api::unix(&home);
    for (n, profile) in [(10, "installer"), (11, "live")] {
        let made = api.create(v1::Reservation {
            profile: profile.to_owned(),
            ..node(n)
        });
        made.expect("created");
    }
    let plain = |n: u8| Packet::discover([0x52, 0x54, 0, 0, 0, n]);
    let booting = |n: u8| plain(n).with(60, b"PXEClient:Arch:00000").with(93, &[0, 0]);
    let lease = |packet: &Packet| segment.ask(packet).number(51);
    assert_eq!(lease(&booting(10)), Some(120), "it begins to install");
    assert_eq!(
        lease(&plain(10)),
        Some(3600),
        "what runs on it now stays as it is"
    );
    assert_eq!(lease(&booting(11)), Some(3600), "nothing is installed");
    let base = {
        let script = api::get_from(&netns, MACHINE, &format!("{SCRIPT}bios"));
        let (_, rest) = script
            .text()
            .split_once("seed=http://198.18.0.1")
            .expect("a seed");
        rest.split_once("/nocloud/").expect("a URL").0.to_owned()
    };
    let explained = std::process::Command::new(crate::support::service::program())
        .args(["explain", "--mac", "52:54:00:00:00:0a", "--config"])
        .arg(home.path().join("bootjackd.toml"))
        .output()
        .expect("it runs");
    let explained = String::from_utf8(explained.stdout).expect("UTF-8");
    for line in [
        "machine      installing, attempt 1; installs, attempt 1\n",
        "lease        120 s   (installation)\n",
    ] {
        assert!(explained.contains(line), "no `{line}`:\n{explained}");
    }
    netns.ip(&["address", "del", &format!("{MACHINE}/32"), "dev", "lo"]);
    assert_eq!(lease(&plain(10)), Some(120), "the installer's own system");
    let done = api::get_from(&netns, MACHINE, &format!("{base}/events/done"));
    assert_eq!(done.status, 200);
    netns.ip(&["address", "del", &format!("{MACHINE}/32"), "dev", "lo"]);
    assert_eq!(lease(&booting(10)), Some(3600), "it is installed");
}

#[test]
fn machines_are_listed_and_told_what_to_do_by_the_command_line() {
    let lab = Lab::with("rescue = \"live\"\n", |_| ());
    lab.reserve("installer");
    for (arguments, said) in [
        (
            &["machine", "list"][..],
            "NAME     STATE  ATTEMPT  MODE    PROFILE    NEXT BOOT\nnode-10  armed  1        normal  installer  installs, attempt 1\n",
        ),
        (
            &["machine", "hold", "node-10"],
            "machines/node-10: armed, attempt 1; waits: held\n",
        ),
        (
            &["machine", "release", "52:54:00:00:00:0a"],
            "machines/node-10: armed, attempt 1; installs, attempt 1\n",
        ),
        (
            &["machine", "rescue", "node-10"],
            "machines/node-10: armed, attempt 1; boots the rescue profile\n",
        ),
        (
            &["machine", "next-boot", "node-10", "disk"],
            "machines/node-10: armed, attempt 1; boots its local disk: told so for this boot\n",
        ),
        (
            &["machine", "reinstall", "node-10"],
            "machines/node-10: armed, attempt 2; installs, attempt 2\n",
        ),
        (
            &["machine", "arm", "node-10"],
            "machines/node-10: armed, attempt 2; installs, attempt 2\n",
        ),
    ] {
        assert_eq!(
            lab.bootjack(arguments),
            (0, said.to_owned()),
            "{arguments:?}"
        );
    }
    let (code, said) = lab.bootjack(&["machine", "show", "nobody"]);
    assert_eq!(
        (code, said.as_str()),
        (
            4,
            "bootjack: reservation nobody does not exist; see: bootjack reservation list\n"
        )
    );
}

#[test]
fn a_machine_that_is_served_on_every_boot_is_ready_when_it_has_its_documents() {
    let lab = Lab::new("");
    lab.reserve("live");
    let ready = |timeout: &str| {
        let arguments = ["wait", "node-10", "--for", "ready", "--timeout", timeout];
        lab.bootjack(&arguments).0
    };
    lab.script("bios");
    let documents = "/machines/52-54-00-00-00-0a/nocloud";
    assert_eq!(lab.get(&format!("{documents}/user-data")).status, 200);
    assert_eq!(ready("60s"), 0);
    // It boots again: the last boot's documents count for nothing.
    lab.script("uefi");
    lab.service.wait_for_nth("rendered", 3, |_| true);
    assert_eq!(ready("1s"), 7);
    let installed = lab.bootjack(&["wait", "node-10"]);
    assert_eq!(
        installed,
        (
            5,
            "bootjack: machine node-10 has no profile that installs; wait for ready\n".to_owned()
        )
    );
}
