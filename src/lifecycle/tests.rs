use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::model::{BootFiles, Cpu};

const HOUR: u64 = 3600;

fn profile(install: Option<Install>) -> Profile {
    let files = BootFiles {
        kernel: "k".into(),
        initrd: Vec::new(),
        args: Vec::new(),
    };
    Profile {
        name: "p".into(),
        boot: BTreeMap::from([(Cpu::X86_64, files)]),
        install,
        ..Profile::default()
    }
}

fn installing(retries: u32) -> Profile {
    profile(Some(Install {
        deadline: Duration::from_secs(HOUR),
        retries,
    }))
}

fn token(n: u8) -> Token {
    Token([n; 16])
}

fn fetched(n: u8) -> Signal {
    Signal::ScriptFetched {
        peer: None,
        fresh: token(n),
    }
}

fn said(n: u8, said: Said) -> Signal {
    let token = token(n);
    Signal::CallBack { token, said }
}

fn failed(reason: &str) -> Said {
    Said::Failed {
        reason: reason.into(),
        log: "the log's end".into(),
    }
}

/// The machine after the signal, which must be taken.
fn after(machine: &Machine, profile: &Profile, signal: Signal, now: u64) -> Machine {
    match advance(machine, Some(profile), &signal, now) {
        Step::Moved(next) => next,
        Step::Same => machine.clone(),
        Step::Refused => panic!("{signal:?} is refused in {machine:?}"),
    }
}

fn is_refused(machine: &Machine, profile: &Profile, signal: Signal, now: u64) -> bool {
    advance(machine, Some(profile), &signal, now) == Step::Refused
}

#[test]
fn a_machine_is_armed_by_its_creation_installs_once_and_boots_its_disk_ever_after() {
    let p = installing(0);
    let new = created("node-1", Some(&p), 10);
    assert_eq!((&new.phase, new.attempt), (&Phase::Armed, 1));
    assert_eq!(
        may_netboot(Some(&new), Some(&p), 11),
        Verdict::Serve { attempt: 1 }
    );
    let running = after(&new, &p, fetched(1), 20);
    assert_eq!(
        (&running.phase, running.since_secs, running.token),
        (&Phase::Installing, 20, Some(token(1)))
    );
    // One boot fetches its script more than once: it is the same attempt, with the same token.
    let again = after(&running, &p, fetched(2), 30);
    assert_eq!(again, running);
    let done = after(&running, &p, said(1, Said::Done), 40);
    assert_eq!(done.phase, Phase::Installed);
    for now in [40, 10 * HOUR, u64::MAX / 2] {
        let verdict = may_netboot(Some(&done), Some(&p), now);
        assert_eq!(verdict, Verdict::LocalDisk(Why::Installed));
    }
}

#[test]
fn a_profile_that_installs_nothing_is_served_on_every_boot() {
    let live = profile(None);
    assert_eq!(
        may_netboot(None, Some(&live), 0),
        Verdict::Serve { attempt: 0 }
    );
    let machine = created("node-1", Some(&live), 0);
    assert_eq!(machine.phase, Phase::Idle);
    assert_eq!(
        may_netboot(Some(&machine), Some(&live), 0),
        Verdict::Serve { attempt: 0 }
    );
    assert_eq!(
        may_netboot(Some(&machine), None, 0),
        Verdict::LocalDisk(Why::NothingToBoot)
    );
    let refused = obey(&machine, Some(&live), Command::Arm, 0).expect_err("nothing to arm for");
    assert_eq!(
        refused.to_string(),
        "profile p installs nothing; its machines are served on every boot (profile.toml: installs = true)"
    );
}

#[test]
fn another_profile_does_not_arm_what_nobody_armed() {
    let machine = created("node-1", Some(&profile(None)), 0);
    let p = installing(0);
    for known in [Some(&machine), None] {
        assert_eq!(
            may_netboot(known, Some(&p), 1),
            Verdict::LocalDisk(Why::NotArmed)
        );
    }
    let armed = obey(&machine, Some(&p), Command::Arm, 5).expect("armed");
    assert_eq!(
        may_netboot(Some(&armed), Some(&p), 6),
        Verdict::Serve { attempt: 1 }
    );
}

#[test]
fn an_installed_machine_is_installed_again_by_reinstall_alone() {
    let p = installing(0);
    let running = after(&created("node-1", Some(&p), 0), &p, fetched(1), 1);
    for phase in [&running, &after(&running, &p, said(1, Said::Done), 2)] {
        assert!(matches!(
            obey(phase, Some(&p), Command::Arm, 3),
            Err(NotNow::UseReinstall(_))
        ));
        let network = Command::NextBoot(Some(BootFrom::Network));
        let asked = obey(phase, Some(&p), network, 3);
        assert_eq!(asked.is_err(), phase.phase == Phase::Installed);
    }
    let again = obey(&running, Some(&p), Command::Reinstall, 3).expect("it may");
    assert_eq!((again.attempt, &again.phase), (2, &Phase::Armed));
    assert!(is_refused(&again, &p, said(1, Said::Done), 4));
    let running = after(&again, &p, fetched(2), 5);
    assert_eq!(running.token, Some(token(2)));
    for late in [Said::Started, Said::Progress, Said::Done, failed("late")] {
        assert!(
            is_refused(&running, &p, said(1, late), 6),
            "of attempt 1, in attempt 2"
        );
    }
}

#[test]
fn a_deadline_fails_the_attempt_or_arms_the_next_while_retries_remain() {
    let p = installing(1);
    let running = after(&created("node-1", Some(&p), 0), &p, fetched(1), 100);
    assert_eq!(
        advance(&running, Some(&p), &Signal::Tick, 100 + HOUR - 1),
        Step::Same
    );
    // Nobody has to have looked: what is stored and the time say it.
    assert_eq!(
        may_netboot(Some(&running), Some(&p), 100 + HOUR),
        Verdict::Serve { attempt: 2 }
    );
    let second = after(&running, &p, Signal::Tick, 100 + HOUR);
    assert_eq!(
        (second.attempt, &second.phase, second.retries_used),
        (2, &Phase::Armed, 1)
    );
    let running = after(&second, &p, fetched(2), 2 * HOUR);
    assert_eq!(
        may_netboot(Some(&running), Some(&p), 3 * HOUR),
        Verdict::LocalDisk(Why::Failed)
    );
    let over = after(&running, &p, Signal::Tick, 3 * HOUR);
    let Phase::Failed(failure) = &over.phase else {
        panic!("{over:?}");
    };
    assert_eq!(failure.reason, "deadline");
    // It was slow, and is done: its word counts more than our guess.
    let done = after(&over, &p, said(2, Said::Done), 4 * HOUR);
    assert_eq!(done.phase, Phase::Installed);
    assert!(is_refused(&over, &p, said(2, Said::Progress), 4 * HOUR));
}

#[test]
fn a_failure_is_kept_with_its_reason_and_log_and_repeated_words_change_nothing() {
    let p = installing(3);
    let running = after(&created("node-1", Some(&p), 0), &p, fetched(1), 1);
    for idle in [Said::Started, Said::Progress] {
        assert_eq!(
            advance(&running, Some(&p), &said(1, idle), 2),
            Step::Same,
            "the timeline has it"
        );
    }
    let over = after(&running, &p, said(1, failed("disk full")), 2);
    let Phase::Failed(failure) = &over.phase else {
        panic!("{over:?}");
    };
    assert_eq!(
        (failure.reason.as_str(), failure.log.as_str()),
        ("disk full", "the log's end")
    );
    assert_eq!(
        may_netboot(Some(&over), Some(&p), 3),
        Verdict::LocalDisk(Why::Failed)
    );
    assert_eq!(
        advance(&over, Some(&p), &said(1, failed("again")), 3),
        Step::Same
    );
    assert!(is_refused(&over, &p, said(1, Said::Done), 3));
    let armed = obey(&over, Some(&p), Command::Arm, 4).expect("it may");
    assert_eq!(armed.attempt, 2);
    let done = after(&running, &p, said(1, Said::Done), 2);
    assert_eq!(
        advance(&done, Some(&p), &said(1, Said::Done), 9),
        Step::Same
    );
    assert!(is_refused(&done, &p, said(1, failed("late")), 9));
}

#[test]
fn the_installed_system_says_that_it_runs() {
    let p = installing(0);
    let running = after(&created("node-1", Some(&p), 0), &p, fetched(1), 1);
    let done = after(&running, &p, said(1, Said::Done), 2);
    let ready = after(&done, &p, said(1, Said::PhoneHome), 3);
    assert_eq!(
        (&ready.phase, ready.ready_secs),
        (&Phase::Installed, Some(3))
    );
    assert_eq!(after(&ready, &p, said(1, Said::PhoneHome), 9), ready);
    let at_once = after(&running, &p, said(1, Said::PhoneHome), 4);
    assert_eq!(
        (&at_once.phase, at_once.ready_secs),
        (&Phase::Installed, Some(4))
    );
}

#[test]
fn hold_rescue_and_one_boot_are_words_over_the_phase_and_leave_it_alone() {
    let p = installing(0);
    let new = created("node-1", Some(&p), 0);
    let verdict = |machine: &Machine, now| may_netboot(Some(machine), Some(&p), now);
    let word = |machine: &Machine, command| obey(machine, Some(&p), command, 1).expect("it may");
    let held = word(&new, Command::Hold);
    assert_eq!(verdict(&held, 2), Verdict::Refuse(Why::Held));
    assert_eq!(
        obey(&held, Some(&p), Command::Reinstall, 2),
        Err(NotNow::Held)
    );
    assert_eq!(after(&held, &p, fetched(1), 2), held);
    assert_eq!(word(&held, Command::Release), new);
    let rescue = word(&new, Command::Rescue);
    assert_eq!(verdict(&rescue, 2), Verdict::Rescue);

    for (from, wanted) in [
        (BootFrom::Disk, Verdict::LocalDisk(Why::NextBoot)),
        (BootFrom::Rescue, Verdict::Rescue),
        (BootFrom::Network, Verdict::Serve { attempt: 1 }),
    ] {
        let asked = word(&held, Command::NextBoot(Some(from)));
        assert_eq!(verdict(&asked, 2), wanted);
        let taken = after(&asked, &p, fetched(1), 10);
        assert_eq!(verdict(&taken, 11), wanted, "a retry at once");
        let later = 10 + NEXT_BOOT_GRACE_SECS;
        assert_eq!(verdict(&taken, later), Verdict::Refuse(Why::Held));
        assert_eq!(after(&taken, &p, fetched(1), later).next_boot, None);
    }
}

#[derive(Clone, Debug)]
enum Act {
    Signal(Signal),
    Command(Command),
}

fn acts() -> impl Strategy<Value = Act> {
    let said_of = prop_oneof![
        Just(Said::Started),
        Just(Said::Progress),
        Just(Said::Done),
        Just(failed("x")),
        Just(Said::PhoneHome),
    ];
    let from = prop_oneof![
        Just(BootFrom::Disk),
        Just(BootFrom::Network),
        Just(BootFrom::Rescue)
    ];
    prop_oneof![
        (0_u8..8).prop_map(|n| Act::Signal(fetched(n))),
        ((0_u8..8), said_of).prop_map(|(n, what)| Act::Signal(said(n, what))),
        Just(Act::Signal(Signal::Tick)),
        Just(Act::Command(Command::Arm)),
        Just(Act::Command(Command::Reinstall)),
        Just(Act::Command(Command::Hold)),
        Just(Act::Command(Command::Release)),
        Just(Act::Command(Command::Rescue)),
        proptest::option::of(from).prop_map(|from| Act::Command(Command::NextBoot(from))),
    ]
}

proptest! {
    /// Whatever happens in whatever order: an installation is served only in an attempt that somebody asked for and that is
    /// not over.
    #[test]
    fn nothing_is_installed_that_nobody_asked_for(
        acts in proptest::collection::vec((acts(), 0_u64..2 * HOUR), 0..60),
        retries in 0_u32..3,
    ) {
        let p = installing(retries);
        let mut machine = created("node-1", Some(&p), 0);
        let mut now = 0;
        // Attempts that were asked for, with those that their retries allow.
        let mut allowed = 1 + retries;
        for (act, passed) in acts {
            now += passed;
            let before = machine.clone();
            match act {
                Act::Signal(signal) => {
                    if let Step::Moved(next) = advance(&machine, Some(&p), &signal, now) {
                        machine = next;
                    }
                    let was_over = matches!(before.phase, Phase::Installed | Phase::Idle);
                    prop_assert!(!was_over || machine.phase == before.phase, "{signal:?} in {before:?}");
                }
                Act::Command(command) => {
                    if let Ok(next) = obey(&machine, Some(&p), command, now) {
                        machine = next;
                    }
                    if machine.attempt != before.attempt {
                        allowed = machine.attempt + retries;
                    }
                }
            }
            prop_assert!(machine.attempt <= allowed);
            match may_netboot(Some(&machine), Some(&p), now) {
                Verdict::Serve { attempt } => {
                    prop_assert!(attempt >= machine.attempt && attempt <= allowed);
                    prop_assert!(matches!(machine.phase, Phase::Armed | Phase::Installing));
                    let asked = next_boot(&machine, now);
                    prop_assert!(machine.mode == Mode::Normal || asked == Some(BootFrom::Network));
                }
                Verdict::Rescue => prop_assert!(
                    machine.mode == Mode::Rescue || machine.next_boot.is_some()
                ),
                Verdict::LocalDisk(_) | Verdict::Refuse(_) => {}
            }
        }
    }
}
