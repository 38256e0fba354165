//! bootjackd's configuration in a lab: pure text from the lab's file.

use std::net::Ipv4Addr;
use std::path::Path;

use crate::labfile::Lab;

/// The interface that bootjackd serves the lab on, in a namespace as in a machine.
pub const INTERFACE: &str = "lan0";

/// What differs by where bootjackd runs.
#[derive(Clone, Debug)]
pub struct Place<'a> {
    pub data_dir: &'a str,
    /// Lines of the section `[grpc]`.
    pub grpc: &'a str,
    /// Directory of network boot programs.
    pub programs: &'a str,
    /// Directory of files that profiles name, beside those that are sent over the API.
    pub files: Option<&'a str>,
    /// A resolver that machines can reach.
    pub dns: Ipv4Addr,
}

/// The text of bootjackd.toml.
pub fn config(lab: &Lab, place: &Place<'_>) -> String {
    let (network, address) = (&lab.network, lab.provisioner.address);
    let subnet = network.subnet;
    let (first, last) = (subnet.host(subnet.hosts() / 2), subnet.host(subnet.hosts()));
    let exclude = match (first..=last).contains(&address) {
        true => format!("exclude = [\"{address}\"]\n"),
        false => String::new(),
    };
    let Place {
        data_dir,
        grpc,
        programs,
        files,
        dns,
    } = place;
    let files = files.map_or_else(String::new, |files| format!("files = {}\n", string(files)));
    let (data_dir, programs) = (string(data_dir), string(programs));
    let domain = string(&network.domain);
    format!(
        "# Made by bootjack from the lab's file; changes are lost.\n\
         data_dir = {data_dir}\n\n\
         [dhcp]\ninterfaces = [\"{INTERFACE}\"]\n\n\
         [[subnet]]\ncidr = \"{subnet}\"\npools = [\"{first}-{last}\"]\n{exclude}\
         router = \"{address}\"\ndns = [\"{dns}\"]\ndomain = {domain}\nlease_time = \"1h\"\n\n\
         [tftp]\nlisten = \"{address}:69\"\n\n\
         [http]\nlisten = \"{address}:80\"\n{files}\n\
         [grpc]\n{grpc}\n\n\
         [boot]\nprograms = {programs}\n"
    )
}

/// For gRPC on a unix socket, and for those who have certificates on these addresses.
pub fn network_grpc(socket: &Path, addresses: &[String], auth: &str) -> String {
    let socket = format!("unix:{}", socket.display());
    let all: Vec<String> = std::iter::once(&socket)
        .chain(addresses)
        .map(|place| string(place))
        .collect();
    format!("listen = [{}]\nauth = {}", all.join(", "), string(auth))
}

/// For gRPC on a unix socket.
pub fn unix_grpc(socket: &Path) -> String {
    format!("listen = {}", string(&format!("unix:{}", socket.display())))
}

/// A basic string: JSON's escapes are TOML's.
fn string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_toml_of_the_labs_network() {
        let text = "version = 1\n[network]\ncidr = \"192.0.2.0/24\"\n[provisioner]\naddress = \"192.0.2.200\"\n";
        let lab = crate::labfile::read(text, Path::new("/x/demo")).unwrap();
        let config = config(
            &lab,
            &Place {
                data_dir: "/odd \"dir\"",
                grpc: &unix_grpc(Path::new("/run/api")),
                programs: "/usr/lib/ipxe",
                files: Some("/srv/bootjack/files"),
                dns: lab.provisioner.address,
            },
        );
        let config: toml::Table = config.parse().unwrap();
        assert_eq!(config["data_dir"].as_str(), Some("/odd \"dir\""));
        let subnet = &config["subnet"][0];
        assert_eq!(subnet["pools"][0].as_str(), Some("192.0.2.127-192.0.2.254"));
        assert_eq!(subnet["exclude"][0].as_str(), Some("192.0.2.200"));
        assert_eq!(config["grpc"]["listen"].as_str(), Some("unix:/run/api"));
        assert_eq!(
            config["http"]["files"].as_str(),
            Some("/srv/bootjack/files")
        );
        assert_eq!(config["http"]["listen"].as_str(), Some("192.0.2.200:80"));
    }
}
