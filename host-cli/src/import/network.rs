//! What a server says of its networks, as bootjackd.toml says it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::Ipv4Addr;

use serde_json::Value as Json;

use crate::wanted::Place;

/// Subnets, and the options of everybody.
#[derive(Debug, Default)]
pub struct Network {
    pub subnets: Vec<Subnet>,
    pub options: Settings,
    pub lease_secs: Option<u64>,
}

/// One subnet.
#[derive(Debug)]
pub struct Subnet {
    pub place: Place,
    pub address: Ipv4Addr,
    pub prefix: u8,
    /// The file does not say the prefix.
    pub is_guessed: bool,
    pub pools: Vec<(Ipv4Addr, Ipv4Addr)>,
    pub settings: Settings,
    pub lease_secs: Option<u64>,
    /// The tag that dnsmasq knows it by.
    pub tag: Option<String>,
}

/// Options by code.
pub type Settings = BTreeMap<u8, Json>;

impl Subnet {
    pub fn new(place: Place, address: Ipv4Addr, prefix: u8) -> Self {
        Self {
            place,
            address: masked(address, prefix),
            prefix,
            is_guessed: false,
            pools: Vec::new(),
            settings: Settings::new(),
            lease_secs: None,
            tag: None,
        }
    }

    pub fn holds(&self, address: Ipv4Addr) -> bool {
        masked(address, self.prefix) == self.address
    }
}

impl Network {
    /// The text for bootjackd.toml; empty if nothing is known of any network.
    pub fn toml(&self) -> String {
        let mut out = String::new();
        let is_lone = |code: &u8| matches!(code, 3 | 6 | 15);
        let common: Vec<_> = self
            .options
            .iter()
            .filter(|(code, _)| !is_lone(code))
            .collect();
        if !common.is_empty() {
            out.push_str("[options]\n");
            for (code, value) in common {
                setting(&mut out, &crate::options::name_of(*code), value);
            }
        }
        for subnet in &self.subnets {
            if !out.is_empty() {
                out.push('\n');
            }
            self.subnet(&mut out, subnet);
        }
        out
    }

    fn subnet(&self, out: &mut String, subnet: &Subnet) {
        let _ = writeln!(out, "[[subnet]]  # {}", subnet.place);
        let guessed = if subnet.is_guessed {
            "  # its mask is not written there: check it"
        } else {
            ""
        };
        let _ = writeln!(
            out,
            "cidr = \"{}/{}\"{guessed}",
            subnet.address, subnet.prefix
        );
        if !subnet.pools.is_empty() {
            let pools: Vec<String> = subnet
                .pools
                .iter()
                .map(|(a, b)| format!("\"{a}-{b}\""))
                .collect();
            let _ = writeln!(out, "pools = [{}]", pools.join(", "));
        }
        let say = |code: &u8| subnet.settings.get(code).or_else(|| self.options.get(code));
        if let Some(routers) = say(&3)
            .and_then(Json::as_array)
            .filter(|list| !list.is_empty())
        {
            // A router of another subnet is of no use here.
            let here = routers.iter().find(|router| {
                let address = router.as_str().and_then(|text| text.parse().ok());
                address.is_some_and(|address| subnet.holds(address))
            });
            if let Some(router) = here {
                setting(out, "router", router);
            }
        }
        if let Some(dns) = say(&6) {
            setting(out, "dns", dns);
        }
        if let Some(domain) = say(&15) {
            setting(out, "domain", domain);
        }
        if let Some(secs) = subnet.lease_secs.or(self.lease_secs) {
            let _ = writeln!(out, "lease_time = \"{secs}s\"");
        }
        let others: Vec<String> = (subnet.settings.iter())
            .filter(|(code, _)| !matches!(code, 1 | 3 | 6 | 15 | 28))
            .map(|(code, value)| format!("{} = {}", crate::options::name_of(*code), toml(value)))
            .collect();
        if !others.is_empty() {
            let _ = writeln!(out, "options = {{ {} }}", others.join(", "));
        }
    }
}

fn setting(out: &mut String, key: &str, value: &Json) {
    let _ = writeln!(out, "{key} = {}", toml(value));
}

/// JSON's strings, numbers, truth values and lists are TOML's; its objects are not.
fn toml(value: &Json) -> String {
    match value {
        Json::Object(map) => {
            let pairs: Vec<String> = map
                .iter()
                .map(|(key, value)| format!("{key} = {}", toml(value)))
                .collect();
            format!("{{ {} }}", pairs.join(", "))
        }
        Json::Array(list) => {
            let values: Vec<String> = list.iter().map(toml).collect();
            format!("[{}]", values.join(", "))
        }
        other => other.to_string(),
    }
}

pub fn masked(address: Ipv4Addr, prefix: u8) -> Ipv4Addr {
    let mask = u32::MAX
        .checked_shl(32 - u32::from(prefix.min(32)))
        .unwrap_or(0);
    Ipv4Addr::from(u32::from(address) & mask)
}

/// The prefix length of a netmask, if its bits are in one row.
pub fn prefix_of(mask: Ipv4Addr) -> Option<u8> {
    let bits = u32::from(mask);
    let ones = bits.leading_ones();
    (bits.count_ones() == ones).then(|| u8::try_from(ones).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_network_is_written_as_bootjackd_reads_it() {
        let place = Place {
            file: "dnsmasq.conf".into(),
            line: 7,
        };
        let mut subnet = Subnet::new(place, Ipv4Addr::new(198, 18, 0, 77), 24);
        subnet.is_guessed = true;
        subnet.pools = vec![(
            Ipv4Addr::new(198, 18, 0, 100),
            Ipv4Addr::new(198, 18, 0, 199),
        )];
        subnet.settings.insert(42, json!(["198.18.0.1"]));
        subnet.settings.insert(252, json!({"text": "x"}));
        let mut network = Network {
            subnets: vec![subnet],
            lease_secs: Some(3600),
            ..Network::default()
        };
        network
            .options
            .insert(3, json!(["198.19.0.1", "198.18.0.1"]));
        network.options.insert(26, json!(9000));
        assert_eq!(
            network.toml(),
            "[options]\ninterface_mtu = 9000\n\n[[subnet]]  # dnsmasq.conf:7\n\
             cidr = \"198.18.0.0/24\"  # its mask is not written there: check it\n\
             pools = [\"198.18.0.100-198.18.0.199\"]\nrouter = \"198.18.0.1\"\nlease_time = \"3600s\"\n\
             options = { ntp_servers = [\"198.18.0.1\"], option_252 = { text = \"x\" } }\n"
        );
        assert!(network.toml().parse::<toml::Table>().is_ok());
    }

    #[test]
    fn masks_are_rows_of_ones() {
        assert_eq!(prefix_of(Ipv4Addr::new(255, 255, 254, 0)), Some(23));
        assert_eq!(prefix_of(Ipv4Addr::new(255, 0, 255, 0)), None);
        assert_eq!(
            masked(Ipv4Addr::new(198, 18, 3, 7), 23),
            Ipv4Addr::new(198, 18, 2, 0)
        );
        assert_eq!(
            masked(Ipv4Addr::new(198, 18, 3, 7), 0),
            Ipv4Addr::UNSPECIFIED
        );
    }
}
