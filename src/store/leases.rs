//! An operator's word about a lease. In: an address. Out: the lease as it was, taken back on disk; or why not.

use std::net::Ipv4Addr;

use thiserror::Error;

use super::{Store, StoreError};
use crate::model::{BindingChange, Lease, LeaseState};

/// Why a lease was not taken back.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ReleaseError {
    #[error("nobody holds or declined it")]
    NothingHeld,
    /// The id of the reservation by which its holder would be given it again at once.
    #[error("it is reserved for its holder, {0}")]
    Reserved(String),
    /// It is another one than was meant: the one that there is now.
    #[error("it has changed")]
    Changed(Box<Lease>),
    #[error(transparent)]
    Failed(#[from] StoreError),
}

impl Store {
    /// Ends what is known of the address: it is free, and who held it is refused when it asks to go on with it. `is_meant` looks
    /// whether the lease is the one that the operator has seen.
    pub async fn release(
        &self,
        address: Ipv4Addr,
        is_meant: impl FnOnce(&Lease) -> bool,
        now_secs: u64,
    ) -> Result<Lease, ReleaseError> {
        let (before, revoked) = self.decide(|catalog, bindings| {
            let held = bindings.at(address).cloned();
            let held = held
                .filter(|lease| lease.state != LeaseState::Revoked)
                .ok_or(ReleaseError::NothingHeld)?;
            if !is_meant(&held) {
                return Err(ReleaseError::Changed(Box::new(held)));
            }
            let is_in_use = matches!(held.state, LeaseState::Bound | LeaseState::Offered)
                && held.is_current(now_secs);
            if let Some(reservation) = catalog.by_address(address).filter(|_| is_in_use) {
                return Err(ReleaseError::Reserved(reservation.id.clone()));
            }
            let revoked = Lease {
                state: LeaseState::Revoked,
                expires_secs: now_secs,
                ..held.clone()
            };
            bindings.apply(BindingChange::Put(revoked.clone()));
            Ok((held, revoked))
        })?;
        let put = BindingChange::Put(revoked.clone());
        match self.bind(vec![put], now_secs).await {
            Ok(_) => Ok(before),
            Err(error) => {
                // It was not taken back on disk, and so not at all; unless somebody has it by now.
                self.decide(|_, bindings| {
                    if bindings.at(address) == Some(&revoked) {
                        bindings.apply(BindingChange::Put(before));
                    }
                });
                Err(error.into())
            }
        }
    }
}
