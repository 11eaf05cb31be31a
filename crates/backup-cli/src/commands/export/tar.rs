//! Writing a tar archive in the POSIX (pax) format: names and links of any length and any bytes,
//! times in nanoseconds, sizes and owners of any number, extended attributes as GNU tar and bsdtar
//! know them (`SCHILY.xattr.…`).

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use backup_core::source::{EntryPath, Metadata, NodeKind};
use bytes::{Buf, Bytes};
use tar::{Builder, EntryType, Header};
use tokio::sync::mpsc::Receiver;

use super::Step;
use super::output::Output;

/// Longest name or link target that the plain header holds.
const NAME: usize = 100;
/// Longest name of a user or group there.
const OWNER: usize = 31;
/// Largest owner that seven octal digits hold.
const MAX_ID: u64 = 0o7_777_777;
/// Largest size that eleven octal digits hold.
const MAX_SIZE: u64 = 0o77_777_777_777;

/// An entry of an archive.
pub(super) struct Entry {
    pub(super) path: EntryPath,
    pub(super) metadata: Metadata,
    /// An earlier entry with the same content and inode.
    pub(super) link: Option<EntryPath>,
    /// Bytes that follow.
    pub(super) size: u64,
}

/// Writes entries until the end; `None` if nothing more came before it.
pub(super) fn write(mut receiver: Receiver<Step>, output: Output) -> io::Result<Option<Output>> {
    let open = Arc::new(AtomicBool::new(true));
    let mut builder = Builder::new(Gate { output: Some(output), open: Arc::clone(&open) });
    let result = write_entries(&mut receiver, &mut builder);
    if !matches!(result, Ok(true)) {
        // Dropping the builder would write the end of the archive; what is incomplete must not look
        // complete.
        open.store(false, Ordering::Relaxed);
        return result.map(|_| None);
    }
    let mut gate = builder.into_inner()?;
    Ok(gate.output.take())
}

/// Whether the end came.
fn write_entries(receiver: &mut Receiver<Step>, builder: &mut Builder<Gate>) -> io::Result<bool> {
    loop {
        match receiver.blocking_recv() {
            None => return Ok(false),
            Some(Step::End) => return Ok(true),
            Some(Step::Data(_)) => return Err(io::Error::other("content without an entry")),
            Some(Step::Entry(entry)) => {
                let (records, header) = header(&entry);
                builder.append_pax_extensions(
                    records.iter().map(|(key, value)| (key.as_str(), value.as_slice())),
                )?;
                let content = Incoming { receiver, left: entry.size, current: Bytes::new() };
                match builder.append(&header, content) {
                    // Reading stopped; why is known there.
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
                    other => other?,
                }
            }
        }
    }
}

/// The header of an entry, and the records for what does not fit into it.
fn header(entry: &Entry) -> (Vec<(String, Vec<u8>)>, Header) {
    let metadata = &entry.metadata;
    let mut header = Header::new_ustar();
    let mut records = Vec::new();
    let mut name = relative(&entry.path).to_vec();
    let target = match (&entry.link, &metadata.kind) {
        (Some(earlier), _) => relative(earlier).to_vec(),
        (None, NodeKind::Symlink { target }) => target.to_vec(),
        _ => Vec::new(),
    };
    if metadata.kind == NodeKind::Dir {
        name.push(b'/');
    }
    header.set_entry_type(entry_type(entry));
    header.set_size(entry.size);
    header.set_mode(metadata.mode);
    {
        let plain = header.as_old_mut();
        text(&mut plain.name, &name, "path", &mut records);
        text(&mut plain.linkname, &target, "linkpath", &mut records);
    }
    if entry.size > MAX_SIZE {
        records.push(("size".to_owned(), entry.size.to_string().into_bytes()));
    }
    owner(&mut header, metadata, &mut records);
    time(&mut header, metadata, &mut records);
    device(&mut header, &metadata.kind);
    if entry.link.is_none() {
        let xattrs = metadata.xattrs.iter();
        records.extend(
            xattrs.map(|xattr| (format!("SCHILY.xattr.{}", xattr.name), xattr.value.to_vec())),
        );
    }
    header.set_cksum();
    (records, header)
}

fn relative(path: &EntryPath) -> &[u8] {
    let bytes = path.as_bytes();
    bytes.strip_prefix(b"/").unwrap_or(bytes)
}

fn entry_type(entry: &Entry) -> EntryType {
    match &entry.metadata.kind {
        _ if entry.link.is_some() => EntryType::Link,
        NodeKind::Dir => EntryType::Directory,
        NodeKind::Symlink { .. } => EntryType::Symlink,
        NodeKind::BlockDevice { .. } => EntryType::Block,
        NodeKind::CharDevice { .. } => EntryType::Char,
        NodeKind::Fifo => EntryType::Fifo,
        // Sockets never come here.
        NodeKind::File | NodeKind::Socket => EntryType::Regular,
    }
}

/// Puts `value` into a field of the plain header, and into a record if it does not fit or is more
/// than ASCII.
fn text(field: &mut [u8; NAME], value: &[u8], key: &str, records: &mut Vec<(String, Vec<u8>)>) {
    let fits = value.len().min(NAME);
    field[..fits].copy_from_slice(&value[..fits]);
    if value.len() > NAME || !value.is_ascii() {
        records.push((key.to_owned(), value.to_vec()));
    }
}

fn owner(header: &mut Header, metadata: &Metadata, records: &mut Vec<(String, Vec<u8>)>) {
    let (uid, gid) = (u64::from(metadata.uid), u64::from(metadata.gid));
    header.set_uid(uid.min(MAX_ID));
    header.set_gid(gid.min(MAX_ID));
    for (key, id) in [("uid", uid), ("gid", gid)] {
        if id > MAX_ID {
            records.push((key.to_owned(), id.to_string().into_bytes()));
        }
    }
    for (key, name) in [("uname", &metadata.user), ("gname", &metadata.group)] {
        let Some(name) = name else { continue };
        // Short names fit; that the field refuses others is why there is a record.
        let plain = name.len() <= OWNER
            && name.is_ascii()
            && if key == "uname" { header.set_username(name) } else { header.set_groupname(name) }
                .is_ok();
        if !plain {
            records.push((key.to_owned(), name.as_bytes().to_vec()));
        }
    }
}

fn time(header: &mut Header, metadata: &Metadata, records: &mut Vec<(String, Vec<u8>)>) {
    let nanoseconds = metadata.mtime.as_nanosecond();
    let (seconds, fraction) =
        (nanoseconds.div_euclid(1_000_000_000), nanoseconds.rem_euclid(1_000_000_000));
    header.set_mtime(u64::try_from(seconds).unwrap_or(0).min(MAX_SIZE));
    let decimal = |seconds: i128, fraction: i128| format!("{seconds}.{fraction:09}");
    match (seconds, fraction) {
        (0.., 0) => {}
        (0.., _) => records.push(("mtime".to_owned(), decimal(seconds, fraction).into_bytes())),
        // Before 1970 the sign belongs to the whole number: -1.5 s is second -2 and half of one.
        (_, 0) => records.push(("mtime".to_owned(), seconds.to_string().into_bytes())),
        _ => {
            let text = format!("-{}", decimal(-(seconds + 1), 1_000_000_000 - fraction));
            records.push(("mtime".to_owned(), text.into_bytes()));
        }
    }
}

fn device(header: &mut Header, kind: &NodeKind) {
    if let NodeKind::BlockDevice { device } | NodeKind::CharDevice { device } = kind {
        // Only the old format lacks these fields, and this is not it.
        _ = header.set_device_major(rustix::fs::major(*device));
        _ = header.set_device_minor(rustix::fs::minor(*device));
    }
}

/// The content of one entry as it comes in.
struct Incoming<'a> {
    receiver: &'a mut Receiver<Step>,
    left: u64,
    current: Bytes,
}

impl Read for Incoming<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            if self.left == 0 {
                return Ok(0);
            }
            match self.receiver.blocking_recv() {
                Some(Step::Data(bytes)) if bytes.len() as u64 <= self.left => {
                    self.left -= bytes.len() as u64;
                    self.current = bytes;
                }
                Some(_) => {
                    return Err(io::Error::other(
                        "the length of a file differs from that of its blobs",
                    ));
                }
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        let length = buf.len().min(self.current.len());
        self.current.copy_to_slice(&mut buf[..length]);
        Ok(length)
    }
}

/// Lets nothing through once it is closed.
struct Gate {
    output: Option<Output>,
    open: Arc<AtomicBool>,
}

impl Write for Gate {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match &mut self.output {
            Some(output) if self.open.load(Ordering::Relaxed) => output.write(buf),
            _ => Err(io::Error::other("closed")),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.as_mut().map_or(Ok(()), Write::flush)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn records(entry: &Entry) -> Vec<(String, String)> {
        let records = header(entry).0.into_iter();
        records.map(|(key, value)| (key, String::from_utf8_lossy(&value).into_owned())).collect()
    }

    fn entry(path: &str, metadata: Metadata) -> Entry {
        Entry { path: EntryPath::new(path).unwrap(), metadata, link: None, size: 0 }
    }

    #[test]
    fn what_fits_needs_no_record() {
        let metadata = Metadata::stream(Timestamp::new(5, 0).unwrap());
        assert_eq!(records(&entry("/a/b", metadata)), []);
    }

    #[test]
    fn what_does_not_fit_has_one() {
        let time =
            |seconds, nanoseconds| Metadata::stream(Timestamp::new(seconds, nanoseconds).unwrap());
        let mtime = |metadata| records(&entry("/a", metadata))[0].1.clone();
        assert_eq!(mtime(time(5, 7)), "5.000000007");
        assert_eq!(mtime(time(-1, -500_000_000)), "-1.500000000");
        assert_eq!(mtime(time(-2, 0)), "-2");
        assert_eq!(mtime(time(0, -1)), "-0.000000001");

        let long = format!("/{}", "x".repeat(150));
        assert_eq!(records(&entry(&long, time(0, 0)))[0], ("path".to_owned(), "x".repeat(150)));
        let mut metadata = time(0, 0);
        metadata.uid = 3_000_000;
        metadata.user = Some("ö".into());
        let keys: Vec<String> =
            records(&entry("/a", metadata)).into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["uid", "uname"]);
    }
}
