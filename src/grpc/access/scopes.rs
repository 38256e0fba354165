//! Which call needs which scope: the one table of it. A method that is not in it needs `admin`, so that what is new is closed until
//! somebody decides; a test wants every method of the contract here.

use bootjack_api::access::Scope;
use bootjack_api::access::Scope::{Admin, Read, Reserve};

/// Whether a call changes anything; every such call is audited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    Looks,
    Writes,
}

use Effect::{Looks, Writes};

/// What one method needs and does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    pub scope: Scope,
    pub effect: Effect,
}

const TABLE: &[(&str, Scope, Effect)] = &[
    (
        "/bootjack.v1.Reservations/CreateReservation",
        Reserve,
        Writes,
    ),
    (
        "/bootjack.v1.Reservations/BatchCreateReservations",
        Reserve,
        Writes,
    ),
    ("/bootjack.v1.Reservations/GetReservation", Read, Looks),
    ("/bootjack.v1.Reservations/ListReservations", Read, Looks),
    (
        "/bootjack.v1.Reservations/UpdateReservation",
        Reserve,
        Writes,
    ),
    (
        "/bootjack.v1.Reservations/DeleteReservation",
        Reserve,
        Writes,
    ),
    ("/bootjack.v1.Reservations/WatchReservations", Read, Looks),
    ("/bootjack.v1.Operations/GetOperation", Read, Looks),
    ("/bootjack.v1.Operations/ListOperations", Read, Looks),
    ("/bootjack.v1.Operations/WaitOperation", Read, Looks),
    ("/bootjack.v1.Leases/GetLease", Read, Looks),
    ("/bootjack.v1.Leases/ListLeases", Read, Looks),
    ("/bootjack.v1.Leases/ReleaseLease", Reserve, Writes),
    ("/bootjack.v1.Leases/WatchLeases", Read, Looks),
    ("/bootjack.v1.Machines/GetMachine", Read, Looks),
    ("/bootjack.v1.Machines/ListMachines", Read, Looks),
    ("/bootjack.v1.Machines/ArmMachine", Reserve, Writes),
    ("/bootjack.v1.Machines/ReinstallMachine", Reserve, Writes),
    ("/bootjack.v1.Machines/HoldMachine", Reserve, Writes),
    ("/bootjack.v1.Machines/ReleaseMachine", Reserve, Writes),
    ("/bootjack.v1.Machines/RescueMachine", Reserve, Writes),
    ("/bootjack.v1.Machines/SetNextBoot", Reserve, Writes),
    ("/bootjack.v1.Machines/WatchEvents", Read, Looks),
    ("/bootjack.v1.Dhcp/ExplainDhcp", Read, Looks),
    ("/bootjack.v1.Profiles/ListProfiles", Read, Looks),
    ("/bootjack.v1.Profiles/GetProfile", Read, Looks),
    ("/bootjack.v1.Profiles/LintProfile", Read, Looks),
    ("/bootjack.v1.Profiles/PutProfile", Admin, Writes),
    ("/bootjack.v1.Profiles/DeleteProfile", Admin, Writes),
    ("/bootjack.v1.Artifacts/ListArtifacts", Read, Looks),
    ("/bootjack.v1.Artifacts/GetArtifact", Read, Looks),
    ("/bootjack.v1.Artifacts/UploadArtifact", Admin, Writes),
    ("/bootjack.v1.Artifacts/DeleteArtifact", Admin, Writes),
    ("/bootjack.v1.Server/GetServerInfo", Read, Looks),
    ("/bootjack.v1.Server/GetEffectiveConfig", Admin, Looks),
    ("/bootjack.v1.Server/ExportState", Admin, Looks),
    ("/bootjack.v1.Replicas/ListReplicas", Read, Looks),
    ("/bootjack.v1.Replicas/FindOwner", Read, Looks),
    ("/bootjack.v1.Replicas/SetCanary", Admin, Writes),
    ("/bootjack.v1.Replicas/ClearCanary", Admin, Writes),
    ("/bootjack.v1.Replicas/PutOverride", Admin, Writes),
    ("/bootjack.v1.Replicas/DeleteOverride", Admin, Writes),
    ("/bootjack.v1.Replicas/ListOverrides", Read, Looks),
    ("/grpc.health.v1.Health/Check", Read, Looks),
    ("/grpc.health.v1.Health/List", Read, Looks),
    ("/grpc.health.v1.Health/Watch", Read, Looks),
    (
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        Read,
        Looks,
    ),
    (
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        Read,
        Looks,
    ),
];

/// What the method of this path, `/package.Service/Method`, needs and does.
pub fn rule(path: &str) -> Rule {
    let known = TABLE.iter().find(|(known, _, _)| *known == path);
    let (scope, effect) = known.map_or((Admin, Writes), |(_, scope, effect)| (*scope, *effect));
    Rule { scope, effect }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use bootjack_api::v1;
    use prost::Message as _;
    use prost_types::FileDescriptorSet;

    use super::*;

    fn contract() -> BTreeSet<String> {
        let files = FileDescriptorSet::decode(v1::FILE_DESCRIPTOR_SET).expect("protox wrote it");
        let services = (files.file.iter())
            .flat_map(|file| file.service.iter().map(|service| (file.package(), service)));
        services
            .flat_map(|(package, service)| {
                let path = format!("/{package}.{}", service.name());
                let methods = service.method.iter();
                methods.map(move |method| format!("{path}/{}", method.name()))
            })
            .collect()
    }

    #[test]
    fn every_method_of_the_contract_has_a_line_and_every_line_a_method() {
        let contract = contract();
        assert!(contract.len() > 30, "the contract was read: {contract:?}");
        let ours = |path: &&str| path.starts_with("/bootjack.");
        let table: BTreeSet<String> = (TABLE.iter().map(|(path, _, _)| *path))
            .filter(ours)
            .map(str::to_owned)
            .collect();
        assert_eq!(
            contract.symmetric_difference(&table).collect::<Vec<_>>(),
            Vec::<&String>::new(),
            "these stand in the contract or in the table of grpc/scopes.rs alone"
        );
    }

    #[test]
    fn whoever_may_only_read_can_change_nothing() {
        for (path, scope, effect) in TABLE {
            assert!(*effect == Looks || *scope > Read, "{path}");
        }
    }

    #[test]
    fn what_is_not_in_the_table_needs_admin_and_is_audited() {
        let unknown = Rule {
            scope: Admin,
            effect: Writes,
        };
        assert_eq!(rule("/bootjack.v1.Future/Feature"), unknown);
        assert_eq!(rule(""), unknown);
    }
}
