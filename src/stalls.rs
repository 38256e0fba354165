//! Boots that stand still. In: what happened to a machine, in order, and the time. Out: what should have followed and did not,
//! and where to look; nothing while there is still time, or where nothing should follow.

use crate::model::{Entry, Kind};

/// A machine that stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stall {
    /// The entry that nothing followed.
    pub sequence: u64,
    pub at_ms: u64,
    pub what: &'static str,
    /// Where to look.
    pub hint: &'static str,
}

/// What follows on what, within how many seconds; and what is to be thought where it does not.
struct Rule {
    after: fn(&Entry) -> bool,
    within_secs: u64,
    what: &'static str,
    hint: &'static str,
}

const RULES: [Rule; 8] = [
    Rule {
        after: |e| e.kind == Kind::Offer,
        within_secs: 20,
        what: "offer sent, no request",
        hint: "the offer did not reach it, or it took another server's: look for a second DHCP server, and at VLANs and relay agents on the way",
    },
    Rule {
        after: |e| e.kind == Kind::Ack && names_script(e),
        within_secs: 20,
        what: "iPXE has its address, and did not fetch its script",
        hint: "HTTP does not reach the server: look at firewalls for 80/tcp, and at the route from the machine's subnet",
    },
    Rule {
        after: |e| e.kind == Kind::Ack && !e.what.is_empty() && !names_script(e),
        within_secs: 20,
        what: "address given, network boot program not fetched",
        hint: "the server is not reached: look at firewalls for 69/udp (TFTP), or 80/tcp where the firmware boots over HTTP",
    },
    Rule {
        after: |e| e.kind == Kind::Program,
        within_secs: 20,
        what: "program fetched, no iPXE DHCP within 20 s",
        hint: "the program does not run or does not see the card: look for Secure Boot, which refuses it, or try program = \"ipxe\" for this machine",
    },
    Rule {
        after: |e| e.kind == Kind::Script && !is_sent_away(e),
        within_secs: 30,
        what: "script fetched, no kernel request within 30 s",
        hint: "the kernel's URL leads elsewhere, or the file is not there: look at the machine's console, and for refusals above",
    },
    Rule {
        after: |e| matches!(e.kind, Kind::Kernel | Kind::Initrd) && e.detail == "cut off",
        within_secs: 60,
        what: "a download broke off",
        hint: "the card's driver in iPXE hangs, or the network dropped it: try program = \"snponly\" or \"ipxe\" for this machine, whichever it does not use",
    },
    Rule {
        after: |e| matches!(e.kind, Kind::Kernel | Kind::Initrd),
        within_secs: 120,
        what: "kernel fetched, no document request within 120 s",
        hint: "the kernel has no driver for the card, or too little memory for its RAM disk, or its arguments do not say where documents are: ds=nocloud;s={{ seed_url }}",
    },
    Rule {
        after: |e| e.kind == Kind::NotRendered,
        within_secs: 0,
        what: "a document could not be made",
        hint: "mend the template; the machine asks again or waits at its console",
    },
];

/// Whether the machine stands still, and where.
pub fn find<'a>(entries: impl DoubleEndedIterator<Item = &'a Entry>, now_ms: u64) -> Option<Stall> {
    // What others did to it, and what was told of it before, moves no machine.
    let moves_nothing = |entry: &&Entry| {
        matches!(
            entry.kind,
            Kind::Stalled | Kind::Refused | Kind::Silent | Kind::Reserved
        )
        // UEFI asks for a program once to learn its size alone, and that end is noticed late.
        || (entry.kind == Kind::Program && entry.detail == "cut off")
    };
    let last = entries.rev().find(|entry| !moves_nothing(entry))?;
    let rule = RULES.iter().find(|rule| (rule.after)(last))?;
    let silent_ms = now_ms.saturating_sub(last.until_ms());
    (silent_ms >= rule.within_secs * 1000).then_some(Stall {
        sequence: last.sequence,
        at_ms: last.until_ms(),
        what: rule.what,
        hint: rule.hint,
    })
}

/// Whether it was told of this stall already.
pub fn is_told<'a>(entries: impl DoubleEndedIterator<Item = &'a Entry>, stall: &Stall) -> bool {
    entries
        .rev()
        .take_while(|entry| entry.sequence > stall.sequence)
        .any(|entry| entry.kind == Kind::Stalled && entry.what == stall.what)
}

fn names_script(entry: &Entry) -> bool {
    entry.what.contains("/boot.ipxe?")
}

fn is_sent_away(entry: &Entry) -> bool {
    entry.detail.starts_with("boots its local disk")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Subject;

    fn entry(sequence: u64, kind: Kind, what: &str, detail: &str) -> Entry {
        Entry {
            sequence,
            at_ms: 1000 * sequence,
            subject: Subject::Machine("node-1".into()),
            attempt: 1,
            kind,
            what: what.into(),
            detail: detail.into(),
            bytes: None,
            elapsed_ms: None,
            count: 1,
            last_ms: None,
        }
    }

    #[test]
    fn each_step_that_nothing_follows_is_named_when_its_time_is_over() {
        let script = "http://198.18.0.1/machines/x/boot.ipxe?arch=x86_64&firmware=uefi";
        for (last, secs, what) in [
            (
                entry(1, Kind::Offer, "snponly.efi", ""),
                20,
                "offer sent, no request",
            ),
            (
                entry(1, Kind::Ack, "snponly.efi", ""),
                20,
                "address given, network boot program not fetched",
            ),
            (
                entry(1, Kind::Program, "snponly.efi", ""),
                20,
                "program fetched, no iPXE DHCP within 20 s",
            ),
            (
                entry(1, Kind::Ack, script, ""),
                20,
                "iPXE has its address, and did not fetch its script",
            ),
            (
                entry(1, Kind::Script, "boot.ipxe", "installs, attempt 1"),
                30,
                "script fetched, no kernel request within 30 s",
            ),
            (
                entry(1, Kind::Kernel, "k", "cut off"),
                60,
                "a download broke off",
            ),
            (
                entry(1, Kind::Initrd, "i", ""),
                120,
                "kernel fetched, no document request within 120 s",
            ),
        ] {
            let at = |now_ms| find([&last].into_iter(), now_ms);
            assert_eq!(at(1000 + secs * 1000 - 1), None, "{what}");
            let stall = at(1000 + secs * 1000).expect(what);
            assert_eq!((stall.what, stall.sequence), (what, 1));
        }
    }

    #[test]
    fn where_nothing_should_follow_nothing_is_amiss() {
        for last in [
            entry(1, Kind::Ack, "", "198.18.0.10"),
            entry(
                1,
                Kind::Script,
                "boot.ipxe",
                "boots its local disk: installed",
            ),
            entry(1, Kind::Document, "user-data", ""),
            entry(1, Kind::Lifecycle, "installed", ""),
            entry(1, Kind::CallBack, "progress", ""),
            entry(1, Kind::Program, "snponly.efi", "cut off"),
        ] {
            assert_eq!(find([&last].into_iter(), u64::MAX), None, "{last:?}");
        }
        assert_eq!(find([].into_iter(), u64::MAX), None);
    }

    #[test]
    fn a_stall_is_told_once_and_again_after_another_step() {
        let mut entries = vec![
            entry(1, Kind::Program, "snponly.efi", ""),
            entry(2, Kind::Refused, "autoexec.ipxe", "no such file"),
        ];
        let stall = find(entries.iter(), 60_000).expect("it stands still");
        assert!(!is_told(entries.iter(), &stall));
        entries.push(entry(3, Kind::Stalled, stall.what, stall.hint));
        assert_eq!(find(entries.iter(), 90_000), Some(stall));
        assert!(is_told(entries.iter(), &stall));
        entries.push(entry(4, Kind::Program, "snponly.efi", ""));
        let stall = find(entries.iter(), 120_000).expect("again");
        assert!(!is_told(entries.iter(), &stall));
    }

    #[test]
    fn a_client_that_repeats_itself_is_waited_for_from_its_last_word() {
        let mut offer = entry(1, Kind::Offer, "snponly.efi", "");
        (offer.count, offer.last_ms) = (4, Some(30_000));
        assert_eq!(find([&offer].into_iter(), 49_999), None);
        assert!(find([&offer].into_iter(), 50_000).is_some());
    }
}
