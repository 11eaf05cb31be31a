//! The source that restores a snapshot, and where to.

use std::path::PathBuf;
use std::sync::Arc;

use backup_core::event::Events;
use backup_core::format::Snapshot;
use backup_core::source::Source;
use backup_sources::files::{FilesOptions, FilesSource};

use super::flags::{LOGICAL, PARTS, RestoreFlags};
use super::mongodb::MongoSpec;
use super::{PostgresSpec, RedisSpec, of_server, path_of, postgres, redis};
use crate::address;
use crate::config::{Config, SourceConfig, SourceKind};
use crate::environment::Environment;
use crate::error::{Error, Result};
use crate::exposed;
use crate::machine::Machine;
use crate::snapshots::Now;
use crate::suggest;

/// The variables that give the password of a target's user if nothing else does.
const TARGET_PASSWORD: &str = "BACKUP_TARGET_PASSWORD";

/// Where a restore writes.
#[derive(Debug, Clone, Copy)]
pub enum RestoreTo<'a> {
    /// To where the data came from.
    Origin,
    /// A directory, a server, or a server's name in the configuration.
    Target(&'a str),
}

/// What is known when a restore is prepared.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'a> {
    /// The configuration, if there is one.
    pub config: Option<&'a Config>,
    /// The machine.
    pub machine: &'a Machine,
    /// The variables.
    pub env: &'a Environment,
    /// Receives reports of long waits.
    pub events: &'a Events,
}

/// A source that restores, and where to.
#[derive(Debug, Clone)]
pub struct Restorer {
    /// What kind of data it is.
    pub kind: SourceKind,
    /// The source.
    pub source: Arc<dyn Source>,
    /// What the request to the source names as the target.
    pub target: Option<String>,
    /// Where it goes, for people: without secrets.
    pub place: String,
}

impl Restorer {
    /// For a snapshot that holds `paths`. A server is connected.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a kind of snapshot that this program does not know, a target that
    /// does not fit it, and flags that mean nothing to it; those of connecting.
    pub async fn of(
        snapshot: &Snapshot,
        paths: &[String],
        to: RestoreTo<'_>,
        flags: &RestoreFlags,
        now: &Now<'_>,
        around: Surroundings<'_>,
    ) -> Result<Self> {
        match snapshot.tag("source") {
            None | Some("files") => Self::files(paths, to, flags, around.machine),
            Some("mongodb") => Self::mongodb(snapshot, to, flags, now, around).await,
            Some("postgres") => match to {
                RestoreTo::Target(target) if flags.is_part && is_postgres(target) => {
                    Self::parts(target, flags, around).await
                }
                _ => Self::postgres(to, flags, around.env),
            },
            Some(LOGICAL) => Self::logical(snapshot, to, flags, around).await,
            Some("redis") => Self::redis(snapshot, to, flags, around).await,
            Some(other) => Err(unknown(other)),
        }
    }

    /// Whether it goes into a server, not into a directory.
    #[must_use]
    pub fn is_server(&self) -> bool {
        self.target.is_none() && self.kind != SourceKind::Files
    }

    fn files(
        paths: &[String],
        to: RestoreTo<'_>,
        flags: &RestoreFlags,
        machine: &Machine,
    ) -> Result<Self> {
        flags.require_meaning("files")?;
        let target = match to {
            RestoreTo::Origin => None,
            RestoreTo::Target(target) => Some(directory(target)?),
        };
        let paths = if paths.is_empty() {
            vec!["/".into()]
        } else {
            paths.iter().map(PathBuf::from).collect()
        };
        let options = FilesOptions { host: machine.host.clone(), ..FilesOptions::default() };
        let source =
            Arc::new(FilesSource::new(paths, options).map_err(backup_core::error::Error::from)?);
        let place = target.clone().unwrap_or_else(|| format!("the original location ({source})"));
        Ok(Self { kind: SourceKind::Files, source, target, place })
    }

    async fn mongodb(
        snapshot: &Snapshot,
        to: RestoreTo<'_>,
        flags: &RestoreFlags,
        now: &Now<'_>,
        around: Surroundings<'_>,
    ) -> Result<Self> {
        flags.require_meaning("mongodb")?;
        let server = match to {
            RestoreTo::Origin => origin(snapshot, around.config, SourceKind::Mongodb)?,
            RestoreTo::Target(target) => server(target, around.config, SourceKind::Mongodb)?,
        };
        let mut spec =
            MongoSpec::new(server, TARGET_PASSWORD, around.env)?.restoring(flags, now)?;
        if let RestoreTo::Target(target) = to {
            spec = spec.into_database();
            if of_server(target).is_some() {
                spec = spec.ad_hoc();
            }
        }
        exposed::warn(&spec.secret_files(), around.events);
        let source = spec.open(around.env, around.events).await?;
        // The source is connected to the target itself.
        Ok(Self {
            kind: SourceKind::Mongodb,
            target: None,
            place: format!("{source} ({})", spec.address()),
            source,
        })
    }

    async fn logical(
        snapshot: &Snapshot,
        to: RestoreTo<'_>,
        flags: &RestoreFlags,
        around: Surroundings<'_>,
    ) -> Result<Self> {
        flags.require_meaning(LOGICAL)?;
        let mut server = match to {
            RestoreTo::Origin => origin(snapshot, around.config, SourceKind::Postgres)?,
            RestoreTo::Target(target) => server(target, around.config, SourceKind::Postgres)?,
        };
        if matches!(to, RestoreTo::Target(_)) {
            // Another cluster than the one that is backed up under this name, perhaps.
            server.system_id = None;
        }
        let spec = PostgresSpec::new(server, TARGET_PASSWORD, around.env)?;
        exposed::warn(&spec.secret_files(), around.events);
        let source = spec.restorer(flags, around.env, around.events).await?;
        // The source is connected to the target itself.
        Ok(Self {
            kind: SourceKind::Postgres,
            target: None,
            place: format!("{source} ({})", spec.address()),
            source,
        })
    }

    /// Of a data directory, what is asked for.
    async fn parts(target: &str, flags: &RestoreFlags, around: Surroundings<'_>) -> Result<Self> {
        flags.require_meaning(PARTS)?;
        let server = server(target, None, SourceKind::Postgres)?;
        let spec = PostgresSpec::new(server, TARGET_PASSWORD, around.env)?;
        exposed::warn(&spec.secret_files(), around.events);
        let source = spec.of_parts(flags, around.env, around.events).await?;
        // The source is connected to the target itself.
        Ok(Self {
            kind: SourceKind::Postgres,
            target: None,
            place: format!("{source} ({})", spec.address()),
            source,
        })
    }

    async fn redis(
        snapshot: &Snapshot,
        to: RestoreTo<'_>,
        flags: &RestoreFlags,
        around: Surroundings<'_>,
    ) -> Result<Self> {
        flags.require_meaning("redis")?;
        let kind = SourceKind::Redis;
        let server = match to {
            RestoreTo::Origin => origin(snapshot, around.config, kind)?,
            RestoreTo::Target(target) => match server(target, around.config, kind) {
                Ok(server) => server,
                // A directory, unless it is an address or looks like a name.
                Err(_) if is_path(target) => {
                    let only_servers = [
                        "--rename",
                        "--replica",
                        "--announce",
                        "--replica-from",
                        "--db",
                        "--expiry",
                        "--no-functions",
                    ];
                    let given = |(flag, given, _): &(&'static str, bool, _)| {
                        *given && only_servers.contains(flag)
                    };
                    if let Some((flag, ..)) = flags.of_kinds().into_iter().find(given) {
                        let text = format!("{flag} does not apply to a restore into a directory");
                        return Err(Error::invalid(text)
                            .with_hint("leave the flag out, or name a server with --target"));
                    }
                    let target = directory(target)?;
                    return Ok(Self {
                        kind,
                        source: redis::directory()?,
                        place: target.clone(),
                        target: Some(target),
                    });
                }
                Err(error) => return Err(error),
            },
        };
        let spec = RedisSpec::new(server, TARGET_PASSWORD, around.env)?.restoring(flags)?;
        exposed::warn(&spec.secret_files(), around.events);
        let source = spec.open(around.env, around.events).await?;
        // The source is connected to the target itself.
        Ok(Self { kind, target: None, place: format!("{source} ({})", spec.address()), source })
    }

    fn postgres(to: RestoreTo<'_>, flags: &RestoreFlags, env: &Environment) -> Result<Self> {
        const HINT: &str = "name a new or an empty directory with --target, and start a server \
                            there, for instance by --start";
        flags.require_meaning("postgres")?;
        let target = match to {
            RestoreTo::Target(target) if of_server(target).is_none() => directory(target)?,
            RestoreTo::Target(target) if is_postgres(target) => {
                let error =
                    Error::invalid("a data directory cannot be restored into a server as a whole");
                return Err(error.with_hint(
                    "choose databases, schemas or tables by --only (database.schema.table); or \
                     restore to a new or an empty directory with --target, and start a server \
                     there (--start)",
                ));
            }
            RestoreTo::Target(_) => {
                return Err(Error::invalid("a data directory cannot be restored into a server")
                    .with_hint(HINT));
            }
            RestoreTo::Origin => {
                return Err(Error::invalid("a data directory cannot be restored over its origin")
                    .with_hint(HINT));
            }
        };
        let source = postgres::directory(flags, env)?;
        Ok(Self { kind: SourceKind::Postgres, source, place: target.clone(), target: Some(target) })
    }
}

/// The error for snapshots of a kind that this program does not know.
pub(super) fn unknown(kind: &str) -> Error {
    Error::invalid(format!("this program cannot restore snapshots of `{kind}`")).with_hint(
        "use the version that made the snapshot, or `restic restore` and the notes in \
         .backup/RESTORE.md",
    )
}

/// The directory that files are restored below.
fn directory(target: &str) -> Result<String> {
    if of_server(target).is_some() {
        return Err(Error::invalid("a snapshot of files cannot be restored into a server")
            .with_hint("name a directory with --target"));
    }
    match address::scheme(target) {
        // `sftp:host:/x` and the like are addresses of other programs, and no directories.
        None => crate::repositories::location(target).map(|_| target.to_owned()).map_err(|error| {
            let shown = address::without_secrets(target);
            Error::invalid(format!("{shown:?} is not a directory"))
                .with_hint(error.hint().unwrap_or("name a directory with --target").to_owned())
        }),
        Some(scheme) => {
            match path_of(target).ok().and_then(|path| path.to_str().map(str::to_owned)) {
                Some(path) => Ok(path),
                None => Err(Error::invalid(format!(
                    "files cannot be restored to a `{scheme}` address"
                ))
                .with_hint(
                    "name a directory; write ./ in front of a name that looks like an address",
                )),
            }
        }
    }
}

/// Whether it is the address of a server of PostgreSQL.
fn is_postgres(target: &str) -> bool {
    of_server(target).is_some_and(|server| server.kind == SourceKind::Postgres)
}

/// Whether a target is written as a path.
fn is_path(target: &str) -> bool {
    address::scheme(target).is_none_or(|scheme| scheme == "file")
        && (target.contains('/') || target.starts_with('.'))
}

/// The server that a target means: an address, or a name in the configuration.
fn server(target: &str, config: Option<&Config>, kind: SourceKind) -> Result<SourceConfig> {
    let (name, hint) = match kind {
        SourceKind::Postgres => (
            "logical PostgreSQL",
            "write --target postgres://USER@HOST/, or the name of a PostgreSQL source of the \
             configuration",
        ),
        SourceKind::Redis => (
            "Redis",
            "write --target redis://USER@HOST:PORT, the name of a Redis source of the \
             configuration, or a directory such as /srv/redis or ./redis",
        ),
        SourceKind::Mongodb | SourceKind::Files => (
            "MongoDB",
            "write --target mongodb://USER@HOST/, or the name of a MongoDB source of the \
             configuration; `backup export … --to DIR` writes files for mongorestore",
        ),
    };
    if let Some(found) = of_server(target).filter(|found| found.kind == kind) {
        return Ok(found);
    }
    let sources = config.into_iter().flat_map(|config| &config.sources);
    let servers: Vec<_> = sources.filter(|(_, source)| source.kind == kind).collect();
    if let Some((_, source)) = servers.iter().find(|(name, _)| *name == target) {
        return Ok((*source).clone());
    }
    // An address of another kind may hold secrets too.
    let shown = address::without_secrets(target);
    let error = Error::invalid(format!(
        "a {name} snapshot is restored into a server, but {shown:?} is not a server"
    ));
    Err(match suggest::closest(target, servers.iter().map(|(name, _)| name.as_str())) {
        Some(close) => error.with_hint(format!("did you mean `{close}`?")),
        None => error.with_hint(hint),
    })
}

/// The server that a snapshot was made of: only the configuration knows its address.
fn origin(snapshot: &Snapshot, config: Option<&Config>, kind: SourceKind) -> Result<SourceConfig> {
    let job = snapshot.tag("job").unwrap_or_default();
    let source = config.and_then(|config| config.sources.get(&config.jobs.get(job)?.source));
    source.filter(|source| source.kind == kind).cloned().ok_or_else(|| {
        let word = match kind {
            SourceKind::Postgres => ("PostgreSQL", "postgres"),
            SourceKind::Redis => ("Redis", "redis"),
            SourceKind::Mongodb | SourceKind::Files => ("MongoDB", "mongodb"),
        };
        Error::invalid(format!(
            "the origin of the snapshot is unknown: no configuration has a {} job `{job}`",
            word.0
        ))
        .with_hint(format!("name the server with --target {}://USER@HOST/", word.1))
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::flags::{ExpiryFlag, RedisFlags, ScratchFlags};
    use super::*;

    const CONFIG: &str = r#"
        [repositories.main]
        url = "/repo"
        [sources.shop]
        kind = "mongodb"
        url = "mongodb://host/"
        [sources.home]
        kind = "files"
        paths = ["/home"]
        [jobs.nightly]
        source = "shop"
        repository = "main"
        [jobs.docs]
        source = "home"
        repository = "main"
    "#;

    fn config() -> Config {
        crate::config::parse(CONFIG, Path::new("/backup.toml"), &Environment::default()).unwrap()
    }

    fn snapshot(job: &str, source: &str) -> Snapshot {
        let json = serde_json::json!({
            "time": "2026-03-01T12:00:00Z", "tree": "00".repeat(32), "paths": ["/data"], "hostname": "h",
            "username": "u", "tags": [format!("job={job}"), format!("source={source}")],
        });
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn targets_of_servers() {
        let config = config();
        assert!(server("mongodb://h/", None, SourceKind::Mongodb).is_ok());
        assert_eq!(
            server("shop", Some(&config), SourceKind::Mongodb).unwrap(),
            config.sources["shop"]
        );
        assert_eq!(
            server("shopp", Some(&config), SourceKind::Mongodb).unwrap_err().hint(),
            Some("did you mean `shop`?")
        );
        for wrong in ["home", "/tmp/out", "postgres://me:hush@h/"] {
            let error = server(wrong, Some(&config), SourceKind::Mongodb).unwrap_err();
            assert!(error.hint().unwrap().contains("--target mongodb://"), "{wrong}");
            assert!(!error.to_string().contains("hush"), "{error}");
        }
        assert_eq!(
            origin(&snapshot("nightly", "mongodb"), Some(&config), SourceKind::Mongodb).unwrap(),
            config.sources["shop"]
        );
        for job in ["docs", "other"] {
            assert!(
                origin(&snapshot(job, "mongodb"), Some(&config), SourceKind::Mongodb)
                    .unwrap_err()
                    .hint()
                    .is_some()
            );
        }
        assert!(origin(&snapshot("nightly", "mongodb"), None, SourceKind::Mongodb).is_err());
    }

    #[test]
    fn targets_of_files() {
        assert_eq!(directory("/tmp/out").unwrap(), "/tmp/out");
        assert_eq!(directory("file:///tmp/out").unwrap(), "/tmp/out");
        assert_eq!(directory("./mongodb://x").unwrap(), "./mongodb://x");
        for wrong in ["mongodb://me:hush@h/", "s3://bucket/x?secret=hush"] {
            let error = directory(wrong).unwrap_err();
            assert!(error.hint().is_some() && !format!("{error:?}").contains("hush"), "{error:?}");
        }
    }

    #[tokio::test]
    async fn flags_that_mean_nothing_are_refused() {
        let machine = Machine { host: "h".into(), user: "u".into(), zone: crate::zone::Zone::UTC };
        let (env, now) = (Environment::default(), "2026-03-03T13:00:00Z".parse().unwrap());
        let now = Now { time: now, zone: &machine.zone.rules };
        let around =
            Surroundings { config: None, machine: &machine, env: &env, events: &Events::silent() };
        let some = |text: &str| Some(text.to_owned());
        let scratch = ScratchFlags { user: some("nobody"), ..ScratchFlags::default() };
        let redis = |redis| RestoreFlags { redis, ..RestoreFlags::default() };
        for (source, flags) in [
            (
                "files",
                RestoreFlags { renames: vec!["a.*=b.*".to_owned()], ..RestoreFlags::default() },
            ),
            ("files", RestoreFlags { until: some("latest"), ..RestoreFlags::default() }),
            ("files", RestoreFlags { no_users: true, ..RestoreFlags::default() }),
            ("files", RestoreFlags { defer_ttl: true, ..RestoreFlags::default() }),
            ("mongodb", RestoreFlags { sparse: true, ..RestoreFlags::default() }),
            ("mongodb", RestoreFlags { start: Some(None), ..RestoreFlags::default() }),
            (
                "files",
                RestoreFlags { settings: vec!["port=1".to_owned()], ..RestoreFlags::default() },
            ),
            ("postgres", RestoreFlags { no_users: true, ..RestoreFlags::default() }),
            ("redis", RestoreFlags { no_users: true, ..RestoreFlags::default() }),
            ("postgres", RestoreFlags { scratch: scratch.clone(), ..RestoreFlags::default() }),
            (
                LOGICAL,
                RestoreFlags { scratch: scratch.clone(), is_part: true, ..RestoreFlags::default() },
            ),
            (
                "mongodb",
                redis(RedisFlags { databases: vec!["0=1".to_owned()], ..RedisFlags::default() }),
            ),
            ("files", redis(RedisFlags { replica: Some(None), ..RedisFlags::default() })),
            (
                "postgres",
                redis(RedisFlags { expiry: Some(ExpiryFlag::Never), ..RedisFlags::default() }),
            ),
            ("files", redis(RedisFlags { no_functions: true, ..RedisFlags::default() })),
        ] {
            let snapshot = snapshot("x", source);
            let to = RestoreTo::Target("mongodb://nowhere.invalid/");
            let error = Restorer::of(&snapshot, &[], to, &flags, &now, around).await.unwrap_err();
            assert!(error.to_string().contains("does not apply"), "{error}");
            assert!(error.hint().is_some());
        }
    }
}
