//! Names of users and groups, looked up once per number.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use nix::unistd::{Gid, Group, Uid, User};

/// Caches the names behind user and group numbers. Numbers without a name are remembered too.
#[derive(Debug, Default)]
pub(super) struct Names {
    users: Cache,
    groups: Cache,
}

type Cache = RwLock<HashMap<u32, Option<Arc<str>>>>;

impl Names {
    /// The name of user `uid`.
    pub(super) fn user(&self, uid: u32) -> Option<Arc<str>> {
        cached(&self.users, uid, || {
            User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.name)
        })
    }

    /// The name of group `gid`.
    pub(super) fn group(&self, gid: u32) -> Option<Arc<str>> {
        cached(&self.groups, gid, || {
            Group::from_gid(Gid::from_raw(gid)).ok().flatten().map(|group| group.name)
        })
    }
}

fn cached(cache: &Cache, id: u32, look_up: impl FnOnce() -> Option<String>) -> Option<Arc<str>> {
    if let Some(name) = cache.read().unwrap_or_else(PoisonError::into_inner).get(&id) {
        return name.clone();
    }
    let name: Option<Arc<str>> = look_up().map(Into::into);
    cache.write().unwrap_or_else(PoisonError::into_inner).insert(id, name.clone());
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_root_and_not_everybody() {
        let names = Names::default();
        for _ in 0..2 {
            assert_eq!(names.user(0).as_deref(), Some("root"));
            assert_eq!(names.group(0).as_deref(), Some("root"));
            assert_eq!(names.user(4_000_000_001), None);
        }
    }
}
