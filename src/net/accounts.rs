//! Users and groups of this machine. In: a name, or a number. Out: the other one, or nothing.
//!
//! Where the C library is linked into the program (the container's), only /etc/passwd and /etc/group are looked at: it would load
//! what /etc/nsswitch.conf names beside them, which is another C library's, and crash.

use nix::unistd::{Gid, Group, Uid, User};

const IS_STATIC: bool = cfg!(target_feature = "crt-static");

/// A user's own number and that of their first group.
pub fn user(name: &str) -> Option<(Uid, Gid)> {
    if !IS_STATIC {
        let user = User::from_name(name).ok().flatten()?;
        return Some((user.uid, user.gid));
    }
    user_in(&std::fs::read_to_string("/etc/passwd").ok()?, name)
}

/// A user's name.
pub fn name_of(uid: Uid) -> Option<String> {
    if !IS_STATIC {
        return Some(User::from_uid(uid).ok().flatten()?.name);
    }
    let passwd = std::fs::read_to_string("/etc/passwd").ok()?;
    let named = passwd.lines().filter_map(user_line);
    let mut names = named.filter_map(|(name, its, _)| (its == uid).then_some(name));
    names.next().map(str::to_owned)
}

/// A group's number, by its name or as it is.
pub fn group(name: &str) -> Option<Gid> {
    if let Ok(number) = name.parse() {
        return Some(Gid::from_raw(number));
    }
    if !IS_STATIC {
        return Some(Group::from_name(name).ok().flatten()?.gid);
    }
    let groups = std::fs::read_to_string("/etc/group").ok()?;
    let mut groups = groups.lines().filter_map(group_line);
    groups.find(|(its, ..)| *its == name).map(|(_, gid, _)| gid)
}

/// All groups of a user, the first one among them.
pub fn groups_of(name: &str, first: Gid) -> Vec<Gid> {
    if IS_STATIC {
        let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
        return groups_in(&groups, name, first);
    }
    let name = std::ffi::CString::new(name).ok();
    let found = name.and_then(|name| nix::unistd::getgrouplist(&name, first).ok());
    found.unwrap_or(vec![first])
}

fn user_in(passwd: &str, name: &str) -> Option<(Uid, Gid)> {
    let mut users = passwd.lines().filter_map(user_line);
    let (_, uid, gid) = users.find(|(its, ..)| *its == name)?;
    Some((uid, gid))
}

/// passwd(5): `name:password:UID:GID:…`.
fn user_line(line: &str) -> Option<(&str, Uid, Gid)> {
    let mut fields = line.split(':');
    let name = fields.next()?;
    let uid = fields.nth(1)?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    Some((name, Uid::from_raw(uid), Gid::from_raw(gid)))
}

fn groups_in(groups: &str, name: &str, first: Gid) -> Vec<Gid> {
    let others = groups.lines().filter_map(group_line);
    let others = others.filter_map(|(_, gid, members)| {
        let is_member = members.split(',').any(|member| member == name);
        (is_member && gid != first).then_some(gid)
    });
    std::iter::once(first).chain(others).collect()
}

/// group(5): `name:password:GID:member,member`.
fn group_line(line: &str) -> Option<(&str, Gid, &str)> {
    let mut fields = line.split(':');
    let name = fields.next()?;
    let gid = fields.nth(1)?.parse().ok()?;
    Some((name, Gid::from_raw(gid), fields.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_read_as_their_manual_pages_say() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\n\nbroken\n\
                      bootjack:x:65532:65533::/var/lib/bootjack:/sbin/nologin\n";
        let found = user_in(passwd, "bootjack");
        assert_eq!(found, Some((Uid::from_raw(65532), Gid::from_raw(65533))));
        assert_eq!(user_in(passwd, "boot"), None);
        assert_eq!(user_in(passwd, "broken"), None);
        let groups = "root:x:0:\nnetdev:x:101:me,bootjack\nboot:x:102:bootjacks\nbootjack:x:65533:bootjack\n";
        let first = Gid::from_raw(65533);
        let found = groups_in(groups, "bootjack", first);
        assert_eq!(found, [first, Gid::from_raw(101)]);
    }

    #[test]
    fn root_is_found_as_this_machine_has_it() {
        assert_eq!(user("root"), Some((Uid::from_raw(0), Gid::from_raw(0))));
        assert_eq!(name_of(Uid::from_raw(0)).as_deref(), Some("root"));
        assert_eq!(group("root"), Some(Gid::from_raw(0)));
        assert_eq!(group("4711"), Some(Gid::from_raw(4711)));
        assert_eq!((user("nobody there"), group("nobody there")), (None, None));
        assert!(groups_of("root", Gid::from_raw(0)).contains(&Gid::from_raw(0)));
    }
}
