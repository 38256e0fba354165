//! What is needed before anybody may come in: the lists of who may, the certificate that is shown, the log of writes. In: the
//! configuration. Out: a door and a gate, and a keeper that follows the lists. Files that cannot be read keep the service from
//! starting.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bootjack_api::access;
use tokio_util::sync::CancellationToken;

use super::super::accept::Door;
use super::audit::AuditLog;
use super::gate::Gate;
use super::guard::Guard;
use super::rate::Rate;
use super::register::Register;
use super::tls::Tls;
use super::visitors::Visitors;
use crate::config::Grpc;
use crate::model::Event;
use crate::net::now_secs;
use crate::net::tls::{Place, Shown};
use crate::observe::emit;

/// How soon a stream that runs ends when what its caller was let in for is revoked, or expires. Calls are refused at once.
const EVERY: Duration = Duration::from_secs(1);

/// Connections a second of one address that are turned away, and told of in the log.
const TURNED_AWAY_RATE: u32 = 1;

/// Lists, certificate and log, read while the service may still read everything.
pub struct Credentials {
    register: Option<Arc<Register>>,
    shown: Option<Arc<Shown>>,
    audit: AuditLog,
}

impl Credentials {
    /// Reads what the configuration names.
    pub fn read(config: &Grpc) -> anyhow::Result<Self> {
        let audit = AuditLog::open(config.audit_log.as_deref());
        let audit = audit.with_context(|| {
            let path = config.audit_log.as_deref().unwrap_or(Path::new(""));
            format!("grpc.audit_log: cannot write {}", path.display())
        })?;
        let Some(dir) = &config.auth else {
            return Ok(Self {
                register: None,
                shown: None,
                audit,
            });
        };
        let register = Some(Arc::new(Register::open(dir)?));
        let shown = Some(Arc::new(Shown::read(server_certificate(config, dir))?));
        Ok(Self {
            register,
            shown,
            audit,
        })
    }

    pub(crate) fn open(self, config: &Grpc) -> Result<(Door, Gate), rustls::Error> {
        let scope = (config.socket_group.is_some()).then_some(config.socket_scope);
        let own_uid = rustix::process::geteuid().as_raw();
        let guard = Guard::new(self.register.clone(), own_uid, scope, config.rate_limit);
        let door = Door {
            visitors: Visitors::default(),
            tls: self.shown.map(Tls::new).transpose()?,
            register: self.register,
            turned_away: Arc::new(Rate::new(TURNED_AWAY_RATE)),
        };
        Ok((door, Gate::new(guard, self.audit)))
    }
}

/// Where the server's certificate is, and what the configuration calls the place.
pub fn server_certificate(config: &Grpc, dir: &Path) -> Place {
    match &config.certificate {
        Some((certificate, key)) => Place {
            names: ("grpc.certificate".to_owned(), "grpc.key".to_owned()),
            certificate: certificate.clone(),
            key: key.clone(),
        },
        None => {
            let name = |file: &str| format!("{file} of grpc.auth");
            Place {
                names: (name(access::SERVER_CERTIFICATE), name(access::SERVER_KEY)),
                certificate: dir.join(access::SERVER_CERTIFICATE),
                key: dir.join(access::SERVER_KEY),
            }
        }
    }
}

impl Door {
    /// Follows the files until `stop`, and ends connections whose callers may be here no longer.
    pub(crate) async fn keep(self, stop: CancellationToken) {
        let Some(register) = &self.register else {
            return;
        };
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            follow(register);
            if let Some(tls) = &self.tls {
                tls.follow();
            }
            let now = now_secs();
            (self.visitors).end_those_with(|credential| !register.is_good(credential, now));
        }
    }
}

/// Reads the lists again if they have changed.
pub(crate) fn follow(register: &Register) {
    if let Err(error) = register.follow() {
        let (about, error) = ("grpc", format!("{error}; the lists before it hold"));
        emit(&Event::Failed { about, error });
    }
}
