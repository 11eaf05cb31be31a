//! Key files, which may be FIFOs or sockets.

use std::fs::{File, FileType};
use std::io::{self, Read as _};
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use zeroize::Zeroizing;

use crate::limit::in_words;

/// The largest key file, in bytes.
const MAX_FILE: usize = 1 << 20;
/// Bytes that are read at a time.
const BUFFER: usize = 8 << 10;
/// Time between two reads of a device that has no data.
const PAUSE: Duration = Duration::from_millis(20);

/// Returns `true` if a file of this type delivers its content once: a FIFO, a socket or a
/// character device.
#[must_use]
pub fn is_stream(kind: FileType) -> bool {
    kind.is_fifo() || kind.is_socket() || kind.is_char_device()
}

/// Reads a file of at most 1 MiB to its end. A FIFO or device is read until its writers close it,
/// a Unix socket until its server closes the connection; both may take `limit`. Cancel safe.
///
/// # Errors
/// Kind `TimedOut` after `limit`, kind `FileTooLarge` above 1 MiB, else the error of the system.
pub async fn read_file(path: &Path, limit: Duration) -> io::Result<Zeroizing<Vec<u8>>> {
    let kind = std::fs::metadata(path)?.file_type();
    if !is_stream(kind) {
        return read_all(File::open(path)?);
    }
    let reading = async {
        match kind {
            kind if kind.is_socket() => read_socket(path).await,
            kind if kind.is_fifo() => read_fifo(path).await,
            _ => read_device(path).await,
        }
    };
    tokio::time::timeout(limit, reading).await.unwrap_or_else(|_| {
        let message = format!("no end within {}", in_words(&limit));
        Err(io::Error::new(io::ErrorKind::TimedOut, message))
    })
}

/// The same as [`read_file`] for callers that are not asynchronous.
///
/// # Errors
/// As [`read_file`].
pub fn read_file_blocking(path: &Path, limit: Duration) -> io::Result<Zeroizing<Vec<u8>>> {
    if !is_stream(std::fs::metadata(path)?.file_type()) {
        return read_all(File::open(path)?);
    }
    // A runtime of its own, on a thread of its own: the caller may be on another runtime.
    let read = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(read_file(path, limit))
    };
    let joined = std::thread::scope(|scope| scope.spawn(read).join());
    joined.unwrap_or_else(|_| Err(io::Error::other("the thread that reads the file panicked")))
}

/// Reads a file that never blocks for long.
fn read_all(file: impl io::Read) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(MAX_FILE as u64 + 1).read_to_end(&mut bytes)?;
    within_limit(bytes)
}

async fn read_socket(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::new());
    let stream = UnixStream::connect(path).await?;
    stream.take(MAX_FILE as u64 + 1).read_to_end(&mut bytes).await?;
    within_limit(bytes)
}

/// Opens a FIFO or a device. Without `NONBLOCK`, opening would block until there is a writer.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::open(path, flags, Mode::empty())?))
}

/// Waits for the first writer of a FIFO, and reads until the last one has closed it.
async fn read_fifo(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::new());
    let receiver = pipe::Receiver::from_file(open(path)?)?;
    receiver.take(MAX_FILE as u64 + 1).read_to_end(&mut bytes).await?;
    within_limit(bytes)
}

/// Reads a device, such as a terminal. Not every device can be polled.
async fn read_device(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut file = open(path)?;
    let mut bytes = Zeroizing::new(Vec::new());
    let mut buffer = Zeroizing::new(vec![0; BUFFER]);
    while bytes.len() <= MAX_FILE {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(bytes),
            Ok(len) => bytes.extend_from_slice(&buffer[..len]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Err(too_large())
}

/// Refuses the bytes of a file that is larger than the limit.
fn within_limit(bytes: Zeroizing<Vec<u8>>) -> io::Result<Zeroizing<Vec<u8>>> {
    if bytes.len() > MAX_FILE { Err(too_large()) } else { Ok(bytes) }
}

fn too_large() -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, "the file is larger than 1 MiB")
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::net::UnixListener;
    use std::time::Instant;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);
    const SHORT: Duration = Duration::from_millis(300);

    fn fifo(path: &Path) {
        assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
    }

    #[tokio::test]
    async fn regular_file_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, "secret\n").unwrap();
        assert_eq!(**read_file(&path, SHORT).await.unwrap(), b"secret\n"[..]);
        let missing = read_file(&dir.path().join("none"), SHORT).await.unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        std::fs::write(&path, vec![b'x'; MAX_FILE + 1]).unwrap();
        let large = read_file(&path, SHORT).await.unwrap_err();
        assert_eq!(large.kind(), io::ErrorKind::FileTooLarge);
        let endless = read_file(Path::new("/dev/zero"), LIMIT).await.unwrap_err();
        assert_eq!(endless.kind(), io::ErrorKind::FileTooLarge);
    }

    #[tokio::test]
    async fn fifo_is_read_to_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        fifo(&path);
        let writer = std::thread::spawn({
            let path = path.clone();
            move || {
                std::thread::sleep(Duration::from_millis(300));
                let mut file = File::options().write(true).open(path).unwrap();
                file.write_all(b"sec").unwrap();
                std::thread::sleep(Duration::from_millis(300));
                file.write_all(b"ret\n").unwrap();
            }
        });
        assert_eq!(**read_file(&path, LIMIT).await.unwrap(), b"secret\n"[..]);
        writer.join().unwrap();
    }

    #[tokio::test]
    async fn socket_is_read_to_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(b"secret\n").unwrap();
        });
        assert_eq!(**read_file(&path, LIMIT).await.unwrap(), b"secret\n"[..]);
        server.join().unwrap();
    }

    #[tokio::test]
    async fn silent_fifo_or_socket_takes_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        let (fifo_path, socket) = (dir.path().join("fifo"), dir.path().join("socket"));
        fifo(&fifo_path);
        let _listener = UnixListener::bind(&socket).unwrap();
        for path in [&fifo_path, &socket] {
            let since = Instant::now();
            let error = read_file(path, SHORT).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            assert_eq!(error.to_string(), "no end within 0.3 seconds");
            assert!(since.elapsed() >= SHORT && since.elapsed() < LIMIT);
            let error = read_file_blocking(path, SHORT).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        }
        // A writer that never closes the FIFO.
        let mut writer = File::options().read(true).write(true).open(&fifo_path).unwrap();
        writer.write_all(b"half").unwrap();
        let error = read_file(&fifo_path, SHORT).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
