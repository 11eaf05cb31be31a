//! Servers of Redis and Valkey.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use backup_core::context::Context;
use backup_core::event::Events;
use backup_core::log::LogReplay;
use backup_core::repository::SnapshotReader;
use backup_core::source::{Selection, Source, SourceIdentity};
use backup_sources::redis::{
    Engine, RdbFile, RdbOptions, RdbTime, RedisDirectory, RedisOptions, RedisSource,
    RestoreOptions, SentinelLogin, SnapshotReading, Ttl, Way,
};
use jiff::Timestamp;

use super::{Compared, ExpiryFlag, Import, ImportFlags, RestoreFlags, SnapshotKey, TimeSource};
use crate::address::ServerAddress;
use crate::config::{ReaderConfig, SourceConfig};
use crate::environment::Environment;
use crate::error::{Error, Result};
use crate::exposed;
use crate::passphrase::PassphraseOrigin;
use crate::units::Time;

/// A server of Redis or Valkey that is meant.
#[derive(Debug, Clone)]
pub struct RedisSpec {
    address: ServerAddress,
    password: Option<PassphraseOrigin>,
    config: SourceConfig,
    restore: RestoreOptions,
}

impl RedisSpec {
    /// `variable` gives the password if the configuration names no place for it.
    pub(super) fn new(config: SourceConfig, variable: &str, env: &Environment) -> Result<Self> {
        let address = config
            .url
            .clone()
            .ok_or_else(|| Error::invalid("the address of the server is missing"))?;
        let password = PassphraseOrigin::of_source(&config, variable, env);
        if config.scan_percent.is_some_and(|percent| !(1..=100).contains(&percent)) {
            return Err(Error::invalid("`scan_percent` is out of range: choose from 1 to 100"));
        }
        let spec = Self { address, password, config, restore: RestoreOptions::default() };
        // A mistake in the address is found before anything is connected.
        spec.options(None)?;
        Ok(spec)
    }

    /// As a target: what restoring is told.
    pub(super) fn restoring(mut self, flags: &RestoreFlags) -> Result<Self> {
        let redis = &flags.redis;
        let engine = match &redis.replica {
            None => Engine::Keys,
            Some(listen) => {
                let (announce, from) = (redis.announce.clone(), redis.replica_from.clone());
                Engine::Replica(Way { listen: listen.clone(), announce, from })
            }
        };
        self.restore = RestoreOptions {
            engine,
            databases: redis.databases.iter().map(|text| mapping(text)).collect::<Result<_>>()?,
            rename_prefix: prefixes(&flags.renames)?,
            ttl: match redis.expiry {
                None | Some(ExpiryFlag::Absolute) => Ttl::Absolute,
                Some(ExpiryFlag::Shifted) => Ttl::Shifted,
                Some(ExpiryFlag::Never) => Ttl::Never,
            },
            without_functions: redis.no_functions,
            memory_is_forced: redis.force_memory,
            drops_field_times: redis.drop_field_ttls,
        };
        Ok(self)
    }

    /// Where it is, without secrets.
    pub(super) fn address(&self) -> &ServerAddress {
        &self.address
    }

    /// The files that hold its secrets.
    pub(super) fn secret_files(&self) -> Vec<&Path> {
        exposed::files_of_spec(self.password.as_ref(), &self.config)
    }

    /// Compares a snapshot with the server.
    pub(super) async fn compare(
        &self,
        snapshot: &SnapshotReader,
        log: Option<Arc<LogReplay>>,
        selection: &Selection,
        env: &Environment,
        cx: &Context,
    ) -> Result<Compared> {
        if log.is_some() {
            let text = "a moment of the log of Redis cannot be compared with a server";
            return Err(Error::invalid(text).with_hint(
                "name a full snapshot, or restore the moment to a spare server and compare that",
            ));
        }
        let source = self.connect(env, &cx.events).await?;
        let compared = source.compare(cx, snapshot, selection).await;
        let both = compared.map_err(backup_core::error::Error::from)?;
        Ok(Compared { stored: both.stored, found: both.found, warnings: both.warnings })
    }

    pub(super) async fn open(&self, env: &Environment, events: &Events) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(self.connect(env, events).await?))
    }

    async fn connect(&self, env: &Environment, events: &Events) -> Result<RedisSource> {
        let password = match &self.password {
            Some(origin) => Some(origin.fetch_password(env).await?.reveal().to_owned()),
            None => None,
        };
        let waits = super::waits(&self.config, RedisOptions::DEFAULT_TIMEOUT, events);
        let options = RedisOptions { waits, ..self.options(password)? };
        let connected = Box::pin(RedisSource::connect(options)).await;
        Ok(connected.map_err(backup_core::error::Error::from)?)
    }

    fn options(&self, password: Option<String>) -> Result<RedisOptions> {
        let parsed =
            RedisOptions::parse(self.address.reveal()).map_err(backup_core::error::Error::from)?;
        let config = &self.config;
        // Whoever names certificates wants them to be used.
        let tls =
            parsed.tls || config.tls_ca_file.is_some() || config.tls_certificate_file.is_some();
        if tls && parsed.socket.is_some() {
            return Err(Error::invalid("a Unix socket has no TLS").with_hint(
                "leave the certificates out, or write an address with host and port as rediss://",
            ));
        }
        Ok(RedisOptions {
            password: password.or(parsed.password),
            tls,
            tls_ca_file: config.tls_ca_file.clone(),
            tls_certificate_file: config.tls_certificate_file.clone(),
            tls_key_file: config.tls_key_file.clone(),
            name: config.name.clone(),
            psync: config.psync.clone().unwrap_or(parsed.psync),
            dump_timeout: config.dump_timeout.as_ref().map_or(parsed.dump_timeout, Time::length),
            reader: config.reader.map(|reader| match reader {
                ReaderConfig::Replica => SnapshotReading::Replica,
                ReaderConfig::Scan => SnapshotReading::Scan,
            }),
            sentinel_login: sentinel_login(config),
            scan_percent: config.scan_percent.unwrap_or(parsed.scan_percent),
            restore: self.restore.clone(),
            ..parsed
        })
    }
}

/// The login of the sentinels, if the configuration has one.
fn sentinel_login(config: &SourceConfig) -> Option<SentinelLogin> {
    let (user, file) = (&config.sentinel_user, &config.sentinel_password_file);
    (user.is_some() || file.is_some())
        .then(|| SentinelLogin { user: user.clone(), password_file: file.clone() })
}

/// The identity of a server by its name in the configuration, or by its address.
pub(super) fn identity_of(name: &str) -> Result<SourceIdentity> {
    Ok(backup_sources::redis::identity_of(name))
}

/// Opens an RDB file.
pub(super) async fn import(
    path: &Path,
    flags: &ImportFlags,
    identity: SourceIdentity,
) -> Result<Import> {
    let (path, must_be_gzip, time) = (path.to_owned(), flags.must_be_gzip, flags.time);
    let options = RdbOptions { path, must_be_gzip, identity, time };
    let file = RdbFile::open(options).await.map_err(backup_core::error::Error::from)?;
    let (time, origin) = file.time();
    let time_source = match origin {
        RdbTime::Given => TimeSource::Given,
        RdbTime::Server => TimeSource::Dump,
        RdbTime::File => TimeSource::Files,
    };
    let (include, is_part) = (Vec::new(), false);
    Ok(Import { source: Arc::new(file), include, is_part, time, time_source })
}

impl fmt::Display for RedisSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redis at {}", self.address)
    }
}

/// Hands the keys of a snapshot that `selection` covers to `tell`, as its dump is read; says
/// whether there are commands behind the dump, which are not looked through.
///
/// # Errors
/// The snapshot is none of Redis, or cannot be read; those of `tell`.
pub async fn find_keys<E: From<Error>>(
    snapshot: &SnapshotReader,
    selection: &Selection,
    cx: &Context,
    mut tell: impl FnMut(SnapshotKey) -> std::result::Result<(), E>,
) -> std::result::Result<bool, E> {
    let failed = |error| E::from(Error::from(backup_core::error::Error::from(error)));
    let mut keys =
        backup_sources::redis::find_keys(cx, snapshot, selection).await.map_err(failed)?;
    while let Some(batch) = keys.next().await.map_err(failed)? {
        for key in batch {
            let expires = key
                .expires
                .and_then(|millis| Timestamp::from_millisecond(i64::try_from(millis).ok()?).ok());
            tell(SnapshotKey { path: key.path, kind: key.kind, bytes: key.bytes, expires })?;
        }
    }
    Ok(keys.has_commands())
}

/// Where a snapshot is restored to, as a source.
#[expect(clippy::unnecessary_wraps, reason = "the other one has nothing to give")]
pub(super) fn directory() -> Result<Arc<dyn Source>> {
    Ok(Arc::new(RedisDirectory))
}

/// `3=7`: what was in database 3 goes to database 7.
fn mapping(text: &str) -> Result<(u32, u32)> {
    let pair = text
        .split_once('=')
        .and_then(|(from, to)| Some((from.trim().parse().ok()?, to.trim().parse().ok()?)));
    pair.ok_or_else(|| {
        Error::invalid(format!("invalid value {text:?} of --db"))
            .with_hint("write --db FROM=TO, for instance 0=7")
    })
}

/// `shop:*=shop_test:*`: keys that begin with the one get the other in its place.
fn prefixes(rules: &[String]) -> Result<Option<(String, String)>> {
    const HINT: &str = "write --rename 'FROM*=TO*', for instance 'shop:*=shop_test:*'";
    let rule = match rules {
        [] => return Ok(None),
        [rule] => rule,
        _ => {
            return Err(Error::invalid("keys of Redis can be renamed by one rule only")
                .with_hint("restore once for each rule, with --only"));
        }
    };
    let prefix =
        |text: &str| Some(text.strip_suffix('*')?.to_owned()).filter(|text| !text.contains('*'));
    let pair = rule
        .split_once("*=")
        .and_then(|(from, to)| Some((prefix(&format!("{from}*"))?, prefix(to)?)));
    pair.map(Some).ok_or_else(|| {
        Error::invalid(format!("invalid rule {rule:?} of --rename for keys of Redis"))
            .with_hint(HINT)
    })
}

#[cfg(test)]
mod tests {
    use super::super::RedisFlags;
    use super::*;

    fn spec(keys: &str) -> Result<RedisSpec> {
        let config: SourceConfig = toml::from_str(keys).unwrap();
        RedisSpec::new(config, "NONE", &Environment::default())
    }

    #[test]
    fn every_setting_is_used() {
        let keys = "kind = \"valkey\"\nurl = \"redis://me:hush@h:7000\"\nname = \"cache\"\npsync = \
                    \"SYNC7\"\ndump_timeout = \"90min\"\nreader = \"scan\"\nscan_percent = 7\ntls_ca_file = \
                    \"/ca.pem\"\ntls_certificate_file = \"/own.pem\"\ntls_key_file = \"/own.key\"";
        let options = spec(keys).unwrap().options(None).unwrap();
        assert_eq!((&*options.host, options.port, options.tls), ("h", 7000, true));
        assert_eq!(
            (options.user.as_deref(), options.password.as_deref()),
            (Some("me"), Some("hush"))
        );
        assert_eq!((options.name.as_deref(), &*options.psync), (Some("cache"), "SYNC7"));
        assert_eq!(options.dump_timeout.as_secs(), 90 * 60);
        assert_eq!((options.reader, options.scan_percent), (Some(SnapshotReading::Scan), 7));
        let files = [options.tls_ca_file, options.tls_certificate_file, options.tls_key_file];
        assert_eq!(
            files.map(|file| file.unwrap().display().to_string()),
            ["/ca.pem", "/own.pem", "/own.key"]
        );
        let login = spec(
            "kind = \"redis\"\nurl = \"redis+sentinel://me@s/g\"\nsentinel_user = \
             \"watch\"\nsentinel_password_file = \"/own.password\"",
        );
        let login = login.unwrap().options(None).unwrap().sentinel_login.unwrap();
        assert_eq!(login.user.as_deref(), Some("watch"));
        assert_eq!(login.password_file, Some("/own.password".into()));
        let plain = spec("kind = \"redis\"\nurl = \"redis://h\"")
            .unwrap()
            .options(Some("given".to_owned()))
            .unwrap();
        assert_eq!(
            (plain.tls, plain.password.as_deref(), &*plain.psync),
            (false, Some("given"), "PSYNC")
        );
        assert!(
            spec("kind = \"redis\"\nurl = \"unix:///run/x\"\ntls_ca_file = \"/ca.pem\"").is_err()
        );
        assert!(spec("kind = \"redis\"\nurl = \"redis://h/3\"").is_err());
        assert!(spec("kind = \"redis\"\nurl = \"redis://h\"\nscan_percent = 0").is_err());
    }

    #[test]
    fn every_flag_of_a_restore_is_used() {
        let restoring = |flags: RestoreFlags| {
            let spec = spec("kind = \"redis\"\nurl = \"redis://h\"").unwrap().restoring(&flags)?;
            Ok::<_, Error>(spec.options(None)?.restore)
        };
        assert_eq!(restoring(RestoreFlags::default()).unwrap(), RestoreOptions::default());
        let redis = RedisFlags {
            replica: Some(Some("1.2.3.4:5".to_owned())),
            announce: Some("us".to_owned()),
            replica_from: vec!["1.2.3.6".parse().unwrap()],
            databases: vec!["0=7".to_owned(), "3=0".to_owned()],
            expiry: Some(ExpiryFlag::Never),
            no_functions: true,
            force_memory: true,
            drop_field_ttls: true,
        };
        let renames = vec!["a:*=b:*".to_owned()];
        let found = restoring(RestoreFlags { redis, renames, ..RestoreFlags::default() }).unwrap();
        let expected = RestoreOptions {
            engine: Engine::Replica(Way {
                listen: Some("1.2.3.4:5".to_owned()),
                announce: Some("us".to_owned()),
                from: vec!["1.2.3.6".parse().unwrap()],
            }),
            databases: vec![(0, 7), (3, 0)],
            rename_prefix: Some(("a:".to_owned(), "b:".to_owned())),
            ttl: Ttl::Never,
            without_functions: true,
            memory_is_forced: true,
            drops_field_times: true,
        };
        assert_eq!(found, expected);
        for bad in ["a=b", "a*", "a*b*=c*", "*x=y*", "a*=b"] {
            let flags = RestoreFlags { renames: vec![bad.to_owned()], ..RestoreFlags::default() };
            assert!(restoring(flags).is_err_and(|error| error.hint().is_some()), "{bad}");
        }
        let added = prefixes(&["*=old:*".to_owned()]).unwrap();
        assert_eq!(added, Some((String::new(), "old:".to_owned())));
        for bad in ["0", "0=", "x=1", "1=-1"] {
            assert!(mapping(bad).is_err_and(|error| error.hint().is_some()), "{bad}");
        }
    }
}
