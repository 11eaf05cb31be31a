//! A cluster in Debian's layout (`pg_createcluster`): the configuration and the data in different
//! directories, `conf.d`, client rules of its own. Restored on a machine without any of these
//! directories, the cluster serves its clients by its own rules.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use backup_core::pipeline::restore;
use backup_core::source::RestoreRequest;
use backup_core::testing::MemorySink;
use tokio_postgres::{Config, NoTls};

use super::base::last_snapshot;
use super::{back_up, digest, room, source};
use crate::support::notes::Notes;
use crate::support::postgres::{Postgres, Version, hand_over, hand_over_all};
use crate::support::repo::Repo;
use crate::support::tls::Authority;

/// Clients: user, database, password, and the error of the server.
const CLIENTS: [(&str, &str, &str, &str); 6] = [
    ("clerk", "shop", "right", ""),
    ("clerk", "shop", "wrong", "28P01"),
    ("reader", "shop", "right", ""),
    // Not in the file of databases that the rule names.
    ("reader", "postgres", "right", "28000"),
    // By the first of two rules.
    ("guest", "shop", "right", "28000"),
    ("auditor", "shop", "right", ""),
];

/// The directories of one machine.
struct Machine {
    top: PathBuf,
    config: PathBuf,
    data: PathBuf,
    run: PathBuf,
}

impl Machine {
    fn new(top: PathBuf, version: Version) -> Self {
        let cluster = format!("postgresql/{}/main", number(version));
        let machine = Self {
            config: top.join("etc").join(&cluster),
            data: top.join("var/lib").join(&cluster),
            run: top.join("var/run/postgresql"),
            top,
        };
        let ssl = machine.top.join("etc/ssl");
        for dir in
            [&machine.config.join("conf.d"), &machine.config.join("hba.d"), &machine.run, &ssl]
        {
            fs::create_dir_all(dir).unwrap();
        }
        fs::create_dir_all(machine.data.parent().unwrap()).unwrap();
        machine
    }

    /// The files of `pg_createcluster`, and those of an administrator.
    fn configure(&self, version: Version) {
        let ssl = self.top.join("etc/ssl");
        let (certificate, key) = Authority::new().issue(&ssl);
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        let place = |path: &Path| format!("'{}'", path.display());
        let statistics = match version {
            Version::V13 | Version::V14 => {
                format!("stats_temp_directory = {}\n", place(&self.run))
            }
            _ => String::new(),
        };
        let main = format!(
            "data_directory = {}\nhba_file = {}\nident_file = {}\nexternal_pid_file = {}\n\
             max_connections = 90\nunix_socket_directories = {}\nssl = on\nssl_cert_file = {}\n\
             ssl_key_file = {}\nlog_line_prefix = '%m [%p] %q%u@%d '\ncluster_name = '{}/main'\n\
             {statistics}include_if_exists = 'local.conf'\ninclude = {}\ninclude_dir = 'conf.d'\n",
            place(&self.data),
            place(&self.config.join("pg_hba.conf")),
            place(&self.config.join("pg_ident.conf")),
            place(&self.run.join("main.pid")),
            place(&self.run),
            place(&certificate),
            place(&key),
            number(version),
            place(&self.top.join("etc/shared.conf")),
        );
        let rules = "# The rules of this cluster.\nhost all,replication postgres 127.0.0.1/32 \
                     trust\nhost all guest 127.0.0.1/32 reject\nhost all guest 127.0.0.1/32 \
                     scram-sha-256\nhost @databases reader 127.0.0.1/32 scram-sha-256\nhost all \
                     clerk 127.0.0.1/32 scram-sha-256\n";
        let auditors = "host all auditor 127.0.0.1/32 scram-sha-256\n";
        let last = if version >= Version::V16 { "include_dir hba.d\n" } else { auditors };
        for (name, text) in [
            ("postgresql.conf", &*main),
            ("conf.d/10-memory.conf", "work_mem = '7MB'\nmaintenance_work_mem = '70MB'\n"),
            ("conf.d/20-later.conf", "work_mem = '9MB'\narchive_command = 'false'\n"),
            ("conf.d/30-off.conf.disabled", "work_mem = '11MB'\n"),
            ("pg_hba.conf", &format!("{rules}{last}")),
            ("hba.d/auditors.conf", auditors),
            ("databases", "shop\n"),
            ("pg_ident.conf", "ours deploy clerk\nours /^(.*)@example\\.com$ \\1\n"),
            ("../../../shared.conf", "app.tenant = 'blue'\n"),
        ] {
            fs::write(self.config.join(name), text).unwrap();
        }
        hand_over_all(&self.top);
    }

    /// The server as Debian starts it.
    async fn serve(&self, version: Version) -> Postgres {
        let file = format!("config_file={}", self.config.join("postgresql.conf").display());
        Postgres::by_its_configuration(version, &self.data, &[&file]).await
    }
}

fn number(version: Version) -> String {
    format!("{version:?}").trim_start_matches('V').to_owned()
}

/// The errors that clients get, in the order of [`CLIENTS`].
async fn errors(server: &Postgres) -> Vec<String> {
    let mut found = Vec::new();
    for (user, database, password, _) in CLIENTS {
        let mut config = Config::new();
        config.host("127.0.0.1").port(server.port()).user(user).dbname(database);
        let error = match config.password(password).connect(NoTls).await {
            Ok((client, connection)) => {
                tokio::spawn(connection);
                assert_eq!(client.query("TABLE orders", &[]).await.unwrap().len(), 100);
                String::new()
            }
            Err(error) => error.code().map_or(error.to_string(), |code| code.code().to_owned()),
        };
        found.push(error);
    }
    found
}

/// The rules and settings in force, as far as they name no directories.
async fn in_force(server: &Postgres, version: Version) -> Vec<String> {
    let settings = "SELECT concat_ws(' ', current_setting('work_mem'), \
                    current_setting('maintenance_work_mem'), current_setting('max_connections'), \
                    current_setting('cluster_name'), current_setting('app.tenant', true))";
    let order = |number| if version >= Version::V16 { number } else { "line_number" };
    let rules = format!(
        "SELECT coalesce(string_agg(concat_ws(' ', type, database, user_name, address, netmask, \
         auth_method, options, error), E'\\n' ORDER BY {}, user_name), '') FROM pg_hba_file_rules",
        order("rule_number")
    );
    let mappings = format!(
        "SELECT coalesce(string_agg(concat_ws(' ', map_name, sys_name, pg_username, error), E'\\n' \
         ORDER BY {}), '') FROM pg_ident_file_mappings",
        order("map_number")
    );
    let mut found = vec![server.value(settings).await, server.value(&rules).await];
    if version >= Version::V15 {
        found.push(server.value(&mappings).await);
    }
    found
}

pub(super) async fn debian_layout_is_restored_on_an_empty_machine(version: Version) {
    let room = room();
    let first = Postgres::start(version).await;
    first.run("CREATE DATABASE shop").await;
    for user in ["clerk", "guest", "reader", "auditor"] {
        let sql = format!(
            "SET password_encryption = 'scram-sha-256'; CREATE ROLE {user} LOGIN PASSWORD 'right'"
        );
        first.run(&sql).await;
    }
    let rows = "CREATE TABLE orders AS SELECT generate_series(1, 100) AS id; GRANT SELECT ON orders \
                TO PUBLIC";
    first.client_of("shop").await.batch_execute(rows).await.unwrap();
    first.stop();
    let old = Machine::new(room.path().join("old"), version);
    fs::rename(first.data(), &old.data).unwrap();
    for name in ["postgresql.conf", "pg_hba.conf", "pg_ident.conf"] {
        fs::remove_file(old.data.join(name)).unwrap();
    }
    old.configure(version);
    let server = old.serve(version).await;
    let expected: Vec<&str> = CLIENTS.iter().map(|client| client.3).collect();
    assert_eq!(errors(&server).await, expected);
    let was = in_force(&server, version).await;
    assert_eq!(was[0], format!("9MB 70MB 90 {}/main blue", number(version)));

    let origin = source(&server).await;
    let repo = Repo::init(Arc::new(MemorySink::new())).await;
    assert_eq!(back_up(&repo, &origin).await.warnings, 0);
    let rows = digest(&origin).await;
    drop(server);
    fs::rename(&old.top, room.path().join("moved away")).unwrap();

    let new = room.path().join("new");
    fs::create_dir(&new).unwrap();
    hand_over(&new);
    let data = new.join("data");
    let (context, notes) = Notes::context();
    let target = Some(data.to_str().unwrap().to_owned());
    let request = RestoreRequest { target, verify: true, ..RestoreRequest::default() };
    let report = restore(&last_snapshot(&repo).await, &origin, &request, &context).await;
    let report = report.unwrap_or_else(|error| panic!("restoring: {}", error.chain()));
    assert_eq!(report.warnings, 0);
    let copy = Postgres::by_its_configuration(version, &data, &[]).await;
    copy.has_recovered().await;
    assert_eq!(in_force(&copy, version).await, was);
    assert_eq!(errors(&copy).await, expected);
    assert_eq!(digest(&source(&copy).await).await, rows);
    let faults = "SELECT coalesce(string_agg(concat_ws(' ', sourcefile, name, error), ', '), '') \
                  FROM pg_file_settings WHERE error IS NOT NULL";
    assert_eq!(copy.value(faults).await, "");
    let data_directory = copy.value("SELECT current_setting('data_directory')").await;
    assert_eq!(data_directory, data.to_str().unwrap());
    // The certificate is not on this machine.
    assert_eq!(copy.value("SELECT current_setting('ssl')").await, "off");
    let notes = notes.all();
    assert!(notes.iter().any(|note| note.contains("ssl")), "{notes:?}");
}
