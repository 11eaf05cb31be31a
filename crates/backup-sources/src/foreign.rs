//! Dumps of other tools, by their first bytes and names: which form it is, and gzip around it.

use std::fs::File;
use std::io::{self, BufReader, Cursor, Read};
use std::path::Path;

use backup_core::source::{SourceError, SourceErrorKind, SourceResult};
use flate2::bufread::MultiGzDecoder;

/// Memory for reading a file.
const BUFFER: usize = 1 << 20;
/// Bytes at the beginning by which forms are recognised.
const HEAD: usize = 512;
/// A header of tar ends with these letters at this place.
const TAR: (usize, &[u8]) = (257, b"ustar");
/// First bytes of an archive of mongodump.
pub(crate) const MONGO_ARCHIVE: [u8; 4] = 0x8199_e26d_u32.to_le_bytes();
/// First bytes of a file that is compressed with gzip by its only method.
pub(crate) const GZIP: [u8; 3] = [0x1f, 0x8b, 8];

/// The form of a dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// `mongodump --archive`.
    MongoArchive,
    /// A directory of mongodump, or one without anything known in it.
    Directory,
    /// An RDB file of Redis or Valkey.
    Rdb,
    /// `pg_dump` or `pg_dumpall`, in this format.
    PgDump(&'static str),
    /// None of these.
    Unknown,
}

/// A dump that is opened: its form, and its bytes without gzip.
pub(crate) struct Opened {
    pub(crate) form: Form,
    pub(crate) is_gzip: bool,
    pub(crate) bytes: Box<dyn Read + Send>,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened")
            .field("form", &self.form)
            .field("is_gzip", &self.is_gzip)
            .finish_non_exhaustive()
    }
}

/// Opens a file and looks at its first bytes. Waits for the file.
pub(crate) fn open(path: &Path) -> SourceResult<Opened> {
    let failed = |error| unreadable(path, error);
    let file = File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.is_dir() {
        let form = match path.join("toc.dat").exists() {
            true => Form::PgDump("directory"),
            false => Form::Directory,
        };
        return Ok(Opened { form, is_gzip: false, bytes: Box::new(io::empty()) });
    }
    let mut plain = BufReader::with_capacity(BUFFER, file);
    let head = head_of(&mut plain).map_err(failed)?;
    let is_gzip = head.starts_with(&GZIP);
    if !is_gzip {
        let form = form_of(&head);
        return Ok(Opened { form, is_gzip, bytes: Box::new(Cursor::new(head).chain(plain)) });
    }
    let mut inner = MultiGzDecoder::new(BufReader::new(Cursor::new(head).chain(plain)));
    let head = head_of(&mut inner).map_err(failed)?;
    let form = form_of(&head);
    let inner = BufReader::with_capacity(BUFFER, inner);
    Ok(Opened { form, is_gzip, bytes: Box::new(Cursor::new(head).chain(inner)) })
}

/// The first bytes, by which forms are recognised.
fn head_of(reader: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(HEAD);
    reader.take(HEAD as u64).read_to_end(&mut head)?;
    Ok(head)
}

fn form_of(head: &[u8]) -> Form {
    let is_sql = || {
        let text = String::from_utf8_lossy(head);
        text.lines().take(5).any(|line| line.starts_with("-- PostgreSQL database"))
    };
    match head {
        _ if head.starts_with(&MONGO_ARCHIVE) => Form::MongoArchive,
        _ if head.starts_with(b"REDIS") || head.starts_with(b"VALKEY") => Form::Rdb,
        _ if head.starts_with(b"PGDMP") => Form::PgDump("custom"),
        _ if head.get(TAR.0..).is_some_and(|rest| rest.starts_with(TAR.1))
            && head.starts_with(b"toc.dat\0") =>
        {
            Form::PgDump("tar")
        }
        _ if is_sql() => Form::PgDump("plain SQL"),
        _ => Form::Unknown,
    }
}

/// The error for a dump that is not in the form that is imported; `wanted` names that form.
pub(crate) fn refused(path: &Path, form: Form, wanted: &str) -> SourceError {
    let shown = path.display();
    let (text, hint) = match form {
        Form::PgDump(format) => (
            format!("{shown} is a dump of pg_dump (format {format}), which cannot be imported"),
            "restore it into a server with pg_restore or psql, and back up that server with \
             `backup run`",
        ),
        Form::MongoArchive => (
            format!("{shown} is an archive of mongodump, and {wanted} is expected"),
            "import it with --mongodump",
        ),
        Form::Rdb => (
            format!("{shown} is an RDB file of Redis or Valkey, and {wanted} is expected"),
            "import it with --rdb",
        ),
        Form::Directory => {
            (format!("{shown} is a directory, and {wanted} is expected"), "name a file")
        }
        Form::Unknown => (
            format!("{shown} is not {wanted}: its first bytes are of no known dump"),
            "check the path; files compressed with other programs than gzip have to be decompressed \
             first",
        ),
    };
    SourceError::new(SourceErrorKind::Invalid, text).with_hint(hint)
}

/// The error for `--gzip` with a file that is not compressed.
pub(crate) fn not_gzip(path: &Path) -> SourceError {
    let text = format!("{} is not compressed with gzip", path.display());
    SourceError::new(SourceErrorKind::Invalid, text).with_hint("leave out --gzip")
}

/// The error for a file that cannot be read or decompressed.
pub(crate) fn unreadable(path: &Path, error: io::Error) -> SourceError {
    let text = format!("cannot read {}", path.display());
    let kind = match error.kind() {
        io::ErrorKind::NotFound => SourceErrorKind::NotFound,
        io::ErrorKind::PermissionDenied => SourceErrorKind::PermissionDenied,
        // Of the decompression: the file is truncated or damaged.
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => {
            SourceErrorKind::Mismatch
        }
        _ => SourceErrorKind::Io,
    };
    SourceError::new(kind, text).with_source(error)
}

/// The time at which a file was last changed.
pub(crate) fn changed(path: &Path) -> SourceResult<jiff::Timestamp> {
    let failed = |error| unreadable(path, error);
    let time = std::fs::metadata(path).and_then(|metadata| metadata.modified()).map_err(failed)?;
    jiff::Timestamp::try_from(time).map_err(|error| failed(io::Error::other(error)))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn form(bytes: &[u8]) -> (Form, bool) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dump");
        std::fs::write(&path, bytes).unwrap();
        let opened = open(&path).unwrap();
        (opened.form, opened.is_gzip)
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn open_recognises_dumps_of_every_tool() {
        let mut tar = vec![0; 512];
        tar[..7].copy_from_slice(b"toc.dat");
        tar[257..262].copy_from_slice(b"ustar");
        let sql = b"--\n-- PostgreSQL database dump\n--\n\nSET x = 1;\n";
        for (bytes, expected) in [
            (&b"\x6d\xe2\x99\x81rest"[..], Form::MongoArchive),
            (b"REDIS0011rest", Form::Rdb),
            (b"VALKEY080rest", Form::Rdb),
            (b"PGDMP\x01\x0e", Form::PgDump("custom")),
            (&tar, Form::PgDump("tar")),
            (sql, Form::PgDump("plain SQL")),
            (b"-- MySQL dump", Form::Unknown),
            (b"", Form::Unknown),
        ] {
            assert_eq!(form(bytes), (expected, false));
            assert_eq!(form(&gzip(bytes)), (expected, true));
        }
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(open(dir.path()).unwrap().form, Form::Directory);
        std::fs::write(dir.path().join("toc.dat"), b"PGDMP").unwrap();
        assert_eq!(open(dir.path()).unwrap().form, Form::PgDump("directory"));
    }

    #[test]
    fn refused_names_the_tool_and_the_way() {
        let path = Path::new("/x");
        let error = refused(path, Form::PgDump("custom"), "a dump of mongodump");
        assert_eq!(
            error.to_string(),
            "/x is a dump of pg_dump (format custom), which cannot be imported"
        );
        assert!(error.hint().unwrap().contains("backup run"));
        assert!(refused(path, Form::Rdb, "x").hint().unwrap().contains("--rdb"));
    }
}
