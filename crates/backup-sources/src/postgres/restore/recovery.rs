//! The configuration of the restored server.

use backup_core::source::SourceResult;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::super::conf::{last_value, quoted, setting};
use super::super::restore_options::RestoredConfiguration;
use super::configuration;
use super::moment::{Found, Stop, Way};
use super::target::{Target, failed};
use super::{Job, Purpose, places};

/// Settings that an earlier restore has left, or that would make a copy use the original's files,
/// by how their names begin.
const REMOVED: [&str; 9] = [
    "recovery_",
    "restore_command",
    "archive_cleanup_command",
    "primary_",
    "standby_mode",
    "hba_file",
    "ident_file",
    "external_pid_file",
    "log_directory",
];

/// Settings that would make a copy run commands of the original, wait, stop or write where the
/// original does, with values without any effect. `postgresql.auto.conf` is read last, so that
/// they override all other files. All targets come before the one that is meant: the
/// server takes one.
const NEUTRAL: [(&str, &str); 12] = [
    ("restore_command", "false"),
    ("recovery_end_command", ""),
    ("archive_cleanup_command", ""),
    ("recovery_min_apply_delay", "0"),
    ("recovery_target", ""),
    ("recovery_target_name", ""),
    ("recovery_target_time", ""),
    ("recovery_target_xid", ""),
    ("recovery_target_lsn", ""),
    ("archive_mode", "off"),
    ("archive_command", ""),
    ("log_directory", "log"),
];

/// Libraries whose workers run jobs of their own: a copy would run them a second time.
const SCHEDULERS: [&str; 9] = [
    "pg_cron",
    "pg_partman_bgw",
    "pglogical",
    "spock",
    "repmgr",
    "pg_squeeze",
    "pg_net",
    "bdr",
    "pgactive",
];

/// Of the versions before this one there is a file that makes a standby a primary,
const WITHOUT_TRIGGER_FILE: u32 = 160_000;
/// and since this one a library can archive.
const WITH_ARCHIVE_LIBRARY: u32 = 150_000;

/// The file that a server reads last.
const AUTO: &str = "postgresql.auto.conf";

/// Comment above the place to stop at.
const HEADING: &str = "# From the restore: where the server stops WAL replay.\n";

/// The file that makes a server replay its log up to a target when it starts.
pub(super) const SIGNAL: &str = "recovery.signal";
/// All files that make a server recover when it starts.
const SIGNALS: [&str; 2] = ["standby.signal", SIGNAL];

/// The original's own setting, if there is one, has its value in quotes.
const NOBODY_READS: &str = "hot_standby = off";

/// The end of replay for a server that then accepts writes. Without queries before, the server is
/// ready only when it accepts writes.
const PROMOTING: &str = "recovery_target_action = 'promote'\n# Queries during replay would need \
                         settings as large as the original had at any time since: they are off.\n\
                         hot_standby = off";
/// The end of replay for a server that waits for a promotion.
const PAUSING: &str = "recovery_target_action = 'pause'\nhot_standby = on";

/// Writes settings and `recovery.signal`.
pub(super) async fn configure(
    job: &Job<'_>,
    target: &Target,
    way: &Way,
    found: &Found,
) -> SourceResult<()> {
    let before = match job.purpose {
        Purpose::Successor => {
            let minimal = job.options.configuration == RestoredConfiguration::Minimal;
            complete(job, target, minimal).await?;
            if minimal { set_aside_auto(target)? } else { target.read(AUTO)? }
        }
        Purpose::Scratch { .. } => {
            isolate(target)?;
            String::new()
        }
    };
    let mut text = String::new();
    let is_kept = |line: &&str| {
        let name = setting(line).map_or_else(String::new, |(name, _)| name);
        !REMOVED.iter().any(|removed| name.starts_with(removed))
    };
    for line in before.lines().filter(is_kept) {
        text.push_str(line);
        text.push('\n');
    }
    let pauses = job.options.pause;
    text.push_str(&settings(job.description.version, way.timeline, found.stop, pauses));
    if job.purpose == Purpose::Successor {
        text.extend(without_schedulers(job, target, &text));
        text.extend(places::adapted(job, target, &text));
    }
    if job.description.tablespaces.values().any(|location| !location.starts_with('/')) {
        text.push_str("# A tablespace is a directory of the data directory.\n");
        text.push_str("allow_in_place_tablespaces = on\n");
    }
    text.push_str(
        "# For WAL replay, these must be at least as large as on the server that wrote the WAL.\n",
    );
    let set = job.options.settings.iter().map(|(name, value)| (name, value));
    for (name, value) in job.description.settings.iter().chain(set) {
        let value = if pauses { found.limits.at_least(name, value) } else { value.clone() };
        // Writing to a string never fails.
        _ = writeln!(text, "{name} = {}", quoted(&value));
    }
    target.write(AUTO, text.as_bytes())?;
    // A standby's own would keep the copy from ever taking writes: the server looks for it first.
    SIGNALS.iter().try_for_each(|name| target.remove(name))?;
    target.write(SIGNAL, b"")
}

/// Returns `true` for a directory with settings of a restore for the end of its replay.
pub(super) fn is_restore(target: &Target) -> SourceResult<bool> {
    Ok(target.read(AUTO)?.contains(HEADING))
}

/// The next start of the server ends its replay at the same place, and accepts writes.
pub(super) fn end_pause(target: &Target) -> SourceResult<()> {
    let text = target.read(AUTO)?.replace(PAUSING, PROMOTING);
    target.replace(AUTO, text.as_bytes())
}

/// The server has got where it was told to: nobody who makes it replay a log again, such as for a
/// standby, means the same place.
pub(super) fn forget(target: &Target) -> SourceResult<()> {
    let before = target.read(AUTO)?;
    let mut text = String::new();
    for line in before.lines().filter(|line| *line != NOBODY_READS) {
        let (name, _) = setting(line).unwrap_or_default();
        match &*name {
            // Those of the original in other files stay without effect.
            "restore_command" => text.push_str("restore_command = ''"),
            "recovery_target_action" | "recovery_target_inclusive" | "recovery_target_timeline" => {
                continue;
            }
            name if name.starts_with("recovery_target") => {
                // Writing to a string never fails.
                _ = write!(text, "{name} = ''");
            }
            _ => text.push_str(line),
        }
        text.push('\n');
    }
    text = text.replace(HEADING, "");
    target.replace(AUTO, text.as_bytes())
}

/// A line without the schedulers among the libraries that the original loads, if there are any.
/// `auto` is the file that the server reads last.
fn without_schedulers(job: &Job<'_>, target: &Target, auto: &str) -> Option<String> {
    const NAME: &str = "shared_preload_libraries";
    let loaded = in_force(job, target, auto, NAME)?;
    let (left_out, kept) = split_schedulers(&loaded);
    if left_out.is_empty() {
        return None;
    }
    job.cx.events.note(format!(
        "the copy does not load {}: it would run jobs of the original a second time (--set {NAME}=… \
         loads it)",
        left_out.join(", ")
    ));
    Some(format!(
        "# Without the schedulers of the original. Remove this line when this server replaces the \
         original.\n{NAME} = {}\n",
        quoted(&kept)
    ))
}

/// The value of a setting that the configuration of the original has in the end, unless the restore
/// sets it. `auto` is the file that the server reads last.
pub(super) fn in_force(job: &Job<'_>, target: &Target, auto: &str, name: &str) -> Option<String> {
    if job.options.settings.iter().any(|(set, _)| set.eq_ignore_ascii_case(name)) {
        return None;
    }
    let last = auto.lines().rev().filter_map(setting).find(|(set, _)| set == name);
    let last = last.map(|(_, value)| value);
    last.or_else(|| last_value(&target.root.join("postgresql.conf"), name))
}

/// The settings of `ALTER SYSTEM` stand beside, not in force.
fn set_aside_auto(target: &Target) -> SourceResult<String> {
    let before = target.read(AUTO)?;
    if before.lines().any(|line| setting(line).is_some()) {
        target.write("postgresql.auto.conf.original", before.as_bytes())?;
    }
    Ok(String::new())
}

/// The schedulers among libraries, and a list of the others.
fn split_schedulers(libraries: &str) -> (Vec<String>, String) {
    let name_of = |library: &str| {
        let name = library.trim_matches('"').rsplit('/').next().unwrap_or_default();
        name.strip_suffix(".so").unwrap_or(name).to_owned()
    };
    let is_scheduler = |library: &&str| SCHEDULERS.contains(&&*name_of(library));
    let (left_out, kept): (Vec<&str>, Vec<&str>) =
        libraries.split(',').map(str::trim).partition(is_scheduler);
    (left_out.into_iter().map(name_of).collect(), kept.join(","))
}

/// Everything that is needed lies in `pg_wal`: nothing is fetched. What a copy would do to others
/// is switched off.
fn settings(version: u32, timeline: u32, stop: Stop, pauses: bool) -> String {
    let stop = match stop {
        Stop::Consistent => "recovery_target = 'immediate'".to_owned(),
        Stop::Behind(lsn) => {
            format!("recovery_target_lsn = '{lsn}'\nrecovery_target_inclusive = on")
        }
    };
    let mut neutral = String::new();
    let of_version = [
        ("promote_trigger_file", version < WITHOUT_TRIGGER_FILE),
        ("archive_library", version >= WITH_ARCHIVE_LIBRARY),
    ];
    let of_version = of_version.into_iter().filter(|(_, is_known)| *is_known);
    for (name, value) in NEUTRAL.into_iter().chain(of_version.map(|(name, _)| (name, ""))) {
        // Writing to a string never fails.
        _ = writeln!(neutral, "{name} = {}", quoted(value));
    }
    let end = if pauses { PAUSING } else { PROMOTING };
    format!(
        "# From the restore: nothing of the original's runs here. Remove these lines when this server \
         replaces the original.\n{neutral}{HEADING}{stop}\nrecovery_target_timeline = \
         '{timeline}'\n{end}\n# A copy must not affect the original. Remove these lines when this server replaces the \
         original.\nprimary_conninfo = ''\nprimary_slot_name = \
         ''\nsynchronous_standby_names = ''\n# Subscriptions of a copy would take changes from \
         those of the original, and use up the publisher's slots.\nmax_logical_replication_workers \
         = 0\n"
    )
}

/// Puts the configuration of the original in force, as far as it is in the snapshot and wanted, and
/// gives the server one that it can start with.
async fn complete(job: &Job<'_>, target: &Target, minimal: bool) -> SourceResult<()> {
    configuration::put(job, target, minimal).await?;
    if !target.root.join("postgresql.conf").exists() {
        let text = "# The configuration of the original is not in force.\n";
        target.write("postgresql.conf", text.as_bytes())?;
    }
    if !target.root.join("pg_hba.conf").exists() {
        let text = "local all all peer\nhost all all 127.0.0.1/32 scram-sha-256\nhost all all \
                    ::1/128 scram-sha-256\n";
        target.write("pg_hba.conf", text.as_bytes())?;
    }
    if !target.root.join("pg_ident.conf").exists() {
        target.write("pg_ident.conf", b"")?;
    }
    let path = target.root.join("postgresql.conf");
    let mut conf = fs::read(&path).map_err(|error| failed(&path, error))?;
    // It may be written in any encoding.
    if let Some(places) = own_places(&String::from_utf8_lossy(&conf), &target.root) {
        conf.extend(places.into_bytes());
        target.replace("postgresql.conf", &conf)?;
    }
    Ok(())
}

/// What has to stand behind a configuration that says where the original has its files, or may say
/// so in files that it includes: the last value counts. `data_directory` would make the copy's
/// server run on the original, whatever `-D` says.
fn own_places(conf: &str, root: &Path) -> Option<String> {
    const PLACES: [&str; 5] =
        ["data_directory", "hba_file", "ident_file", "external_pid_file", "include"];
    let is_place = |(name, _): (String, String)| PLACES.iter().any(|place| name.starts_with(place));
    if !conf.lines().filter_map(setting).any(is_place) {
        return None;
    }
    let at = |name: &str| quoted(&root.join(name).to_string_lossy());
    Some(format!(
        "\n# From the restore: this copy has its own files.\ndata_directory = {}\nhba_file = \
         {}\nident_file = {}\nexternal_pid_file = ''\n",
        quoted(&root.to_string_lossy()),
        at("pg_hba.conf"),
        at("pg_ident.conf")
    ))
}

/// Nothing of the original's configuration counts: it may load what is not here, and lead to where
/// the original's files are.
fn isolate(target: &Target) -> SourceResult<()> {
    let files = [
        ("postgresql.conf", "# All settings are in postgresql.auto.conf.\n"),
        ("pg_ident.conf", ""),
    ];
    for (name, text) in files.into_iter().chain([("pg_hba.conf", "local all all trust\n")]) {
        target.remove(name)?;
        target.write(name, text.as_bytes())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::super::lsn::Lsn;
    use super::*;

    #[test]
    fn a_copy_runs_on_its_own_files() {
        let root = Path::new("/srv/o'neill");
        assert_eq!(own_places("port = 5432\n# data_directory = '/x'\n", root), None);
        for conf in [
            "data_directory = '/var/lib/pgsql/data'\n",
            "a = b\n  HBA_FILE '/etc/hba'",
            "include_dir 'conf.d'",
        ] {
            let places = own_places(conf, root).unwrap();
            assert!(places.contains("\ndata_directory = '/srv/o''neill'\n"), "{places}");
            assert!(places.contains("\nhba_file = '/srv/o''neill/pg_hba.conf'\n"), "{places}");
        }
    }

    #[test]
    fn a_copy_leaves_others_alone() {
        let text = settings(150_000, 7, Stop::Behind(Lsn(0x500_0028)), false);
        for line in [
            "recovery_target_lsn = '0/5000028'",
            "recovery_target_timeline = '7'",
            "archive_mode = 'off'",
            "recovery_end_command = ''",
            "promote_trigger_file = ''",
            "archive_library = ''",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
        assert!(text.lines().any(|line| line == "max_logical_replication_workers = 0"), "{text}");
        assert!(text.lines().any(|line| line == NOBODY_READS), "{text}");
        let paused = settings(180_000, 7, Stop::Consistent, true);
        assert!(paused.contains("recovery_target = 'immediate'"), "{paused}");
        // A promotion leaves the settings of a restore without a pause.
        let promoted = paused.replace(PAUSING, PROMOTING);
        assert_eq!(promoted, settings(180_000, 7, Stop::Consistent, false));
    }

    #[test]
    fn schedulers_are_not_loaded() {
        let (left_out, kept) =
            split_schedulers("pg_stat_statements, pg_cron,$libdir/pg_net.so, \"auto_explain\"");
        assert_eq!(left_out, ["pg_cron", "pg_net"]);
        assert_eq!(kept, "pg_stat_statements,\"auto_explain\"");
        assert!(split_schedulers("pg_cronicle").0.is_empty());
    }
}
