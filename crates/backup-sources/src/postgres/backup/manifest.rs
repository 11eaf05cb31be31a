//! The manifest of a backup whose files were read one by one (PostgreSQL's documentation, “Backup
//! Manifest Format”).

use std::fmt::Write as _;

use backup_core::source::SourceResult;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::super::cluster::Cluster;
use super::super::error::malformed;
use super::super::lsn::Lsn;

/// From here on it says which cluster it is of.
const NAMES_CLUSTER: u32 = 170_000;

/// Files with their checksums, a line each.
#[derive(Debug, Default)]
pub(super) struct Manifest {
    files: String,
}

impl Manifest {
    /// A file, by its path in the data directory.
    pub(super) fn add(
        &mut self,
        path: &str,
        size: u64,
        modified: Timestamp,
        crc: u32,
    ) -> SourceResult<()> {
        let path =
            serde_json::to_string(path).map_err(|_| malformed("path in the data directory"))?;
        let (modified, crc) =
            (modified.strftime("%Y-%m-%d %H:%M:%S GMT"), hex::encode(crc.to_le_bytes()));
        let comma = if self.files.is_empty() { "" } else { ",\n" };
        // Writing to a string never fails.
        _ = write!(
            self.files,
            "{comma}{{ \"Path\": {path}, \"Size\": {size}, \"Last-Modified\": \"{modified}\", \
             \"Checksum-Algorithm\": \"CRC32C\", \"Checksum\": \"{crc}\" }}"
        );
        Ok(())
    }

    /// All of it, for a backup that needs the log from one place to another.
    pub(super) fn text(&self, cluster: &Cluster, (from, to): (Lsn, Lsn), timeline: u32) -> String {
        let head = match cluster.version < NAMES_CLUSTER {
            true => "\"PostgreSQL-Backup-Manifest-Version\": 1,".to_owned(),
            false => {
                format!(
                    "\"PostgreSQL-Backup-Manifest-Version\": 2,\n\"System-Identifier\": {},",
                    cluster.system_id
                )
            }
        };
        let mut text = format!(
            "{{ {head}\n\"Files\": [\n{}\n],\n\"WAL-Ranges\": [\n{{ \"Timeline\": {timeline}, \
             \"Start-LSN\": \"{from}\", \"End-LSN\": \"{to}\" }}\n],\n",
            self.files
        );
        let sum = hex::encode(Sha256::digest(&text));
        // Writing to a string never fails.
        _ = writeln!(text, "\"Manifest-Checksum\": \"{sum}\"}}");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::layout::Segments;
    use super::super::sums::Sums;
    use super::*;

    #[test]
    fn it_is_read_as_that_of_a_server() {
        for version in [130_023, 170_010] {
            let cluster = Cluster {
                system_id: 7,
                segments: Segments::of_size(1 << 20).unwrap(),
                version,
                refusal: None,
            };
            let (mut manifest, mut sums) = (Manifest::default(), Sums::default());
            for (path, size, crc) in
                [("base/1/INCREMENTAL.2", 12, 7), ("odd \"name\"", 3, 0xdead_beef)]
            {
                manifest.add(path, size, Timestamp::UNIX_EPOCH, crc).unwrap();
                sums.add(path.as_bytes(), size, crc);
            }
            let text = manifest.text(&cluster, (Lsn(0x28), Lsn(0x100)), 3);
            let json: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(json["Files"][1]["Last-Modified"], "1970-01-01 00:00:00 GMT");
            assert_eq!(json["WAL-Ranges"][0]["Start-LSN"], "0/28");
            assert_eq!(json["System-Identifier"].as_u64(), (version > 170_000).then_some(7));
            assert_eq!(sums.manifest(text.as_bytes()).unwrap(), text.as_bytes());
            sums.finish().unwrap();
        }
    }
}
