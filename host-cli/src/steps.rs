//! A boot, step by step: bootjackd's log lines and the machine's console lines as sentences for people.
//!
//! In: one line. Out: a `Step`, or nothing for what does not tell a person how far the boot is. Unknown messages, fields and
//! lines that are no JSON are no errors: another version of bootjackd may say more.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::output::{size, span};

/// One line of the lab's view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Whose step: dhcp, tftp, http, vm, …
    pub who: String,
    pub text: String,
    pub tone: Tone,
}

/// How a step is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    Plain,
    Good,
    /// For the curious.
    Faint,
    Bad,
}

impl Step {
    pub fn new(who: &str, text: impl Into<String>, tone: Tone) -> Self {
        Self {
            who: who.to_owned(),
            text: text.into(),
            tone,
        }
    }
}

/// One line of bootjackd's JSON log.
#[derive(Clone, Debug)]
pub struct LogLine(Map<String, Value>);

impl LogLine {
    /// Nothing for a line that is no JSON object.
    pub fn parse(line: &str) -> Option<Self> {
        match serde_json::from_str(line) {
            Ok(Value::Object(map)) => Some(Self(map)),
            _ => None,
        }
    }

    /// What happened: `ready`, `offered`, `served`, …
    pub fn message(&self) -> &str {
        self.text("message")
    }

    /// bootjackd listens on everything.
    pub fn is_ready(&self) -> bool {
        self.message() == "ready"
    }

    /// What no waiting mends, in one sentence: a document that cannot be rendered.
    pub fn fatal(&self) -> Option<String> {
        if self.text("level") != "ERROR" {
            return None;
        }
        (self.message() == "not rendered").then(|| {
            let (document, machine) = (self.text("document"), self.text("machine"));
            format!("{document} for {machine}: {}", self.text("error"))
        })
    }

    /// A kernel or initial RAM disk went out whole.
    pub fn is_boot_file(&self) -> bool {
        self.message() == "served" && boot_file(self.path()).is_some()
    }

    /// The line as a step.
    pub fn step(&self) -> Option<Step> {
        let protocol = match self.text("protocol") {
            "" => "lab",
            protocol => protocol,
        };
        let (text, tone) = match self.message() {
            "listening" => {
                let reason = self.in_brackets(&[self.text("reason")]);
                (
                    format!("listening on {}{reason}", self.text("address")),
                    Tone::Faint,
                )
            }
            "offered" => (
                format!(
                    "offered {} to {}{}",
                    self.text("yiaddr"),
                    self.client(),
                    self.boots()
                ),
                Tone::Plain,
            ),
            "acked" if self.text("yiaddr").is_empty() => (
                format!("answered {}{}", self.client(), self.boots()),
                Tone::Plain,
            ),
            "acked" => (
                format!(
                    "gave {} to {}{}",
                    self.text("yiaddr"),
                    self.client(),
                    self.boots()
                ),
                Tone::Plain,
            ),
            "refused" if protocol == "dhcp" => (
                format!("refused {}: {}", self.client(), self.reason()),
                Tone::Bad,
            ),
            "refused" => (
                format!("refused {}: {}", self.path(), self.reason()),
                Tone::Faint,
            ),
            "silent" => {
                let tone = if self.text("level") == "ERROR" {
                    Tone::Bad
                } else {
                    Tone::Faint
                };
                (
                    format!("no answer to {}: {}", self.client(), self.reason()),
                    tone,
                )
            }
            "served" => self.served(),
            "rendered" => {
                let document = match self.text("document") {
                    "boot.ipxe" => "boot script",
                    document => document,
                };
                (format!("rendered {document}{}", self.amount()), Tone::Plain)
            }
            "not rendered" => (self.fatal()?, Tone::Bad),
            "reserved" => return Some(self.reserved()),
            "stopped" => ("bootjackd has stopped".to_owned(), Tone::Faint),
            "ready" => return None,
            message => match self.text("level") {
                "ERROR" if message == "failed" => (self.failure(), Tone::Bad),
                "ERROR" => (self.unknown(), Tone::Bad),
                "WARN" => (self.unknown(), Tone::Faint),
                _ => return None,
            },
        };
        Some(Step::new(protocol, text, tone))
    }

    fn reserved(&self) -> Step {
        let address = match self.text("address") {
            "" => "an address from a pool",
            address => address,
        };
        let (machine, mac) = (self.text("machine"), self.text("mac"));
        let text = match self.text("change") {
            "deleted" => format!("deleted the reservation of {machine} ({mac})"),
            "updated" => format!("changed the reservation of {machine} ({mac}, {address})"),
            _ => format!("reserved {address} for {machine} ({mac})"),
        };
        Step::new("grpc", text, Tone::Plain)
    }

    fn served(&self) -> (String, Tone) {
        let (path, amount) = (self.path(), self.amount());
        let status = self.number("status").unwrap_or(200);
        if self.0.get("complete") == Some(&Value::Bool(false)) {
            return match self.text("protocol") {
                // Firmware asks for a file to learn its size, and for the file then.
                "tftp" => (
                    format!("client stopped reading {path}{amount}"),
                    Tone::Faint,
                ),
                _ => (format!("{path} broke off{amount}"), Tone::Bad),
            };
        }
        if status >= 400 {
            return (format!("{path}: status {status}"), Tone::Faint);
        }
        let what = boot_file(path).map_or(String::new(), |what| format!("{what} "));
        (format!("served {what}{path}{amount}"), Tone::Plain)
    }

    /// `, 68 KiB in 0.3 s`
    fn amount(&self) -> String {
        let bytes = self.number("bytes").map(size);
        let elapsed = self.number("elapsed_ms").map(Duration::from_millis);
        match (bytes, elapsed) {
            (Some(bytes), Some(elapsed)) if elapsed.as_millis() > 1 => {
                format!(", {bytes} in {}", span(elapsed))
            }
            (Some(bytes), _) => format!(", {bytes}"),
            (None, _) => String::new(),
        }
    }

    /// ` (BIOS, undionly.kpxe)`: what the packet says of the client, and what it is told to boot.
    fn boots(&self) -> String {
        // `0x0007 (x86_64 uefi)`
        let arch = self.text("arch");
        let known = arch
            .split_once('(')
            .and_then(|(_, rest)| rest.strip_suffix(')'));
        let arch = known
            .unwrap_or(arch)
            .replace("bios", "BIOS")
            .replace("uefi", "UEFI");
        let bootfile = self.text("bootfile");
        let bootfile = match bootfile.contains("/boot.ipxe") {
            true => "boot script",
            false => bootfile,
        };
        self.in_brackets(&[&arch, self.text("user_class"), bootfile])
    }

    fn in_brackets(&self, parts: &[&str]) -> String {
        let parts: Vec<&str> = parts
            .iter()
            .copied()
            .filter(|part| !part.is_empty())
            .collect();
        match parts.is_empty() {
            true => String::new(),
            false => format!(" ({})", parts.join(", ")),
        }
    }

    /// `failed` lines name what failed.
    fn failure(&self) -> String {
        match self.text("about") {
            "" => self.text("error").to_owned(),
            about => format!("{about}: {}", self.text("error")),
        }
    }

    /// A line this version does not know, in its own words.
    fn unknown(&self) -> String {
        let parts = [
            "about", "machine", "mac", "path", "detail", "reason", "error",
        ]
        .map(|key| self.text(key));
        format!("{}{}", self.message(), self.in_brackets(&parts))
    }

    fn client(&self) -> &str {
        match self.text("mac") {
            "" => "a client",
            mac => mac,
        }
    }

    fn reason(&self) -> String {
        self.text("reason").replace('_', " ")
    }

    fn path(&self) -> &str {
        let path = self.text("path");
        let path = path
            .split('?')
            .next()
            .unwrap_or(path)
            .trim_start_matches('/');
        path.strip_prefix("files/").unwrap_or(path)
    }

    fn text(&self, key: &str) -> &str {
        self.0.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    fn number(&self, key: &str) -> Option<u64> {
        let value = self.0.get(key)?;
        value.as_u64().or_else(|| value.as_str()?.parse().ok())
    }
}

/// What a file is to a machine that boots, judged by its name.
fn boot_file(path: &str) -> Option<&'static str> {
    let file = path.rsplit('/').next().unwrap_or(path);
    match file {
        _ if file.starts_with("vmlinu") || file == "linux" => Some("kernel"),
        _ if file.starts_with("initr") => Some("initrd"),
        _ => None,
    }
}

/// The last line of the lab's guests once they have done all they were told.
pub const GUEST_DONE: &str = "bootjack-guest: done";

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

/// What a line of the machine's console tells about the boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Milestone {
    /// A step on the way.
    Step(Step),
    /// The guest printed its marker.
    Done,
    /// No waiting mends it: the sentence says what went wrong.
    Failed(String),
}

/// Reads one line of the console.
pub fn milestone(line: &str) -> Option<Milestone> {
    let step = |who: &str, text: String| Some(Milestone::Step(Step::new(who, text, Tone::Plain)));
    if line.contains(GUEST_DONE) {
        return Some(Milestone::Done);
    }
    if let Some((_, panic)) = line.split_once("Kernel panic - not syncing: ") {
        return Some(Milestone::Failed(format!("its kernel panicked: {panic}")));
    }
    // SeaBIOS after its last device; OVMF leaves to its menu or shell.
    if line.starts_with("No bootable device") || line.starts_with("UEFI Interactive Shell") {
        return Some(Milestone::Failed(
            "its firmware found nothing to boot".to_owned(),
        ));
    }
    if let Some((_, rest)) = line.split_once("Linux version ") {
        let release = rest.split_whitespace().next()?;
        return step("kernel", format!("Linux {release} is running"));
    }
    if let Some((version, rest)) = line.split_once(" finished at ") {
        let version = version
            .rsplit("Cloud-init v. ")
            .next()?
            .split_whitespace()
            .next()?;
        let source = rest.split_once("Datasource ").map(|(_, source)| source);
        let source = source.and_then(|source| source.split(['.', ' ', '[']).next());
        let source = source.map_or(String::new(), |source| format!(" with {source}"));
        return step("guest", format!("cloud-init {version} finished{source}"));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(line: &str) -> String {
        match LogLine::parse(line).and_then(|line| line.step()) {
            Some(step) => format!("{} {}", step.who, step.text),
            None => String::new(),
        }
    }

    #[test]
    fn every_log_line_of_a_boot_becomes_one_short_sentence() {
        for (line, sentence) in [
            (
                r#"{"level":"INFO","message":"listening","protocol":"tftp","address":"198.18.0.1:69","reason":"tftp.listen"}"#,
                "tftp listening on 198.18.0.1:69 (tftp.listen)",
            ),
            (
                r#"{"message":"offered","protocol":"dhcp","mac":"52:54:00:00:00:01","yiaddr":"198.18.0.10","arch":"0x0000 (x86_64 bios)","bootfile":"undionly.kpxe"}"#,
                "dhcp offered 198.18.0.10 to 52:54:00:00:00:01 (x86_64 BIOS, undionly.kpxe)",
            ),
            (
                r#"{"message":"acked","protocol":"dhcp","mac":"52:54:00:00:00:01","yiaddr":"198.18.0.10","arch":"0x0007 (x86_64 uefi)","user_class":"iPXE","bootfile":"http://198.18.0.1/machines/52-54-00-00-00-01/boot.ipxe?arch=x86_64&firmware=uefi"}"#,
                "dhcp gave 198.18.0.10 to 52:54:00:00:00:01 (x86_64 UEFI, iPXE, boot script)",
            ),
            (
                r#"{"message":"acked","protocol":"dhcp","mac":"52:54:00:00:00:01","yiaddr":"198.18.0.10"}"#,
                "dhcp gave 198.18.0.10 to 52:54:00:00:00:01",
            ),
            (
                r#"{"level":"INFO","message":"silent","protocol":"dhcp","mac":"52:54:00:00:00:09","reason":"no_address_left"}"#,
                "dhcp no answer to 52:54:00:00:00:09: no address left",
            ),
            (
                r#"{"message":"served","protocol":"tftp","path":"undionly.kpxe","bytes":70085,"elapsed_ms":312,"complete":true,"status":200}"#,
                "tftp served undionly.kpxe, 68 KiB in 0.3 s",
            ),
            (
                r#"{"message":"rendered","protocol":"http","document":"boot.ipxe","machine":"node-1","bytes":312,"elapsed_ms":1}"#,
                "http rendered boot script, 312 bytes",
            ),
            (
                r#"{"message":"served","protocol":"http","path":"/files/debian-x86_64/vmlinuz","bytes":8200000,"elapsed_ms":900,"status":200}"#,
                "http served kernel debian-x86_64/vmlinuz, 7.8 MiB in 0.9 s",
            ),
            (
                r#"{"message":"served","protocol":"http","path":"debian-x86_64/initrd.img","bytes":111149056,"elapsed_ms":12400,"status":200}"#,
                "http served initrd debian-x86_64/initrd.img, 106 MiB in 12 s",
            ),
            (
                r#"{"message":"served","protocol":"http","path":"/files/x","bytes":5,"elapsed_ms":2,"complete":false}"#,
                "http x broke off, 5 bytes in 2 ms",
            ),
            (
                r#"{"level":"WARN","message":"refused","protocol":"tftp","path":"autoexec.ipxe","reason":"not found"}"#,
                "tftp refused autoexec.ipxe: not found",
            ),
            (
                r#"{"level":"ERROR","message":"not rendered","protocol":"http","document":"user-data","machine":"node-1","error":"template user-data.yaml.j2 line 12: `proxy` is not defined"}"#,
                "http user-data for node-1: template user-data.yaml.j2 line 12: `proxy` is not defined",
            ),
            (
                r#"{"level":"ERROR","message":"failed","about":"store","error":"no space left on device"}"#,
                "lab store: no space left on device",
            ),
            (
                r#"{"level":"INFO","message":"reserved","machine":"node-1","mac":"52:54:00:00:00:01","address":"198.18.0.10","change":"created","revision":1}"#,
                "grpc reserved 198.18.0.10 for node-1 (52:54:00:00:00:01)",
            ),
        ] {
            assert_eq!(shown(line), sentence);
        }
    }

    #[test]
    fn what_a_later_version_says_is_shown_only_if_it_is_bad() {
        assert_eq!(
            shown(r#"{"level":"INFO","message":"pondered","depth":3}"#),
            ""
        );
        assert_eq!(
            shown(
                r#"{"level":"WARN","message":"noticed","about":"dhcp","detail":"another server answers"}"#
            ),
            "lab noticed (dhcp, another server answers)"
        );
        for line in [
            "",
            "not json",
            "[1]",
            "3",
            r#"{"bytes":"many"}"#,
            r#"{"message":7}"#,
        ] {
            assert_eq!(shown(line), "", "{line}");
        }
    }

    #[test]
    fn only_what_no_waiting_mends_is_fatal() {
        let fatal = |line: &str| LogLine::parse(line).and_then(|line| line.fatal());
        assert_eq!(
            fatal(
                r#"{"level":"ERROR","message":"not rendered","document":"user-data","machine":"node-1","error":"e"}"#
            ),
            Some("user-data for node-1: e".to_owned())
        );
        assert_eq!(
            fatal(r#"{"level":"ERROR","message":"silent","reason":"no_pool"}"#),
            None
        );
        assert_eq!(
            fatal(r#"{"level":"ERROR","message":"failed","about":"http","error":"e"}"#),
            None,
            "bootjackd ends if it cannot go on"
        );
        assert_eq!(fatal(r#"{"level":"INFO","message":"served"}"#), None);
    }

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
        let step = |who, text: &str| Some(Milestone::Step(Step::new(who, text, Tone::Plain)));
        for (line, wanted) in [
            (
                "[    0.000000] Linux version 6.1.0-50-cloud-amd64 (debian-kernel@lists.debian.org) (gcc-12",
                step("kernel", "Linux 6.1.0-50-cloud-amd64 is running"),
            ),
            (
                "[   41.2] cloud-init[512]: Cloud-init v. 22.4.2 finished at Fri, 01 Aug 2026 10:00:00 +0000. Datasource DataSourceNoCloudNet [seed=cmdline,/x][dsmode=net].  Up 41.10 seconds",
                step(
                    "guest",
                    "cloud-init 22.4.2 finished with DataSourceNoCloudNet",
                ),
            ),
            ("bootjack-guest: done", Some(Milestone::Done)),
            (
                "[    1.3] Kernel panic - not syncing: VFS: Unable to mount root fs",
                Some(Milestone::Failed(
                    "its kernel panicked: VFS: Unable to mount root fs".to_owned(),
                )),
            ),
            (
                "No bootable device.",
                Some(Milestone::Failed(
                    "its firmware found nothing to boot".to_owned(),
                )),
            ),
            ("Debian GNU/Linux 12 node-1 ttyS0", None),
        ] {
            assert_eq!(milestone(line), wanted, "{line}");
        }
    }
}
