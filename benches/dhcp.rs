//! What one DHCP packet costs in each of its steps: nanoseconds, and allocations beside them. No socket and no disk: those are
//! `field`'s to measure.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;
use std::net::Ipv4Addr;
use std::time::Duration;

use bootjackd::bindings::Bindings;
use bootjackd::catalog::{Catalog, Change, Settings};
use bootjackd::dhcp::answer::{Mode, answer};
use bootjackd::dhcp::bootfile::{BootServers, Bootfile};
use bootjackd::dhcp::decide::{Answer, Decision};
use bootjackd::dhcp::probe::Probe;
use bootjackd::dhcp::proxy::Port;
use bootjackd::dhcp::reply;
use bootjackd::dhcp::request::{Kind, Request};
use bootjackd::dhcp::view::{Ingress, View};
use bootjackd::model::{
    ClientArch, Dhcp, Event, LeaseState, MacAddr, Pool, Reservation, Source, Subnet,
};
use bootjackd::observe::emit;
use criterion::Criterion;

const SERVER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
const NOW: u64 = 1_800_000_000;
const RESERVATIONS: u32 = 10_000;
/// Half of the /16 that machines without a reservation are served from.
const LEASES: u32 = 32_768;
/// How many packets a measurement goes round, so that no one client's data stays close at hand.
const PACKETS: u32 = 1024;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
}

fn count(octets: usize) {
    // No thread allocates after its locals are gone, but the standard library may.
    let _ = ALLOCATIONS.try_with(|counted| {
        let (number, sum) = counted.get();
        counted.set((number + 1, sum + octets as u64));
    });
}

// SAFETY: every call is the system allocator's; counting touches a plain cell of the thread and allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller keeps to this function's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        // SAFETY: as above.
        unsafe { System.realloc(place, layout, size) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Everything a packet meets.
struct World {
    catalog: Catalog,
    bindings: Bindings,
    servers: BootServers,
}

impl World {
    fn new() -> Self {
        let mut subnet = Subnet::of("198.18.0.0/15".parse().expect("a network"));
        subnet.pools = vec![Pool {
            first: Ipv4Addr::new(198, 19, 0, 1),
            last: Ipv4Addr::new(198, 19, 255, 254),
        }];
        subnet.router = Some(SERVER);
        subnet.dns = vec![SERVER];
        subnet.domain = Some("lab.internal".to_owned());
        let mut catalog = Catalog::new(Settings {
            subnets: vec![subnet],
            ..Settings::default()
        });
        for number in 0..RESERVATIONS {
            let mut machine = Reservation::of(format!("node-{number}"), Source::ConfigFile);
            machine.mac = Some(reserved(number));
            machine.address = Some(Ipv4Addr::from_bits(
                Ipv4Addr::new(198, 18, 64, 0).to_bits() + number,
            ));
            machine.hostname = Some(format!("node-{number}"));
            let created = catalog.with(&Change::Create(machine));
            catalog = created.expect("no two are alike");
        }
        let programs = ["undionly.kpxe", "snponly.efi"];
        let mut world = Self {
            catalog,
            bindings: Bindings::default(),
            servers: BootServers {
                programs: programs.map(str::to_owned).into(),
                http_port: 80,
                http_address: None,
            },
        };
        for number in 0..LEASES {
            let packet = plain(Kind::Discover, dynamic(number), None);
            let request = Request::parse(&packet).expect("a DISCOVER");
            let change = world.decide(&request, |decision, _, _| decision.change.clone());
            let Some(bootjackd::model::BindingChange::Put(mut lease)) = change else {
                panic!("the pool is not full");
            };
            (lease.state, lease.expires_secs) = (LeaseState::Bound, NOW + 3600);
            let bound = bootjackd::model::BindingChange::Put(lease);
            world.bindings.apply(bound);
        }
        world
    }

    /// Looks up and decides.
    fn decide<T>(
        &self,
        request: &Request,
        then: impl FnOnce(&Decision, Option<&Bootfile>, &View) -> T,
    ) -> T {
        let ingress = Ingress {
            server_id: SERVER,
            is_unicast: false,
            authoritative: false,
            now_secs: NOW,
        };
        let view = View::new(request, &self.catalog, &self.bindings, ingress).expect("a subnet");
        let (decision, bootfile) =
            answer(request, Port::Server, Mode::Server, &self.servers, &view);
        then(&decision, bootfile.as_ref(), &view)
    }

    /// From the packet's octets to the reply's.
    fn reply(&self, packet: &[u8]) -> Vec<u8> {
        let request = Request::parse(packet).expect("a request");
        self.decide(&request, |decision, bootfile, view| {
            reply::encode(&request, &decision.answer, bootfile, view).expect("an answer")
        })
    }

    fn offered(&self, mac: MacAddr) -> Ipv4Addr {
        let request = Request::parse(&plain(Kind::Discover, mac, None)).expect("a DISCOVER");
        self.decide(&request, |decision, _, _| match decision.answer {
            Answer::Offer { address, .. } => address,
            _ => panic!("no offer: {decision:?}"),
        })
    }
}

fn mac(block: u8, number: u32) -> MacAddr {
    let [_, high, middle, low] = number.to_be_bytes();
    MacAddr([0x52, 0x54, block, high, middle, low])
}

fn reserved(number: u32) -> MacAddr {
    mac(0, number)
}

fn dynamic(number: u32) -> MacAddr {
    mac(1, number)
}

/// What a system sends: six options.
fn plain(kind: Kind, mac: MacAddr, takes: Option<Ipv4Addr>) -> Vec<u8> {
    let mut probe = Probe::new(kind, mac);
    if let Some(address) = takes {
        probe.set(50, address.octets());
        probe.set(54, SERVER.octets());
    }
    probe.set(55, [1, 28, 2, 3, 15, 6, 12]);
    probe.set(61, [&[1], &mac.0[..]].concat());
    probe.set(57, 1500_u16.to_be_bytes());
    probe.octets()
}

/// What iPXE sends through a relay agent: thirteen options.
fn ipxe(mac: MacAddr) -> Vec<u8> {
    let mut probe = Probe::new(Kind::Discover, mac);
    probe.giaddr = Ipv4Addr::new(198, 18, 0, 2);
    probe.set(57, 1472_u16.to_be_bytes());
    probe.boot_as(ClientArch(7));
    probe.set(77, *b"iPXE");
    probe.set(
        55,
        [
            1, 3, 6, 7, 12, 15, 17, 26, 43, 60, 66, 67, 119, 128, 129, 130, 131, 132, 133, 134,
            135, 150, 175, 203,
        ],
    );
    let features = [16, 18, 19, 20, 21, 23, 24, 25, 27, 33, 36, 39, 41];
    let mut own: Vec<u8> = features.iter().flat_map(|code| [*code, 1, 1]).collect();
    own.extend([177, 5, 1, 0x1a, 0xf4, 0x10, 0x00, 235, 3, 1, 21, 1]);
    probe.set(175, own);
    probe.set(61, [&[1], &mac.0[..]].concat());
    let uuid = [&[0], &[7; 10][..], &mac.0].concat();
    probe.set(97, uuid);
    probe.set(12, *b"node");
    probe.set(50, Ipv4Addr::new(198, 18, 64, 0).octets());
    probe.set(82, *b"\x01\x06eth1/7");
    probe.octets()
}

/// Measures one step over all its inputs, and says what it allocates.
fn measure<I, O>(criterion: &mut Criterion, name: &str, inputs: &[I], step: impl Fn(&I) -> O) {
    let start = ALLOCATIONS.get();
    for input in inputs {
        black_box(step(black_box(input)));
    }
    let end = ALLOCATIONS.get();
    let each = |sum: u64| sum as f64 / inputs.len() as f64;
    println!(
        "\n{name}: {:.1} allocations of {:.0} octets in all",
        each(end.0 - start.0),
        each(end.1 - start.1)
    );
    let mut at = 0;
    criterion.bench_function(name, |bencher| {
        bencher.iter(|| {
            at = (at + 1) % inputs.len();
            step(black_box(&inputs[at]))
        });
    });
}

fn requests(packets: &[Vec<u8>]) -> Vec<Request> {
    (packets.iter())
        .map(|packet| Request::parse(packet).expect("a request"))
        .collect()
}

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    let world = World::new();
    let numbers = || (0..PACKETS).map(|number| number * 7919);
    let known = || numbers().map(|number| reserved(number % RESERVATIONS));
    let new = || numbers().map(|number| dynamic(number + LEASES));
    let booting: Vec<Vec<u8>> = known().map(ipxe).collect();
    let discover = |mac| plain(Kind::Discover, mac, None);
    let take = |mac| plain(Kind::Request, mac, Some(world.offered(mac)));
    let reserved_discovers: Vec<Vec<u8>> = known().map(discover).collect();
    let reserved_requests: Vec<Vec<u8>> = known().map(take).collect();
    let dynamic_discovers: Vec<Vec<u8>> = new().map(discover).collect();
    let dynamic_requests: Vec<Vec<u8>> = new().map(take).collect();

    let parse = |packet: &Vec<u8>| Request::parse(packet);
    measure(
        &mut criterion,
        "parse: DISCOVER of iPXE, 13 options",
        &booting,
        parse,
    );
    measure(
        &mut criterion,
        "parse: DISCOVER, 4 options",
        &reserved_discovers,
        parse,
    );

    let decide =
        |request: &Request| world.decide(request, |decision, _, _| decision.change.is_some());
    for (name, packets) in [
        ("decide: DISCOVER of iPXE, reserved", &booting),
        ("decide: DISCOVER, reserved", &reserved_discovers),
        ("decide: REQUEST, reserved", &reserved_requests),
        (
            "decide: DISCOVER, new client, /16 half full",
            &dynamic_discovers,
        ),
        (
            "decide: REQUEST, new client, /16 half full",
            &dynamic_requests,
        ),
    ] {
        measure(&mut criterion, name, &requests(packets), decide);
    }

    let at = (Ipv4Addr::new(198, 18, 64, 0), 3600);
    let offer = Answer::Offer {
        address: at.0,
        lease_secs: at.1,
    };
    for (name, packets) in [
        ("encode: OFFER to iPXE", &booting),
        ("encode: OFFER", &reserved_discovers),
    ] {
        let ingress = Ingress {
            server_id: SERVER,
            is_unicast: false,
            authoritative: false,
            now_secs: NOW,
        };
        let requests = requests(packets);
        let decided: Vec<(&Request, View, Option<Bootfile>)> = (requests.iter())
            .map(|request| {
                let view =
                    View::new(request, &world.catalog, &world.bindings, ingress).expect("a subnet");
                let (_, bootfile) =
                    answer(request, Port::Server, Mode::Server, &world.servers, &view);
                (request, view, bootfile)
            })
            .collect();
        measure(
            &mut criterion,
            name,
            &decided,
            |(request, view, bootfile)| reply::encode(request, &offer, bootfile.as_ref(), view),
        );
    }

    for (name, packets) in [
        ("whole: iPXE, reserved, DISCOVER to OFFER", &booting),
        ("whole: reserved, DISCOVER to OFFER", &reserved_discovers),
        ("whole: reserved, REQUEST to ACK", &reserved_requests),
        ("whole: new client, DISCOVER to OFFER", &dynamic_discovers),
        ("whole: new client, REQUEST to ACK", &dynamic_requests),
    ] {
        measure(&mut criterion, name, packets, |packet| world.reply(packet));
    }

    let changes: Vec<_> = (requests(&dynamic_discovers).iter())
        .map(|request| world.decide(request, |decision, _, _| decision.change.clone()))
        .collect();
    measure(
        &mut criterion,
        "bindings: the first change of a batch",
        &changes,
        |change| {
            let mut bindings = world.bindings.clone();
            change
                .iter()
                .for_each(|change| bindings.apply(change.clone()));
            bindings
        },
    );

    tracing_subscriber::fmt()
        .with_target(false)
        .with_ansi(false)
        .with_writer(std::io::sink)
        .init();
    let events: Vec<Event> = (requests(&reserved_discovers).iter())
        .map(|request| {
            Event::Offered(Dhcp {
                iface: "lan0".to_owned(),
                msg_type: Some(request.kind_name()),
                xid: Some(request.xid),
                client: request.client().map(|client| client.to_string()),
                machine: Some("node-1".to_owned()),
                yiaddr: Some(at.0),
                elapsed_us: Some(100),
                ..Dhcp::default()
            })
        })
        .collect();
    measure(&mut criterion, "log line, written nowhere", &events, emit);
    criterion.final_summary();
}
