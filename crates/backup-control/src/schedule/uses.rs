//! What work uses.

use std::collections::BTreeSet;

use crate::address::ServerAddress;
use crate::config::{Config, SourceConfig};

/// What stands for this machine among the hosts of sources.
const THIS_MACHINE: &str = "localhost";

/// What something uses, so that not too much of it is used at a time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Uses {
    /// Jobs: each is backed up once at a time.
    pub jobs: BTreeSet<String>,
    /// Repositories.
    pub repositories: BTreeSet<String>,
    /// Hosts of sources.
    pub hosts: BTreeSet<String>,
    /// It is short, and not counted: alerts have to be told however much goes on.
    pub aside: bool,
}

impl Uses {
    /// What a backup of a job or group uses.
    #[must_use]
    pub fn of_backup(name: &str, config: &Config) -> Self {
        let mut uses = Self::default();
        let members = config.groups.get(name).map(|group| group.jobs.as_slice());
        for name in members.unwrap_or(&[name.to_owned()]) {
            let Some(job) = config.jobs.get(name) else { continue };
            uses.jobs.insert(name.clone());
            uses.repositories.insert(job.repository.clone());
            uses.hosts.extend(config.sources.get(&job.source).map(hosts).unwrap_or_default());
        }
        uses
    }

    /// What something uses that only deals with repositories.
    #[must_use]
    pub fn of_repositories<'a>(names: impl IntoIterator<Item = &'a String>) -> Self {
        Self { repositories: names.into_iter().cloned().collect(), ..Self::default() }
    }

    /// What is short uses nothing that counts.
    #[must_use]
    pub fn aside() -> Self {
        Self { aside: true, ..Self::default() }
    }
}

/// The hosts of a source.
fn hosts(source: &SourceConfig) -> BTreeSet<String> {
    let named = source.url.as_ref().map(ServerAddress::postgres_hosts).unwrap_or_default();
    if !named.is_empty() {
        return named.iter().map(|name| own_name(name.to_ascii_lowercase())).collect();
    }
    let Some((scheme, rest)) = source.url.as_ref().and_then(|url| url.reveal().split_once("://"))
    else {
        return BTreeSet::from([THIS_MACHINE.to_owned()]);
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let authority = authority.rsplit_once('@').map_or(authority, |(_, hosts)| hosts);
    if scheme.eq_ignore_ascii_case("unix") || authority.is_empty() {
        return BTreeSet::from([THIS_MACHINE.to_owned()]);
    }
    authority.split(',').map(host).collect()
}

/// A host without its port.
fn host(text: &str) -> String {
    let end = if text.starts_with('[') { text.find(']').map(|at| at + 1) } else { text.find(':') };
    own_name(end.map_or(text, |end| &text[..end]).to_ascii_lowercase())
}

/// This machine under one name.
fn own_name(name: String) -> String {
    match name.as_str() {
        "127.0.0.1" | "[::1]" | "::1" => THIS_MACHINE.to_owned(),
        socket if socket.starts_with('/') => THIS_MACHINE.to_owned(),
        _ => name,
    }
}
