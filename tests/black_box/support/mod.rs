//! What the tests share: the service as a child process, and the networks it runs in.

pub mod api;
pub mod auth;
pub mod clients;
pub mod dhcp;
pub mod etcd;
pub mod lab;
pub mod load;
pub mod netns;
pub mod qemu;
pub mod service;
pub mod turn;
pub mod wire;

/// The profiles that there are where these are added to the shipped ones, as they are listed.
pub fn profiles(more: &[&str]) -> Vec<String> {
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/profiles");
    let shipped = std::fs::read_dir(shipped)
        .expect("it is there")
        .map(|entry| {
            let name = entry.expect("it can be read").file_name();
            name.to_string_lossy().into_owned()
        });
    let mut names: Vec<String> = shipped
        .chain(more.iter().map(|&name| name.into()))
        .collect();
    names.sort();
    names.dedup();
    names
}
