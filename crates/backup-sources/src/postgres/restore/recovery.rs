//! The configuration of the restored server.

use backup_core::source::SourceResult;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::super::backup::content;
use super::moment::{Stop, Way};
use super::target::{Target, failed};
use super::{Job, Purpose};

/// Settings that an earlier restore has left, or that would make a copy write where the original
/// does.
const REMOVED: [&str; 5] =
    ["recovery_", "restore_command", "archive_cleanup_command", "primary_", "standby_mode"];

/// What stands above the place to stop at.
const HEADING: &str = "# From the restore: where the server stops WAL replay.\n";

/// What tells a server to recover when it starts.
const SIGNALS: [&str; 2] = ["standby.signal", "recovery.signal"];

/// The original's own setting, if there is one, has its value in quotes.
const NOBODY_READS: &str = "hot_standby = off";

/// Writes settings and `recovery.signal`.
pub(super) async fn configure(
    job: &Job<'_>,
    target: &Target,
    way: &Way,
    stop: Stop,
) -> SourceResult<()> {
    let before = match job.purpose {
        Purpose::Successor => {
            complete(job, target).await?;
            target.read("postgresql.auto.conf")?
        }
        Purpose::Scratch { .. } => {
            isolate(target)?;
            String::new()
        }
    };
    let mut text = String::new();
    for line in before
        .lines()
        .filter(|line| !REMOVED.iter().any(|name| line.trim_start().starts_with(name)))
    {
        text.push_str(line);
        text.push('\n');
    }
    text.push_str(&settings(way.timeline, stop));
    text.push_str(
        "# For WAL replay, these must be at least as large as on the server that wrote the WAL.\n",
    );
    for (name, value) in job
        .description
        .settings
        .iter()
        .chain(job.options.settings.iter().map(|(name, value)| (name, value)))
    {
        // Writing to a string never fails.
        _ = writeln!(text, "{name} = {}", quoted(value));
    }
    target.write("postgresql.auto.conf", text.as_bytes())?;
    // A standby's own would keep the copy from ever taking writes: the server looks for it first.
    SIGNALS.iter().try_for_each(|name| target.remove(name))?;
    target.write("recovery.signal", b"")
}

/// The server has got where it was told to: nobody who makes it replay a log again, such as for a
/// standby, means the same place.
pub(super) fn forget(target: &Target) -> SourceResult<()> {
    let before = target.read("postgresql.auto.conf")?;
    let is_place = |line: &&str| {
        line.starts_with("recovery_target")
            || line.starts_with("restore_command")
            || *line == NOBODY_READS
    };
    let mut text: String =
        before.lines().filter(|line| !is_place(line)).flat_map(|line| [line, "\n"]).collect();
    text = text.replace(HEADING, "");
    target.replace("postgresql.auto.conf", text.as_bytes())
}

/// Everything that is needed lies in `pg_wal`: nothing is fetched. What a copy would do to others
/// is switched off.
fn settings(timeline: u32, stop: Stop) -> String {
    let stop = match stop {
        Stop::Consistent => "recovery_target = 'immediate'".to_owned(),
        Stop::Behind(lsn) => {
            format!("recovery_target_lsn = '{lsn}'\nrecovery_target_inclusive = on")
        }
    };
    format!(
        "{HEADING}restore_command = 'false'\n{stop}\nrecovery_target_timeline = \
         '{timeline}'\nrecovery_target_action = 'promote'\n# Queries during replay would need \
         settings as large as the original had at any time since: they are off.\n{NOBODY_READS}\n# \
         A copy must not affect the original. Remove these lines when this server replaces the \
         original.\narchive_mode = off\nprimary_conninfo = ''\nprimary_slot_name = \
         ''\nsynchronous_standby_names = ''\n# Subscriptions of a copy would take changes from \
         those of the original, and use up the publisher's slots.\nmax_logical_replication_workers \
         = 0\n"
    )
}

/// Where the configuration lay outside of the data directory, the server gets one that it can start
/// with; the files of the original stand beside it.
async fn complete(job: &Job<'_>, target: &Target) -> SourceResult<()> {
    if !target.root.join("postgresql.conf").exists() {
        let text = "# The configuration of the original was outside of its data directory.\n";
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
    let Some(node) = job.snapshot.find(&job.layout.config()).await? else { return Ok(()) };
    let Some(subtree) = node.subtree else { return Ok(()) };
    for node in job.snapshot.tree(&subtree).await?.nodes.iter().filter(|node| node.is_file()) {
        let name = String::from_utf8_lossy(&node.name);
        target.write(&format!("{name}.original"), &content(job.snapshot, node).await?)?;
    }
    Ok(())
}

/// What has to stand behind a configuration that says where the original has its files, or may say
/// so in files that it includes: the last value counts. `data_directory` would make the copy's
/// server run on the original, whatever `-D` says.
fn own_places(conf: &str, root: &Path) -> Option<String> {
    const PLACES: [&str; 5] =
        ["data_directory", "hba_file", "ident_file", "external_pid_file", "include"];
    let names = |line: &str| {
        PLACES.iter().any(|name| line.trim_start().to_ascii_lowercase().starts_with(name))
    };
    if !conf.lines().any(names) {
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

/// A value of a configuration file.
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "''"))
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
        let text = settings(7, Stop::Behind(Lsn(0x500_0028)));
        for line in [
            "recovery_target_lsn = '0/5000028'",
            "recovery_target_timeline = '7'",
            "archive_mode = off",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
        assert!(text.lines().any(|line| line == "max_logical_replication_workers = 0"), "{text}");
        assert!(settings(7, Stop::Consistent).contains("recovery_target = 'immediate'"));
    }
}
