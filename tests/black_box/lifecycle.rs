//! A machine's life under a profile that installs: the right script to the right machine, once, and its call-backs.

use bootjack_api::v1;
use bootjack_api::v1::machine::{Mode, State};
use serde_json::Value;
use tonic::Code;

use crate::support::api::{self, Api, Http, Response, node};
use crate::support::netns::{Netns, server_and_client};
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
    _client: Netns,
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
            _client: client,
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
        let hasty = INSTALLER.replace("deadline = \"1h\"", "deadline = \"1s\"\nretries = 1");
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
    let lab = Lab::with("rescue = \"none-such\"\n", |_| ());
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
