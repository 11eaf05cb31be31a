//! Sentinels: the servers of a group, and which of them is the master.
//!
//! Queries go over our own dial, so certificates and logins are those of the servers. A sentinel
//! gets the credentials only if it refuses an anonymous request.

use std::collections::BTreeMap;
use std::time::Duration;

use backup_core::source::{SourceError, SourceErrorKind, SourceResult};
use redis::{Cmd, FromRedisValue};

use super::error::{WireError, invalid};
use super::options::{RedisOptions, decoded, split_port};
use super::server::Info;
use super::wire::Endpoint;

/// The port of sentinels.
const PORT: u16 = 26_379;
/// Longest wait for a sentinel: another one may answer.
const TIMEOUT: Duration = Duration::from_secs(5);
const DOING: &str = "cannot find the master";

/// A group of servers that sentinels watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sentinels {
    /// Hosts and ports of the sentinels.
    pub addresses: Vec<(String, u16)>,
    /// Name of the group.
    pub group: String,
    /// Read a replica, if one is connected to its master.
    pub reads_replica: bool,
}

impl Sentinels {
    /// Reads `host:port,host:port/group?role=replica`.
    ///
    /// # Errors
    /// [`SourceErrorKind::Invalid`]; the address is not repeated.
    pub(super) fn parse(text: &str) -> SourceResult<Self> {
        let refused = |text: &str| {
            invalid(text).with_hint(
                "write redis+sentinel://USER@SENTINEL:26379,SENTINEL:26379/GROUP, with \
                 ?role=replica to read a replica",
            )
        };
        let (hosts, path) = text.split_once('/').unwrap_or((text, ""));
        let (group, query) = path.split_once('?').unwrap_or((path, ""));
        if group.is_empty() {
            return Err(refused("the address names no group of servers"));
        }
        let reads_replica = match query {
            "" | "role=master" => false,
            "role=replica" => true,
            _ => return Err(refused("the address has an unknown parameter")),
        };
        let address = |host: &str| match host {
            "" => Err(refused("the address has a sentinel without a host")),
            host => split_port(host, PORT),
        };
        let addresses = hosts.split(',').map(address).collect::<SourceResult<_>>()?;
        Ok(Self { addresses, group: decoded(group)?, reads_replica })
    }
}

/// The settings of the server to read; without sentinels, the same.
///
/// # Errors
/// [`SourceErrorKind::Unavailable`] if no sentinel answers, [`SourceErrorKind::Invalid`] if they
/// refuse or lack the group.
pub(super) async fn reading(options: &RedisOptions) -> SourceResult<RedisOptions> {
    let reads_replica = options.sentinels.as_ref().is_some_and(|group| group.reads_replica);
    locate(options, reads_replica).await
}

/// The settings of the master; without sentinels, the same.
///
/// # Errors
/// As for [`reading`].
pub(super) async fn master(options: &RedisOptions) -> SourceResult<RedisOptions> {
    locate(options, false).await
}

async fn locate(options: &RedisOptions, reads_replica: bool) -> SourceResult<RedisOptions> {
    let Some(sentinels) = &options.sentinels else { return Ok(options.clone()) };
    let mut failure = None;
    for (host, port) in &sentinels.addresses {
        let sentinel = RedisOptions {
            host: host.clone(),
            port: *port,
            sentinels: None,
            waits: options.waits.at_most(TIMEOUT),
            ..options.clone()
        };
        match named(options, &sentinel, &sentinels.group, reads_replica).await {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => failure = Some(unknown(&sentinels.group)),
            // A wrong name of the group matters more than a sentinel that is down.
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    Err(failure.unwrap_or_else(|| unknown(&sentinels.group)))
}

/// The server that a sentinel names; `None` if it lacks the group. A sentinel that was cut off may name
/// a server that is gone, or no longer the master.
async fn named(
    options: &RedisOptions,
    sentinel: &RedisOptions,
    group: &str,
    reads_replica: bool,
) -> SourceResult<Option<RedisOptions>> {
    let doing = format!("{DOING}: {}", sentinel.label());
    let address = ask(sentinel, group, reads_replica).await;
    let Some((host, port)) = address.map_err(|error| error.into_source(&doing))? else {
        return Ok(None);
    };
    let found = RedisOptions { host, port, ..options.clone() };
    let checked = check_role(&found, reads_replica).await;
    checked.map_err(|error| error.into_source(format!("{doing} names {}", found.label())))?;
    Ok(Some(found))
}

/// Fails for a server that cannot be reached, or for a replica in place of the master. Servers that
/// do not allow INFO are trusted.
async fn check_role(found: &RedisOptions, reads_replica: bool) -> Result<(), WireError> {
    let server =
        RedisOptions { sentinels: None, waits: found.waits.at_most(TIMEOUT), ..found.clone() };
    let info = Info::query(&mut Endpoint::of(&server).ask().await?).await?;
    if reads_replica || !info.is_replica() {
        return Ok(());
    }
    let text = "this server is a replica";
    Err(SourceError::new(SourceErrorKind::Unavailable, text).into())
}

fn unknown(group: &str) -> SourceError {
    SourceError::new(
        SourceErrorKind::Invalid,
        format!("{DOING}: the sentinels do not know a group {group:?}"),
    )
    .with_hint("check the name against SENTINEL MASTERS")
}

/// The address that a sentinel names; `None` if it lacks the group.
async fn ask(
    sentinel: &RedisOptions,
    group: &str,
    reads_replica: bool,
) -> Result<Option<(String, u16)>, WireError> {
    let master: Option<(String, u16)> =
        query(sentinel, redis::cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(group)).await?;
    if master.is_none() || !reads_replica {
        return Ok(master);
    }
    let replicas: Vec<BTreeMap<String, String>> =
        query(sentinel, redis::cmd("SENTINEL").arg("REPLICAS").arg(group)).await?;
    Ok(replicas.iter().find_map(usable).or(master))
}

/// The address of a replica that is connected to its master.
fn usable(replica: &BTreeMap<String, String>) -> Option<(String, u16)> {
    let down = ["s_down", "o_down", "disconnected"];
    let is_down = replica.get("flags")?.split(',').any(|flag| down.contains(&flag));
    let is_linked = replica.get("master-link-status")? == "ok";
    let address = (replica.get("ip")?.clone(), replica.get("port")?.parse().ok()?);
    (is_linked && !is_down).then_some(address)
}

/// Sends a request without a login, and again with one if the sentinel requires that.
async fn query<T: FromRedisValue>(sentinel: &RedisOptions, command: &Cmd) -> Result<T, WireError> {
    let anonymous =
        RedisOptions { user: None, password: None, password_file: None, ..sentinel.clone() };
    match Endpoint::of(&anonymous).ask().await?.run(command).await {
        Err(WireError::Server(text))
            if text.starts_with("NOAUTH") || text.starts_with("NOPERM") =>
        {
            Endpoint::of(sentinel).ask().await?.run(command).await
        }
        replied => replied,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(address: &str) -> RedisOptions {
        RedisOptions::parse(address).unwrap()
    }

    #[test]
    fn addresses_of_sentinels_are_read() {
        let options = parsed("rediss+sentinel://me:p%40ss@s1:7000,[::1]/my%20group?role=replica");
        assert_eq!(
            (options.user.as_deref(), options.password.as_deref()),
            (Some("me"), Some("p@ss"))
        );
        assert!(options.tls);
        assert_eq!((&*options.address(), &*options.label()), ("my group", "Redis group my group"));
        let sentinels = options.sentinels.unwrap();
        assert_eq!(sentinels.addresses, [("s1".to_owned(), 7000), ("::1".to_owned(), 26_379)]);
        assert!(sentinels.reads_replica);
        let sentinels = parsed("valkey+sentinel://s1/group?role=master").sentinels.unwrap();
        assert!(!sentinels.reads_replica);
        assert!(RedisOptions::is_address("Redis+Sentinel://s1/group"));
        for bad in ["s1", "s1/", "s1,/group", "s1/group?role=other", "s1/group?db=1", "s1:x/group"]
        {
            let error = RedisOptions::parse(&format!("redis+sentinel://{bad}")).unwrap_err();
            assert_eq!(error.kind(), SourceErrorKind::Invalid, "{bad}");
        }
        assert!(RedisOptions::parse("unix+sentinel://s1/group").is_err());
    }

    #[test]
    fn replicas_without_their_master_are_not_read() {
        let replica = |flags: &str, link: &str| {
            let facts =
                [("ip", "h"), ("port", "7"), ("flags", flags), ("master-link-status", link)];
            usable(&facts.map(|(name, value)| (name.to_owned(), value.to_owned())).into())
        };
        assert_eq!(replica("slave", "ok"), Some(("h".to_owned(), 7)));
        for (flags, link) in
            [("slave", "err"), ("s_down,slave", "ok"), ("slave,disconnected", "ok")]
        {
            assert_eq!(replica(flags, link), None, "{flags} {link}");
        }
        assert_eq!(usable(&BTreeMap::new()), None);
    }
}
