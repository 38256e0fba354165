//! Machines by the list: what a filter lets through, and pages of it.

use bootjack_api::v1::{self, Reservation};
use tonic::{Code, Status};

use crate::support::api::{Api, node};
use crate::support::lab::details;
use crate::support::netns::{Netns, server_and_client};
use crate::support::service::{Home, Service};

struct Lab {
    api: Api,
    _home: Home,
    _service: Service,
    _networks: (Netns, Netns),
}

/// Machines 10 to 15 of rack r1 install, 20 to 25 of rack r2 do not, 30 has no profile; 11 and 21 are held, 12 boots its disk next.
fn lab() -> Lab {
    let networks = server_and_client("52:54:00:00:00:01");
    let home = Home::new();
    let live = "[x86_64]\nkernel = \"vmlinuz\"\n";
    home.write(
        "profiles/installer/profile.toml",
        format!("installs = true\n{live}"),
    );
    home.write("profiles/live/profile.toml", live);
    home.write("http/vmlinuz", "a kernel");
    let service = Service::start(&networks.0, &home, &home.config(""));
    let api = Api::unix(&home);
    let of = |n: u8, rack: &str, profile: &str| Reservation {
        profile: profile.to_owned(),
        labels: [("rack".to_owned(), rack.to_owned())].into(),
        ..node(n)
    };
    for n in 10..16 {
        api.create(of(n, "r1", "installer")).expect("created");
        api.create(of(n + 10, "r2", "live")).expect("created");
    }
    api.create(node(30)).expect("created");
    for n in [11, 21] {
        let name = format!("machines/node-{n}");
        let held = api.machines(async |machines| {
            machines.hold_machine(v1::HoldMachineRequest { name }).await
        });
        held.expect("held");
    }
    let once = v1::SetNextBootRequest {
        name: "machines/node-12".to_owned(),
        next_boot: v1::NextBoot::Disk.into(),
    };
    let sent = api.machines(async |machines| machines.set_next_boot(once).await);
    sent.expect("it may");
    Lab {
        api,
        _home: home,
        _service: service,
        _networks: networks,
    }
}

impl Lab {
    fn page(
        &self,
        filter: &str,
        size: i32,
        token: &str,
    ) -> Result<v1::ListMachinesResponse, Status> {
        let request = v1::ListMachinesRequest {
            page_size: size,
            page_token: token.to_owned(),
            filter: filter.to_owned(),
        };
        (self.api).machines(async |machines| machines.list_machines(request).await)
    }
}

/// The numbers of machines `machines/node-N`.
fn numbers(page: &v1::ListMachinesResponse) -> Vec<u8> {
    let names = page.machines.iter().map(|machine| machine.name.as_str());
    let numbers = names.map(|name| name.strip_prefix("machines/node-")?.parse().ok());
    numbers.collect::<Option<_>>().expect("names")
}

#[test]
fn a_filter_lets_through_what_it_says_and_says_what_it_does_not_know() {
    let lab = lab();
    let (installing, live) = (10..16, 20..26);
    let all: Vec<u8> = installing.clone().chain(live.clone()).chain([30]).collect();
    let but = |numbers: &[u8], not: &[u8]| -> Vec<u8> {
        let kept = numbers.iter().filter(|n| !not.contains(n));
        kept.copied().collect()
    };
    let installing: Vec<u8> = installing.collect();
    for (filter, wanted) in [
        ("", all.clone()),
        ("state = ARMED", installing.clone()),
        ("state != ARMED", but(&all, &installing)),
        ("mode = HELD", vec![11, 21]),
        ("mode = HELD AND labels.rack = r2", vec![21]),
        ("next_boot = DISK", vec![12]),
        (
            "installs = false AND mode = NORMAL",
            but(&all, &[&installing[..], &[21]].concat()),
        ),
        ("profile = live", live.collect()),
        (
            "hostname = \"node-1*\" AND mode != HELD",
            but(&installing, &[11]),
        ),
        ("labels.rack = r3", vec![]),
        ("id = node-30", vec![30]),
    ] {
        let page = lab.page(filter, 0, "").expect(filter);
        assert_eq!(numbers(&page), wanted, "{filter}");
        assert_eq!(page.total_size as usize, wanted.len(), "{filter}");
        assert_eq!(page.next_page_token, "", "{filter}");
    }
    for (filter, part) in [
        (
            "colour = red",
            "`colour` is not known; known are: id, state",
        ),
        ("state = BURNING", "BURNING"),
        ("state =", "filter"),
        ("mode = held OR", "filter"),
    ] {
        let status = lab.page(filter, 0, "").expect_err(filter);
        assert_eq!(status.code(), Code::InvalidArgument, "{filter}");
        assert_eq!(details(&status).0, ["filter"], "{filter}: {status}");
        assert!(status.message().contains(part), "{filter}: {status}");
    }
}

#[test]
fn pages_of_a_filter_follow_each_other_and_a_token_is_of_its_filter_alone() {
    let lab = lab();
    for (size, lengths) in [(2, &[2, 2, 2][..]), (4, &[4, 2]), (6, &[6]), (0, &[6])] {
        let (mut token, mut pages, mut seen) = (String::new(), Vec::new(), Vec::new());
        loop {
            let page = lab.page("labels.rack = r1", size, &token).expect("a page");
            assert_eq!(page.total_size, 6);
            pages.push(page.machines.len());
            seen.extend(numbers(&page));
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(pages, lengths, "{size}");
        assert!(seen.iter().copied().eq(10..16), "{seen:?}");
    }
    // What a page ended with may go before the next one is asked for, and others may come.
    let first = lab.page("labels.rack = r1", 2, "").expect("a page");
    (lab.api)
        .delete("reservations/node-11", "")
        .expect("it is there");
    let token = first.next_page_token;
    let second = lab.page("labels.rack = r1", 2, &token).expect("a page");
    assert_eq!(numbers(&second), [12, 13]);
    let reservations = lab.api.page(1, "").expect("a page").next_page_token;
    for (filter, size, token, field) in [
        ("labels.rack = r2", 2, token.as_str(), "page_token"),
        ("", 2, &token, "page_token"),
        ("labels.rack = r1", 2, "nonsense", "page_token"),
        (
            "labels.rack = r1",
            2,
            &token[..token.len() - 2],
            "page_token",
        ),
        ("", 2, &reservations, "page_token"),
        ("", -1, "", "page_size"),
    ] {
        let status = lab.page(filter, size, token).expect_err(filter);
        assert_eq!(status.code(), Code::InvalidArgument, "{filter} {token}");
        assert_eq!(details(&status).0, [field], "{status}");
    }
}
