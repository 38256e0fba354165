//! What of an event belongs on a timeline. In: an event. Out: what happened and to whom, as far as the event itself says it;
//! nothing for what concerns no machine.

use std::net::IpAddr;

use crate::model::{Dhcp, Ended, Event, Kind};

/// Whom an event is about, in the words at hand where it happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// A reservation's id.
    pub id: Option<String>,
    /// What people call the machine.
    pub title: Option<String>,
    /// As DHCP knows the client.
    pub client: Option<String>,
    pub address: Option<IpAddr>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    pub about: About,
    pub kind: Kind,
    pub what: String,
    pub detail: String,
    pub attempt: Option<u32>,
    pub bytes: Option<u64>,
    pub elapsed_ms: Option<u64>,
}

/// The event as a note.
pub fn of(event: &Event) -> Option<Note> {
    Some(match event {
        Event::Offered(dhcp) => note_of_dhcp(Kind::Offer, dhcp, address(dhcp)),
        Event::Acked(dhcp) => note_of_dhcp(Kind::Ack, dhcp, address(dhcp)),
        Event::Refused { dhcp, reason } => {
            note_of_dhcp(Kind::Nak, dhcp, reason.as_str().to_owned())
        }
        // The replica that answers tells the machine's story.
        Event::Silent { reason, .. } if reason.is_told_elsewhere() => return None,
        Event::Forwarded { .. } => return None,
        Event::Silent { dhcp, reason } => Note {
            what: dhcp.msg_type.unwrap_or_default().to_owned(),
            ..note_of_dhcp(Kind::Silent, dhcp, reason.as_str().to_owned())
        },
        Event::SendFailed { dhcp, error } => note_of_dhcp(Kind::NotSent, dhcp, error.clone()),
        Event::Served(t) if t.ended == Ended::SizeAsked => return None,
        Event::Served(t) => {
            let cut = match &t.ended {
                Ended::Complete => String::new(),
                Ended::Aborted { code, text } => format!("stopped by the client: {code} {text}"),
                ended => ended.as_str().replace('_', " "),
            };
            Note {
                about: About {
                    title: t.machine.clone(),
                    address: Some(t.client),
                    ..About::default()
                },
                bytes: Some(t.bytes),
                elapsed_ms: Some(t.elapsed_ms),
                ..note(Kind::File, t.path.clone(), cut)
            }
        }
        Event::RequestRefused {
            client,
            path,
            reason,
            ..
        } => Note {
            about: About {
                address: Some(*client),
                ..About::default()
            },
            ..note(Kind::Refused, path.clone(), reason.clone())
        },
        Event::Rendered {
            document,
            machine,
            bytes,
            elapsed_ms,
            answer,
            ..
        } => {
            let kind = match document.as_str() {
                "boot.ipxe" => Kind::Script,
                _ => Kind::Document,
            };
            Note {
                about: titled(machine),
                bytes: Some(*bytes as u64),
                elapsed_ms: Some(*elapsed_ms),
                ..note(kind, document.clone(), answer.clone())
            }
        }
        Event::RenderFailed {
            document,
            machine,
            error,
            ..
        } => Note {
            about: titled(machine),
            ..note(Kind::NotRendered, document.clone(), error.clone())
        },
        Event::Lifecycle {
            id,
            attempt,
            change,
            reason,
            ..
        } => Note {
            about: of_id(id),
            attempt: Some(*attempt),
            ..note(
                Kind::Lifecycle,
                (*change).to_owned(),
                reason.clone().unwrap_or_default(),
            )
        },
        Event::CalledBack {
            id,
            attempt,
            what,
            detail,
            percent,
            ..
        } => {
            let percent = percent.map(|percent| format!("{percent} %"));
            let told = percent.into_iter().chain([detail.clone()]);
            let told: Vec<String> = told.filter(|text| !text.is_empty()).collect();
            Note {
                about: of_id(id),
                attempt: Some(*attempt),
                ..note(Kind::CallBack, (*what).to_owned(), told.join(", "))
            }
        }
        Event::Barred {
            id,
            client,
            path,
            reason,
            ..
        } => Note {
            about: of_id(id),
            ..note(Kind::Refused, path.clone(), format!("{reason} ({client})"))
        },
        Event::Reserved {
            machine,
            mac,
            change,
            ..
        } => Note {
            // One that is deleted is nobody's machine any more, and a client all the same.
            about: About {
                client: Some(mac.clone()).filter(|mac| !mac.is_empty()),
                ..titled(machine)
            },
            ..note(Kind::Reserved, (*change).to_owned(), String::new())
        },
        Event::Stalled {
            subject,
            what,
            hint,
        } => Note {
            about: match subject {
                crate::model::Subject::Machine(id) => of_id(id),
                crate::model::Subject::Client(key) => About {
                    client: Some(key.clone()),
                    ..About::default()
                },
            },
            ..note(Kind::Stalled, (*what).to_owned(), (*hint).to_owned())
        },
        Event::Listening { .. }
        | Event::Gone { .. }
        | Event::ProfilesLoaded { .. }
        | Event::ProfileRefused { .. }
        | Event::DocumentBroken { .. }
        | Event::InstallEnded { .. }
        | Event::Ready { .. }
        | Event::Audited(_)
        | Event::RunsAs { .. }
        | Event::CallRefused { .. }
        | Event::Stopped { .. }
        | Event::Revoked { .. }
        | Event::SetAside { .. }
        | Event::Replicas { .. }
        | Event::OtherServer { .. }
        | Event::AddressInUse { .. }
        | Event::NoRouterAdvertised { .. }
        | Event::Noticed { .. }
        | Event::Failed { .. } => return None,
    })
}

fn note(kind: Kind, what: String, detail: String) -> Note {
    Note {
        about: About::default(),
        kind,
        what,
        detail,
        attempt: None,
        bytes: None,
        elapsed_ms: None,
    }
}

fn note_of_dhcp(kind: Kind, dhcp: &Dhcp, detail: String) -> Note {
    Note {
        about: About {
            title: dhcp.machine.clone(),
            client: dhcp.client.clone(),
            ..About::default()
        },
        ..note(kind, dhcp.bootfile.clone().unwrap_or_default(), detail)
    }
}

fn address(dhcp: &Dhcp) -> String {
    dhcp.yiaddr.map_or(String::new(), |a| a.to_string())
}

fn titled(machine: &str) -> About {
    About {
        title: Some(machine.to_owned()),
        ..About::default()
    }
}

fn of_id(id: &str) -> About {
    About {
        id: Some(id.to_owned()),
        ..About::default()
    }
}
