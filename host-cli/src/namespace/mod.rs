pub mod control {
    use crate::exit::{Exit, Failure};
    pub struct Client;
    impl Client {
        pub fn connect(_run: &std::path::Path) -> Result<Self, Failure> {
            Err(Failure::new(Exit::Missing, "stub"))
        }
        pub fn stop(self) -> Result<(), Failure> {
            Ok(())
        }
    }
}

/// Whether a namespace can be had here, and by which right.
pub fn possible() -> Result<&'static str, crate::exit::Failure> {
    Err(crate::exit::Failure::new(
        crate::exit::Exit::Missing,
        "stub",
    ))
}
