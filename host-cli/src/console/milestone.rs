//! How far a boot is, by one line of a console. In: the line, as `Console` reads it. Out: what it tells a person, or that no
//! waiting will mend it. What is unknown says nothing.

/// What a line of the machine's console tells about the boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Milestone {
    /// A step on the way.
    Step(String),
    /// No waiting mends it: how a sentence goes on, node-1: …
    Failed(String),
}

/// Reads one line of the console.
pub fn milestone(line: &str) -> Option<Milestone> {
    if let Some((_, panic)) = line.split_once("Kernel panic - not syncing: ") {
        return Some(Milestone::Failed(format!("its kernel panicked: {panic}")));
    }
    // SeaBIOS after its last device; OVMF leaves to its menu or shell.
    if line.starts_with("No bootable device") || line.starts_with("UEFI Interactive Shell") {
        let text = "its firmware found nothing to boot";
        return Some(Milestone::Failed(text.to_owned()));
    }
    if let Some((_, rest)) = line.split_once("Linux version ") {
        let release = rest.split_whitespace().next()?;
        return Some(Milestone::Step(format!("Linux {release} is running")));
    }
    let (version, rest) = line.split_once(" finished at ")?;
    let version = version.rsplit("Cloud-init v. ").next()?;
    let version = version.split_whitespace().next()?;
    let source = rest.split_once("Datasource ").map(|(_, source)| source);
    let source = source.and_then(|source| source.split(['.', ' ', '[']).next());
    let source = source.map_or_else(String::new, |source| format!(" with {source}"));
    Some(Milestone::Step(format!(
        "cloud-init {version} finished{source}"
    )))
}

/// A line of the console that says only that all is well: kernel messages, and what systemd has started.
///
/// It is left out of the calm view. cloud-init's lines have the kernel's time stamps and are kept.
pub fn is_chatter(line: &str) -> bool {
    let line = line.trim_start();
    if line.contains("cloud-init[") || line.contains("bootjack-guest: ") {
        // cloud-init's tables of addresses and routes.
        return line.contains(" ci-info: ");
    }
    let Some((mark, rest)) = line.strip_prefix('[').and_then(|line| line.split_once(']')) else {
        let verbs = ["Starting ", "Mounting ", "Expecting device ", "Stopping "];
        return verbs.iter().any(|verb| line.starts_with(verb)) && line.ends_with("...");
    };
    let mark = mark.trim();
    let seconds = mark.contains('.') && mark.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    // `*` moves while systemd waits.
    let waiting = !mark.is_empty() && mark.bytes().all(|b| b == b'*' || b == b' ');
    let panic =
        rest.contains("Kernel panic") || rest.contains("Oops") || rest.contains("Call Trace");
    mark == "OK" || waiting || (seconds && !panic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_says_only_that_all_is_well_is_chatter() {
        for (line, chatter) in [
            ("[    1.797953] Segment Routing with IPv6", true),
            (
                "[  OK  ] Mounted dev-mqueue.mount - POSIX Message Queue File System.",
                true,
            ),
            (
                "         Starting dbus.service - D-Bus System Message Bus...",
                true,
            ),
            (
                "[*     ] (1 of 2) Job systemd-resolved.service/start running (7s / 1min 33s)",
                true,
            ),
            (
                "[FAILED] Failed to start ssh.service - OpenBSD Secure Shell server.",
                false,
            ),
            (
                "[   42.698948] cloud-init[287]: Cloud-init v. 22.4.2 running 'modules:config'",
                false,
            ),
            (
                "[    1.3] Kernel panic - not syncing: VFS: Unable to mount root fs",
                false,
            ),
            ("Welcome to Debian GNU/Linux 12 (bookworm)!", false),
            ("iPXE initialising devices...ok", false),
            ("bootjack-guest: done", false),
            ("[] x", false),
        ] {
            assert_eq!(is_chatter(line), chatter, "{line}");
        }
    }

    #[test]
    fn the_console_tells_how_far_the_guest_is() {
        let step = |text: &str| Some(Milestone::Step(text.to_owned()));
        let failed = |text: &str| Some(Milestone::Failed(text.to_owned()));
        for (line, wanted) in [
            (
                "[    0.000000] Linux version 6.1.0-50-cloud-amd64 (debian-kernel@lists.debian.org) (gcc-12",
                step("Linux 6.1.0-50-cloud-amd64 is running"),
            ),
            (
                "[   41.2] cloud-init[512]: Cloud-init v. 22.4.2 finished at Fri, 01 Aug 2026 10:00:00 +0000. Datasource DataSourceNoCloudNet [seed=cmdline,/x][dsmode=net].  Up 41.10 seconds",
                step("cloud-init 22.4.2 finished with DataSourceNoCloudNet"),
            ),
            (
                "[    1.3] Kernel panic - not syncing: VFS: Unable to mount root fs",
                failed("its kernel panicked: VFS: Unable to mount root fs"),
            ),
            (
                "No bootable device.  Retrying in 60 seconds.",
                failed("its firmware found nothing to boot"),
            ),
            ("bootjack-guest: done", None),
            ("Debian GNU/Linux 12 node-1 ttyS0", None),
        ] {
            assert_eq!(milestone(line), wanted, "{line}");
        }
    }
}
