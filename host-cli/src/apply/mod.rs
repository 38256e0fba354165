//! Reservations as files declare them: what is there becomes what the files say.
//!
//! In reading order: `document` (text to reservations), `fields` (how one is compared, read and written), `plan` (what has to be
//! done, and what stands in the way), `send` (doing it). All but the last are pure.

pub mod document;
pub mod fields;
pub mod plan;
pub mod send;
