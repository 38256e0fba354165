//! What is made for one machine: its boot script and its documents. In: a request for a machine by its name, and whom it comes
//! from. Out: text for that machine alone; or a refusal that is told, with nothing of the machine in it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{ConnectInfo, Path, Query, State};
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, Method, Response, StatusCode};
use serde::Deserialize;

use super::access::{Access, World};
use super::connections::Ends;
use super::document::{Asker, Loader, NoDocument};
use super::server::{Shared, failure, millis, refuse, text_response, told, unwell};
use crate::catalog::Catalog;
use crate::lifecycle::{self, Signal};
use crate::model::{Cpu, Document, Event, Firmware, Machine, Reservation, Token, Verdict, Why};
use crate::net::now_secs;
use crate::observe::emit;
use crate::store::{Act, ActError, Moved};

/// How long a machine that waits is to wait before it asks again.
const RETRY_AFTER_SECS: &str = "30";
/// How long a machine is who came first, once that one asks for nothing more: its next boot may come from another address.
const FIRST_COMER_KEPT: Duration = Duration::from_secs(900);
const MOST_FIRST_COMERS: usize = 4096;

/// Who came first for machines that no lease of ours speaks for, by reservation.
#[derive(Default)]
pub(super) struct FirstComers(Mutex<HashMap<String, (IpAddr, Instant)>>);

#[derive(Deserialize)]
pub(super) struct Platform {
    arch: Option<String>,
    firmware: Option<String>,
}

pub(super) async fn boot_script(
    State(shared): State<Shared>,
    ConnectInfo(ends): ConnectInfo<Ends>,
    method: Method,
    Path(machine): Path<String>,
    Query(platform): Query<Platform>,
) -> Response<Body> {
    script_for(Loader::Ipxe, shared, ends, method, machine, platform).await
}

pub(super) async fn grub_config(
    State(shared): State<Shared>,
    ConnectInfo(ends): ConnectInfo<Ends>,
    method: Method,
    Path(machine): Path<String>,
    Query(platform): Query<Platform>,
) -> Response<Body> {
    script_for(Loader::Grub, shared, ends, method, machine, platform).await
}

async fn script_for(
    loader: Loader,
    shared: Shared,
    ends: Ends,
    method: Method,
    machine: String,
    platform: Platform,
) -> Response<Body> {
    // DHCP writes both into the URL; a person who tries it by hand most likely means a PC.
    let cpu = platform
        .arch
        .as_deref()
        .map_or(Some(Cpu::X86_64), Cpu::named);
    let firmware = (platform.firmware.as_deref()).map_or(Some(Firmware::Uefi), Firmware::named);
    let (Some(cpu), Some(firmware)) = (cpu, firmware) else {
        let why = "arch or firmware is not known";
        return refuse(ends, loader.document(), StatusCode::BAD_REQUEST, why);
    };
    let place = Place::new(ends, loader.document());
    let mut catalog = shared.store().catalog();
    let reservation = match shared.admitted(&catalog, &machine, &place) {
        Ok(reservation) => reservation,
        Err(refused) => return *refused,
    };
    let is_told = method != Method::HEAD;
    if is_told && is_news(catalog.machine(&reservation.id), &catalog, &reservation) {
        let told = shared.script_fetched(&reservation, ends.client()).await;
        match told {
            Ok(()) => catalog = shared.store().catalog(),
            // Whoever is not written down as installing is not sent to install.
            Err(error) => return unwell(&error),
        }
    }
    let verdict = lifecycle::verdict(&catalog, &reservation, now_secs());
    let server_url = ends.server_url();
    let asker = Asker::of(&reservation, &catalog, &server_url).under(verdict);
    let made = match verdict {
        Verdict::Refuse(why) => return place.later(&reservation, why),
        Verdict::Rescue if asker.profile.is_none() => {
            let why = "there is no rescue profile; see boot.rescue in the configuration";
            return place.barred(&reservation, StatusCode::SERVICE_UNAVAILABLE, why);
        }
        Verdict::LocalDisk(why) => asker.local_script(loader, why, firmware),
        Verdict::Serve { .. } | Verdict::Rescue => {
            let mut asker = match shared.with_secrets(asker.clone()).await {
                Ok(asker) => asker,
                Err(error) => return failure(reservation.title(), loader.document(), &error),
            };
            if let Verdict::Serve { attempt: 1.. } = verdict {
                // Without having told anybody, HEAD learns no more than the script's length.
                let machine = catalog.machine(&reservation.id);
                let token = machine.and_then(|machine| machine.token);
                asker.token = Some(token.unwrap_or(Token([0; 16])));
            }
            let made = asker.boot_script(loader, cpu, firmware);
            return shared.answered(&place, &asker, made, verdict);
        }
    };
    shared.answered(&place, &asker, made, verdict)
}

pub(super) async fn nocloud(
    State(shared): State<Shared>,
    ConnectInfo(ends): ConnectInfo<Ends>,
    Path((machine, name)): Path<(String, String)>,
) -> Response<Body> {
    match Document::named(&name) {
        Document::Other(_) => {
            let why = "is none of NoCloud's documents";
            refuse(ends, &name, StatusCode::NOT_FOUND, why)
        }
        document => shared.document_of(ends, &machine, &document).await,
    }
}

pub(super) async fn document(
    State(shared): State<Shared>,
    ConnectInfo(ends): ConnectInfo<Ends>,
    Path((machine, name)): Path<(String, String)>,
) -> Response<Body> {
    let document = Document::named(&name);
    shared.document_of(ends, &machine, &document).await
}

/// Where a request came from, and what it asks for; no token is ever in it.
pub(super) struct Place<'a> {
    pub(super) ends: Ends,
    pub(super) path: &'a str,
    started: Instant,
}

impl<'a> Place<'a> {
    pub(super) fn new(ends: Ends, path: &'a str) -> Self {
        Self {
            ends,
            path,
            started: Instant::now(),
        }
    }

    /// Refuses what is this machine's.
    pub(super) fn barred(
        &self,
        reservation: &Reservation,
        code: StatusCode,
        why: &str,
    ) -> Response<Body> {
        emit(&Event::Barred {
            protocol: "http",
            id: reservation.id.clone(),
            machine: reservation.title().to_owned(),
            client: self.ends.client(),
            path: self.path.to_owned(),
            reason: why.to_owned(),
        });
        told(code)
    }

    /// Has the machine ask again: iPXE, cloud-init and Ignition all do.
    pub(super) fn later(&self, reservation: &Reservation, why: Why) -> Response<Body> {
        let code = StatusCode::SERVICE_UNAVAILABLE;
        let mut response = self.barred(reservation, code, why.text());
        let after = HeaderValue::from_static(RETRY_AFTER_SECS);
        response.headers_mut().insert(RETRY_AFTER, after);
        response
    }

    pub(super) fn wrong_peer(&self, reservation: &Reservation) -> Response<Body> {
        let why = "it was asked for from an address that is not the machine's";
        self.barred(reservation, StatusCode::FORBIDDEN, why)
    }
}

impl Shared {
    /// The machine of this MAC or id, if it is that machine that asks.
    fn admitted(
        &self,
        catalog: &Catalog,
        machine: &str,
        place: &Place<'_>,
    ) -> Result<Arc<Reservation>, Box<Response<Body>>> {
        let found = Asker::find(catalog, machine, "").map(|asker| asker.reservation.id.clone());
        let known = found.as_ref().ok().and_then(|id| catalog.by_id(id));
        let Some(reservation) = known else {
            let why = found.err().map_or(String::new(), |why| why.to_string());
            let code = StatusCode::NOT_FOUND;
            return Err(Box::new(refuse(place.ends, place.path, code, &why)));
        };
        if self.is_admitted(catalog, reservation, place.ends.client()) {
            Ok(reservation.clone())
        } else {
            Err(Box::new(place.wrong_peer(reservation)))
        }
    }

    /// Whether this address is the machine's; whoever comes first where nobody can say becomes it.
    pub(super) fn is_admitted(
        &self,
        catalog: &Catalog,
        reservation: &Reservation,
        peer: IpAddr,
    ) -> bool {
        let machine = catalog.machine(&reservation.id);
        let of_attempt = machine.and_then(|machine| machine.peer);
        let first = &self.first_comers().0;
        let mut first = first.lock().unwrap_or_else(PoisonError::into_inner);
        first.retain(|_, (_, seen)| seen.elapsed() < FIRST_COMER_KEPT);
        let known = of_attempt.or_else(|| Some(first.get(&reservation.id)?.0));
        let bindings = self.store().bindings();
        let world = World {
            catalog,
            bindings: &bindings,
            bind: self.bind(),
            gives_addresses: self.gives_addresses(),
            now_secs: now_secs(),
        };
        match world.access(reservation, known, peer) {
            Access::Denied => false,
            Access::Granted => {
                if let Some((_, seen)) = first.get_mut(&reservation.id) {
                    *seen = Instant::now();
                }
                true
            }
            Access::FirstComer => {
                if first.len() < MOST_FIRST_COMERS {
                    first.insert(reservation.id.clone(), (peer, Instant::now()));
                }
                true
            }
        }
    }

    /// Writes down that the machine's boot script is on its way.
    async fn script_fetched(&self, reservation: &Reservation, peer: IpAddr) -> Result<(), String> {
        let mut fresh = [0; 16];
        getrandom::fill(&mut fresh).map_err(|error| error.to_string())?;
        let signal = Signal::ScriptFetched {
            peer: Some(peer),
            fresh: Token(fresh),
        };
        let act = Act::Signal(signal);
        match self.store().act(&reservation.id, act, now_secs()).await {
            Ok(moved) => {
                tell(reservation, &moved);
                Ok(())
            }
            Err(ActError::Unknown) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// A document under the machine's name: those of an installation are under its token alone.
    async fn document_of(&self, ends: Ends, machine: &str, document: &Document) -> Response<Body> {
        let place = Place::new(ends, document.name());
        let catalog = self.store().catalog();
        let reservation = match self.admitted(&catalog, machine, &place) {
            Ok(reservation) => reservation,
            Err(refused) => return *refused,
        };
        let verdict = lifecycle::verdict(&catalog, &reservation, now_secs());
        let server_url = ends.server_url();
        let asker = Asker::of(&reservation, &catalog, &server_url).under(verdict);
        let installs = asker
            .profile
            .is_some_and(|profile| profile.install.is_some());
        match verdict {
            Verdict::Refuse(why) => return place.later(&reservation, why),
            _ if installs => {
                let why = "documents of an installation are served under its token alone";
                return place.barred(&reservation, StatusCode::FORBIDDEN, why);
            }
            _ => {}
        }
        self.rendered(&place, asker, document).await
    }

    /// Makes the document.
    pub(super) async fn rendered(
        &self,
        place: &Place<'_>,
        asker: Asker<'_>,
        document: &Document,
    ) -> Response<Body> {
        let title = asker.reservation.title().to_owned();
        match self.with_secrets(asker).await {
            Ok(asker) => {
                let made = asker.document(document);
                self.answered(place, &asker, made, "")
            }
            Err(error) => failure(&title, document.name(), &error),
        }
    }

    /// Sends what was made, and tells of it. What a stranger learns of a failure is a number.
    fn answered(
        &self,
        place: &Place<'_>,
        asker: &Asker<'_>,
        made: Result<String, NoDocument>,
        answer: impl std::fmt::Display,
    ) -> Response<Body> {
        match made {
            Ok(text) => {
                emit(&Event::Rendered {
                    document: place.path.to_owned(),
                    machine: asker.reservation.title().to_owned(),
                    mac: asker.reservation.known_by(),
                    client: place.ends.client(),
                    bytes: text.len(),
                    elapsed_ms: millis(place.started),
                    answer: answer.to_string(),
                });
                text_response(place.path, text)
            }
            Err(NoDocument::Unrenderable {
                machine,
                document,
                error,
            }) => failure(
                &machine,
                &document,
                &asker.secrets.hidden_in(&error.to_string()),
            ),
            Err(why) => {
                let code = StatusCode::NOT_FOUND;
                refuse(place.ends, place.path, code, &why.to_string())
            }
        }
    }
}

/// Tells what came of a signal.
pub(super) fn tell(reservation: &Reservation, moved: &Moved) {
    for event in moved.events(reservation) {
        emit(&event);
    }
}

/// Whether fetching the script changes anything that is to be written down.
fn is_news(machine: Option<&Machine>, catalog: &Catalog, reservation: &Reservation) -> bool {
    let Some(machine) = machine else {
        return false;
    };
    let verdict = lifecycle::verdict(catalog, reservation, now_secs());
    let begins = matches!(verdict, Verdict::Serve { attempt: 1.. })
        && (machine.token.is_none()
            || machine.peer.is_none()
            || verdict
                != (Verdict::Serve {
                    attempt: machine.attempt,
                }));
    machine.next_boot.is_some() || begins
}
