//! Settings that name places of the original's machine: without them no server starts here.

use std::fmt::Write as _;
use std::net::{IpAddr, TcpListener};
use std::path::Path;

use backup_core::words::few;

use super::super::conf::quoted;
use super::Job;
use super::recovery::in_force;
use super::target::Target;

/// The version before which statistics are files, in a directory that may be set.
const WITHOUT_STATISTICS_FILES: u32 = 150_000;
/// Their directory unless it is set.
const STATISTICS: &str = "pg_stat_tmp";
/// Where servers have their sockets unless a setting names others.
const SOCKETS: &str = "/tmp";

/// Lines for `postgresql.auto.conf`, which begins with `auto`, in place of settings that name
/// places that are not here; a note names each.
pub(super) fn adapted(job: &Job<'_>, target: &Target, auto: &str) -> Option<String> {
    let value = |name: &str| in_force(job, target, auto, name);
    let changes = changes(&value, &target.root, job.description.version);
    if changes.is_empty() {
        return None;
    }
    let mut text = "# From the restore: the original's values are of another machine.\n".to_owned();
    let mut named = Vec::new();
    for Change { name, value, reason } in changes {
        // Writing to a string never fails.
        _ = writeln!(text, "{name} = {}", quoted(&value));
        named.push(format!("{name} = {} ({reason})", quoted(&value)));
    }
    job.cx.events.note(format!(
        "adapted to this machine: {}; --set NAME=VALUE sets others",
        few(&named, named.len())
    ));
    Some(text)
}

struct Change {
    name: &'static str,
    value: String,
    reason: String,
}

fn changes(value: &impl Fn(&str) -> Option<String>, root: &Path, version: u32) -> Vec<Change> {
    let mut changes = Vec::new();
    changes.extend(without_tls(value, root));
    changes.extend(sockets(value));
    changes.extend(addresses(value));
    let statistics = value("stats_temp_directory").filter(|_| version < WITHOUT_STATISTICS_FILES);
    // The original may use it, on this machine.
    if let Some(dir) = statistics.filter(|dir| dir != STATISTICS) {
        let reason = format!("{dir} is the original's");
        let value = STATISTICS.to_owned();
        changes.push(Change { name: "stats_temp_directory", value, reason });
    }
    changes
}

/// Without its certificate or key a server that is to speak TLS does not start. Client rules that
/// demand TLS then refuse.
fn without_tls(value: &impl Fn(&str) -> Option<String>, root: &Path) -> Option<Change> {
    const FILES: [(&str, &str); 5] = [
        ("ssl_cert_file", "server.crt"),
        ("ssl_key_file", "server.key"),
        ("ssl_ca_file", ""),
        ("ssl_crl_file", ""),
        ("ssl_dh_params_file", ""),
    ];
    if !value("ssl").is_some_and(|value| is_on(&value)) {
        return None;
    }
    let files =
        FILES.into_iter().map(|(name, usual)| (name, value(name).unwrap_or(usual.to_owned())));
    let mut missing = files.filter(|(_, file)| !file.is_empty() && !root.join(file).is_file());
    let (name, file) = missing.next()?;
    let reason = format!("{name}: {file} does not exist");
    Some(Change { name: "ssl", value: "off".to_owned(), reason })
}

/// A value that the server takes for true.
fn is_on(value: &str) -> bool {
    let value = value.to_ascii_lowercase();
    let is_beginning = |word: &str| !value.is_empty() && word.starts_with(&value);
    value == "1" || value == "on" || is_beginning("true") || is_beginning("yes")
}

/// Directories of sockets that are not here.
fn sockets(value: &impl Fn(&str) -> Option<String>) -> Option<Change> {
    const NAME: &str = "unix_socket_directories";
    let set = value(NAME)?;
    let dirs = set.split(',').map(|dir| dir.trim().trim_matches('"')).filter(|dir| !dir.is_empty());
    // Names that begin with `@` are none of files.
    let (there, missing): (Vec<&str>, Vec<&str>) =
        dirs.partition(|dir| dir.starts_with('@') || Path::new(dir).is_dir());
    let reason = format!("{} does not exist", few(&missing, missing.len()));
    let value = if there.is_empty() { SOCKETS.to_owned() } else { there.join(",") };
    (!missing.is_empty()).then_some(Change { name: NAME, value, reason })
}

/// A server that can listen on none of its addresses does not start.
fn addresses(value: &impl Fn(&str) -> Option<String>) -> Option<Change> {
    const NAME: &str = "listen_addresses";
    let set = value(NAME)?;
    let addresses: Vec<&str> =
        set.split(',').map(str::trim).filter(|one| !one.is_empty()).collect();
    let is_elsewhere = |one: &&str| {
        let address = one.parse::<IpAddr>();
        address.is_ok_and(|address| TcpListener::bind((address, 0)).is_err())
    };
    let all = !addresses.is_empty() && addresses.iter().all(is_elsewhere);
    let reason = format!("this machine does not have {set}");
    all.then(|| Change { name: NAME, value: "localhost".to_owned(), reason })
}

#[cfg(test)]
mod tests {
    use super::super::super::conf::setting;
    use super::*;

    #[test]
    fn places_of_another_machine_are_adapted() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("server.crt"), "").unwrap();
        let here = dir.path().display().to_string();
        let cases: [(&str, &[&str]); 7] = [
            ("ssl = on", &["ssl = 'off'"]),
            ("ssl = on\nssl_key_file = 'server.crt'", &[]),
            ("ssl = off\nssl_cert_file = '/no/where'", &[]),
            ("unix_socket_directories = '/no/where'", &["unix_socket_directories = '/tmp'"]),
            ("listen_addresses = '*'", &[]),
            ("listen_addresses = '192.0.2.1'", &["listen_addresses = 'localhost'"]),
            ("stats_temp_directory = '/no/where'", &["stats_temp_directory = 'pg_stat_tmp'"]),
        ];
        let found = |conf: &str, version| -> Vec<String> {
            let last = |name: &str| {
                let mut settings = conf.lines().rev().filter_map(setting);
                settings.find(|(set, _)| set == name).map(|(_, value)| value)
            };
            let changes = changes(&last, dir.path(), version).into_iter();
            changes.map(|one| format!("{} = '{}'", one.name, one.value)).collect()
        };
        for (conf, expected) in cases {
            assert_eq!(found(conf, 140_000), expected, "{conf}");
        }
        assert!(found("stats_temp_directory = '/no/where'", 180_000).is_empty());
        let some = format!("unix_socket_directories = '/no/where, {here}'");
        assert_eq!(found(&some, 180_000), [format!("unix_socket_directories = '{here}'")]);
    }
}
