//! How much one reservation may hold: the store, every watcher and every start carry all of it. In: a reservation that a client
//! wants. Out: nothing, or a status that names the field which is to become smaller.

use serde_json::Value;
use tonic::Status;

use super::errors::invalid;
use crate::model::Reservation;

/// As it is kept, in octets. Whatever is larger belongs in a profile's files, which machines fetch, or into an artefact.
pub(super) const LARGEST: usize = 256 << 10;

/// Refuses one that is larger.
pub(super) fn check(reservation: &Reservation) -> Result<(), Status> {
    let size = serde_json::to_vec(reservation).map_or(0, |octets| octets.len());
    if size <= LARGEST {
        return Ok(());
    }
    let (field, its_size) = largest_field(reservation);
    let text = format!(
        "{field}: it takes {its_size} of the {size} octets of the reservation, which has at most {LARGEST}; put files in a profile, or name an artefact"
    );
    Err(invalid(&field, &text))
}

/// By the name that it has in the contract.
fn largest_field(reservation: &Reservation) -> (String, usize) {
    let Ok(Value::Object(mut fields)) = serde_json::to_value(reservation) else {
        return ("reservation".to_owned(), 0);
    };
    if let Some(Value::Object(identities)) = fields.remove("identities") {
        fields.extend(identities);
    }
    let sizes = (fields.into_iter()).map(|(name, value)| (name, value.to_string().len()));
    let largest = sizes.max_by_key(|(_, size)| *size);
    largest.unwrap_or_else(|| ("reservation".to_owned(), 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Octets, Source, Var};

    #[test]
    fn the_field_that_takes_most_is_named() {
        let mut own = Reservation::of("node-1".to_owned(), Source::Api);
        assert!(check(&own).is_ok());
        let text = Var::Text("x".repeat(LARGEST - 1000));
        own.vars = [("notes".to_owned(), text)].into();
        assert!(check(&own).is_ok());
        own.vars
            .insert("more".to_owned(), Var::Text("x".repeat(1000)));
        let refused = check(&own).expect_err("too large");
        assert!(
            refused.message().starts_with("vars: it takes 262"),
            "{refused}"
        );
        own.vars = [].into();
        own.identities.client_ids = (0..2000).map(|n| Octets(vec![n as u8; 255])).collect();
        let refused = check(&own).expect_err("too large");
        assert!(refused.message().starts_with("client_ids: "), "{refused}");
    }
}
