//! `bootjackd serve`: start, stop, and what it says when it cannot.

use crate::support::netns::server_and_client;
use crate::support::service::{Home, Service};

#[test]
fn it_says_where_it_listens_and_stops_cleanly_on_sigterm() {
    let (server, _client) = server_and_client("52:54:00:00:00:01");
    let home = Home::new();
    let service = Service::start(&server, &home, &home.config(""));
    for protocol in ["dhcp", "tftp", "http", "grpc"] {
        let line = service.wait_for("listening", |line| line["protocol"] == protocol);
        assert!(line["reason"].is_string(), "{line}");
    }
    let (status, log) = service.terminate();
    assert_eq!(status.code(), Some(0), "{log:?}");
    assert_eq!(
        log.last().map(|line| &line["message"]),
        Some(&"stopped".into())
    );
}
