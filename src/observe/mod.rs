//! What happened, told once. In: an `Event`. Out: one log line, one counter, an entry of the timeline of the machine it is
//! about, and what is to be measured of it. Nothing else in the service logs or counts, so that this match is the list of all it ever says.
//!
//! Labels of metrics come from closed sets; no MAC, name or path ever becomes one. Secrets, variables and rendered documents
//! are in no event.

mod budget;
mod format;
mod history;
mod journal;
mod lines;
pub mod listening;
mod measure;
pub mod notes;
pub mod timeline;

use std::sync::LazyLock;

use metrics::{Counter, counter};

pub use self::format::Text;
pub use self::lines::{Lines, gather};
pub use self::measure::{Standing, recorder, register, show};

use crate::model::{Dhcp, Ended, Event};

macro_rules! dhcp_line {
    ($level:ident, $dhcp:expr, $($extra:tt)*) => {{
        let d: &Dhcp = $dhcp;
        tracing::$level!(
            protocol = "dhcp",
            iface = d.iface,
            msg_type = d.msg_type,
            xid = d.xid.map(|xid| format!("{xid:08x}")),
            mac = d.client,
            machine = d.machine,
            giaddr = d.giaddr.map(tracing::field::display),
            yiaddr = d.yiaddr.map(tracing::field::display),
            arch = d.arch.map(tracing::field::display),
            user_class = d.user_class,
            bootfile = d.bootfile,
            elapsed_us = d.elapsed_us,
            $($extra)*
        )
    }};
}

/// Logs and counts one event, and leaves it for the timeline.
pub fn emit(event: &Event) {
    count(event);
    timeline::leave(event);
    measure::measure(event);
    listening::note(event);
    match event {
        Event::Listening {
            protocol,
            address,
            reason,
        } => tracing::info!(protocol, address, reason, "listening"),
        Event::Gone {
            protocol,
            address,
            reason,
        } => tracing::warn!(protocol, address, reason, "gone"),
        Event::Ready {
            reservations,
            leases,
        } => tracing::info!(reservations, leases, "ready"),
        Event::Stopped { elapsed_ms } => tracing::info!(elapsed_ms, "stopped"),
        Event::Offered(dhcp) => dhcp_line!(info, dhcp, "offered"),
        Event::Acked(dhcp) => dhcp_line!(info, dhcp, "acked"),
        Event::Refused { dhcp, reason } => {
            dhcp_line!(warn, dhcp, reason = reason.as_str(), "refused");
        }
        Event::Silent { dhcp, reason } if reason.needs_a_human() => {
            dhcp_line!(error, dhcp, reason = reason.as_str(), "silent");
        }
        // Every replica but one says so of every packet.
        Event::Silent { dhcp, reason } if reason.is_told_elsewhere() => {
            dhcp_line!(debug, dhcp, reason = reason.as_str(), "silent");
        }
        Event::Silent { dhcp, reason } => {
            dhcp_line!(info, dhcp, reason = reason.as_str(), "silent")
        }
        Event::Forwarded { dhcp, to } => dhcp_line!(info, dhcp, to = %to, "forwarded"),
        Event::SendFailed { dhcp, error } => dhcp_line!(error, dhcp, error, "not sent"),
        Event::Served(t) if t.ended == Ended::SizeAsked => tracing::info!(
            protocol = t.protocol,
            path = t.path,
            client = %t.client,
            machine = t.machine,
            elapsed_ms = t.elapsed_ms,
            "told the size"
        ),
        Event::Served(t) => tracing::info!(
            protocol = t.protocol,
            path = t.path,
            client = %t.client,
            machine = t.machine,
            status = t.status,
            bytes = t.bytes,
            complete = t.ended.is_complete(),
            ended = t.ended.as_str(),
            error = error_of(&t.ended),
            elapsed_ms = t.elapsed_ms,
            "served"
        ),
        Event::RequestRefused {
            protocol,
            client,
            path,
            reason,
        } => tracing::warn!(protocol, %client, path, reason, "refused"),
        Event::Audited(audit) => tracing::info!(
            target: "audit",
            who = audit.who,
            from = audit.from,
            method = audit.method,
            resource = audit.resource,
            resources = audit.resources,
            outcome = audit.outcome,
            reason = audit.reason,
            revision = audit.revision,
            request_id = audit.request_id,
            "audited"
        ),
        Event::RunsAs {
            user,
            capabilities,
            stayed: None,
        } => tracing::info!(user, capabilities, "runs as"),
        Event::RunsAs {
            user,
            capabilities,
            stayed: Some(reason),
        } => tracing::warn!(user, capabilities, reason, "runs as"),
        Event::CallRefused { is_flood: true, .. } => {}
        Event::CallRefused {
            who,
            from,
            method,
            reason,
            ..
        } => {
            let method = Some(method.as_str()).filter(|method| !method.is_empty());
            tracing::warn!(protocol = "grpc", who, from, method, reason, "refused");
        }
        Event::Rendered {
            document,
            machine,
            mac,
            client,
            bytes,
            elapsed_ms,
            answer,
        } => {
            let answer = Some(answer.as_str()).filter(|answer| !answer.is_empty());
            tracing::info!(protocol = "http", document, machine, mac, %client, bytes, elapsed_ms, answer, "rendered")
        }
        Event::RenderFailed {
            document,
            machine,
            request_id,
            error,
        } => tracing::error!(
            protocol = "http",
            document,
            machine,
            request_id,
            error,
            "not rendered"
        ),
        Event::Lifecycle {
            machine,
            attempt,
            change,
            reason,
            ..
        } => match *change {
            "failed" => tracing::error!(machine, attempt, change, reason, "lifecycle"),
            _ => tracing::info!(machine, attempt, change, reason, "lifecycle"),
        },
        Event::InstallEnded {
            machine,
            profile,
            outcome,
            seconds,
        } => tracing::info!(machine, profile, outcome, seconds, "installation over"),
        Event::CalledBack {
            machine,
            attempt,
            what,
            detail,
            percent,
            ..
        } => tracing::info!(machine, attempt, what, detail, percent, "called back"),
        Event::Barred {
            protocol,
            machine,
            client,
            path,
            reason,
            ..
        } => tracing::warn!(protocol, machine, %client, path, reason, "refused"),
        Event::Stalled {
            subject,
            what,
            hint,
        } => tracing::warn!(%subject, what, hint, "stalled"),
        Event::Reserved {
            machine,
            mac,
            address,
            change,
            revision,
        } => {
            tracing::info!(
                machine,
                mac,
                address = address.map(tracing::field::display),
                change,
                revision,
                "reserved"
            )
        }
        Event::Revoked {
            address,
            client,
            machine,
        } => {
            tracing::warn!(%address, mac = client, machine, "lease revoked: its address is reserved now")
        }
        Event::SetAside { machine, reason } => {
            tracing::error!(machine, reason, "reservation set aside");
        }
        Event::ProfilesLoaded { changed } => {
            tracing::info!(changed = changed.join(", "), "profiles loaded");
        }
        Event::ProfileRefused { profile, error } => {
            tracing::error!(profile, error, "profile refused");
        }
        Event::DocumentBroken {
            profile,
            machines,
            error,
        } => tracing::error!(profile, machines, error, "document broken"),
        Event::OtherServer { iface, server } => {
            tracing::error!(protocol = "dhcp", iface, %server, "another DHCP server answers here");
        }
        Event::AddressInUse {
            iface,
            address,
            holder,
        } => tracing::warn!(protocol = "dhcp", iface, yiaddr = %address, holder, "address in use"),
        Event::Replicas {
            members,
            buckets,
            is_confirmed,
            change,
        } => {
            let members = members.join(", ");
            match is_confirmed {
                true => tracing::info!(change, members, buckets, is_confirmed, "replicas"),
                false => tracing::warn!(change, members, buckets, is_confirmed, "replicas"),
            }
        }
        Event::NoRouterAdvertised { iface } => {
            tracing::debug!(protocol = "ndp", iface, "said that no IPv6 router is here");
        }
        Event::Noticed { about, detail } => tracing::warn!(about, detail, "noticed"),
        Event::Failed { about, error } => tracing::error!(about, error, "failed"),
    }
}

/// What the client said when it stopped a transfer.
fn error_of(ended: &Ended) -> Option<String> {
    match ended {
        Ended::Aborted { code, text } => Some(format!("{code} {text}")),
        _ => None,
    }
}

/// Looked up once: a busy server counts these tens of thousands of times a second.
static OFFERS: LazyLock<Counter> = LazyLock::new(|| counter!("bootjack_dhcp_offers_total"));
static ACKS: LazyLock<Counter> = LazyLock::new(|| counter!("bootjack_dhcp_acks_total"));

fn count(event: &Event) {
    match event {
        Event::Offered(_) => OFFERS.increment(1),
        Event::Acked(_) => ACKS.increment(1),
        Event::Refused { reason, .. } => {
            counter!("bootjack_dhcp_naks_total", "reason" => reason.as_str()).increment(1);
        }
        Event::Silent { reason, .. } => {
            counter!("bootjack_dhcp_silences_total", "reason" => reason.as_str()).increment(1);
        }
        Event::Forwarded { .. } => counter!("bootjack_dhcp_forwarded_total").increment(1),
        Event::SendFailed { .. } => counter!("bootjack_dhcp_send_failures_total").increment(1),
        Event::Served(t) => {
            let (protocol, ended) = (t.protocol, t.ended.as_str());
            counter!("bootjack_transfers_total", "protocol" => protocol, "ended" => ended)
                .increment(1);
            counter!("bootjack_transfer_bytes_total", "protocol" => t.protocol).increment(t.bytes);
        }
        Event::RequestRefused { protocol, .. } => {
            counter!("bootjack_refused_requests_total", "protocol" => *protocol).increment(1);
        }
        Event::Audited(_) => counter!("bootjack_grpc_writes_total").increment(1),
        Event::CallRefused { reason, .. } => {
            counter!("bootjack_grpc_refusals_total", "reason" => *reason).increment(1);
        }
        Event::Barred { protocol, .. } => {
            counter!("bootjack_barred_requests_total", "protocol" => *protocol).increment(1);
        }
        Event::Lifecycle { change, .. } => {
            counter!("bootjack_lifecycle_changes_total", "change" => *change).increment(1);
        }
        Event::CalledBack { what, .. } => {
            counter!("bootjack_call_backs_total", "what" => *what).increment(1);
        }
        Event::Stalled { .. } => counter!("bootjack_stalls_total").increment(1),
        Event::Rendered { .. } => counter!("bootjack_documents_total").increment(1),
        Event::RenderFailed { .. } => counter!("bootjack_render_failures_total").increment(1),
        Event::Reserved { change, .. } => {
            counter!("bootjack_reservation_changes_total", "change" => *change).increment(1);
        }
        Event::ProfilesLoaded { .. } => counter!("bootjack_profile_reloads_total").increment(1),
        Event::ProfileRefused { .. } => {
            counter!("bootjack_profile_refusals_total").increment(1);
        }
        Event::OtherServer { .. } => counter!("bootjack_dhcp_other_servers_total").increment(1),
        Event::AddressInUse { .. } => {
            counter!("bootjack_dhcp_address_conflicts_total").increment(1)
        }
        Event::NoRouterAdvertised { .. } => {
            counter!("bootjack_ndp_advertisements_total").increment(1);
        }
        Event::Revoked { .. } => counter!("bootjack_leases_revoked_total").increment(1),
        Event::Listening { .. }
        | Event::Gone { .. }
        | Event::Ready { .. }
        | Event::Stopped { .. }
        | Event::SetAside { .. }
        | Event::Replicas { .. }
        | Event::DocumentBroken { .. }
        | Event::InstallEnded { .. }
        | Event::RunsAs { .. }
        | Event::Noticed { .. }
        | Event::Failed { .. } => {}
    }
}
