//! MongoDB servers.

use std::fmt;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use backup_core::context::Context;
use backup_core::event::{Events, WarningKind};
use backup_core::log::LogReplay;
use backup_core::pipeline::{BackupOptions, BackupReport};
use backup_core::repository::{Repository, SnapshotReader};
use backup_core::source::{Selection, Source, SourceIdentity};
use backup_sources::DEFAULT_TIMEOUT;
use backup_sources::mongodb::{
    self, Adjustments, CompareRequest, DumpOptions, ExportReport, ExportRequest, MongoDump,
    MongoOptions, MongoSource, Position, Renames, Replay, SnapshotReads, TimeOrigin, WriteConcern,
};
use backup_storage::settings::Rate;

use super::{
    CompareFlags, Compared, ExportFlags, Exported, Import, ImportFlags, RestoreFlags, TimeSource,
};
use crate::address::ServerAddress;
use crate::config::{
    MajorityConfig, ReplayConfig, SnapshotReadsConfig, SourceConfig, WriteConcernConfig,
};
use crate::environment::Environment;
use crate::error::{Error, Result};
use crate::exposed;
use crate::moment::{self, MIN_OPLOG_SECONDS, hint_at_day};
use crate::passphrase::PassphraseOrigin;
use crate::snapshots::Now;
use crate::units::Time;

/// A MongoDB server that is meant.
#[derive(Debug, Clone)]
pub struct MongoSpec {
    address: ServerAddress,
    password: Option<PassphraseOrigin>,
    config: SourceConfig,
    /// The database that a restore writes to.
    into_database: Option<String>,
    /// The address was given on the command line, not in a configuration.
    is_ad_hoc: bool,
    renames: Renames,
    until: Option<Position>,
    no_users: bool,
    defer_ttl: bool,
    adjustments: Adjustments,
    log_interval: Option<Duration>,
}

impl MongoSpec {
    /// `variable` gives the password if the configuration names no place for it.
    pub(super) fn new(config: SourceConfig, variable: &str, env: &Environment) -> Result<Self> {
        let address = config
            .url
            .clone()
            .ok_or_else(|| Error::invalid("the address of the server is missing"))?;
        let password = PassphraseOrigin::of_source(&config, variable, env);
        let (renames, until) = (Renames::default(), None);
        Ok(Self {
            address,
            password,
            config,
            into_database: None,
            is_ad_hoc: false,
            renames,
            until,
            no_users: false,
            defer_ttl: false,
            adjustments: Adjustments::default(),
            log_interval: None,
        })
    }

    /// As one whose address was given to this command.
    pub(super) fn ad_hoc(self) -> Self {
        Self { is_ad_hoc: true, ..self }
    }

    /// As a target that names a database: everything is restored into it.
    pub(super) fn into_database(self) -> Self {
        let named = self.config.selected_database().map(str::to_owned);
        let into_database = named.or_else(|| self.config.undecided_database());
        Self { into_database, ..self }
    }

    /// As a target: what restoring is told.
    pub(super) fn restoring(mut self, flags: &RestoreFlags, now: &Now<'_>) -> Result<Self> {
        for setting in &flags.settings {
            set(&mut self.config, setting)?;
        }
        self.renames = renames(&flags.renames)?;
        self.until = position(flags.until.as_deref(), now)?;
        self.no_users = flags.no_users;
        self.defer_ttl = flags.defer_ttl;
        self.adjustments = Adjustments {
            skip_indexes: flags.skip_indexes.clone(),
            no_options: flags.no_options.clone(),
            convert_legacy_indexes: flags.convert_legacy_indexes,
        };
        Ok(self)
    }

    /// As a source whose log is captured: up to so much of it may wait to be stored.
    pub(super) fn capturing(mut self, interval: Duration) -> Self {
        self.log_interval = Some(interval);
        self
    }

    /// Where it is, without secrets.
    pub(super) fn address(&self) -> &ServerAddress {
        &self.address
    }

    /// The files that hold its secrets.
    pub(super) fn secret_files(&self) -> Vec<&Path> {
        exposed::files_of_spec(self.password.as_ref(), &self.config)
    }

    pub(super) async fn open(&self, env: &Environment, events: &Events) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(self.connect(env, events).await?))
    }

    /// Compares what a snapshot holds with what the server does.
    pub(super) async fn compare(
        &self,
        snapshot: &SnapshotReader,
        log: Option<Arc<LogReplay>>,
        flags: &CompareFlags,
        (now, env): (&Now<'_>, &Environment),
        cx: &Context,
    ) -> Result<Compared> {
        let until = position(flags.until.as_deref(), now)?;
        let selection = self.compared(&flags.selection)?;
        let request = CompareRequest { selection, until, log };
        let source = self.connect(env, &cx.events).await?;
        let both = mongodb::compare(cx, &source, snapshot, &request)
            .await
            .map_err(backup_core::error::Error::from)?;
        Ok(Compared { stored: both.stored, found: both.found, warnings: 0 })
    }

    /// The part of a selection that lies in the database of the address.
    fn compared(&self, asked: &Selection) -> Result<Selection> {
        let Some(name) = self.config.selected_database().filter(|_| self.is_ad_hoc) else {
            return Ok(asked.clone());
        };
        Ok(mongodb::selection_in(asked, name).map_err(backup_core::error::Error::from)?)
    }

    async fn connect(&self, env: &Environment, events: &Events) -> Result<MongoSource> {
        let password = match &self.password {
            Some(origin) => Some(origin.fetch_password(env).await?.reveal().to_owned()),
            None => None,
        };
        if let Some(name) = self.address.ignored_mongodb_database().filter(|_| self.is_ad_hoc) {
            let text = format!("the database {name} of the address selects nothing");
            events.warn(WarningKind::Other, "", text);
        }
        let waits = super::waits(&self.config, DEFAULT_TIMEOUT, events);
        Ok(MongoSource::connect(MongoOptions { waits, ..self.options(password) })
            .await
            .map_err(backup_core::error::Error::from)?)
    }

    fn options(&self, password: Option<String>) -> MongoOptions {
        let defaults = MongoOptions::new(self.address.reveal());
        MongoOptions {
            password,
            tls_ca_file: self.config.tls_ca_file.clone(),
            tls_certificate_key_file: self.config.tls_certificate_key_file.clone(),
            snapshot_reads: match self.config.snapshot_reads {
                None | Some(SnapshotReadsConfig::Auto) => SnapshotReads::Auto,
                Some(SnapshotReadsConfig::Never) => SnapshotReads::Never,
            },
            cursors: self.config.cursors.unwrap_or(defaults.cursors),
            parallel: self.config.parallel.unwrap_or(defaults.parallel),
            max_bytes_per_second: self.config.max_bytes_per_second.map(Rate::get),
            replay: match self.config.replay {
                None | Some(ReplayConfig::Fold) => Replay::Fold,
                Some(ReplayConfig::ApplyOps) => Replay::ApplyOps,
            },
            write_concern: match self.config.write_concern {
                None => defaults.write_concern,
                Some(WriteConcernConfig::Members(count)) => WriteConcern::Members(count),
                Some(WriteConcernConfig::Word(MajorityConfig::Majority)) => WriteConcern::Majority,
            },
            member_timeout: self
                .config
                .member_timeout
                .as_ref()
                .map_or(defaults.member_timeout, Time::length),
            log_interval: self.log_interval,
            database: self.config.selected_database().map(str::to_owned),
            into_database: self.into_database.clone(),
            renames: self.renames.clone(),
            restore_users: !self.no_users,
            defer_ttl: self.defer_ttl,
            adjustments: self.adjustments.clone(),
            until: self.until,
            ..defaults
        }
    }
}

impl fmt::Display for MongoSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MongoDB at {}", self.address)
    }
}

/// Takes a setting of a restore from the command line, as it would stand in the configuration.
fn set(config: &mut SourceConfig, setting: &str) -> Result<()> {
    const HINT: &str = "use for MongoDB: write_concern=majority (or a number), \
                        max_bytes_per_second=50MiB, parallel=8 (1 to 64), replay=fold or \
                        apply_ops";
    let refused = |text: String| Error::invalid(text).with_hint(HINT);
    let (name, value) = setting
        .split_once('=')
        .ok_or_else(|| refused(format!("--set {setting:?} is not NAME=VALUE")))?;
    let bad = |error: String| refused(format!("--set {name}: {error}"));
    let word = toml::Value::String(value.to_owned());
    match name {
        "write_concern" => {
            let value = value.parse().map_or(word, toml::Value::Integer);
            config.write_concern = Some(
                value
                    .try_into()
                    .map_err(|error: toml::de::Error| bad(error.message().to_owned()))?,
            );
        }
        "max_bytes_per_second" => config.max_bytes_per_second = Some(value.parse().map_err(bad)?),
        "parallel" => {
            let count = value.parse().ok().filter(|count| (1..=64).contains(count));
            config.parallel =
                Some(count.ok_or_else(|| bad("not a number from 1 to 64".to_owned()))?);
        }
        "replay" => {
            config.replay = Some(
                word.try_into()
                    .map_err(|error: toml::de::Error| bad(error.message().to_owned()))?,
            );
        }
        _ => return Err(refused(format!("a restore of MongoDB has no setting {name:?}"))),
    }
    Ok(())
}

fn renames(rules: &[String]) -> Result<Renames> {
    Ok(Renames::new(rules).map_err(backup_core::error::Error::from)?)
}

/// `latest` is the end of the snapshot; `seconds:increment` as in the oplog; else a moment as
/// everywhere, which means everything up to its second.
fn position(text: Option<&str>, now: &Now<'_>) -> Result<Option<Position>> {
    let Some(text) = text.filter(|text| *text != "latest") else {
        return Ok(None);
    };
    if let Ok(position) = text.parse::<Position>()
        && position.seconds >= MIN_OPLOG_SECONDS
    {
        return Ok(Some(position));
    }
    const HINT: &str =
        "write `latest`, seconds:increment as in the oplog, or a time such as `2026-11-21 14:30`";
    let moment = moment::of_log(text, now.time, now.zone).map_err(|_| {
        let hint = hint_at_day(text).unwrap_or_else(|| HINT.to_owned());
        Error::invalid(format!("{text:?} is not a moment of a replica set")).with_hint(hint)
    })?;
    let seconds = u32::try_from(moment.end().as_second()).map_err(|_| {
        Error::invalid(format!("{text:?} is outside the times of a replica set")).with_hint(HINT)
    })?;
    Ok(Some(Position { seconds, increment: u32::MAX }))
}

/// Makes a full snapshot of one and its log.
pub(super) async fn compact(
    repository: &Repository,
    snapshot: &SnapshotReader,
    log: Option<Arc<LogReplay>>,
    options: &BackupOptions,
    cx: &Context,
) -> Result<BackupReport> {
    Ok(mongodb::synthetic_full(repository, snapshot, log, options, cx).await?)
}

/// The identity of a replica set by its name, or of a standalone server by its address.
pub(super) fn identity_of(name: &str) -> Result<SourceIdentity> {
    Ok(mongodb::identity_of(name))
}

/// Opens a dump of mongodump.
pub(super) async fn import(
    path: &Path,
    flags: &ImportFlags,
    identity: SourceIdentity,
    include: &[String],
    cx: &Context,
) -> Result<Import> {
    let (path, must_be_gzip, time) = (path.to_owned(), flags.must_be_gzip, flags.time);
    let options = DumpOptions { path, must_be_gzip, identity, time };
    let dump = MongoDump::open(cx, options).await.map_err(backup_core::error::Error::from)?;
    let (time, origin) = dump.time();
    let time_source = match origin {
        TimeOrigin::Given => TimeSource::Given,
        TimeOrigin::Oplog => TimeSource::Dump,
        TimeOrigin::Files => TimeSource::Files,
    };
    let (selection, is_part) = (dump.selection(), dump.is_part_of(include));
    Ok(Import { source: Arc::new(dump), include: selection, is_part, time, time_source })
}

/// Writes a snapshot as a dump.
pub(super) async fn export(
    cx: &Context,
    snapshot: &SnapshotReader,
    flags: &ExportFlags,
    now: &Now<'_>,
    directory: &Path,
) -> Result<Exported> {
    let report = mongodb::export(cx, snapshot, &request(flags, now)?, directory).await;
    Ok(exported(report.map_err(backup_core::error::Error::from)?))
}

/// Writes a snapshot as an archive.
pub(super) async fn export_archive<W: Write + Send + 'static>(
    cx: &Context,
    snapshot: &SnapshotReader,
    flags: &ExportFlags,
    now: &Now<'_>,
    writer: W,
) -> Result<(Exported, W)> {
    let written = mongodb::export_archive(cx, snapshot, &request(flags, now)?, writer).await;
    let (report, writer) = written.map_err(backup_core::error::Error::from)?;
    Ok((exported(report), writer))
}

fn request(flags: &ExportFlags, now: &Now<'_>) -> Result<ExportRequest> {
    let until = position(flags.until.as_deref(), now)?;
    let (selection, renames) = (flags.selection.clone(), renames(&flags.renames)?);
    Ok(ExportRequest { selection, renames, until, is_gzip: flags.is_gzip })
}

fn exported(report: ExportReport) -> Exported {
    let ExportReport { collections, documents, bytes } = report;
    Exported::Collections { collections, documents, bytes }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;

    #[test]
    fn what_the_configuration_says_reaches_the_source() {
        let options = |keys: &str| {
            let text = format!("kind = \"mongodb\"\nurl = \"mongodb://h\"\n{keys}");
            let config: SourceConfig = toml::from_str(&text).unwrap();
            MongoSpec::new(config, "NONE", &Environment::default()).unwrap().options(None)
        };
        let plain = options("");
        assert_eq!(
            (plain.cursors, plain.max_bytes_per_second, plain.replay),
            (4, None, Replay::Fold)
        );
        assert_eq!(plain.parallel, 8);
        let all = "cursors = 1\nparallel = 3\nmax_bytes_per_second = \"2MiB\"\nreplay = \
                   \"apply_ops\"\nsnapshot_reads = \"never\"\ntls_ca_file = \
                   \"/ca.pem\"\ntls_certificate_key_file = \"/key.pem\"";
        let options = options(all);
        assert_eq!((options.cursors, options.max_bytes_per_second), (1, Some(2 << 20)));
        assert_eq!(options.parallel, 3);
        assert_eq!(
            (options.replay, options.snapshot_reads),
            (Replay::ApplyOps, SnapshotReads::Never)
        );
        assert_eq!(options.tls_ca_file.as_deref(), Some(Path::new("/ca.pem")));
        assert_eq!(options.tls_certificate_key_file.as_deref(), Some(Path::new("/key.pem")));
    }

    #[test]
    fn settings_of_a_restore_come_from_the_command_line_too() {
        let config = || SourceConfig::mongodb(ServerAddress::new("mongodb://h"));
        let now = Now { time: "2026-03-03T13:00:00Z".parse().unwrap(), zone: &TimeZone::UTC };
        let options = |settings: &[&str]| -> Result<MongoOptions> {
            let settings = settings.iter().map(|&setting| setting.to_owned()).collect();
            let flags = RestoreFlags { settings, ..RestoreFlags::default() };
            let spec = MongoSpec::new(config(), "NONE", &Environment::default())
                .unwrap()
                .restoring(&flags, &now)?;
            Ok(spec.options(None))
        };
        let plain = options(&[]).unwrap();
        assert_eq!(
            (plain.write_concern, plain.max_bytes_per_second),
            (WriteConcern::default(), None)
        );
        let chosen =
            options(&["write_concern=majority", "max_bytes_per_second=2MiB", "replay=apply_ops"])
                .unwrap();
        assert_eq!(
            (chosen.write_concern, chosen.max_bytes_per_second),
            (WriteConcern::Majority, Some(2 << 20))
        );
        assert_eq!(chosen.replay, Replay::ApplyOps);
        assert_eq!(options(&["parallel=2"]).unwrap().parallel, 2);
        let three = options(&["write_concern=3"]).unwrap().write_concern;
        assert_eq!(three, WriteConcern::Members(3.try_into().unwrap()));
        for bad in [
            "write_concern=0",
            "write_concern=most",
            "replay=x",
            "parallel=0",
            "parallel=many",
            "max_bytes_per_second=x",
            "port=1",
            "x",
        ] {
            let error = options(&[bad]).unwrap_err();
            assert!(error.hint().unwrap().contains("write_concern=majority"), "{bad}: {error}");
        }
    }

    #[test]
    fn moments_of_a_replica_set() {
        let now = Now { time: "2026-03-03T13:00:00Z".parse().unwrap(), zone: &TimeZone::UTC };
        let parsed = |text| position(Some(text), &now).map(|found| found.map(|at| at.to_string()));
        assert_eq!(parsed("latest").unwrap(), None);
        assert_eq!(parsed("1640995200:1").unwrap().as_deref(), Some("1640995200:1"));
        for text in ["2022-01-01T00:00:00Z", "2022-01-01 00:00"] {
            assert_eq!(parsed(text).unwrap().as_deref(), Some("1640995200:4294967295"), "{text}");
        }
        let error = parsed("23:11").unwrap_err();
        assert!(error.hint().is_some_and(|hint| hint.contains("`today 23:11`")), "{error:?}");
        for bad in ["soon", "1:", "1900-01-01"] {
            assert!(parsed(bad).is_err_and(|error| error.hint().is_some()), "{bad}");
        }
    }
}
