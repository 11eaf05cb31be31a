//! Where an export goes.

use std::fs::File;
use std::io::{self, BufWriter, Stdout, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::command_error::{CommandError, CommandResult, Kind};

/// Bytes that are written in one go.
const BUFFER: usize = 256 << 10;

/// Standard output, or a file that appears under its name when it is complete.
pub(super) struct Output(BufWriter<Place>);

enum Place {
    Stdout(Stdout),
    /// A device or a pipe, which cannot be replaced.
    Special(File),
    File {
        file: NamedTempFile,
        path: PathBuf,
        replace: bool,
    },
}

impl Output {
    pub(super) fn stdout() -> Self {
        Self::to(Place::Stdout(io::stdout()))
    }

    /// A file. Refuses one that exists unless it may be replaced; looks again before it appears.
    pub(super) fn file(path: &Path, replace: bool) -> CommandResult<Self> {
        let doing = || format!("cannot write {}", path.display());
        let existing = std::fs::metadata(path).ok();
        if existing.as_ref().is_some_and(|existing| !existing.is_file() && !existing.is_dir()) {
            let file = File::options()
                .write(true)
                .open(path)
                .map_err(|error| CommandError::io(doing(), &error))?;
            return Ok(Self::to(Place::Special(file)));
        }
        if existing.is_some() && !replace {
            return Err(exists(path));
        }
        let parent =
            path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // Asked beforehand, because the temporary file's name in the error would mislead.
        std::fs::metadata(parent).map_err(|error| CommandError::io(doing(), &error))?;
        let file = tempfile::Builder::new()
            .prefix(".backup-export-")
            .tempfile_in(parent)
            .map_err(|error| CommandError::io(doing(), &error))?;
        Ok(Self::to(Place::File { file, path: path.to_path_buf(), replace }))
    }

    fn to(place: Place) -> Self {
        Self(BufWriter::with_capacity(BUFFER, place))
    }

    /// Everything is written: makes it durable and visible.
    pub(super) fn finish(self) -> CommandResult<()> {
        let place = self.0.into_inner().map_err(|error| failed(error.error()))?;
        match place {
            Place::Stdout(mut stdout) => stdout.flush().map_err(|error| failed(&error)),
            Place::Special(_) => Ok(()),
            Place::File { file, path, replace } => {
                file.as_file().sync_all().map_err(|error| failed(&error))?;
                let kept =
                    if replace { file.persist(&path) } else { file.persist_noclobber(&path) };
                match kept {
                    Ok(_) => Ok(()),
                    Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
                        Err(exists(&path))
                    }
                    Err(error) => Err(CommandError::io(
                        format!("cannot write {}", path.display()),
                        &error.error,
                    )),
                }
            }
        }
    }
}

impl Write for Output {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Write for Place {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout(stdout) => stdout.write(buf),
            Self::Special(file) => file.write(buf),
            // Not through the temporary file: its errors name a path that the user does not know.
            Self::File { file, .. } => file.as_file_mut().write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stdout(stdout) => stdout.flush(),
            Self::Special(file) => file.flush(),
            Self::File { file, .. } => file.flush(),
        }
    }
}

fn exists(path: &Path) -> CommandError {
    CommandError::refused(format!("{} exists already", path.display()))
        .with_hint("choose another file, or add --if-exists replace")
}

/// The failure of a write.
pub(super) fn failed(error: &io::Error) -> CommandError {
    if error.kind() == io::ErrorKind::BrokenPipe {
        CommandError::new(Kind::BrokenPipe, "the output was closed")
    } else {
        CommandError::io("cannot write the export", error)
    }
}
