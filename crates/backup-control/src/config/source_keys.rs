//! The kinds of sources that each key of `[sources.NAME]` belongs to.

use super::{SourceConfig, SourceKind};

/// Kinds that a server's address and password belong to.
const SERVERS: &[SourceKind] = &[SourceKind::Mongodb, SourceKind::Postgres, SourceKind::Redis];

impl SourceConfig {
    /// The keys that are given and that only some kinds have, with those.
    pub(super) fn keys_of_kinds(
        &self,
    ) -> impl Iterator<Item = (&'static str, &'static [SourceKind])> {
        // Taken apart, so that no key is forgotten. The functions below list the keys of `_`, except
        // for `kind` and `timeout`, which all kinds have.
        let Self {
            kind: _,
            paths: _,
            exclude_files: _,
            exclude_if_present: _,
            one_file_system: _,
            max_file_size: _,
            url,
            password_file,
            password_env,
            password_command,
            timeout: _,
            member_timeout: _,
            tls_ca_file,
            database: _,
            tls_certificate_key_file: _,
            snapshot_reads: _,
            cursors: _,
            max_bytes_per_second,
            replay: _,
            write_concern: _,
            method: _,
            slot: _,
            system_id: _,
            fast_checkpoint: _,
            weak_passwords: _,
            programs: _,
            parallel,
            lock_timeout: _,
            digests: _,
            name: _,
            psync: _,
            dump_timeout: _,
            reader: _,
            scan_percent: _,
            sentinel_user: _,
            sentinel_password_file: _,
            tls_certificate_file: _,
            tls_key_file: _,
        } = self;
        let servers = [
            ("url", url.is_some()),
            ("password_file", password_file.is_some()),
            ("password_env", password_env.is_some()),
            ("password_command", password_command.is_some()),
            ("tls_ca_file", tls_ca_file.is_some()),
        ];
        let paced = [
            ("max_bytes_per_second", max_bytes_per_second.is_some()),
            ("parallel", parallel.is_some()),
        ];
        let of = |kinds: &'static [SourceKind]| {
            move |(key, given): (&'static str, bool)| given.then_some((key, kinds))
        };
        let files = self.files_keys().into_iter().filter_map(of(&[SourceKind::Files]));
        let servers = servers.into_iter().filter_map(of(SERVERS));
        let mongodb = self.mongodb_keys().into_iter().filter_map(of(&[SourceKind::Mongodb]));
        let postgres = self.postgres_keys().into_iter().filter_map(of(&[SourceKind::Postgres]));
        let redis = self.redis_keys().into_iter().filter_map(of(&[SourceKind::Redis]));
        let paced = paced.into_iter().filter_map(of(&[SourceKind::Mongodb, SourceKind::Postgres]));
        files.chain(servers).chain(paced).chain(mongodb).chain(postgres).chain(redis)
    }

    /// Keys of sources of files, and whether each is given.
    fn files_keys(&self) -> [(&'static str, bool); 5] {
        [
            ("paths", !self.paths.is_empty()),
            ("exclude_files", !self.exclude_files.is_empty()),
            ("exclude_if_present", self.exclude_if_present.is_some()),
            ("one_file_system", self.one_file_system.is_some()),
            ("max_file_size", self.max_file_size.is_some()),
        ]
    }

    /// Keys of MongoDB sources, and whether each is given.
    fn mongodb_keys(&self) -> [(&'static str, bool); 7] {
        [
            ("member_timeout", self.member_timeout.is_some()),
            ("database", self.database.is_some()),
            ("tls_certificate_key_file", self.tls_certificate_key_file.is_some()),
            ("snapshot_reads", self.snapshot_reads.is_some()),
            ("cursors", self.cursors.is_some()),
            ("replay", self.replay.is_some()),
            ("write_concern", self.write_concern.is_some()),
        ]
    }

    /// Keys of PostgreSQL sources, and whether each is given.
    fn postgres_keys(&self) -> [(&'static str, bool); 8] {
        [
            ("method", self.method.is_some()),
            ("slot", self.slot.is_some()),
            ("system_id", self.system_id.is_some()),
            ("fast_checkpoint", self.fast_checkpoint.is_some()),
            ("weak_passwords", self.weak_passwords.is_some()),
            ("programs", self.programs.is_some()),
            ("lock_timeout", self.lock_timeout.is_some()),
            ("digests", self.digests.is_some()),
        ]
    }

    /// Keys of Redis sources, and whether each is given.
    fn redis_keys(&self) -> [(&'static str, bool); 9] {
        [
            ("name", self.name.is_some()),
            ("psync", self.psync.is_some()),
            ("dump_timeout", self.dump_timeout.is_some()),
            ("reader", self.reader.is_some()),
            ("scan_percent", self.scan_percent.is_some()),
            ("sentinel_user", self.sentinel_user.is_some()),
            ("sentinel_password_file", self.sentinel_password_file.is_some()),
            ("tls_certificate_file", self.tls_certificate_file.is_some()),
            ("tls_key_file", self.tls_key_file.is_some()),
        ]
    }
}
