//! Reading a configuration; every mistake with its line and, where there is one, a suggestion.

use std::path::{Path, PathBuf};

use backup_storage::Location;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use toml::Spanned;
use toml::de::{DeTable, Deserializer};

use super::explain::explain;
use super::interpolate::Refused;
use super::last_good::{Kept, Resolved};
use super::mistakes::Collector;
use super::origins::{self, Origins};
use super::{Config, ServerConfig, interpolate};
use crate::audit::hex;
use crate::environment::Environment;
use crate::error::{ConfigError, Result};

/// A configuration and where it came from.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadedConfig {
    /// The file.
    pub file: PathBuf,
    /// What it says, with references resolved and relative paths made to start at the file's
    /// directory.
    pub config: Config,
    /// Where its values come from.
    pub origins: Origins,
    /// Its text with references resolved, for [`LastGood`](super::LastGood).
    pub resolved: Resolved,
    /// SHA-256 of the file's text, in hexadecimal; none for a copy that the daemon keeps.
    pub sha256: Option<String>,
}

/// Loads a configuration file, or a copy that the daemon keeps of one
/// ([`LastGood`](super::LastGood)).
///
/// # Errors
/// [`Error::Config`](crate::error::Error::Config) if it cannot be read or used.
pub fn load(file: &Path, env: &Environment) -> Result<LoadedConfig> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        ConfigError::new(file, format!("cannot read the configuration: {error}"))
    })?;
    match Kept::of_text(&text) {
        None => {
            let sha256 = Some(hex(&Sha256::digest(&text)));
            Ok(LoadedConfig { sha256, ..read(&text, file, env)? })
        }
        Some(Ok(kept)) => {
            let source = Source { text: &kept.toml.0, file: &kept.file };
            Ok(assemble(source, source.table()?, Vec::new(), Origins::new())?)
        }
        Some(Err(error)) => {
            let message = format!("the copy of a configuration is damaged: {error}");
            Err(ConfigError::new(file, message).into())
        }
    }
}

/// Reads the text of a configuration that is kept in `file`.
///
/// # Errors
/// [`ConfigError`] with the line of the first mistake, and all others.
pub fn parse(text: &str, file: &Path, env: &Environment) -> Result<Config, ConfigError> {
    read(text, file, env).map(|loaded| loaded.config)
}

pub(super) fn read(
    text: &str,
    file: &Path,
    env: &Environment,
) -> Result<LoadedConfig, ConfigError> {
    let source = Source { text, file };
    let mut table = source.table()?;
    let origins = origins::of(text, table.get_ref(), env);
    let unresolved = interpolate::table(table.get_mut(), env);
    assemble(source, table, unresolved, origins)
}

/// From a table whose references are resolved, but for the `unresolved` ones, to a configuration.
fn assemble(
    source: Source<'_>,
    table: Spanned<DeTable<'_>>,
    unresolved: Vec<Refused>,
    origins: Origins,
) -> Result<LoadedConfig, ConfigError> {
    let file = source.file;
    let mut collector = Collector::new(source, table.clone());
    collector.refused(unresolved);
    let config = collector.read(|config| {
        absolutize(config, file.parent().unwrap_or(Path::new("")))
            .map_err(|message| ConfigError::new(file, message))
    })?;
    let values = toml::Table::deserialize(Deserializer::from(table))
        .map_err(|error| source.of_parser(&error))?;
    let resolved = toml::to_string(&values)
        .map_err(|error| ConfigError::new(file, format!("cannot be written again: {error}")))?;
    let resolved = Resolved(resolved);
    Ok(LoadedConfig { file: file.to_path_buf(), config, origins, resolved, sha256: None })
}

/// The text of a configuration and its file; makes errors with their lines.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    text: &'a str,
    pub(super) file: &'a Path,
}

impl<'a> Source<'a> {
    fn table(self) -> Result<Spanned<DeTable<'a>>, ConfigError> {
        DeTable::parse(self.text).map_err(|error| self.of_parser(&error))
    }

    pub(super) fn of_parser(self, error: &toml::de::Error) -> ConfigError {
        let (message, hint) = explain(error.message());
        let line = error.span().map(|span| line_of(self.text, span.start));
        ConfigError::new(self.file, message).at_line(line).with_hint(hint)
    }

    pub(super) fn of_value(self, refused: Refused) -> ConfigError {
        ConfigError::new(self.file, refused.message)
            .at_line(Some(line_of(self.text, refused.span.start)))
            .with_hint(Some(refused.hint))
    }
}

/// Finds the lines of keys.
pub(super) struct Lines<'a> {
    text: &'a str,
    table: Spanned<DeTable<'a>>,
}

impl<'a> Lines<'a> {
    pub(super) fn new(source: Source<'a>, table: Spanned<DeTable<'a>>) -> Self {
        Self { text: source.text, table }
    }

    /// The line of the key at the end of `path`, or of the last one on the way that exists.
    pub(super) fn of(&self, path: &[String]) -> Option<usize> {
        let mut table = self.table.get_ref();
        let mut line = None;
        for name in path {
            let Some((key, value)) = table.get_key_value(name.as_str()) else {
                break;
            };
            line = Some(line_of(self.text, key.span().start));
            match value.get_ref().as_table() {
                Some(inner) => table = inner,
                None => break,
            }
        }
        line
    }
}

/// The line, counted from 1, of the byte at `offset`.
fn line_of(text: &str, offset: usize) -> usize {
    LineIndex::new(text).line(offset)
}

/// The offsets at which the lines of a text begin.
pub(super) struct LineIndex(Vec<usize>);

impl LineIndex {
    pub(super) fn new(text: &str) -> Self {
        let behind = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self(std::iter::once(0).chain(behind.map(|(at, _)| at + 1)).collect())
    }

    /// The line, counted from 1, of the byte at `offset`.
    pub(super) fn line(&self, offset: usize) -> usize {
        self.0.partition_point(|start| *start <= offset)
    }
}

/// Lets relative paths start at the directory of the configuration, so that it means the same from
/// everywhere.
fn absolutize(config: &mut Config, base: &Path) -> Result<(), String> {
    let base = if base.as_os_str().is_empty() { Path::new(".") } else { base };
    let base = std::path::absolute(base)
        .map_err(|error| format!("cannot determine the directory of this file: {error}"))?;
    let fix = |path: &mut PathBuf| {
        if path.is_relative() && !path.as_os_str().is_empty() {
            *path = base.join(&*path);
        }
    };
    for repository in config.repositories.values_mut() {
        let store = &mut repository.store;
        let files = [
            &mut repository.passphrase_file,
            &mut store.ca_file,
            &mut store.secret_access_key_file,
            &mut store.service_account,
            &mut store.customer_key_file,
        ];
        files.into_iter().flatten().for_each(fix);
        // An address of another program, such as `sftp:host:/x`, is no path: the validation refuses
        // it, unless it has become a part of one.
        if let Ok(Location::Local(path)) = crate::repositories::location(&repository.url)
            && path.is_relative()
        {
            let joined = base.join(path);
            let text = joined.to_str().ok_or(
                "a relative `url` requires a configuration in a directory whose name is UTF-8",
            )?;
            repository.url = text.to_owned();
        }
    }
    let channels = config.notify.values_mut();
    channels
        .flat_map(|channel| [&mut channel.secret_file, &mut channel.ca_file])
        .flatten()
        .for_each(fix);
    config.api.paths().for_each(fix);
    config.catalog.paths().for_each(fix);
    config.servers.values_mut().flat_map(ServerConfig::paths).for_each(fix);
    config.groups.values_mut().try_for_each(|group| group.absolutize(&base))?;
    config.jobs.values_mut().filter_map(|job| job.logs.as_mut()?.spool.as_mut()).for_each(fix);
    for source in config.sources.values_mut() {
        source.paths.iter_mut().for_each(fix);
        source.exclude_files.iter_mut().for_each(fix);
        let files = [
            &mut source.password_file,
            &mut source.tls_ca_file,
            &mut source.tls_certificate_key_file,
            &mut source.tls_certificate_file,
            &mut source.tls_key_file,
        ];
        files.into_iter().flatten().for_each(fix);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, ConfigError> {
        let env: Environment = [("NAME", "docs")].into_iter().collect();
        parse(text, Path::new("/etc/backup/backup.toml"), &env)
    }

    fn mistake(text: &str) -> String {
        let error = read(text).unwrap_err();
        assert!(error.others.is_empty(), "{:?}: {text}", error.others);
        match &error.hint {
            Some(hint) => format!("{error} | {hint}"),
            None => error.to_string(),
        }
    }

    const GOOD: &str = r#"
        [repositories.main]
        url = "repo"
        passphrase_file = "key.txt"
        compression = 7
        pack_size = "64MiB"

        [sources.docs]
        kind = "files"
        paths = ["/home/${NAME}", "sub/dir"]

        [jobs.docs]
        source = "docs"
        repository = "main"
    "#;

    #[test]
    fn reads_and_anchors_relative_paths_at_the_file() {
        let config = read(GOOD).unwrap();
        assert_eq!(config.repositories["main"].url, "/etc/backup/repo");
        assert_eq!(
            config.repositories["main"].passphrase_file.as_deref(),
            Some(Path::new("/etc/backup/key.txt"))
        );
        assert_eq!(config.repositories["main"].pack_size, Some(crate::units::Size(64 << 20)));
        assert_eq!(
            config.sources["docs"].paths,
            [Path::new("/home/docs"), Path::new("/etc/backup/sub/dir")]
        );
    }

    #[test]
    fn lines_are_counted_from_one() {
        let index = LineIndex::new("a\nbc\n\nd");
        let lines: Vec<usize> = (0..=7).map(|offset| index.line(offset)).collect();
        assert_eq!(lines, [1, 1, 2, 2, 2, 3, 4, 4]);
        assert_eq!(LineIndex::new("").line(0), 1);
    }

    #[test]
    fn groups() {
        let text = format!(
            "{GOOD}\n[groups.all]\njobs = [\"docs\"]\n[groups.all.targets]\ndocs = \"out/docs\"\n\
             [groups.servers]\njobs = [\"docs\"]\ntargets = {{ docs = \"redis://me:hush@h\" }}\n\
             [groups.names]\njobs = [\"docs\"]\ntargets = {{ docs = \"standby\" }}"
        );
        let config = read(&text).unwrap();
        let target = |group: &str| config.groups[group].targets["docs"].reveal().to_owned();
        assert_eq!(target("all"), "/etc/backup/out/docs");
        assert_eq!(
            (target("servers"), target("names")),
            ("redis://me:hush@h".to_owned(), "standby".to_owned())
        );
        assert_eq!(config.groups["all"].parallel(), 4);
        let shown = format!("{} {config:?}", toml::to_string(&config).unwrap());
        assert!(!shown.contains("hush"), "{shown}");
    }

    #[test]
    fn what_is_shown_can_be_read_again() {
        let config = read(GOOD).unwrap();
        assert_eq!(read(&toml::to_string(&config).unwrap()).unwrap(), config);
    }

    #[test]
    fn mistakes_have_lines_and_suggestions() {
        let mistakes = [
            "[repositories.r]\nurl = \"x\"\n[sources.s]\nkind = \"files\"\npaths = [\"/\"]\n\
             [jobs.a]\nsource = \"s\"\nrepository = \"r\"\nexlude = []",
            "[repository.a]\nurl = \"x\"",
            "[repositories.a]\nurl = \"x\"\npassword = \"x\"",
            "[repositories.a]\nurl = \"x\"\ncompression = 42",
            "[repositories.a]\nurl = \"x\"\npack_size = \"many\"",
            "[repositories.a]\nurl = 5",
            "[repositories.a]\nurl = \"sftp:me@host:/x\"",
            "[repositories.a\nurl = \"x\"",
            "[sources.a]\nkind = \"file\"\npaths = []",
            "[sources.a]\nkind = \"files\"",
            "[sources.a]\nkind = \"files\"\npaths = [\"${NOPE}\"]",
            "[sources.a]\nkind = \"files\"\npaths = []",
            "[sources.a]\nkind = \"files\"\npaths = [\"/x\"]\nurl = \"mongodb://h\"",
            "[sources.a]\nkind = \"mongo\"\nurl = \"mongodb://h\"",
            "[sources.a]\nkind = \"mongodb\"\nuri = \"mongodb://h\"",
            "[sources.a]\nkind = \"mongodb\"",
            "[sources.a]\nkind = \"mongodb\"\nurl = \"postgres://me:hush@h\"",
            "[sources.a]\nkind = \"mongodb\"\nurl = \"mongodb://h\"\none_file_system = false",
            "[sources.a]\nkind = \"mongodb\"\nurl = \"mongodb://h\"\npassword = \"hush\"",
            "[sources.a]\nkind = \"mongodb\"\nurl = \"mongodb://h\"\npassword_env = \
             \"A\"\npassword_file = \"b\"",
            "[sources.a]\nkind = \"mongodb\"\nurl = \"mongodb://h\"\nsnapshot_reads = \"always\"",
            "[sources.a]\nkind = \"mongodb\"\nurl = \"mongodb://h\"\ncursors = 0",
            "[sources.a]\nkind = \"mongodb\"\nurl = \"mongodb://h\"\nmax_bytes_per_second = \
             \"fast\"",
            "[sources.a]\nkind = \"mongodb\"\nurl = \"mongodb://h\"\nreplay = \"applyOps\"",
            "[sources.a]\nkind = \"files\"\npaths = [\"/x\"]\ncursors = 2",
            "[sources.a]\nkind = \"postgres\"",
            "[sources.a]\nkind = \"postgres\"\nurl = \"mongodb://me:hush@h\"",
            "[sources.a]\nkind = \"postgres\"\nurl = \"postgres://me@h\"\nslot = \"Back up\"",
            "[sources.a]\nkind = \"postgres\"\nurl = \"postgres://me@h\"\nsystem_id = \"0x7\"",
            "[sources.a]\nkind = \"postgres\"\nurl = \"postgres://me@h\"\nmethod = \"magical\"",
            "[sources.a]\nkind = \"postgres\"\nurl = \"postgres://me@h\"\ncursors = 2",
            "[sources.a]\nkind = \"mongodb\"\nurl = \"mongodb://h\"\nslot = \"x\"",
            "[sources.a]\nkind = \"redis\"\nurl = \"postgres://me:hush@h\"",
            "[sources.a]\nkind = \"valkey\"\nurl = \"valkey://h\"\nmax_bytes_per_second = \"1MiB\"",
            "[sources.a]\nkind = \"redis\"\nurl = \"rediss://h\"\ntls_key_file = \"/key.pem\"",
            "[sources.a]\nkind = \"redis\"\nurl = \"redis://h\"\npsync = \"two words\"",
            "[sources.a]\nkind = \"postgres\"\nurl = \"postgres://h\"\npsync = \"x\"",
            "[sources.a]\nkind = \"redis\"\nurl = \"redis://h\"\nsentinel_user = \"x\"",
            "[sources.a]\nkind = \"redis\"\nurl = \"redis://h\"\ndump_timeout = \"59s\"",
            "[repositories.r]\nurl = \"r\"\n[sources.a]\nkind = \"redis\"\nurl = \
             \"redis://h\"\n[jobs.j]\nsource = \"a\"\nrepository = \"r\"\nexclude = [\"/0/*\"]",
            "[sources.a]\nkind = \"redis\"\nurl = \"redis://h\"\nreader = \"scan\"\nscan_percent = \
             0",
            "[sources.a]\nkind = \"redis\"\nurl = \"redis://h\"\nreader = \
             \"replica\"\nscan_percent = 5",
            "[repositories.r]\nurl = \"r\"\n[sources.a]\nkind = \"redis\"\nurl = \
             \"redis://h\"\nreader = \"scan\"\n[jobs.j]\nsource = \"a\"\nrepository = \
             \"r\"\nlogs.flush_after = \"1s\"",
            "[defaults]\ntime_zone = \"Europe/Berln\"",
            "[defaults]\n[defaults.keep]\ndayly = 7",
            "[defaults.keep]\ndaily = \"many\"",
            "[defaults.keep]\nwithin = \"6m\"",
            "[repositories.a]\nurl = \"x\"\nquota = \"much\"",
            "[repositories.a]\nurl = \"x\"\n[repositories.a.prune]\ngrace = \"1mo\"",
            "[repositories.a]\nurl = \"x\"\n[repositories.a.prune]\nmax_unsued = \"5%\"",
            "[repositories.a]\nurl = \"x\"\n[repositories.a.prune]\nmax_unused = \"little\"",
        ];
        insta::assert_snapshot!(mistakes.map(mistake).join("\n"));
    }

    #[test]
    fn servers() {
        let text = r#"
            [repositories.main]
            url = "repo"
            [sources.shop]
            kind = "mongodb"
            url = "mongodb://${NAME}:hush@db1,db2/?replicaSet=rs"
            password_command = "echo ${NAME}"
            tls_ca_file = "ca.pem"
            snapshot_reads = "never"
            [jobs.shop]
            source = "shop"
            repository = "main"
            exclude = ["*.sessions"]
        "#;
        let config = read(text).unwrap();
        let shop = &config.sources["shop"];
        assert_eq!(
            shop.url.as_ref().unwrap().reveal(),
            "mongodb://docs:hush@db1,db2/?replicaSet=rs"
        );
        assert_eq!(shop.password_command.as_deref(), Some("echo ${NAME}"), "the shell expands it");
        assert_eq!(shop.tls_ca_file.as_deref(), Some(Path::new("/etc/backup/ca.pem")));
        let shown = format!("{} {config:?}", toml::to_string(&config).unwrap());
        assert!(!shown.contains("hush") && shown.contains("mongodb://…@db1,db2/?…"), "{shown}");
        let config = read(&text.replace("exclude =", "type = \"incremental\"\nexclude =")).unwrap();
        assert_eq!(config.jobs["shop"].kind, Some(crate::config::JobType::Incremental));
    }

    #[test]
    fn references_and_values_are_checked() {
        let mistakes = [
            ("repository = \"main\"", "repository = \"mian\""),
            ("source = \"docs\"", "source = \"photos\""),
            ("[jobs.docs]", "[jobs.\"a,b\"]"),
            ("[jobs.docs]", "[jobs.docs]\nexclude = [\"a[\"]"),
            ("[jobs.docs]", "[jobs.docs]\ntags = [\"job=x\"]"),
            ("compression = 7", "passphrase_env = \"X\""),
            ("compression = 7", "uploads = 0"),
            ("pack_size = \"64MiB\"", "pack_size = \"1GiB\""),
            ("pack_size = \"64MiB\"", "quota = 0"),
            ("pack_size = \"64MiB\"", "prune.max_repack = 0"),
            ("[jobs.docs]", "[defaults]\nkeep = { daily = 0 }\n[jobs.docs]"),
            ("[jobs.docs]", "[jobs.docs]\nkeep = { last = 1, min_copies = 0 }"),
            ("[jobs.docs]", "[jobs.docs]\nwindow = \"22-06\""),
            ("[jobs.docs]", "[jobs.docs]\nmax_size = 0"),
            ("[jobs.docs]", "[jobs.docs]\nretry.times = 100"),
            ("[jobs.docs]", "[jobs.docs]\nretry = { times = 1, pause = \"2h\" }"),
            ("[jobs.docs]", "[jobs.docs]\nhooks.before = \" \""),
            ("[jobs.docs]", "[jobs.docs]\nhooks.timeout = \"1h\""),
            ("[jobs.docs]", "[jobs.docs]\nhooks = { after = \"x\", env = { \"A=\" = \"b\" } }"),
            ("[jobs.docs]", "[jobs.docs]\nhooks.befor = \"x\""),
            ("[jobs.docs]", "[jobs.docs]\nexpect = [{ object = \"users\", min = 1 }]"),
            ("[jobs.docs]", "[jobs.docs]\nexpect = [{ min = 0 }]"),
            ("[jobs.docs]", "[jobs.docs]\nkeep.types.fulll.last = 1"),
            ("[jobs.docs]", "[jobs.docs]\nkeep.tiers.\"a,b\".last = 1"),
            ("[jobs.docs]", "[groups.docs]\njobs = [\"docs\"]\n[jobs.docs]"),
            ("[jobs.docs]", "[groups.yesterday]\njobs = [\"docs\"]\n[jobs.docs]"),
            ("[jobs.docs]", "[groups.all]\njobs = []\n[jobs.docs]"),
            ("[jobs.docs]", "[groups.all]\njobs = [\"dosc\"]\n[jobs.docs]"),
            ("[jobs.docs]", "[groups.all]\njobs = [\"docs\", \"docs\"]\n[jobs.docs]"),
            ("[jobs.docs]", "[groups.all]\njobs = [\"docs\"]\nparallel = 0\n[jobs.docs]"),
            ("[jobs.docs]", "[jobs.docs]\nschedule = \"0 25 * * *\""),
            ("[jobs.docs]", "[jobs.docs]\nschedule = [{ at = \"0 2 * *\" }]"),
            ("[jobs.docs]", "[jobs.docs]\nschedule = [{ att = \"0 2 * * *\" }]"),
            ("[jobs.docs]", "[jobs.docs]\nschedule = [{ at = \"0 2 * * *\", type = \"ful\" }]"),
            ("[jobs.docs]", "[jobs.docs]\nwindow = \"22:00-06:00\"\nschedule = \"0 12 * * *\""),
            ("[jobs.docs]", "[jobs.docs]\nschedule = [{ at = \"@daily\", outside_window = true }]"),
            ("[jobs.docs]", "[jobs.docs]\npriority = 1000"),
            ("[jobs.docs]", "[jobs.docs]\ndeadline = \"1s\""),
            ("[jobs.docs]", "[schedule]\ntime_zone = \"Europe/Berln\"\n[jobs.docs]"),
            ("[jobs.docs]", "[schedule]\nclenup = \"@daily\"\n[jobs.docs]"),
            ("[jobs.docs]", "[schedule]\ncleanup = \"0 0 30 2 *\"\n[jobs.docs]"),
            ("[jobs.docs]", "[schedule]\nmax_parallel = 0\n[jobs.docs]"),
            ("[jobs.docs]", "[schedule]\nreport = \"@weekly\"\n[jobs.docs]"),
            ("[jobs.docs]", "[schedule]\nreport = \"@weekly\"\nreport_to = [\"ops\"]\n[jobs.docs]"),
            ("[jobs.docs]", "[schedule]\nreport_since = \"7d\"\n[jobs.docs]"),
            ("[jobs.docs]", "[schedule]\ncatch_up = false\ncatch_up_within = \"1d\"\n[jobs.docs]"),
            (
                "[jobs.docs]",
                "[groups.all]\njobs = [\"docs\"]\ntargets = { doc = \"/x\" }\n[jobs.docs]",
            ),
        ];
        insta::assert_snapshot!(
            mistakes.map(|(good, bad)| mistake(&GOOD.replace(good, bad))).join("\n")
        );
    }
}
