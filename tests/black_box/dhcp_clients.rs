//! DHCP clients that systems really have: ISC's dhclient, BusyBox's udhcpc and systemd-networkd, each on a link of its own.

use std::process::Command;

use bootjack_api::v1::Reservation;
use serde_json::Value;

use crate::support::api::Api;
use crate::support::clients::{self, Running, Told};
use crate::support::netns::{Netns, server_and_client};
use crate::support::service::{Home, Service};

const MAC: &str = "52:54:00:00:00:01";

const RESERVED: &str = r#"
[[reservation]]
mac = "52:54:00:00:00:01"
address = "198.18.0.10"
hostname = "node-1"
"#;

/// A service, and a namespace linked to it that a client runs in.
struct Lab {
    service: Service,
    client: Netns,
    home: Home,
    _server: Netns,
}

impl Lab {
    fn new(reservations: &str) -> Self {
        let (server, client) = server_and_client(MAC);
        let home = Home::new();
        let config = home.config(reservations);
        Self {
            service: Service::start(&server, &home, &config),
            client,
            home,
            _server: server,
        }
    }

    /// dhclient in the foreground.
    fn dhclient(&self) -> Running {
        clients::dhclient(&self.client, &self.home, "")
    }

    fn dhclient_command(&self, arguments: &[&str]) -> Command {
        clients::dhclient_command(&self.client, &self.home, "", arguments)
    }

    /// udhcpc in the foreground.
    fn udhcpc(&self, arguments: &[&str]) -> Running {
        clients::udhcpc(&self.client, &self.home, arguments)
    }

    fn wait_for_ack(&self, n: usize) {
        self.service
            .wait_for_nth("acked", n, |line| line["mac"] == MAC);
    }

    fn wait_for_release(&self) {
        self.service
            .wait_for("silent", |line| line["reason"] == "released");
    }
}

impl Told {
    fn assert_is_reserved(&self) {
        let said = [
            "address", "hostname", "domain", "router", "dns", "lease", "server",
        ]
        .map(|name| self.get(name));
        let expected = [
            "198.18.0.10",
            "node-1",
            "lab.internal",
            "198.18.0.1",
            "198.18.0.1",
            "3600",
            "198.18.0.1",
        ];
        assert_eq!(said, expected);
    }

    fn assert_is_dynamic(&self) {
        let last = self.address().strip_prefix("198.18.0.");
        let last: u8 = last.and_then(|last| last.parse().ok()).expect("ours");
        assert!((100..200).contains(&last), "{self:?}");
        assert_eq!(self.get("lease"), "3600");
    }
}

#[test]
fn dhclient_gets_the_reserved_address_returns_to_it_and_releases_it() {
    let lab = Lab::new(RESERVED);
    let client = lab.dhclient();
    client.wait_for("BOUND").assert_is_reserved();
    lab.wait_for_ack(1);
    client.wait_for("bound"); // and has written its file
    drop(client);

    // It remembers its lease and asks whether it still holds.
    let client = lab.dhclient();
    client.wait_for("REBOOT").assert_is_reserved();
    lab.wait_for_ack(2);
    client.wait_for("bound");
    drop(client);

    let released = lab.dhclient_command(&["-r"]).output().expect("it runs");
    assert!(released.status.success(), "{released:?}");
    lab.wait_for_release();
}

#[test]
fn dhclient_gets_an_address_of_the_pool_and_the_same_one_after_a_release() {
    let lab = Lab::new("");
    let client = lab.dhclient();
    let bound = client.wait_for("BOUND");
    bound.assert_is_dynamic();
    assert_eq!(bound.get("hostname"), "");
    client.wait_for("bound");
    drop(client);
    let released = lab.dhclient_command(&["-r"]).output().expect("it runs");
    assert!(released.status.success(), "{released:?}");
    lab.wait_for_release();

    let leases = lab.home.path().join("dhclient/leases");
    std::fs::remove_file(leases).expect("it wrote one");
    let again = lab.dhclient().wait_for("BOUND");
    assert_eq!(again.address(), bound.address());
}

#[test]
fn udhcpc_gets_the_reserved_address_renews_it_and_releases_it_at_its_end() {
    let lab = Lab::new(RESERVED);
    let client = lab.udhcpc(&["-R"]);
    client.wait_for("bound").assert_is_reserved();
    lab.wait_for_ack(1);
    client.signal("USR1");
    client.wait_for("renew").assert_is_reserved();
    lab.wait_for_ack(2);
    client.signal("TERM");
    lab.wait_for_release();
}

#[test]
fn udhcpc_gets_an_address_of_the_pool_and_the_same_one_after_a_release() {
    let lab = Lab::new("");
    let client = lab.udhcpc(&["-x", "hostname:said-by-the-client"]);
    let bound = client.wait_for("bound");
    bound.assert_is_dynamic();
    client.signal("USR2");
    lab.wait_for_release();
    client.signal("USR1");
    assert_eq!(client.wait_for("bound").address(), bound.address());
}

#[test]
fn a_client_that_holds_an_address_survives_the_services_restart() {
    let lab = Lab::new("");
    let client = lab.udhcpc(&[]);
    let bound = client.wait_for("bound");
    let Lab {
        service,
        client: netns,
        home,
        _server: server,
    } = lab;
    let (status, log) = service.terminate();
    assert!(status.success(), "{log:?}");
    let service = Service::start(&server, &home, &home.config(""));
    client.signal("USR1");
    let renewed = client.wait_for("renew");
    assert_eq!(renewed.address(), bound.address());
    service.wait_for("acked", |line| line["mac"] == MAC);
    drop((client, netns));
}

#[test]
fn a_reservation_made_or_changed_over_grpc_takes_hold_at_the_next_word_of_its_machine() {
    let lab = Lab::new("");
    let api = Api::unix(&lab.home);
    let client = lab.udhcpc(&[]);
    client.wait_for("bound").assert_is_dynamic();

    let reservation = api
        .create(Reservation {
            mac: MAC.to_owned(),
            address: "198.18.0.10".to_owned(),
            hostname: "node-1".to_owned(),
            ..Reservation::default()
        })
        .expect("created");
    // It renews, is refused, and asks anew.
    client.signal("USR1");
    client.wait_for("nak");
    client.wait_for("bound").assert_is_reserved();
    let refused = lab.service.wait_for("refused", |line| line["mac"] == MAC);
    assert_eq!(refused["reason"], "reserved_elsewhere");

    let changed = Reservation {
        address: "198.18.0.150".to_owned(),
        hostname: "node-2".to_owned(),
        ..reservation
    };
    let changed = api.update(&["address", "hostname"], changed);
    let changed = changed.expect("updated");
    client.signal("USR1");
    client.wait_for("nak");
    let bound = client.wait_for("bound");
    assert_eq!(bound.address(), "198.18.0.150");
    assert_eq!(bound.get("hostname"), "node-2");

    // Without its reservation the machine is one like any other, and keeps what it holds: the address is of the pool.
    api.delete(&changed.name, "").expect("deleted");
    client.signal("USR1");
    let renewed = client.wait_for("renew");
    assert_eq!(renewed.address(), "198.18.0.150");
    assert_eq!(renewed.get("hostname"), "");
}

/// A client of some kind and how its words are to be understood.
struct Real {
    running: Running,
    kind: Kind,
}

#[derive(Clone, Copy)]
enum Kind {
    Dhclient,
    Udhcpc,
    Networkd,
}

impl Real {
    fn start(kind: Kind, lab: &Lab) -> Self {
        let running = match kind {
            // It has no word for "renew", and renews every few seconds instead.
            Kind::Dhclient => {
                let soon = "supersede dhcp-renewal-time 3;\n";
                clients::dhclient(&lab.client, &lab.home, soon)
            }
            Kind::Udhcpc => lab.udhcpc(&[]),
            Kind::Networkd => clients::networkd(&lab.client, &lab.home),
        };
        Self { running, kind }
    }

    /// The next address that it gets anew.
    fn bound(&self) -> String {
        match self.kind {
            Kind::Dhclient => self.running.wait_for("BOUND").address().to_owned(),
            Kind::Udhcpc => self.running.wait_for("bound").address().to_owned(),
            Kind::Networkd => {
                let line = (self.running).wait_for_line("acquired", |line| {
                    line.contains(" acquired from 198.18.0.1")
                });
                let (_, address) = line.split_once("DHCPv4 address ").expect("it says which");
                address.split('/').next().expect("one at least").to_owned()
            }
        }
    }

    /// Has it ask for longer, from the address that it has.
    fn renew(&mut self) {
        match self.kind {
            Kind::Dhclient => {}
            Kind::Udhcpc => self.running.signal("USR1"),
            Kind::Networkd => self.running.say("renew"),
        }
    }
}

/// It holds an address of the pool, which is then reserved for another machine, and gets another one; at last one is reserved
/// for itself.
fn a_reservation_takes_hold_of(kind: Kind) {
    let lab = Lab::new("");
    let api = Api::unix(&lab.home);
    let mut client = Real::start(kind, &lab);
    let first = client.bound();
    let reserve = |mac: &str, address: &str| {
        let reservation = Reservation {
            mac: mac.to_owned(),
            address: address.to_owned(),
            ..Reservation::default()
        };
        api.create(reservation).expect("created");
    };

    reserve("52:54:00:00:00:02", &first);
    let revoked = lab
        .service
        .wait_for("lease revoked: its address is reserved now", |_| true);
    assert_eq!(
        (&revoked["address"], &revoked["mac"]),
        (&first.as_str().into(), &MAC.into())
    );
    client.renew();
    let refused = |reason: &str| {
        let is_it = |line: &Value| line["mac"] == MAC && line["reason"] == reason;
        lab.service.wait_for("refused", is_it);
    };
    refused("reserved_for_another");
    let second = client.bound();
    assert_ne!(second, first);

    reserve(MAC, "198.18.0.10");
    client.renew();
    refused("reserved_elsewhere");
    assert_eq!(client.bound(), "198.18.0.10");
    let acked = |line: &Value| line["mac"] == MAC && line["yiaddr"] == "198.18.0.10";
    lab.service.wait_for("acked", acked);
}

#[test]
fn a_reservation_takes_hold_of_dhclient() {
    a_reservation_takes_hold_of(Kind::Dhclient);
}

#[test]
fn a_reservation_takes_hold_of_udhcpc() {
    a_reservation_takes_hold_of(Kind::Udhcpc);
}

#[test]
fn a_reservation_takes_hold_of_systemd_networkd() {
    a_reservation_takes_hold_of(Kind::Networkd);
}
