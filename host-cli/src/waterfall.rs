//! A boot as a waterfall. In: what happened to a machine, in order. Out: a line for each, with when it began, how long it took and
//! where that lies in the whole; a line between boots that lie apart.

use std::time::Duration;

use bootjack_api::v1::Event;
use bootjack_api::v1::event::Kind;
use prost_types::Timestamp;

use crate::output::{Style, size, span};

/// The whole of a boot, in columns.
const WIDTH: usize = 24;
/// What lies further apart is another boot.
const APART: Duration = Duration::from_secs(600);

/// The lines; nothing for no events.
pub fn lines(events: &[Event], style: Style) -> Vec<String> {
    let mut lines = Vec::new();
    let first_boot = first_boot(events);
    for boot in boots(events) {
        if !lines.is_empty() {
            lines.push(String::new());
        }
        let began = boot.iter().map(began_ms).min().unwrap_or_default();
        let ended = boot.iter().map(ended_ms).max().unwrap_or_default();
        let at = Timestamp {
            seconds: i64::try_from(began / 1000).unwrap_or_default(),
            nanos: 0,
        };
        let whole = span(millis(ended - began));
        lines.push(style.bold(&format!("from {at}, {whole}")));
        for event in boot {
            let mut line = line(event, began, ended, style);
            if first_boot.is_some_and(|first| std::ptr::eq(first, event)) {
                line.push_str(&style.green("   first boot of what was installed"));
            }
            lines.push(line);
        }
    }
    lines
}

/// Where the installed system asks for its address: the first request without a boot file, in a boot after the installer's.
fn first_boot(events: &[Event]) -> Option<&Event> {
    let is_done = |event: &&Event| event.kind() == Kind::Lifecycle && event.what == "installed";
    let is_power_on = |event: &&Event| matches!(event.kind(), Kind::Offer | Kind::Script);
    let mut events = events.iter();
    events.find(is_done)?;
    events.find(is_power_on)?;
    events.find(|event| event.kind() == Kind::Ack && event.what.is_empty())
}

/// Events that belong together.
fn boots(events: &[Event]) -> Vec<&[Event]> {
    let apart = u64::try_from(APART.as_millis()).unwrap_or(u64::MAX);
    events
        .chunk_by(|one, next| began_ms(next).saturating_sub(ended_ms(one)) < apart)
        .collect()
}

fn line(event: &Event, began: u64, ended: u64, style: Style) -> String {
    let (from, to) = (began_ms(event), ended_ms(event));
    let after = format!("+{:.1}s", (from - began) as f64 / 1000.0);
    let took = match (event.elapsed_ms, event.count) {
        (Some(elapsed), _) => span(millis(elapsed)),
        (None, 2..) => span(millis(to - from)),
        _ => String::new(),
    };
    let bar = bar(from - began, to - began, ended - began);
    let text = text(event);
    let painted = match event.kind() {
        Kind::Stalled | Kind::NotRendered | Kind::NotSent => style.red(&text),
        Kind::Lifecycle if event.what == "failed" => style.red(&text),
        Kind::Lifecycle if matches!(event.what.as_str(), "installed" | "ready") => {
            style.green(&text)
        }
        Kind::Silent | Kind::Refused | Kind::Nak => style.dim(&text),
        _ => text,
    };
    format!("{after:>9} {took:>7} {bar} {painted}")
}

/// Where it lies in the whole: at least one column, so that what took no time is seen too.
fn bar(from: u64, to: u64, whole: u64) -> String {
    let column = |at: u64| {
        let part = at as f64 / whole.max(1) as f64;
        (part * WIDTH as f64) as usize
    };
    let first = column(from).min(WIDTH - 1);
    let last = column(to).clamp(first + 1, WIDTH);
    (0..WIDTH)
        .map(|at| match at {
            at if (first..last).contains(&at) => '█',
            _ => '·',
        })
        .collect()
}

/// The event in words.
/// The event as a sentence without its machine.
pub fn text(event: &Event) -> String {
    let (what, detail) = (event.what.as_str(), event.detail.as_str());
    let file = what.rsplit('/').next().unwrap_or(what);
    let file = file.split('?').next().unwrap_or(file);
    let (noun, told) = match event.kind() {
        Kind::Offer => ("discover → offer", vec![detail, file]),
        Kind::Ack => ("request → ack", vec![detail, file]),
        Kind::Nak => ("request → nak", vec![detail]),
        Kind::Silent => ("no answer", vec![what, detail]),
        Kind::NotSent => ("not sent", vec![detail]),
        Kind::Program => ("program", vec![what, detail]),
        Kind::Script => ("script", vec![detail]),
        Kind::Kernel => ("kernel", vec![what, detail]),
        Kind::Initrd => ("initrd", vec![what, detail]),
        Kind::File => ("file", vec![what, detail]),
        Kind::Document => ("document", vec![what]),
        Kind::NotRendered => ("not rendered", vec![what, detail]),
        Kind::Refused => ("refused", vec![what, detail]),
        Kind::CallBack => ("call-back", vec![what, detail]),
        Kind::Lifecycle => ("is", vec![what, detail]),
        Kind::Reserved => ("reservation", vec![what]),
        Kind::Stalled => ("stalled", vec![what, detail]),
        Kind::Unspecified => ("event", vec![what, detail]),
    };
    let told: Vec<&str> = told.into_iter().filter(|text| !text.is_empty()).collect();
    let mut text = format!("{noun:<16} {}", told.join(", "));
    if let Some(bytes) = event.bytes.filter(|_| event.kind() != Kind::Script) {
        text.push_str(&format!(", {}", size(bytes)));
    }
    if event.count > 1 {
        text.push_str(&format!(" ({} times)", event.count));
    }
    text.trim_end().to_owned()
}

/// When it began: what is served is told when it is over.
fn began_ms(event: &Event) -> u64 {
    at_ms(event.event_time).saturating_sub(event.elapsed_ms.unwrap_or_default())
}

fn ended_ms(event: &Event) -> u64 {
    at_ms(event.last_time.or(event.event_time))
}

fn at_ms(time: Option<Timestamp>) -> u64 {
    let time = time.unwrap_or_default();
    let secs = u64::try_from(time.seconds).unwrap_or_default();
    secs * 1000 + u64::try_from(time.nanos).unwrap_or_default() / 1_000_000
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(ms: u64, kind: Kind, what: &str, detail: &str) -> Event {
        let at = 1_800_000_000_000 + ms;
        let time = Timestamp {
            seconds: i64::try_from(at / 1000).unwrap(),
            nanos: i32::try_from(at % 1000).unwrap() * 1_000_000,
        };
        Event {
            event_time: Some(time),
            last_time: Some(time),
            kind: kind.into(),
            what: what.to_owned(),
            detail: detail.to_owned(),
            count: 1,
            ..Event::default()
        }
    }

    fn served(mut event: Event, bytes: u64, elapsed_ms: u64) -> Event {
        event.bytes = Some(bytes);
        event.elapsed_ms = Some(elapsed_ms);
        event
    }

    #[test]
    fn a_boot_is_a_line_for_each_step_with_its_time_and_place_in_the_whole() {
        let script = "http://198.18.0.1/machines/x/boot.ipxe?arch=x86_64&firmware=uefi";
        let mut silent = event(300, Kind::Silent, "request", "unknown_lease");
        silent.count = 3;
        silent.last_time = event(900, Kind::Silent, "", "").last_time;
        let events = [
            event(0, Kind::Offer, "snponly.efi", "198.18.0.10"),
            event(100, Kind::Ack, "snponly.efi", "198.18.0.10"),
            silent,
            served(event(1200, Kind::Program, "snponly.efi", ""), 234_567, 200),
            event(3000, Kind::Ack, script, "198.18.0.10"),
            event(3100, Kind::Lifecycle, "installing", ""),
            served(
                event(3101, Kind::Script, "boot.ipxe", "installs, attempt 1"),
                900,
                1,
            ),
            served(event(6000, Kind::Kernel, "d12/vmlinuz", ""), 8_200_000, 500),
            served(
                event(9000, Kind::Initrd, "d12/initrd.img", ""),
                34_567_890,
                2900,
            ),
            served(event(15_000, Kind::Document, "user-data", ""), 512, 2),
            event(17_000, Kind::CallBack, "progress", "42 %, unpacking"),
            event(24_000, Kind::CallBack, "done", ""),
            event(24_001, Kind::Lifecycle, "installed", ""),
            event(4_000_000, Kind::Offer, "", "198.18.0.10"),
            event(4_000_100, Kind::Ack, "", "198.18.0.10"),
            event(4_020_000, Kind::Offer, script, "198.18.0.10"),
            event(
                4_040_000,
                Kind::Stalled,
                "offer sent, no request",
                "look for another",
            ),
        ];
        let plain = Style::plain();
        let text = lines(&events, plain).join("\n");
        let wanted = "\
from 2027-01-15T08:00:00Z, 24 s
    +0.0s         █······················· discover → offer 198.18.0.10, snponly.efi
    +0.1s         █······················· request → ack    198.18.0.10, snponly.efi
    +0.3s   0.6 s █······················· no answer        request, unknown_lease (3 times)
    +1.0s   0.2 s █······················· program          snponly.efi, 229 KiB
    +3.0s         ··█····················· request → ack    198.18.0.10, boot.ipxe
    +3.1s         ···█···················· is               installing
    +3.1s    1 ms ···█···················· script           installs, attempt 1
    +5.5s   0.5 s ·····█·················· kernel           d12/vmlinuz, 7.8 MiB
    +6.1s   2.9 s ······██················ initrd           d12/initrd.img, 33 MiB
   +15.0s    2 ms ··············█········· document         user-data, 512 bytes
   +17.0s         ················█······· call-back        progress, 42 %, unpacking
   +24.0s         ·······················█ call-back        done
   +24.0s         ·······················█ is               installed

from 2027-01-15T09:06:40Z, 40 s
    +0.0s         █······················· discover → offer 198.18.0.10
    +0.1s         █······················· request → ack    198.18.0.10   first boot of what was installed
   +20.0s         ············█··········· discover → offer 198.18.0.10, boot.ipxe
   +40.0s         ·······················█ stalled          offer sent, no request, look for another";
        assert_eq!(text, wanted, "\n{text}\n");
        assert_eq!(lines(&[], plain), [""; 0]);
    }
}
