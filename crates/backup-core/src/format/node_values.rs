//! From the stored values of a node to the node: the rules for each value, and the defaults for
//! invalid ones.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::Timestamp;

use super::Node;
use super::loose::Loose;
use super::node_json::{Names, RawNode};
use super::node_lists::RawXattr;
use super::node_rules::{Loss, NO_SUBTREE, name_fault, shown, target_fault};
use super::quote::unquote;
use super::tree::go_mode;
use crate::limits;
use crate::source::{Metadata, NodeKind, Xattr};

/// A node that can be restored.
pub(super) struct Entry {
    pub(super) node: Node,
    /// Values that could not be used, as a message.
    pub(super) wrong: Option<String>,
}

/// The reason why an entry cannot be restored.
pub(super) struct Unfit {
    pub(super) message: String,
    pub(super) loss: Loss,
}

impl From<String> for Unfit {
    fn from(message: String) -> Self {
        Self { message, loss: Loss::Entry }
    }
}

impl From<&str> for Unfit {
    fn from(message: &str) -> Self {
        message.to_owned().into()
    }
}

impl Entry {
    /// The entry that is stored as `raw`, or the reason why it cannot be restored.
    pub(super) fn of(raw: &mut RawNode<'_>, names: &mut Names) -> Result<Self, Unfit> {
        if !raw.is_object {
            return Err("is no object".into());
        }
        let text = raw.name.as_text().ok_or("has no name")?;
        let name = unquote(text).ok_or("has a name that is not quoted correctly")?;
        if let Some(message) = name_fault(&name) {
            return Err(message.into());
        }
        let kind = kind(raw)?;
        let (is_file, is_dir) = (kind == NodeKind::File, kind == NodeKind::Dir);
        if is_file && raw.content.is_wrong {
            return Err("has an invalid list of blobs".into());
        }
        if is_dir && raw.subtree.is_null() {
            return Err(NO_SUBTREE.into());
        }
        if is_dir && raw.subtree.as_id().is_none() {
            return Err("has an invalid subtree".into());
        }
        let has_size = match raw.size {
            Loose::Null => true,
            Loose::Number(size) => size <= limits::MAX_FILE,
            _ => false,
        };
        if is_file && !has_size {
            return Err("has an invalid size".into());
        }
        let mut values = Values::default();
        if !is_file && (!raw.content.ids.is_empty() || raw.content.is_wrong) {
            values.wrong.push("content");
        }
        if !is_dir && !raw.subtree.is_null() {
            values.wrong.push("subtree");
        }
        let metadata = values.metadata(raw, kind, names);
        let content = if is_file { std::mem::take(&mut raw.content.ids) } else { Vec::new() };
        let subtree = raw.subtree.as_id().filter(|_| is_dir);
        let node = Node { name: name.into(), metadata, content, subtree };
        Ok(Self { node, wrong: values.message() })
    }
}

fn kind(raw: &RawNode<'_>) -> Result<NodeKind, Unfit> {
    let device = || match raw.device {
        Loose::Null => Ok(0),
        Loose::Number(device) => Ok(device),
        _ => Err("has an invalid device number"),
    };
    Ok(match raw.kind.as_text().ok_or("has no type")? {
        "file" => NodeKind::File,
        "dir" => NodeKind::Dir,
        "symlink" => NodeKind::Symlink { target: link_target(raw)?.into() },
        "dev" => NodeKind::BlockDevice { device: device()? },
        "chardev" => NodeKind::CharDevice { device: device()? },
        "fifo" => NodeKind::Fifo,
        "socket" => NodeKind::Socket,
        "" => return Err("has no type".into()),
        other => {
            let name = shown(other.as_bytes());
            let message = format!("has the type {name:?}, which only other programs can restore");
            return Err(Unfit { message, loss: Loss::Unsupported });
        }
    })
}

fn link_target(raw: &RawNode<'_>) -> Result<Vec<u8>, String> {
    let target = match &raw.linktarget_raw {
        Loose::Null => raw.linktarget.as_text().unwrap_or_default().as_bytes().to_vec(),
        encoded => encoded
            .as_text()
            .and_then(|text| BASE64.decode(text).ok())
            .ok_or("is a symbolic link whose target is not Base64")?,
    };
    match target_fault(&target) {
        None => Ok(target),
        Some(message) => Err(message),
    }
}

/// Collects the fields whose values cannot be used.
#[derive(Default)]
struct Values {
    wrong: Vec<&'static str>,
    /// Times outside of the supported years.
    clamped: Vec<&'static str>,
}

impl Values {
    fn metadata(&mut self, raw: &RawNode<'_>, kind: NodeKind, names: &mut Names) -> Metadata {
        let mtime = self.time("mtime", &raw.mtime, Timestamp::UNIX_EPOCH);
        let before = self.wrong.len();
        let uid = self.small_number("uid", &raw.uid);
        let gid = self.small_number("gid", &raw.gid);
        let has_owner = self.wrong.len() == before;
        let mut mode = self.mode(&raw.mode, &kind);
        if !has_owner {
            // A program must not run with the rights of a default owner.
            mode &= 0o1777;
        }
        Metadata {
            mode,
            mtime,
            atime: self.time_beside("atime", &raw.atime, (&raw.mtime, mtime)),
            ctime: self.time_beside("ctime", &raw.ctime, (&raw.mtime, mtime)),
            uid,
            gid,
            user: shared(&mut names.user, self.text("user", &raw.user)),
            group: shared(&mut names.group, self.text("group", &raw.group)),
            inode: self.number("inode", &raw.inode),
            device_id: self.number("device_id", &raw.device_id),
            links: self.number("links", &raw.links),
            size: self.number("size", &raw.size),
            xattrs: self.xattrs(raw),
            kind,
        }
    }

    fn number(&mut self, field: &'static str, value: &Loose<'_>) -> u64 {
        match value {
            Loose::Null => 0,
            Loose::Number(number) => *number,
            _ => {
                self.wrong.push(field);
                0
            }
        }
    }

    fn small_number(&mut self, field: &'static str, value: &Loose<'_>) -> u32 {
        u32::try_from(self.number(field, value)).unwrap_or_else(|_| {
            self.wrong.push(field);
            0
        })
    }

    fn text<'a>(&mut self, field: &'static str, value: &'a Loose<'_>) -> Option<&'a str> {
        if value.as_text().is_none() && !value.is_null() {
            self.wrong.push(field);
        }
        value.as_text()
    }

    fn mode(&mut self, value: &Loose<'_>, kind: &NodeKind) -> u32 {
        let before = self.wrong.len();
        let mode = self.small_number("mode", value);
        match (self.wrong.len() == before, kind) {
            (true, _) => unix_mode(mode),
            (false, NodeKind::Dir) => 0o700,
            (false, _) => 0o600,
        }
    }

    fn time(&mut self, field: &'static str, value: &Loose<'_>, default: Timestamp) -> Timestamp {
        if value.is_null() {
            return default;
        }
        let text = value.as_text().unwrap_or_default();
        if let Ok(time) = text.parse() {
            return time;
        }
        match clamped(text) {
            Some(time) => {
                self.clamped.push(field);
                time
            }
            None => {
                self.wrong.push(field);
                default
            }
        }
    }

    /// A time of an entry that has a modification time, which is the same in most cases: parsing times
    /// is expensive.
    fn time_beside(
        &mut self,
        field: &'static str,
        value: &Loose<'_>,
        (text, mtime): (&Loose<'_>, Timestamp),
    ) -> Timestamp {
        let is_valid = !self.wrong.contains(&"mtime") && !self.clamped.contains(&"mtime");
        let text = text.as_text().filter(|_| is_valid);
        if text.is_some() && value.as_text() == text {
            return mtime;
        }
        self.time(field, value, mtime)
    }

    fn xattrs(&mut self, raw: &RawNode<'_>) -> Vec<Xattr> {
        let xattrs: Vec<Xattr> = raw.xattrs.items.iter().filter_map(xattr).collect();
        if raw.xattrs.is_wrong || xattrs.len() < raw.xattrs.items.len() {
            self.wrong.push("extended_attributes");
        }
        xattrs
    }

    fn message(self) -> Option<String> {
        let mut parts = Vec::new();
        if !self.clamped.is_empty() {
            let fields = self.clamped.join(", ");
            parts.push(format!(
                "has a time outside of the supported years in {fields}; the nearest one is used"
            ));
        }
        if !self.wrong.is_empty() {
            let fields = self.wrong.join(", ");
            parts.push(format!("has invalid values in {fields}; defaults are used"));
        }
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}

/// The last supported time for one that is later, and the first one for one that is earlier:
/// restic writes times up to the end of 9999, which is two days later than the last one.
fn clamped(text: &str) -> Option<Timestamp> {
    let digits = text.trim_start_matches(['+', '-']);
    let year: u32 = digits.split_once('-')?.0.parse().ok()?;
    if text.starts_with('-') {
        return (year > 9000).then_some(Timestamp::MIN);
    }
    (year >= 9999).then_some(Timestamp::MAX)
}

fn xattr(raw: &RawXattr<'_>) -> Option<Xattr> {
    let name = raw.name.as_text()?;
    let is_valid =
        !name.is_empty() && !name.contains('\0') && name.len() <= limits::MAX_ATTRIBUTE_NAME;
    let value = match &raw.value {
        Loose::Null => Vec::new(),
        value => BASE64.decode(value.as_text()?).ok()?,
    };
    is_valid.then(|| Xattr { name: name.into(), value: value.into() })
}

fn shared(last: &mut Option<Arc<str>>, text: Option<&str>) -> Option<Arc<str>> {
    let text = text.filter(|text| !text.is_empty())?;
    if last.as_deref() != Some(text) {
        *last = Some(text.into());
    }
    last.clone()
}

fn unix_mode(go: u32) -> u32 {
    let bit = |from: u32, to: u32| if go & from != 0 { to } else { 0 };
    (go & 0o777)
        | bit(go_mode::SETUID, 0o4000)
        | bit(go_mode::SETGID, 0o2000)
        | bit(go_mode::STICKY, 0o1000)
}
