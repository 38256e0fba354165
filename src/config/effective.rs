//! The configuration as it is followed. In: what was read. Out: every key with its value, defaults filled in, as JSON; no secret.

use serde_json::{Map, Value, json};

use super::{Backend, Config, Dhcp, Http};
use crate::dhcp::answer::Mode;
use crate::http::access::Bind;
use crate::model::{Class, HIDDEN, Labels, Options, Pool, Reservation, Subnet, Var, Vars};

/// A variable of such a name is taken for a secret, though its value stands in the file.
const SECRET_NAMES: [&str; 5] = ["password", "passwd", "secret", "token", "private_key"];

/// All of it.
pub fn of(config: &Config) -> Value {
    let listen: Vec<String> = config.grpc.listen.iter().map(ToString::to_string).collect();
    let seconds = |length: std::time::Duration| humantime::format_duration(length).to_string();
    json!({
        "data_dir": config.data_dir,
        "store": match &config.store.backend {
            Backend::Sled => json!({
                "backend": "sled",
                "snapshot_period": seconds(config.store.snapshot_period),
            }),
            Backend::Etcd(etcd) => json!({
                "backend": "etcd",
                "etcd": {
                    "endpoints": etcd.endpoints.iter().map(|url| without_password(url)).collect::<Vec<_>>(),
                    "prefix": etcd.prefix,
                    "ca": etcd.ca,
                    "cert": etcd.identity.as_ref().map(|(certificate, _)| certificate),
                    "key": etcd.identity.as_ref().map(|(_, key)| key),
                    "user": etcd.login.as_ref().map(|(user, _)| user),
                    "password_file": etcd.login.as_ref().map(|(_, file)| file),
                    "timeout": seconds(etcd.timeout),
                },
            }),
        },
        "replicas": config.replicas.as_ref().map(|replicas| json!({
            "id": replicas.id,
            "addresses": replicas.addresses,
            "ttl_secs": replicas.ttl.as_secs(),
            "weight": replicas.weight,
        })),
        "dhcp": dhcp(&config.dhcp),
        "subnet": config.subnets.iter().map(subnet).collect::<Vec<_>>(),
        "options": options(&config.options),
        "class": config.classes.iter().map(class).collect::<Vec<_>>(),
        "tftp": {
            "listen": config.tftp.listen,
            "root": config.tftp.root,
            "single_port": config.tftp.single_port,
            "max_transfers": config.tftp.max_transfers,
            "max_transfers_per_client": config.tftp.max_transfers_per_client,
        },
        "http": http(&config.http),
        "grpc": {
            "listen": listen,
            "auth": config.grpc.auth,
            "certificate": config.grpc.certificate.as_ref().map(|(certificate, _)| certificate),
            "key": config.grpc.certificate.as_ref().map(|(_, key)| key),
            "socket_group": config.grpc.socket_group,
            "socket_scope": config.grpc.socket_scope.as_str(),
            "rate_limit": config.grpc.rate_limit,
            "audit_log": config.grpc.audit_log,
        },
        "process": { "user": config.process.user },
        "boot": {
            "programs": config.boot.programs,
            "profiles": config.boot.profiles,
            "rescue": config.boot.rescue,
        },
        "admin": { "listen": config.admin.listen },
        "secrets": { "dir": config.secrets_dir },
        "vars": vars(&config.vars),
        "group": config.groups.iter().map(|group| json!({
            "name": group.name,
            "match": labels(&group.matches),
            "profile": group.profile,
            "vars": vars(&group.vars),
        })).collect::<Vec<_>>(),
        "artifacts": {
            "dir": config.artifacts_dir(),
            "offline": config.artifacts.offline,
        },
        "artifact": config.artifacts.upstream.iter().map(|upstream| json!({
            "name": upstream.name.as_str(),
            "url": without_password(&upstream.url),
            "sha256": upstream.digest.to_string(),
        })).collect::<Vec<_>>(),
        "reservation": config.reservations.iter().map(|at| reservation(&at.value)).collect::<Vec<_>>(),
    })
}

fn dhcp(dhcp: &Dhcp) -> Value {
    json!({
        "interfaces": dhcp.interfaces,
        "wait_for_interfaces": dhcp.wait_for_interfaces,
        "mode": match dhcp.mode {
            Mode::Server => "server",
            Mode::Proxy => "proxy",
        },
        "authoritative": dhcp.authoritative,
        "look_for_others": dhcp.look_for_others,
        "answer_ipv6_solicitations": dhcp.answer_ipv6_solicitations,
        "packets_per_second": dhcp.limit.per_second,
        "burst": dhcp.limit.burst,
        "install_lease": humantime::format_duration(dhcp.install_lease).to_string(),
    })
}

fn http(http: &Http) -> Value {
    json!({
        "listen": http.listen,
        "files": http.files,
        "bind_documents": match http.bind_documents {
            Bind::Lease => "lease",
            Bind::Token => "token",
        },
        "rate_limit_mib": http.rate_limit_mib,
        "tls": http.tls.as_ref().map(|tls| json!({
            "listen": tls.listen,
            "certificate": tls.certificate,
            "key": tls.key,
        })),
    })
}

fn subnet(subnet: &Subnet) -> Value {
    json!({
        "cidr": subnet.cidr.to_string(),
        "pools": pools(&subnet.pools),
        "exclude": pools(&subnet.exclude),
        "options": options(&subnet.options),
        "probe": subnet.probe,
        "client_policy": subnet.client_policy,
        "router": subnet.router,
        "dns": subnet.dns,
        "domain": subnet.domain,
        "lease_time": humantime::format_duration(subnet.lease_time).to_string(),
    })
}

fn class(class: &Class) -> Value {
    json!({
        "name": class.name,
        "pools": pools(&class.pools),
        "options": options(&class.options),
        "program": class.program,
        "lease_time": class.lease_time.map(|time| humantime::format_duration(time).to_string()),
        "boot_server": class.boot_server,
        "ignore": class.ignore,
    })
}

fn reservation(reservation: &Reservation) -> Value {
    json!({
        "id": reservation.id,
        "mac": reservation.mac.map(|mac| mac.to_string()),
        "address": reservation.address,
        "hostname": reservation.hostname,
        "profile": reservation.profile,
        "labels": labels(&reservation.labels),
        "vars": vars(&reservation.vars),
    })
}

fn pools(pools: &[Pool]) -> Vec<String> {
    (pools.iter())
        .map(|pool| format!("{}-{}", pool.first, pool.last))
        .collect()
}

fn labels(labels: &Labels) -> Value {
    json!(labels)
}

fn options(all: &Options) -> Value {
    let named = all.0.iter().map(|(code, content)| {
        let value = crate::dhcp::options::decode(*code, &content.0);
        (crate::dhcp::options::name_of(*code), json!(value))
    });
    Value::Object(named.collect())
}

fn vars(all: &Vars) -> Value {
    let shown = all
        .iter()
        .map(|(name, var)| (name.clone(), shown(name, var)));
    Value::Object(shown.collect())
}

fn shown(name: &str, var: &Var) -> Value {
    let lower = name.to_ascii_lowercase();
    let is_secret = SECRET_NAMES.iter().any(|word| lower.contains(word));
    match var {
        _ if is_secret || var.secret().is_some() => json!(HIDDEN),
        Var::Map(fields) => {
            let fields = fields.iter();
            let fields: Map<String, Value> = fields
                .map(|(name, var)| (name.clone(), shown(name, var)))
                .collect();
            Value::Object(fields)
        }
        Var::List(vars) => vars.iter().map(|var| shown("", var)).collect(),
        plain => json!(plain),
    }
}

/// `http://user:word@host/` without what only the two of them know.
fn without_password(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => match rest.split_once('@') {
            Some((user, host)) if !user.contains('/') => format!("{scheme}://{HIDDEN}@{host}"),
            _ => url.to_owned(),
        },
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_filled_in_and_no_secret_is_shown() {
        let text = r#"
[[subnet]]
cidr = "198.18.0.0/24"

[vars]
root_password = "hunter2"
ntp = "198.18.0.1"
key = { secret_file = "/etc/bootjack/key" }
users = [{ name = "me", password = "hunter2" }]

[[artifact]]
name = "a"
url = "https://me:hunter2@boot.example/a"
sha256 = "0000000000000000000000000000000000000000000000000000000000000000"
"#;
        let (config, problems) = crate::config::read(text, None);
        assert!(problems.is_empty(), "{problems:?}");
        let json = of(&config);
        assert!(!json.to_string().contains("hunter2"), "{json}");
        assert!(!json.to_string().contains("/etc/bootjack/key"), "{json}");
        assert_eq!(json["vars"]["ntp"], "198.18.0.1");
        assert_eq!(json["vars"]["users"][0]["name"], "me");
        assert_eq!(json["boot"]["rescue"], "rescue");
        assert_eq!(json["dhcp"]["mode"], "server");
        assert_eq!(
            json["artifact"][0]["url"],
            "https://(secret)@boot.example/a"
        );
    }
}
