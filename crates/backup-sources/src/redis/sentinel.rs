//! Sentinels: the servers of a group, and which of them is the master.
//!
//! Queries go over our own dial, so certificates are those of the servers, and so is the login unless
//! the settings have one for sentinels. A sentinel gets a password only if it refuses an anonymous
//! request.
//!
//! All sentinels are asked at once. One that was cut off from the others may name an old master, so
//! the highest epoch decides, and a majority that agrees on it ends the search.

use std::collections::BTreeMap;
use std::time::Duration;

use backup_core::source::{SourceError, SourceErrorKind, SourceResult};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use redis::{Cmd, FromRedisValue};

use super::error::{GRANT_SENTINEL, WireError, invalid};
use super::options::{RedisOptions, SentinelLogin, decoded, split_port};
use super::server::Info;
use super::wire::{Client, Endpoint};

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
    let mut asking: FuturesUnordered<_> = (0..sentinels.addresses.len())
        .map(|at| report(options, sentinels, at, reads_replica))
        .collect();
    let (mut reports, mut failure) = (Vec::new(), None);
    while let Some(reported) = asking.next().await {
        match reported {
            Ok(Some(report)) => reports.push(report),
            Ok(None) => failure = Some(unknown(&sentinels.group)),
            // A wrong name of the group matters more than a sentinel that is down.
            Err(error) => failure = failure.or(Some(error)),
        }
        // A promotion is a majority's decision: slower sentinels know nothing newer.
        if agreeing(&reports) * 2 > sentinels.addresses.len() {
            break;
        }
    }
    drop(asking);
    if !reports.is_empty() && reports.len() * 2 <= sentinels.addresses.len() {
        options.waits.warn_once(|| {
            format!(
                "only {} of {} sentinels have answered for the group {}: the named master may be \
                 outdated",
                reports.len(),
                sentinels.addresses.len(),
                sentinels.group
            )
        });
    }
    // Older configurations name servers that were replaced, even if these still call themselves
    // master.
    let newest = reports.iter().map(|report| report.epoch).max();
    reports.retain(|report| Some(report.epoch) == newest);
    reports.sort_by_key(|report| report.at);
    for report in reports {
        match accepted(options, &report, reads_replica).await {
            Ok(found) => return Ok(found),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    Err(failure.unwrap_or_else(|| unknown(&sentinels.group)))
}

/// The answer of one sentinel.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Report {
    /// Its place in the address.
    at: usize,
    sentinel: String,
    /// Version of its configuration of the group: every promotion has a higher one.
    epoch: u64,
    /// Host and port of the server.
    server: (String, u16),
}

/// The number of reports with the highest epoch that name the same server.
fn agreeing(reports: &[Report]) -> usize {
    let Some(newest) = reports.iter().max_by_key(|report| report.epoch) else { return 0 };
    let agrees = |other: &&Report| (other.epoch, &other.server) == (newest.epoch, &newest.server);
    reports.iter().filter(agrees).count()
}

/// Asks a sentinel; `None` if it lacks the group.
async fn report(
    options: &RedisOptions,
    sentinels: &Sentinels,
    at: usize,
    reads_replica: bool,
) -> SourceResult<Option<Report>> {
    let (host, port) = sentinels.addresses[at].clone();
    let sentinel = RedisOptions {
        host,
        port,
        sentinels: None,
        waits: options.waits.at_most(TIMEOUT),
        ..options.clone()
    };
    let asked = ask(&sentinel, &sentinels.group, reads_replica).await;
    let asked = asked.map_err(|error| {
        error.into_source_granting(format!("{DOING}: {}", sentinel.label()), GRANT_SENTINEL)
    })?;
    let report = |(epoch, server)| Report { at, sentinel: sentinel.label(), epoch, server };
    Ok(asked.map(report))
}

/// The settings of the server of a report. A sentinel that was cut off may name a server that is
/// gone, or no longer the master.
async fn accepted(
    options: &RedisOptions,
    report: &Report,
    reads_replica: bool,
) -> SourceResult<RedisOptions> {
    let (host, port) = report.server.clone();
    let found = RedisOptions { host, port, ..options.clone() };
    let checked = check_role(&found, reads_replica).await;
    checked.map_err(|error| {
        error.into_source(format!("{DOING}: {} names {}", report.sentinel, found.label()))
    })?;
    Ok(found)
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

/// The epoch of the group and the address of the server that a sentinel names; `None` if it lacks
/// the group.
async fn ask(
    sentinel: &RedisOptions,
    group: &str,
    reads_replica: bool,
) -> Result<Option<(u64, (String, u16))>, WireError> {
    let about = |name: &str| redis::cmd("SENTINEL").arg(name).arg(group).clone();
    let mut client = Sentinel::connect(sentinel).await?;
    let master: Option<(String, u16)> = client.query(&about("GET-MASTER-ADDR-BY-NAME")).await?;
    let Some(master) = master else { return Ok(None) };
    let facts: BTreeMap<String, String> = client.query(&about("MASTER")).await?;
    let epoch = facts.get("config-epoch").and_then(|epoch| epoch.parse().ok()).unwrap_or(0);
    if !reads_replica {
        return Ok(Some((epoch, master)));
    }
    let replicas: Vec<BTreeMap<String, String>> = client.query(&about("REPLICAS")).await?;
    Ok(Some((epoch, replicas.iter().find_map(usable).unwrap_or(master))))
}

/// The address of a replica that is connected to its master.
fn usable(replica: &BTreeMap<String, String>) -> Option<(String, u16)> {
    let down = ["s_down", "o_down", "disconnected"];
    let is_down = replica.get("flags")?.split(',').any(|flag| down.contains(&flag));
    let is_linked = replica.get("master-link-status")? == "ok";
    let address = (replica.get("ip")?.clone(), replica.get("port")?.parse().ok()?);
    (is_linked && !is_down).then_some(address)
}

/// A connection to a sentinel: without a login, until the sentinel requires one.
struct Sentinel {
    client: Client,
    login: Option<RedisOptions>,
}

impl Sentinel {
    async fn connect(sentinel: &RedisOptions) -> Result<Self, WireError> {
        let anonymous =
            RedisOptions { user: None, password: None, password_file: None, ..sentinel.clone() };
        let client = Endpoint::of(&anonymous).ask().await?;
        Ok(Self { client, login: Some(login(sentinel)) })
    }

    async fn query<T: FromRedisValue>(&mut self, command: &Cmd) -> Result<T, WireError> {
        match self.client.run(command).await {
            Err(WireError::Server(text))
                if text.starts_with("NOAUTH") || text.starts_with("NOPERM") =>
            {
                let Some(login) = self.login.take() else { return Err(WireError::Server(text)) };
                self.client = Endpoint::of(&login).ask().await?;
                self.client.run(command).await
            }
            replied => replied,
        }
    }
}

/// The settings with the login for the sentinel.
fn login(sentinel: &RedisOptions) -> RedisOptions {
    match sentinel.sentinel_login.clone() {
        Some(SentinelLogin { user, password_file }) => {
            RedisOptions { user, password: None, password_file, ..sentinel.clone() }
        }
        None => sentinel.clone(),
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

    #[test]
    fn newest_epoch_decides_and_a_majority_ends_the_search() {
        let report = |at, epoch, port| Report {
            at,
            sentinel: String::new(),
            epoch,
            server: ("h".to_owned(), port),
        };
        assert_eq!(agreeing(&[]), 0);
        let isolated = report(0, 1, 1);
        assert_eq!(agreeing(std::slice::from_ref(&isolated)), 1);
        assert_eq!(agreeing(&[isolated.clone(), report(1, 2, 2), report(2, 2, 2)]), 2);
        assert_eq!(agreeing(&[isolated, report(1, 2, 2), report(2, 2, 3)]), 1);
    }
}
