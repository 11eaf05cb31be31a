//! Facts about a server, as far as the user may read them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use backup_core::source::{ServerClock, SourceError, SourceErrorKind, SourceResult};
use jiff::Timestamp;

use super::error::WireError;
use super::options::RedisOptions;
use super::wire::{Client, Endpoint};

/// Answers of INFO.
#[derive(Debug, Clone, Default)]
pub(super) struct Info {
    lines: BTreeMap<String, String>,
    modules: BTreeSet<String>,
}

impl Info {
    /// Queries INFO over a connection of its own.
    pub(super) async fn of(options: &RedisOptions) -> Result<Self, WireError> {
        Self::query(&mut Endpoint::of(options).ask().await?).await
    }

    /// Queries INFO; empty if the user may not.
    pub(super) async fn query(client: &mut Client) -> Result<Self, WireError> {
        match client.run::<Vec<u8>>(redis::cmd("INFO").arg("everything")).await {
            // Sentinels before 7 have no such section.
            Ok(text) if text.is_empty() => {
                let text: Vec<u8> = client.run(&redis::cmd("INFO")).await?;
                Ok(Self::parse(&String::from_utf8_lossy(&text)))
            }
            // Paths of the server need not be UTF-8.
            Ok(text) => Ok(Self::parse(&String::from_utf8_lossy(&text))),
            // A temporary refusal is no answer.
            Err(WireError::Server(text))
                if text.starts_with("NOPERM") || text.contains("unknown command") =>
            {
                Ok(Self::default())
            }
            Err(error) => Err(error),
        }
    }

    pub(super) fn parse(text: &str) -> Self {
        let pairs = text.lines().filter_map(|line| line.split_once(':'));
        let lines =
            pairs.map(|(name, value)| (name.to_owned(), value.trim_end().to_owned())).collect();
        let modules =
            text.lines().filter_map(|line| line.strip_prefix("module:name=")?.split(',').next());
        // Part of Valkey from 9 on, and stores nothing.
        let modules = modules.filter(|name| *name != "lua");
        Self { lines, modules: modules.map(str::to_owned).collect() }
    }

    /// Names of the modules that are loaded.
    pub(super) fn modules(&self) -> &BTreeSet<String> {
        &self.modules
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.lines.get(name).map(String::as_str)
    }

    /// A number, of 63 bits: servers count with a sign.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.get(name)?.parse().ok().filter(|number| *number <= u64::MAX >> 1)
    }

    /// Time of the server.
    fn time(&self) -> Option<Timestamp> {
        Timestamp::from_microsecond(self.get("server_time_usec")?.parse().ok()?).ok()
    }

    pub(super) fn is_known(&self) -> bool {
        !self.lines.is_empty()
    }

    /// Keys by database.
    pub(super) fn keys(&self) -> BTreeMap<u32, u64> {
        let database = |(name, value): (&String, &String)| {
            let number = name.strip_prefix("db")?.parse().ok()?;
            let keys = value.split(',').find_map(|part| part.strip_prefix("keys="))?;
            Some((number, keys.parse().ok()?))
        };
        self.lines.iter().filter_map(database).collect()
    }

    /// Whose server it is, and its version.
    pub(super) fn version(&self) -> Option<Version> {
        let (vendor, text) = match (self.get("valkey_version"), self.get("redis_version")) {
            (Some(version), _) => (Vendor::Valkey, version),
            (None, Some(version)) => (Vendor::Redis, version),
            _ => return None,
        };
        Version::parse(vendor, text)
    }

    pub(super) fn is_replica(&self) -> bool {
        self.get("role") == Some("slave")
    }

    /// Fails for a sentinel: it holds no data.
    pub(super) fn refuse_sentinel(&self) -> SourceResult<()> {
        // Of Redis, and of Valkey from 8.1 on.
        if !["redis_mode", "server_mode"].iter().any(|mode| self.get(mode) == Some("sentinel")) {
            return Ok(());
        }
        let text = "this is a sentinel, which holds no data";
        Err(SourceError::new(SourceErrorKind::Invalid, text)
            .with_hint("name its group of servers: redis+sentinel://HOST:26379/GROUP"))
    }

    pub(super) fn is_cluster(&self) -> bool {
        self.get("cluster_enabled") == Some("1")
    }
}

/// Who makes a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Vendor {
    Redis,
    Valkey,
}

/// Version of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) vendor: Vendor,
    pub(super) major: u32,
    pub(super) minor: u32,
    pub(super) patch: u32,
    pub(super) text: String,
}

impl Version {
    pub(super) fn parse(vendor: Vendor, text: &str) -> Option<Self> {
        let mut numbers = text.split('.').map(|part| part.parse().ok());
        let (major, minor) = (numbers.next().flatten()?, numbers.next().flatten().unwrap_or(0));
        let patch = numbers.next().flatten().unwrap_or(0);
        Some(Self { vendor, major, minor, patch, text: text.to_owned() })
    }

    /// Whether it is of the same vendor, and not older.
    pub(super) fn follows(&self, other: &Self) -> bool {
        let numbers = |version: &Self| (version.major, version.minor, version.patch);
        self.vendor == other.vendor && numbers(self) >= numbers(other)
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {}", self.vendor, self.text)
    }
}

/// The server's clock, in milliseconds since 1970.
pub(super) async fn time(client: &mut Client) -> Result<u64, WireError> {
    let (seconds, micros): (u64, u64) = client.run(&redis::cmd("TIME")).await?;
    Ok(seconds.saturating_mul(1000).saturating_add(micros / 1000))
}

/// The value of a setting; `None` if the server does not have it.
pub(super) async fn setting(client: &mut Client, name: &str) -> Result<Option<String>, WireError> {
    let mut found: BTreeMap<String, String> =
        client.run(redis::cmd("CONFIG").arg("GET").arg(name)).await?;
    Ok(found.remove(name))
}

/// The server that a source is.
#[derive(Debug, Clone)]
pub(super) struct Server {
    pub(super) info: Info,
    pub(super) version: Option<Version>,
    /// Its clock at the time of the connection; none if INFO lacks the time.
    pub(super) clock: Option<ServerClock>,
}

impl Server {
    /// Connects, and asks what may be asked.
    pub(super) async fn find(options: &RedisOptions) -> SourceResult<Self> {
        let asking = async {
            let mut client = Endpoint::of(options).ask().await?;
            match client.run::<()>(&redis::cmd("PING")).await {
                Err(error) if error.is_denied() => {}
                other => other?,
            }
            let before = Instant::now();
            let info = Info::query(&mut client).await?;
            let clock = info.time().map(|time| ServerClock::reported(time, before));
            Ok((info, clock))
        };
        let (info, clock) = asking.await.map_err(|error: WireError| {
            error.into_source(format!("cannot connect to {}", options.label()))
        })?;
        Ok(Self { version: info.version(), info, clock })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn info_is_understood() {
        let info = Info::parse(
            "# Server\r\nredis_version:7.2.4\r\nvalkey_version:8.1.1\r\n# \
             Keyspace\r\ndb3:keys=7,expires=1\r\n",
        );
        assert_eq!(info.version().unwrap().to_string(), "Valkey 8.1.1");
        assert_eq!((info.keys(), info.time()), (BTreeMap::from([(3, 7)]), None));
        let info = Info::parse("# Server\r\nserver_time_usec:1782907200250000\r\n");
        assert_eq!(info.time().unwrap().to_string(), "2026-07-01T12:00:00.25Z");
        assert_eq!(Info::default().version(), None);
        let info = Info::parse(
            "# Modules\r\nmodule:name=ReJSON,ver=20,api=1\r\nmodule:name=bf,ver=1\r\nmodule:name=lua,ver=1\r\n",
        );
        assert_eq!(info.modules().iter().collect::<Vec<_>>(), ["ReJSON", "bf"]);
    }
}
