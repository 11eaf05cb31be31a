//! Files of an export, as they are or compressed with gzip.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use backup_core::source::{SourceError, SourceErrorKind, SourceResult};
use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::fs::{DirBuilder, File, OpenOptions};
use tokio::io::{AsyncWriteExt as _, BufWriter};

/// Compressed bytes that wait for the file.
const WAITING: usize = 256 << 10;

/// A file of an export. A compressed file that is opened again gets another member of gzip; readers
/// join the members.
pub(super) struct OutputFile {
    path: PathBuf,
    file: BufWriter<File>,
    encoder: Option<GzEncoder<Vec<u8>>>,
}

/// The error for a file or directory that cannot be written.
pub(super) fn failed(path: &Path, error: std::io::Error) -> SourceError {
    SourceError::new(SourceErrorKind::Target, format!("cannot write {}", path.display()))
        .with_source(error)
}

/// The level of stock tools.
pub(super) fn encoder<W: std::io::Write>(writer: W) -> GzEncoder<W> {
    GzEncoder::new(writer, Compression::default())
}

impl OutputFile {
    /// Creates a file, which must not exist, and the directory that it is in.
    pub(super) async fn create(path: &Path, is_gzip: bool) -> SourceResult<Self> {
        if let Some(parent) = path.parent() {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(parent).await;
            made.map_err(|error| failed(parent, error))?;
        }
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).await;
        Ok(Self::of(path, file.map_err(|error| failed(path, error))?, is_gzip))
    }

    /// Opens a file that was created, to write behind its content.
    pub(super) async fn append(path: &Path, is_gzip: bool) -> SourceResult<Self> {
        let file = OpenOptions::new().append(true).open(path).await;
        Ok(Self::of(path, file.map_err(|error| failed(path, error))?, is_gzip))
    }

    fn of(path: &Path, file: File, is_gzip: bool) -> Self {
        let encoder = is_gzip.then(|| encoder(Vec::new()));
        Self { path: path.to_owned(), file: BufWriter::with_capacity(1 << 20, file), encoder }
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) -> SourceResult<()> {
        let failed = |error| failed(&self.path, error);
        let Some(encoder) = &mut self.encoder else {
            return self.file.write_all(bytes).await.map_err(failed);
        };
        encoder.write_all(bytes).map_err(failed)?;
        if encoder.get_ref().len() >= WAITING {
            let compressed = std::mem::take(encoder.get_mut());
            self.file.write_all(&compressed).await.map_err(failed)?;
        }
        Ok(())
    }

    /// Writes everything that waits, and makes it durable.
    pub(super) async fn close(mut self) -> SourceResult<()> {
        let failed = |error| failed(&self.path, error);
        if let Some(encoder) = self.encoder.take() {
            let rest = encoder.finish().map_err(failed)?;
            self.file.write_all(&rest).await.map_err(failed)?;
        }
        self.file.flush().await.map_err(failed)?;
        self.file.get_ref().sync_all().await.map_err(failed)
    }
}
