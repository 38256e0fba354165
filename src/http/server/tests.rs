//! What every transport makes of every state a machine can be in, held against the rule in its own words.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use axum::body::to_bytes;
use proptest::prelude::*;

use super::*;
use crate::catalog::{Catalog, Settings, digest};
use crate::dhcp::answer::{Mode as DhcpMode, answer};
use crate::dhcp::bootfile::BootServers;
use crate::dhcp::probe::Probe;
use crate::dhcp::proxy::Port;
use crate::dhcp::request::{Kind, Request as DhcpRequest};
use crate::dhcp::view::{Ingress, View};
use crate::model::{
    BootFrom, ClientArch, Failure, MacAddr, Machine, Mode, NextBoot, Phase, Reservation, Source,
    Subnet, Token,
};
use crate::store::{Memory, Records};

const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 1]);
const OWN: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 10);
const SERVER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
const CURRENT: Token = Token([1; 16]);
const FORMER: Token = Token([2; 16]);
const DEADLINE: u64 = 3600;
const PROGRAM: &str = "custom/boot.efi";
const SCRIPT: &str = "/machines/52-54-00-00-00-01/boot.ipxe?firmware=bios";

fn settings(retries: u32) -> Settings {
    let read = |name: &str, toml: String| {
        let files = BTreeMap::from([("profile.toml".to_owned(), toml)]);
        let profile = crate::render::profile::read(name, files).expect("sound");
        (name.to_owned(), profile)
    };
    let boot = |kernel: &str| format!("[x86_64]\nkernel = \"{kernel}/vmlinuz\"\n");
    let installs = format!("installs = true\ndeadline = \"1h\"\nretries = {retries}\n");
    Settings {
        subnets: vec![Subnet::of("198.18.0.0/24".parse().expect("a network"))],
        profiles: [
            read("installer", format!("{installs}{}", boot("installer"))),
            read("rescue", boot("rescue")),
        ]
        .into(),
        rescue_profile: "rescue".to_owned(),
        ..Settings::default()
    }
}

fn reservation() -> Reservation {
    let mut reservation = Reservation::of("node-1".into(), Source::Api);
    reservation.mac = Some(MAC);
    reservation.address = Some(OWN);
    reservation.profile = Some("installer".into());
    reservation.program = Some(PROGRAM.into());
    reservation
}

/// Any state that a machine can be in, long before and just before now.
fn machines() -> impl Strategy<Value = (Machine, u32)> {
    let failure = |by_deadline| {
        Phase::Failed(Failure {
            reason: "x".into(),
            log: String::new(),
            by_deadline,
        })
    };
    let phases = prop_oneof![
        Just(Phase::Idle),
        Just(Phase::Armed),
        Just(Phase::Installing),
        Just(Phase::Installed),
        proptest::bool::ANY.prop_map(failure),
    ];
    let modes = prop_oneof![Just(Mode::Normal), Just(Mode::Held), Just(Mode::Rescue)];
    let from = prop_oneof![
        Just(BootFrom::Disk),
        Just(BootFrom::Network),
        Just(BootFrom::Rescue)
    ];
    let taken = prop_oneof![Just(None), Just(Some(0)), Just(Some(100))];
    let asked = proptest::option::of((from, taken));
    let ages = prop_oneof![Just(0), Just(DEADLINE / 2), Just(2 * DEADLINE)];
    (phases, modes, asked, ages, 0_u32..2, 0_u32..2).prop_map(
        |(phase, mode, asked, age, retries_used, retries)| {
            let now = now_secs();
            let has_token = !matches!(phase, Phase::Idle | Phase::Armed);
            let machine = Machine {
                attempt: 3,
                since_secs: now - age,
                mode,
                next_boot: asked.map(|(from, taken): (_, Option<u64>)| NextBoot {
                    from,
                    taken_secs: taken.map(|before| now - before),
                }),
                retries_used,
                token: has_token.then_some(CURRENT),
                former: vec![digest(FORMER)],
                phase,
                ..Machine::idle("node-1", now)
            };
            (machine, retries)
        },
    )
}

/// The rule in other words than the code's.
struct Allowed {
    /// The boot script may install.
    install: bool,
    /// What the token opens is open.
    read: bool,
    /// The boot is a rescue.
    rescue: bool,
}

fn allowed(machine: &Machine, retries: u32) -> Allowed {
    let now = now_secs();
    let asked = machine.next_boot.and_then(|asked| match asked.taken_secs {
        Some(taken) if now - taken >= 5 => None,
        _ => Some(asked.from),
    });
    let in_time = now - machine.since_secs < DEADLINE;
    let is_on = match machine.phase {
        Phase::Armed => true,
        Phase::Installing => in_time || machine.retries_used < retries,
        Phase::Idle | Phase::Installed | Phase::Failed(_) => false,
    };
    let boots = match asked {
        Some(BootFrom::Network) => true,
        Some(_) => false,
        None => machine.mode == Mode::Normal,
    };
    Allowed {
        install: is_on && boots,
        read: machine.phase == Phase::Installing && in_time && machine.mode != Mode::Held,
        rescue: asked == Some(BootFrom::Rescue)
            || (asked.is_none() && machine.mode == Mode::Rescue),
    }
}

/// The boot file that firmware is offered.
fn bootfile(catalog: &Catalog, bindings: &crate::bindings::Bindings) -> String {
    let mut probe = Probe::new(Kind::Discover, MAC);
    probe.boot_as(ClientArch(7));
    let request = DhcpRequest::parse(&probe.octets()).expect("sound");
    let ingress = Ingress {
        server_id: SERVER,
        authoritative: false,
        now_secs: now_secs(),
        is_unicast: false,
    };
    let view = View::new(&request, catalog, bindings, ingress).expect("a subnet");
    let servers = BootServers {
        programs: BTreeSet::from(["snponly.efi".to_owned()]),
        http_port: 80,
        http_address: None,
    };
    let (_, file) = answer(&request, Port::Server, DhcpMode::Server, &servers, &view);
    file.expect("firmware always gets one").as_str().to_owned()
}

async fn get(routes: &Router, target: &str) -> (u16, String) {
    let mut request = Request::new(Body::empty());
    *request.uri_mut() = target.parse().expect("a target");
    request.extensions_mut().insert(ConnectInfo(Ends {
        remote: (OWN, 1024).into(),
        local: (SERVER, 80).into(),
        is_secure: false,
    }));
    let Ok(response) = routes.clone().oneshot(request).await;
    let status = response.status().as_u16();
    let body = to_bytes(response.into_body(), 1 << 20).await;
    let text = String::from_utf8(body.expect("it comes").into()).expect("UTF-8");
    (status, text)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn in_no_state_does_any_transport_serve_an_install_artefact_it_should_not(
        (machine, retries) in machines()
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let home = tempfile::tempdir().expect("a directory");
            for name in ["installer", "rescue"] {
                std::fs::create_dir(home.path().join(name)).expect("made");
                std::fs::write(home.path().join(name).join("vmlinuz"), name).expect("written");
            }
            let records = Records {
                reservations: vec![reservation().into()],
                machines: vec![machine.clone()],
                ..Records::default()
            };
            let catalog = Catalog::new(settings(retries));
            let backend = Box::new(Memory::with(records));
            let (store, writer, _) = Store::open(backend, catalog, now_secs()).expect("opens");
            let rules = Rules { bind: Bind::Lease, gives_addresses: true, pace: None };
            let kept = crate::artifact::store::Artifacts::new(&home.path().join("artifacts"));
            let artifacts = crate::http::artifacts::Served::new(kept, &[], true).expect("made");
            let shared = Shared::new(store.clone(), Some(home.path()), home.path(), artifacts, rules);
            let routes = routes(shared.expect("it is there"));
            let allowed = allowed(&machine, retries);

            // DHCP and TFTP: what an operator's own program would fetch. Who installs or not is iPXE's script to say.
            let boots_own = bootfile(&store.catalog(), &store.bindings()) == PROGRAM;
            prop_assert_eq!(boots_own, allowed.install);
            let sent_away = store.sent_away(OWN.into(), now_secs()).is_some();
            prop_assert_eq!(sent_away, !allowed.install && !allowed.rescue);
            // HTTP: files by their path, everything else by token.
            let (status, _) = get(&routes, "/files/installer/vmlinuz").await;
            prop_assert_eq!(status == 403, sent_away);
            let paths = ["nocloud/user-data", "documents/user-data", "files/installer/vmlinuz"];
            for path in paths {
                let (status, _) = get(&routes, &format!("/t/{CURRENT}/{path}")).await;
                prop_assert_eq!(status == 200, allowed.read, "{}: {}", path, status);
                let (status, _) = get(&routes, &format!("/t/{FORMER}/{path}")).await;
                prop_assert_eq!(status, 410);
            }
            let (status, _) = get(&routes, "/machines/52-54-00-00-00-01/nocloud/user-data").await;
            prop_assert_eq!(status == 200, allowed.rescue, "{}", status);
            // The script comes last: it begins the installation.
            let (status, script) = get(&routes, SCRIPT).await;
            prop_assert_eq!(script.contains("installer/vmlinuz"), allowed.install, "{}", script);
            prop_assert_eq!(script.contains("/files/rescue/vmlinuz"), allowed.rescue);
            let is_told_to_wait = status == 503;
            let is_local = script.contains("boots its local disk");
            prop_assert_eq!(is_told_to_wait || is_local, sent_away, "{}: {}", status, script);
            prop_assert!(!(is_told_to_wait && machine.mode != Mode::Held));
            drop((routes, store));
            tokio::task::spawn_blocking(|| writer.close()).await.expect("no panic").expect("ends");
            Ok(())
        })?;
    }
}

#[test]
fn a_path_is_told_without_its_token() {
    for (path, told) in [
        ("/t/0123/nocloud/user-data", "/t/…/nocloud/user-data"),
        ("/t/0123", "/t/…"),
        ("/t", "/t"),
        ("/files/t/x", "/files/t/x"),
        ("/", "/"),
    ] {
        assert_eq!(shown(path), told);
    }
}
