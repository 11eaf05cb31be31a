//! Writing trees byte for byte as Go's `encoding/json` writes restic's `Node`, so that an unchanged
//! directory is the same blob for both programs.

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::quote::{push_json_string, push_name};
use super::tree::{Node, go_mode};
use crate::error::{Error, Result};
use crate::source::{Metadata, NodeKind};

/// Bytes that are written at a time by [`stream_tree`].
const PIECE: usize = 256 << 10;

/// Writes one tree, node by node.
#[derive(Debug)]
pub struct TreeWriter<'a> {
    zone: &'a TimeZone,
    out: Vec<u8>,
    last: Option<Box<[u8]>>,
}

impl<'a> TreeWriter<'a> {
    /// Starts a tree. restic writes times with the offset of the local time zone; `zone` says which
    /// that is.
    #[must_use]
    pub fn new(zone: &'a TimeZone) -> Self {
        Self { zone, out: b"{\"nodes\":[".to_vec(), last: None }
    }

    /// Adds a node; nodes come in ascending order of their names' bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`](crate::error::ErrorKind::Internal) if they do not.
    pub fn push(&mut self, node: &Node) -> Result<()> {
        if self.last.as_ref().is_some_and(|last| **last >= *node.name) {
            let name = String::from_utf8_lossy(&node.name);
            return Err(Error::internal(format!(
                "{name:?} is duplicated or out of order in its directory"
            )));
        }
        if self.last.is_some() {
            self.out.push(b',');
        }
        push_node(&mut self.out, node, self.zone);
        self.last = Some(node.name.clone());
        Ok(())
    }

    /// The tree blob.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.out.extend_from_slice(b"]}\n");
        self.out
    }
}

/// Sorts and writes a whole directory.
///
/// # Errors
/// [`ErrorKind::Internal`](crate::error::ErrorKind::Internal) if two nodes have the same name.
pub fn write_tree(nodes: &mut [Node], zone: &TimeZone) -> Result<Vec<u8>> {
    nodes.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    let mut writer = TreeWriter::new(zone);
    for node in nodes {
        writer.push(node)?;
    }
    Ok(writer.finish())
}

/// Writes a sorted directory piece by piece.
///
/// # Errors
/// Those of [`TreeWriter::push`] and of `take`.
pub(crate) fn stream_tree(
    nodes: &[Node],
    zone: &TimeZone,
    take: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let mut writer = TreeWriter::new(zone);
    for node in nodes {
        writer.push(node)?;
        if writer.out.len() >= PIECE {
            take(&writer.out)?;
            writer.out.clear();
        }
    }
    take(&writer.finish())
}

fn push_node(out: &mut Vec<u8>, node: &Node, zone: &TimeZone) {
    let meta = &node.metadata;
    out.extend_from_slice(b"{\"name\":");
    push_name(out, &node.name);
    out.extend_from_slice(b",\"type\":\"");
    out.extend_from_slice(type_name(&meta.kind).as_bytes());
    out.push(b'"');
    push_nonzero(out, "mode", u64::from(go_file_mode(meta)));
    push_time(out, "mtime", meta.mtime, zone);
    push_time(out, "atime", meta.atime, zone);
    push_time(out, "ctime", meta.ctime, zone);
    push_number(out, "uid", u64::from(meta.uid));
    push_number(out, "gid", u64::from(meta.gid));
    push_text(out, "user", meta.user.as_deref());
    push_text(out, "group", meta.group.as_deref());
    push_nonzero(out, "inode", meta.inode);
    push_nonzero(out, "device_id", meta.device_id);
    push_nonzero(out, "size", meta.size);
    push_nonzero(out, "links", meta.links);
    if let NodeKind::Symlink { target } = &meta.kind {
        push_link_target(out, target);
    }
    push_xattrs(out, meta);
    if let NodeKind::BlockDevice { device } | NodeKind::CharDevice { device } = meta.kind {
        push_nonzero(out, "device", device);
    }
    push_content(out, node);
    if let Some(subtree) = &node.subtree {
        out.extend_from_slice(b",\"subtree\":\"");
        out.extend_from_slice(subtree.to_hex().as_bytes());
        out.push(b'"');
    }
    out.push(b'}');
}

fn type_name(kind: &NodeKind) -> &'static str {
    match kind {
        NodeKind::File => "file",
        NodeKind::Dir => "dir",
        NodeKind::Symlink { .. } => "symlink",
        NodeKind::BlockDevice { .. } => "dev",
        NodeKind::CharDevice { .. } => "chardev",
        NodeKind::Fifo => "fifo",
        NodeKind::Socket => "socket",
    }
}

fn go_file_mode(meta: &Metadata) -> u32 {
    let kind = match meta.kind {
        NodeKind::File => 0,
        NodeKind::Dir => go_mode::DIR,
        NodeKind::Symlink { .. } => go_mode::SYMLINK,
        NodeKind::BlockDevice { .. } => go_mode::DEVICE,
        NodeKind::CharDevice { .. } => go_mode::DEVICE | go_mode::CHAR_DEVICE,
        NodeKind::Fifo => go_mode::FIFO,
        NodeKind::Socket => go_mode::SOCKET,
    };
    let bit = |from: u32, to: u32| if meta.mode & from != 0 { to } else { 0 };
    kind | (meta.mode & 0o777)
        | bit(0o4000, go_mode::SETUID)
        | bit(0o2000, go_mode::SETGID)
        | bit(0o1000, go_mode::STICKY)
}

// Writing to a Vec cannot fail, so the results of write! are dropped. Numbers and times, of which
// every node has many, are written without the formatting machinery: it would cost more than
// everything else here.

fn push_field(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

/// A decimal number with at least `width` digits.
fn push_decimal(out: &mut Vec<u8>, mut value: u64, width: usize) {
    let mut digits = [b'0'; 20];
    let mut at = digits.len();
    while value > 0 || digits.len() - at < width.max(1) {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
    }
    out.extend_from_slice(&digits[at..]);
}

fn push_number(out: &mut Vec<u8>, name: &str, value: u64) {
    push_field(out, name);
    push_decimal(out, value, 1);
}

fn push_nonzero(out: &mut Vec<u8>, name: &str, value: u64) {
    if value != 0 {
        push_number(out, name, value);
    }
}

fn push_text(out: &mut Vec<u8>, name: &str, text: Option<&str>) {
    if let Some(text) = text.filter(|text| !text.is_empty()) {
        _ = write!(out, ",\"{name}\":");
        push_json_string(out, text.as_bytes());
    }
}

fn push_link_target(out: &mut Vec<u8>, target: &[u8]) {
    if target.is_empty() {
        return;
    }
    out.extend_from_slice(b",\"linktarget\":");
    push_json_string(out, target);
    if std::str::from_utf8(target).is_err() {
        _ = write!(out, ",\"linktarget_raw\":\"{}\"", BASE64.encode(target));
    }
}

fn push_xattrs(out: &mut Vec<u8>, meta: &Metadata) {
    for (at, xattr) in meta.xattrs.iter().enumerate() {
        out.extend_from_slice(if at == 0 {
            b",\"extended_attributes\":[{\"name\":"
        } else {
            b",{\"name\":"
        });
        push_json_string(out, xattr.name.as_bytes());
        _ = write!(out, ",\"value\":\"{}\"}}", BASE64.encode(&xattr.value));
    }
    if !meta.xattrs.is_empty() {
        out.push(b']');
    }
}

fn push_content(out: &mut Vec<u8>, node: &Node) {
    if node.metadata.kind != NodeKind::File {
        out.extend_from_slice(b",\"content\":null");
        return;
    }
    out.extend_from_slice(b",\"content\":[");
    let mut hex_digits = [0; 64];
    for (at, id) in node.content.iter().enumerate() {
        out.extend_from_slice(if at == 0 { b"\"" } else { b",\"" });
        // 32 bytes always fill 64 digits.
        _ = hex::encode_to_slice(id.as_bytes(), &mut hex_digits);
        out.extend_from_slice(&hex_digits);
        out.push(b'"');
    }
    out.push(b']');
}

/// RFC 3339 with as many digits as needed and the zone's offset, as Go writes it; years outside
/// 0–9999 are moved inside.
fn push_time(out: &mut Vec<u8>, name: &str, time: Timestamp, zone: &TimeZone) {
    let offset = zone.to_offset(time);
    let local = offset.to_datetime(time);
    push_field(out, name);
    out.push(b'"');
    let part = |number: i8| u64::from(number.unsigned_abs());
    push_decimal(out, u64::from(local.year().max(0).unsigned_abs()), 4);
    for (separator, number) in [
        (b'-', local.month()),
        (b'-', local.day()),
        (b'T', local.hour()),
        (b':', local.minute()),
        (b':', local.second()),
    ] {
        out.push(separator);
        push_decimal(out, part(number), 2);
    }
    let nanos = local.subsec_nanosecond();
    if nanos != 0 {
        out.push(b'.');
        push_decimal(out, u64::from(nanos.unsigned_abs()), 9);
        while out.last() == Some(&b'0') {
            out.pop();
        }
    }
    let minutes = offset.seconds() / 60;
    if minutes == 0 {
        out.extend_from_slice(b"Z\"");
    } else {
        out.push(if minutes < 0 { b'-' } else { b'+' });
        push_decimal(out, u64::from(minutes.unsigned_abs() / 60), 2);
        out.push(b':');
        push_decimal(out, u64::from(minutes.unsigned_abs() % 60), 2);
        out.push(b'"');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Tree;
    use crate::id::BlobId;
    use crate::source::Xattr;

    fn node(name: &[u8], metadata: Metadata) -> Node {
        Node { name: name.into(), metadata, content: Vec::new(), subtree: None }
    }

    /// The expected text is what restic 0.19 stored for a file like this one.
    #[test]
    fn a_file_looks_as_restic_writes_it() {
        let time = Timestamp::new(1_700_000_000, 120_000_000).unwrap();
        let mut file = node(
            b"a<b",
            Metadata { inode: 7, device_id: 65, size: 3, mode: 0o4755, ..Metadata::stream(time) },
        );
        file.metadata.user = Some("root".into());
        file.metadata.group = Some("root".into());
        file.metadata.xattrs = vec![Xattr { name: "user.x".into(), value: b"v".as_slice().into() }];
        file.content = vec![BlobId::digest(b"abc")];
        let json = write_tree(&mut [file], &TimeZone::fixed(jiff::tz::offset(2))).unwrap();
        let expected = concat!(
            r#"{"nodes":[{"name":"a\u003cb","type":"file","mode":8389101,"#,
            r#""mtime":"2023-11-15T00:13:20.12+02:00","atime":"2023-11-15T00:13:20.12+02:00","#,
            r#""ctime":"2023-11-15T00:13:20.12+02:00","uid":0,"gid":0,"user":"root","group":"root","#,
            r#""inode":7,"device_id":65,"size":3,"links":1,"#,
            r#""extended_attributes":[{"name":"user.x","value":"dg=="}],"#,
            r#""content":["ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"]}]}"#,
            "\n"
        );
        assert_eq!(String::from_utf8(json).unwrap(), expected);
    }

    #[test]
    fn every_kind_survives() {
        let time = Timestamp::new(-5, -7).unwrap();
        let with = |kind| Metadata { kind, mode: 0o1644, ..Metadata::stream(time) };
        let mut nodes = vec![
            node(b"z\xff", with(NodeKind::File)),
            node(b"link", with(NodeKind::Symlink { target: b"a\xffb".as_slice().into() })),
            node(b"block", with(NodeKind::BlockDevice { device: 0x801 })),
            node(b"char", with(NodeKind::CharDevice { device: 0x103 })),
            node(b"pipe", with(NodeKind::Fifo)),
            node(b"sock", with(NodeKind::Socket)),
            Node { subtree: Some(BlobId::digest(b"t")), ..node(b"dir", Metadata::directory(time)) },
        ];
        let json = write_tree(&mut nodes, &TimeZone::UTC).unwrap();
        assert_eq!(Tree::from_json(&json).unwrap().nodes, nodes);
    }

    #[test]
    fn unknown_fields_and_null_lists_are_tolerated() {
        let json = br#"{"x":[1],"nodes":null,"y":{}}"#;
        assert!(Tree::from_json(json).unwrap().nodes.is_empty());
        assert!(Tree::from_json(b"{}").is_err());
        assert!(Tree::from_json(br#"{"nodes":7}"#).is_err());
    }

    #[test]
    fn a_name_cannot_stand_twice() {
        let file = node(b"a", Metadata::stream(Timestamp::UNIX_EPOCH));
        assert!(write_tree(&mut [file.clone(), file], &TimeZone::UTC).is_err());
    }
}
