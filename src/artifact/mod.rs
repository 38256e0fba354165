//! Artefacts: kernels, RAM disks and images by their content. One directory holds them under their SHA-256, with names that lead
//! there; profiles name them as they name files below `http.files`.

pub mod fetch;
pub mod import;
pub mod inside;
pub mod iso;
pub mod name;
pub mod store;
pub mod used;
