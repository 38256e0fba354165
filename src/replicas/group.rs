//! Whose a client is. In: the replicas that live, what operators have asked for, a client and the time. Out: the replica that
//! answers it, and why that one.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use super::bucket::{BUCKETS, bucket};
use super::shares::{Candidate, Shares, mix};
use crate::model::{MacAddr, Slices};

/// The weight of a replica that says none.
pub const USUAL_WEIGHT: u16 = 10;
/// How many of those that left are remembered: clients that hold an offer of theirs are answered in their name.
const MOST_DEPARTED: usize = 64;

/// One replica, as it says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub id: String,
    /// Tells two processes of one name apart.
    pub instance: String,
    /// Where others forward to.
    pub addresses: Vec<Ipv4Addr>,
    /// The addresses it serves DHCP from: option 54 of its replies, and the source of what it forwards.
    pub server_ids: Vec<Ipv4Addr>,
    pub weight: u16,
    /// How long its share waits for it.
    pub ttl_secs: u64,
    pub version: String,
    /// Unix time in seconds at which it started.
    pub since_secs: u64,
    pub counts: Counts,
}

/// What a replica did since it started, as it last told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests it took as its own.
    pub taken: u64,
    /// Requests it sent on to their owner.
    pub forwarded: u64,
    /// Requests it left to others.
    pub left: u64,
}

/// So many of a hundred clients go to one replica, so that a new version is tried on few.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canary {
    pub replica: String,
    pub percent: u8,
}

/// One machine goes to one replica, for a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    pub mac: MacAddr,
    pub replica: String,
    /// Unix time in seconds at which it ends.
    pub expires_secs: u64,
}

/// What a client is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client<'a> {
    /// The client-id (option 61), or else the hardware address (RFC 3074 §6).
    pub identity: &'a [u8],
    /// Firmware, boot loader and system have it alike, unlike the client-id.
    pub hardware: &'a [u8],
    pub mac: Option<MacAddr>,
}

/// Why a replica owns a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    Override { expires_secs: u64 },
    Canary { percent: u8 },
    Bucket(u8),
}

/// The replicas as one of them knows them.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    own_id: String,
    /// By id.
    members: Vec<Member>,
    departed: Vec<Member>,
    shares: Shares,
    canary: Option<Canary>,
    overrides: HashMap<MacAddr, Override>,
    own_slices: Slices,
}

impl Group {
    /// Nobody is known yet.
    pub fn new(own_id: String) -> Self {
        Self {
            own_id,
            members: Vec::new(),
            departed: Vec::new(),
            shares: Shares::deal(&[]),
            canary: None,
            overrides: HashMap::new(),
            own_slices: Slices::ALL,
        }
    }

    /// With these who live now, and those who did before remembered.
    #[must_use]
    pub fn with_members(mut self, mut members: Vec<Member>) -> Self {
        members.sort_by(|a, b| a.id.cmp(&b.id));
        let is_back = |gone: &Member| members.iter().any(|member| member.id == gone.id);
        let gone = self.members.into_iter().chain(self.departed);
        self.departed = gone.filter(|gone| !is_back(gone)).collect();
        self.departed.truncate(MOST_DEPARTED);
        let candidates: Vec<Candidate> = (members.iter())
            .map(|member| Candidate {
                id: &member.id,
                weight: member.weight,
            })
            .collect();
        self.shares = Shares::deal(&candidates);
        self.members = members;
        self.own_slices = self.slices_of_own();
        self
    }

    /// With this canary, or none.
    #[must_use]
    pub fn with_canary(mut self, canary: Option<Canary>) -> Self {
        self.canary = canary;
        self
    }

    /// With these overrides in place of all before.
    #[must_use]
    pub fn with_overrides(mut self, overrides: impl IntoIterator<Item = Override>) -> Self {
        self.overrides = overrides.into_iter().map(|o| (o.mac, o)).collect();
        self
    }

    pub fn own_id(&self) -> &str {
        &self.own_id
    }

    /// Those who live, by id.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    pub fn member(&self, id: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.id == id)
    }

    pub fn canary(&self) -> Option<&Canary> {
        self.canary.as_ref()
    }

    /// The overrides that have not ended, by MAC.
    pub fn overrides(&self, now_secs: u64) -> Vec<&Override> {
        let current = |o: &&Override| now_secs < o.expires_secs;
        let mut list: Vec<&Override> = self.overrides.values().filter(current).collect();
        list.sort_by_key(|o| o.mac);
        list
    }

    /// How many of the 256 buckets a replica has.
    pub fn buckets_of(&self, id: &str) -> usize {
        let place = self.members.iter().position(|member| member.id == id);
        place.map_or(0, |place| self.shares.count(place))
    }

    /// The replica that answers this client. None where nobody lives, as far as is known.
    pub fn owner(&self, client: Client, now_secs: u64) -> Option<(&Member, Why)> {
        self.overridden(client, now_secs)
            .or_else(|| self.by_canary(client))
            .or_else(|| self.by_bucket(client))
    }

    fn overridden(&self, client: Client, now_secs: u64) -> Option<(&Member, Why)> {
        let told = self.overrides.get(&client.mac?)?;
        let expires_secs = told.expires_secs;
        let member = (now_secs < expires_secs).then(|| self.member(&told.replica))??;
        Some((member, Why::Override { expires_secs }))
    }

    /// By the hardware address, so that a machine has all stages of its boot with one replica or the other.
    fn by_canary(&self, client: Client) -> Option<(&Member, Why)> {
        let Canary { replica, percent } = self.canary.as_ref()?;
        let octets = b"canary".iter().chain(client.hardware).copied();
        let is_chosen = mix(octets) % 100 < u64::from(*percent);
        let member = is_chosen.then(|| self.member(replica))??;
        Some((member, Why::Canary { percent: *percent }))
    }

    fn by_bucket(&self, client: Client) -> Option<(&Member, Why)> {
        let bucket = bucket(client.identity);
        let member = self.members.get(self.shares.owner(bucket)?)?;
        Some((member, Why::Bucket(bucket)))
    }

    /// Who lives and serves from this address.
    pub fn member_at(&self, address: Ipv4Addr) -> Option<&Member> {
        (self.members.iter()).find(|member| member.is_at(address))
    }

    /// Whether one that left served from this address, and nobody does now.
    pub fn has_left(&self, address: Ipv4Addr) -> bool {
        self.member_at(address).is_none() && self.departed.iter().any(|gone| gone.is_at(address))
    }

    /// The parts of pools that this replica gives addresses of first, so that no two offer the same one to two clients; all
    /// where it has no share.
    pub fn own_slices(&self) -> Slices {
        self.own_slices
    }

    fn slices_of_own(&self) -> Slices {
        let every = BUCKETS as u32 / Slices::COUNT;
        Slices::chosen(|slice| {
            let bucket = u8::try_from(slice * every).ok();
            let owner = bucket.and_then(|bucket| self.shares.owner(bucket));
            owner.is_some_and(|place| self.members[place].id == self.own_id)
        })
    }
}

impl Member {
    fn is_at(&self, address: Ipv4Addr) -> bool {
        self.server_ids.contains(&address) || self.addresses.contains(&address)
    }
}

#[cfg(test)]
pub mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::Pool;

    const NOW: u64 = 1000;

    /// Replica number `n` of a test, at 198.18.0.n.
    pub fn member(n: u8) -> Member {
        let address = Ipv4Addr::new(198, 18, 0, n);
        Member {
            id: format!("replica-{n}"),
            instance: format!("i{n}"),
            addresses: vec![address],
            server_ids: vec![address],
            weight: USUAL_WEIGHT,
            ttl_secs: 6,
            version: "1.0.0".to_owned(),
            since_secs: 1,
            counts: Counts::default(),
        }
    }

    /// These, as replica number `own` knows them.
    pub fn group(own: u8, members: &[u8]) -> Group {
        let members = members.iter().map(|n| member(*n)).collect();
        Group::new(format!("replica-{own}")).with_members(members)
    }

    fn client(octets: &[u8; 6]) -> Client<'_> {
        Client {
            identity: octets,
            hardware: octets,
            mac: Some(MacAddr(*octets)),
        }
    }

    fn owner_of(group: &Group, octets: &[u8; 6], now: u64) -> String {
        group
            .owner(client(octets), now)
            .expect("somebody lives")
            .0
            .id
            .clone()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn all_replicas_agree_on_the_owner_of_every_client(
            octets in any::<[u8; 6]>(),
            percent in 0..=100_u8,
            mut members in proptest::collection::vec(1..9_u8, 1..6),
        ) {
            members.sort_unstable();
            members.dedup();
            let canary = Some(Canary { replica: format!("replica-{}", members[0]), percent });
            let owners: Vec<String> = members
                .iter()
                .map(|own| owner_of(&group(*own, &members).with_canary(canary.clone()), &octets, NOW))
                .collect();
            prop_assert!(owners.iter().all(|owner| *owner == owners[0]), "{:?}", owners);
        }
    }

    #[test]
    fn an_override_counts_until_it_ends_and_only_for_a_replica_that_lives() {
        let octets = [2, 0, 0, 0, 0, 7];
        let usual = owner_of(&group(1, &[1, 2, 3]), &octets, NOW);
        let other = ["replica-1", "replica-2"]
            .into_iter()
            .find(|id| *id != usual)
            .expect("two");
        let told = |replica: &str| Override {
            mac: MacAddr(octets),
            replica: replica.to_owned(),
            expires_secs: NOW + 10,
        };
        let group = group(1, &[1, 2, 3]).with_overrides([told(other)]);
        assert_eq!(owner_of(&group, &octets, NOW + 9), other);
        assert_eq!(owner_of(&group, &octets, NOW + 10), usual);
        assert_eq!(group.overrides(NOW + 9).len(), 1);
        assert_eq!(group.overrides(NOW + 10).len(), 0);
        let gone = group.with_overrides([told("replica-9")]);
        assert_eq!(owner_of(&gone, &octets, NOW), usual);
    }

    #[test]
    fn a_canary_takes_its_part_of_all_clients_and_an_override_beats_it() {
        let canary = Canary {
            replica: "replica-3".to_owned(),
            percent: 10,
        };
        let group = group(1, &[1, 2, 3]).with_canary(Some(canary));
        let clients = (0..10_000_u16).map(|n| {
            let [high, low] = n.to_be_bytes();
            [0x52, 0x54, 0, 0, high, low]
        });
        let chosen: Vec<[u8; 6]> = clients
            .filter(|octets| {
                let (member, why) = group.owner(client(octets), NOW).expect("somebody lives");
                why == Why::Canary { percent: 10 } && member.id == "replica-3"
            })
            .collect();
        assert!((800..1200).contains(&chosen.len()), "{}", chosen.len());
        let told = Override {
            mac: MacAddr(chosen[0]),
            replica: "replica-1".to_owned(),
            expires_secs: NOW + 1,
        };
        let group = group.with_overrides([told]);
        assert_eq!(owner_of(&group, &chosen[0], NOW), "replica-1");
        // One that has left takes nobody along.
        let without = Group {
            canary: group.canary.clone(),
            ..super::tests::group(1, &[1, 2])
        };
        assert_ne!(owner_of(&without, &chosen[1], NOW), "replica-3");
    }

    #[test]
    fn a_client_stays_with_the_canary_whatever_client_id_its_stages_send() {
        let canary = Canary {
            replica: "replica-2".to_owned(),
            percent: 50,
        };
        let group = group(1, &[1, 2]).with_canary(Some(canary));
        let hardware = [0x52, 0x54, 0, 0, 0, 9];
        let is_canary = |identity: &[u8]| {
            let client = Client {
                identity,
                ..client(&hardware)
            };
            matches!(group.owner(client, NOW), Some((_, Why::Canary { .. })))
        };
        let first = is_canary(&hardware);
        assert!((0..50_u8).all(|n| is_canary(&[255, n, 1]) == first));
    }

    #[test]
    fn those_who_left_are_remembered_until_they_are_back() {
        let group = group(1, &[1, 2, 3]).with_members(vec![member(1), member(3)]);
        let second = Ipv4Addr::new(198, 18, 0, 2);
        assert!(group.has_left(second) && group.member_at(second).is_none());
        let back = group.with_members(vec![member(1), member(2)]);
        assert!(!back.has_left(second) && back.has_left(Ipv4Addr::new(198, 18, 0, 3)));
        assert!(
            !back.has_left(Ipv4Addr::new(198, 18, 0, 9)),
            "nobody we know"
        );
    }

    #[test]
    fn replicas_begin_with_different_parts_of_a_pool_and_one_alone_with_all() {
        let pool = Pool {
            first: Ipv4Addr::new(198, 18, 4, 0),
            last: Ipv4Addr::new(198, 18, 7, 255),
        };
        let parts = |own| group(own, &[1, 2, 3]).own_slices().of(&[pool]);
        let mut all = [parts(1), parts(2), parts(3)].concat();
        all.sort_by_key(|pool| pool.first);
        assert_eq!(all[0].first, pool.first);
        let sizes: u64 = all.iter().map(Pool::size).sum();
        assert_eq!(sizes, pool.size());
        assert!(all.windows(2).all(|pair| pair[0].last < pair[1].first));
        assert_eq!(group(1, &[1]).own_slices(), Slices::ALL);
        assert_eq!(
            group(9, &[1, 2]).own_slices(),
            Slices::ALL,
            "it is no member"
        );
        assert_eq!(Group::new("a".to_owned()).own_slices(), Slices::ALL);
    }
}
