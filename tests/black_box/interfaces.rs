//! Interfaces that come, go and change while the service runs, as taps, bridges and cloud networks do.

use serde_json::Value;

use crate::support::api;
use crate::support::clients;
use crate::support::netns::{Netns, link, server_and_client};
use crate::support::service::{Home, Service};

const MAC: &str = "52:54:00:00:00:01";

/// Waits until DHCP listens on `lan0` for the nth time; answers why.
fn listening_on_lan0(service: &Service, n: usize) -> String {
    let is_it = |line: &Value| line["address"] == "0.0.0.0:67%lan0";
    let line = service.wait_for_nth("listening", n, is_it);
    line["reason"].as_str().expect("it says why").to_owned()
}

fn gone(service: &Service, n: usize) -> String {
    let line = service.wait_for_nth("gone", n, |line| line["address"] == "0.0.0.0:67%lan0");
    line["reason"].as_str().expect("it says why").to_owned()
}

/// udhcpc comes and gets an address; answers address and server identifier.
fn lease(client: &Netns, home: &Home) -> (String, String) {
    let bound = clients::udhcpc(client, home, &["-q"]).wait_for("bound");
    (bound.address().to_owned(), bound.get("server").to_owned())
}

#[test]
fn an_interface_that_is_deleted_and_made_anew_is_served_again_and_knows_its_leases() {
    let (server, client) = server_and_client(MAC);
    let home = Home::new();
    let service = Service::start(&server, &home, &home.config(""));
    let first = lease(&client, &home);

    server.ip(&["link", "delete", "lan0"]);
    let reason = gone(&service, 1);
    assert_eq!(reason, "the interface or its address 198.18.0.1 is gone");
    let waits = |line: &Value| {
        let detail = line["detail"].as_str().unwrap_or_default();
        detail.starts_with("dhcp: interface lan0 does not exist")
            && detail.ends_with("; waiting for it")
    };
    service.wait_for("noticed", waits);

    link(&server, &client, MAC);
    server.ip(&["address", "add", "198.18.0.1/24", "dev", "lan0"]);
    listening_on_lan0(&service, 2);
    assert_eq!(lease(&client, &home), first);
    assert_eq!(api::get(&server, "/healthz").status, 200);
}

#[test]
fn an_interface_made_anew_before_anybody_looks_is_noticed_by_its_number() {
    let (server, client) = server_and_client(MAC);
    let home = Home::new();
    let service = Service::start(&server, &home, &home.config(""));
    let first = lease(&client, &home);
    // Both at once: where the name and the address are the same again, the kernel's number is not.
    let anew = format!(
        "link delete lan0\n\
         link add lan0 type veth peer name eth0 netns {}\n\
         address add 198.18.0.1/24 dev lan0\n\
         link set lan0 up\n",
        client.name()
    );
    let batch = home.write("anew", anew);
    server.ip(&["-batch", &batch.display().to_string()]);
    client.ip(&["link", "set", "eth0", "address", MAC, "up"]);
    listening_on_lan0(&service, 2);
    assert_eq!(lease(&client, &home), first);
}

#[test]
fn an_interface_that_is_not_there_yet_is_waited_for_where_the_configuration_says_so() {
    let (server, client) = (Netns::new("srv"), Netns::new("cli"));
    let home = Home::new();
    let config = home.config("").replace(
        "interfaces = [\"lan0\"]",
        "interfaces = [\"lan0\"]\nwait_for_interfaces = true",
    );
    let service = Service::start(&server, &home, &config);
    link(&server, &client, MAC);
    let has_no_address = |line: &Value| {
        let detail = line["detail"].as_str().unwrap_or_default();
        detail.starts_with("dhcp: interface lan0 has no IPv4 address")
    };
    service.wait_for("noticed", has_no_address);
    server.ip(&["address", "add", "198.18.0.1/24", "dev", "lan0"]);
    listening_on_lan0(&service, 1);
    let (_, server_id) = lease(&client, &home);
    assert_eq!(server_id, "198.18.0.1");
    for protocol in ["http", "tftp"] {
        service.wait_for("listening", |line| line["protocol"] == protocol);
    }
    assert_eq!(api::get(&server, "/healthz").status, 200);
}

#[test]
fn the_address_an_interface_gets_instead_is_served_from_where_nothing_else_is_configured() {
    let (server, client) = server_and_client(MAC);
    let home = Home::new();
    let config = home
        .config("")
        .replace("interfaces = [\"lan0\"]\n", "")
        .replace("listen = \"198.18.0.1:69\"\n", "")
        .replace("listen = \"198.18.0.1:80\"\n", "");
    let service = Service::start(&server, &home, &config);
    let (address, server_id) = lease(&client, &home);
    assert_eq!(server_id, "198.18.0.1");

    server.ip(&["address", "delete", "198.18.0.1/24", "dev", "lan0"]);
    server.ip(&["address", "add", "198.18.0.2/24", "dev", "lan0"]);
    for listens in ["198.18.0.2:80", "198.18.0.2:69"] {
        service.wait_for("listening", |line| line["address"] == listens);
    }
    let reason = listening_on_lan0(&service, 2);
    assert!(reason.ends_with("server identifier 198.18.0.2"), "{reason}");
    assert_eq!(lease(&client, &home), (address, "198.18.0.2".to_owned()));
    let (status, log) = service.terminate();
    assert!(status.success(), "{log:?}");
}
