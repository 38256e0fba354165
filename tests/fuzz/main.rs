//! Any octets → request → decision → reply: packets of real firmware, damaged in every way that a network or a stranger can
//! think of, one after the other against one world that remembers.
//!
//! In: `tests/packets/*.hex`; `BOOTJACK_FUZZ_CASES` (150 000) and `BOOTJACK_FUZZ_SEED`, which together say every octet.
//! Out: the first case that breaks a rule, in hexadecimal.

mod mutate;
mod rules;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use mutate::{Mutator, Random};
use world::World;

/// Some ten seconds of a debug build.
const CASES: u64 = 150_000;

fn setting(name: &str, default: u64) -> u64 {
    let text = std::env::var(name).ok();
    text.map_or(default, |text| text.parse().expect("a number"))
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

#[test]
fn no_packet_makes_the_server_panic_lie_forget_or_grow() {
    let seed = setting("BOOTJACK_FUZZ_SEED", 2131);
    let cases = setting("BOOTJACK_FUZZ_CASES", CASES);
    let mut mutator = Mutator::new(seed);
    let mut random = Random::new(seed ^ 0x5eed);
    let mut world = World::new();
    for case in 0..cases {
        let octets = mutator.next();
        let outcome = catch_unwind(AssertUnwindSafe(|| world.send(&octets, &mut random)));
        match outcome {
            Ok(Ok(reply)) => mutator.learn(&octets, reply.as_deref()),
            Ok(Err(broken)) => panic!("case {case}, seed {seed}: {broken}\n{}", hex(&octets)),
            Err(_) => panic!("case {case}, seed {seed}: it panicked\n{}", hex(&octets)),
        }
    }
    let seen = world.seen();
    assert!(
        cases < CASES || seen.iter().all(|(_, count)| *count >= 20),
        "the cases no longer reach all that is to be shown: {seen:?}"
    );
}
