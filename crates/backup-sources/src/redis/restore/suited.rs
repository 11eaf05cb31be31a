//! Whether a target can be a replica of ours: a server that cannot load what it gets ends, and does
//! not start again.

use std::collections::{BTreeMap, BTreeSet};

use backup_core::source::{IfExists, SourceError, SourceErrorKind, SourceResult};
use backup_core::words;
use redis::Value;
use tokio_rustls::TlsAcceptor;

use super::super::error::{GRANT_REPLICA, WireError};
use super::super::options::RedisOptions;
use super::super::rdb::{Flavour, Survey};
use super::super::server::{self, Info, Vendor, Version};
use super::super::wire::{Client, acceptor};
use super::Job;
use super::memory::require_memory;
use super::plan::format_of;
use super::rehearse;
use super::replica::DOING;

/// What helps where a target is a replica.
pub(super) const REPLICA: &str = "name the master of the target; if a restore into this replica \
                                  was killed and its master no longer exists, run REPLICAOF NO ONE \
                                  on it";

/// A target that can.
pub(super) struct Suited {
    /// Keys that go, by database.
    pub(super) keys: BTreeMap<u32, u64>,
    /// Keys that it has evicted so far.
    pub(super) evicted: Option<u64>,
    /// If it follows masters over TLS only.
    pub(super) tls: Option<TlsAcceptor>,
}

/// Looks at the target, and reads what it would get. Nothing is changed.
pub(super) async fn look(
    job: &Job<'_>,
    server: &RedisOptions,
    control: &mut Client,
) -> SourceResult<Suited> {
    let info = Info::query(control).await.map_err(refused)?;
    refuse_targets(job, &info)?;
    require_modules(job, &info)?;
    require_memory(job, [&info], true)?;
    let by_database = info.keys();
    let keys: u64 = by_database.values().sum();
    let libraries = libraries(control).await?;
    if (keys > 0 || libraries > 0) && job.request.if_exists != IfExists::Replace {
        let text = format!(
            "the target has {} and {}, and a restore as a replica replaces everything",
            words::count(keys, "key", "keys"),
            words::count(libraries as u64, "function library", "function libraries")
        );
        return Err(SourceError::new(SourceErrorKind::TargetExists, text).with_hint(
            "choose --if-exists replace to replace everything, or name an empty server",
        ));
    }
    let tls = tls(server, control).await?;
    let mut databases = rehearse::read_commands(job).await?;
    databases.extend(job.description.dump.databases.keys());
    require_databases(&databases, control).await?;
    if keys > 0 || libraries > 0 || job.request.dry_run {
        rehearse::read_dumps(job).await?;
    }
    Ok(Suited { keys: by_database, evicted: info.number("evicted_keys"), tls })
}

/// What the target says, and which rights would help.
pub(super) fn refused(error: WireError) -> SourceError {
    error.into_source_granting(DOING, GRANT_REPLICA)
}

fn refuse_targets(job: &Job<'_>, info: &Info) -> SourceResult<()> {
    let refuse = |text: String, hint: &str| {
        Err(SourceError::new(SourceErrorKind::Target, text).with_hint(hint))
    };
    let Some(version) = info.version() else {
        return refuse(
            "the version of the target is unknown: INFO is not allowed".to_owned(),
            GRANT_REPLICA,
        );
    };
    if info.is_replica() {
        return refuse("the target is a replica".to_owned(), REPLICA);
    }
    if info.is_cluster() {
        return refuse(
            "the target is a node of a cluster, which cannot become a replica of another server"
                .to_owned(),
            "name a single server as the target",
        );
    }
    let dump = &job.description.dump;
    if !loads(&version, dump) {
        let text = format!(
            "{version} cannot load version {} of the format of {}",
            dump.version, dump.format
        );
        return refuse(
            text,
            "restore to a server of the kind and version of the origin, or key by key",
        );
    }
    Ok(())
}

/// Those of the origin, if any of them has stored something: without it no server loads what is
/// its.
fn require_modules(job: &Job<'_>, info: &Info) -> SourceResult<()> {
    let dump = &job.description.dump;
    let has_values = dump.databases.values().any(|database| database.types.contains_key("module"));
    if !has_values && !dump.module_data || job.has_modules(info) {
        return Ok(());
    }
    let names = job
        .description
        .modules
        .as_ref()
        .map(|names| names.iter().cloned().collect::<Vec<_>>().join(", "));
    let text = "the dump has module data, but the target has not loaded the modules of the origin";
    let text = names.map_or_else(|| text.to_owned(), |names| format!("{text} ({names})"));
    Err(SourceError::new(SourceErrorKind::Target, text)
        .with_hint("load the modules, or restore key by key without their data"))
}

/// How many libraries of functions the target has. Only servers that know nothing of them have none
/// in any case.
async fn libraries(control: &mut Client) -> SourceResult<usize> {
    match control.run::<Vec<Value>>(redis::cmd("FUNCTION").arg("LIST")).await {
        Ok(libraries) => Ok(libraries.len()),
        Err(WireError::Server(text)) if text.to_lowercase().contains("unknown command") => Ok(0),
        Err(error) => Err(refused(error)),
    }
}

/// A server that is sent to a database that it does not have ends, and does so again whenever it is
/// started.
async fn require_databases(used: &BTreeSet<u32>, control: &mut Client) -> SourceResult<()> {
    for database in used {
        match control.run(redis::cmd("SELECT").arg(database)).await {
            Ok(()) => {}
            Err(error) if error.is_denied() => return Err(refused(error)),
            Err(WireError::Server(text)) => {
                let text = format!("the target has no database {database}: {text}");
                return Err(SourceError::new(SourceErrorKind::Target, text)
                    .with_hint("raise `databases` of the target, and restart it"));
            }
            Err(error) => return Err(refused(error)),
        }
    }
    Ok(())
}

/// What is shown to a target that follows masters over TLS only.
async fn tls(options: &RedisOptions, control: &mut Client) -> SourceResult<Option<TlsAcceptor>> {
    let wanted = server::setting(control, "tls-replication").await.map_err(refused)?;
    if wanted.as_deref() != Some("yes") {
        return Ok(None);
    }
    match acceptor(options).await? {
        Some(acceptor) => Ok(Some(acceptor)),
        None => Err(SourceError::new(
            SourceErrorKind::Target,
            "the target replicates over TLS only",
        )
        .with_hint(
            "name a source of the configuration as the target, with a certificate that the target \
             trusts and its key (`tls_certificate_file`, `tls_key_file`); or run CONFIG SET \
             tls-replication no for the time of the restore",
        )),
    }
}

/// Whether a server loads a dump.
fn loads(target: &Version, dump: &Survey) -> bool {
    let (flavour, newest) = format_of(target);
    let own = if dump.format == "valkey" { Flavour::Valkey } else { Flavour::Redis };
    // Up to 11 the formats are the same.
    let newest = if own == flavour { newest } else { 11 };
    let known = dump.version <= newest && (own == flavour || own == Flavour::Redis);
    // Newer servers than are known here know newer formats: those of the version that has written
    // it.
    let of =
        |vendor, name: &str| dump.remarks.get(name).and_then(|text| Version::parse(vendor, text));
    let writer = of(Vendor::Valkey, "valkey-ver").or_else(|| of(Vendor::Redis, "redis-ver"));
    known || writer.is_some_and(|writer| target.follows(&writer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dumps_go_to_servers_that_know_them() {
        let dump = |format: &str, version, remark: &str, text: &str| {
            let remarks = std::collections::BTreeMap::from([(remark.to_owned(), text.to_owned())]);
            Survey { format: format.to_owned(), version, remarks, ..Survey::default() }
        };
        let redis_8 = dump("redis", 12, "redis-ver", "8.0.2");
        let redis_84 = dump("redis", 13, "redis-ver", "8.4.0");
        let redict = dump("redis", 12, "redis-ver", "7.3.1");
        let valkey_8 = dump("redis", 11, "valkey-ver", "8.1.1");
        let valkey_9 = dump("valkey", 80, "valkey-ver", "9.0.0");
        let valkey_92 = dump("valkey", 81, "valkey-ver", "9.2.0");
        for (dump, vendor, version, expected) in [
            (&redis_8, Vendor::Redis, "8.0.2", true),
            (&redis_8, Vendor::Redis, "7.4.1", true),
            (&redis_8, Vendor::Redis, "7.2.4", false),
            (&redis_8, Vendor::Valkey, "9.0.0", false),
            // Newer formats go to nothing older than what has written them, not to what merely has
            // a minor version.
            (&redis_84, Vendor::Redis, "7.4.1", false),
            (&redis_84, Vendor::Redis, "8.2.9", false),
            (&redis_84, Vendor::Redis, "8.4.0", true),
            (&redis_84, Vendor::Redis, "9.0.0", true),
            (&redis_84, Vendor::Valkey, "10.0.0", false),
            (&redict, Vendor::Redis, "7.3.1", true),
            (&redict, Vendor::Redis, "7.3.0", false),
            (&valkey_8, Vendor::Valkey, "8.0.0", true),
            (&valkey_8, Vendor::Redis, "7.2.0", true),
            (&valkey_8, Vendor::Redis, "7.0.0", false),
            (&valkey_9, Vendor::Valkey, "8.1.1", false),
            (&valkey_9, Vendor::Valkey, "9.1.0", true),
            (&valkey_9, Vendor::Redis, "8.0.2", false),
            (&valkey_92, Vendor::Valkey, "9.1.0", false),
            (&valkey_92, Vendor::Valkey, "10.0.0", true),
        ] {
            let target = Version::parse(vendor, version).unwrap();
            assert_eq!(loads(&target, dump), expected, "{dump:?} {target}");
        }
    }
}
