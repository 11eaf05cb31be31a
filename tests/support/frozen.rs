//! A file system that stops answering, as one on a disk or a server that has stopped: FUSE, with
//! this process as its server.
//!
//! The file system has a directory with one file. The protocol is that of `linux/fuse.h`, version 7.31.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use super::process::run;

/// Bytes of the file.
pub(crate) const SIZE: u64 = 8 << 20;
/// Its name.
pub(crate) const NAME: &str = "file";

/// The kind of request after which nothing is answered any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Last {
    /// The first one of a mount: even the attributes of the mount point are missing.
    Init = 26,
    /// A directory is open, but its names are missing.
    OpenDirectory = 27,
    /// The names are known, but no attributes.
    ReadDirectory = 28,
    /// A file is open, but cannot be read.
    Open = 14,
    /// The first part of it was read.
    Read = 15,
}

const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const RELEASE: u32 = 18;
const RELEASEDIR: u32 = 29;
const BATCH_FORGET: u32 = 42;
const ENOSYS: i32 = 38;
const ENOENT: i32 = 2;
const NO_FLUSH: u64 = 1 << 5;

/// Length of the head of a request.
const HEAD: usize = 40;

/// A mounted file system. Dropping it ends all calls that wait, and removes the mount.
pub(crate) struct Frozen {
    at: PathBuf,
    device: Option<File>,
}

impl Frozen {
    /// Mounts at `at`, a directory that is made.
    pub(crate) fn mount(at: &Path, last: Last) -> Self {
        fs::create_dir(at).unwrap();
        let device = File::options().read(true).write(true).open("/dev/fuse").unwrap();
        let options = "fd=0,rootmode=40000,user_id=0,group_id=0";
        let mounted = Command::new("mount")
            .args(["-i", "-t", "fuse", "-o", options, "frozen"])
            .arg(at)
            .stdin(Stdio::from(device.try_clone().unwrap()))
            .status();
        assert!(mounted.unwrap().success());
        let server = device.try_clone().unwrap();
        thread::spawn(move || serve(server, last as u32));
        Self { at: at.to_owned(), device: Some(device) }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // The kernel ends the connection when the last handle of the device is closed.
        drop(self.device.take());
        run(Command::new("umount").arg("-l").arg(&self.at)).succeeded();
    }
}

/// Answers until a request of kind `last` was answered, or the file system is gone.
fn serve(mut device: File, last: u32) -> Option<()> {
    let mut request = vec![0; 1 << 20];
    loop {
        let len = device.read(&mut request).ok()?;
        let request = request.get(..len)?;
        let kind = u32::from_le_bytes(field(request, 4)?);
        if matches!(kind, FORGET | BATCH_FORGET) {
            continue;
        }
        let (error, body) = answer(kind, request)?;
        let unique: [u8; 8] = field(request, 8)?;
        let is_empty = body.is_empty();
        let len = u32::try_from(16 + body.len()).ok()?;
        let head = [&len.to_le_bytes()[..], &(-error).to_le_bytes(), &unique].concat();
        device.write_all(&[head, body].concat()).ok()?;
        // The end of a directory is a listing without names.
        if kind == last && (kind != Last::ReadDirectory as u32 || is_empty) {
            return Some(());
        }
    }
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

/// The error of an answer, or its content.
fn answer(kind: u32, request: &[u8]) -> Option<(i32, Vec<u8>)> {
    const INIT: u32 = Last::Init as u32;
    const OPEN: u32 = Last::Open as u32;
    const READ: u32 = Last::Read as u32;
    const OPENDIR: u32 = Last::OpenDirectory as u32;
    const READDIR: u32 = Last::ReadDirectory as u32;
    let node = u64::from_le_bytes(field(request, 16)?);
    let hour = [3600_u64.to_le_bytes(), [0; 8]].concat();
    Some(match kind {
        INIT => (0, init()),
        GETATTR => (0, [hour, attributes(node)].concat()),
        LOOKUP if request.get(HEAD..)? == [NAME.as_bytes(), &[0]].concat() => {
            let lasting = [3600_u64, 3600, 0].map(u64::to_le_bytes).concat();
            let head = [2_u64, 0].map(u64::to_le_bytes).concat();
            (0, [head, lasting, attributes(2)].concat())
        }
        LOOKUP => (ENOENT, Vec::new()),
        OPENDIR => (0, vec![0; 16]),
        // No request when it is closed: a process that waits for the answer could not be killed.
        OPEN => (0, [[0; 8], u64::to_le_bytes(NO_FLUSH)].concat()),
        RELEASE | RELEASEDIR => (0, Vec::new()),
        READDIR => {
            let offset = u64::from_le_bytes(field(request, HEAD + 8)?);
            (0, if offset == 0 { listing() } else { Vec::new() })
        }
        READ => {
            let offset = u64::from_le_bytes(field(request, HEAD + 8)?);
            let wanted = u32::from_le_bytes(field(request, HEAD + 16)?);
            let len = u64::from(wanted).min(SIZE.saturating_sub(offset));
            (0, vec![b'x'; usize::try_from(len).ok()?])
        }
        _ => (ENOSYS, Vec::new()),
    })
}

fn init() -> Vec<u8> {
    let (version, read_ahead, flags) = ([7_u32, 31], 128 << 10, 0_u32);
    let (at_a_time, max_write) = ([8_u16, 6], 128_u32 << 10);
    [
        &version.map(u32::to_le_bytes).concat()[..],
        &u32::to_le_bytes(read_ahead),
        &flags.to_le_bytes(),
        &at_a_time.map(u16::to_le_bytes).concat(),
        &max_write.to_le_bytes(),
        // Granularity of times, and fields without a meaning here.
        &1_u32.to_le_bytes(),
        &[0; 36],
    ]
    .concat()
}

/// Node 1 is the directory, 2 the file.
fn attributes(node: u64) -> Vec<u8> {
    let (mode, size) = if node == 1 { (0o040_755_u32, 0) } else { (0o100_644, SIZE) };
    let time = 1_700_000_000_u64;
    let long = [node, size, size.div_ceil(512), time, time, time].map(u64::to_le_bytes).concat();
    // Nanoseconds, mode, links, owner, group, device, size of a block, unused.
    let short = [0, 0, 0, mode, 1, 0, 0, 0, 4096, 0].map(u32::to_le_bytes).concat();
    [long, short].concat()
}

/// The only name in the directory.
fn listing() -> Vec<u8> {
    let numbers = [2_u64, 1].map(u64::to_le_bytes).concat();
    let len = u32::try_from(NAME.len()).unwrap();
    let regular = 8_u32;
    let mut entry =
        [&numbers[..], &len.to_le_bytes(), &regular.to_le_bytes(), NAME.as_bytes()].concat();
    entry.resize(entry.len().next_multiple_of(8), 0);
    entry
}
