//! What is known about an entry besides its content. The fields follow restic's tree nodes.

use std::sync::Arc;

use jiff::Timestamp;

/// Type of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeKind {
    /// A regular file or a stream.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Symlink {
        /// What it points to; any bytes.
        target: Box<[u8]>,
    },
    /// A block device.
    BlockDevice {
        /// Device number (`st_rdev`).
        device: u64,
    },
    /// A character device.
    CharDevice {
        /// Device number (`st_rdev`).
        device: u64,
    },
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

/// One extended attribute. ACLs are attributes too (`system.posix_acl_access`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Xattr {
    /// Name with its name space, for instance `user.comment`.
    pub name: Box<str>,
    /// Value, any bytes.
    pub value: Box<[u8]>,
}

/// Metadata of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// Its type.
    pub kind: NodeKind,
    /// Permission bits with set-uid, set-gid and sticky, as `st_mode & 0o7777`.
    pub mode: u32,
    /// Last change of the content.
    pub mtime: Timestamp,
    /// Last access; restic stores the mtime here unless asked otherwise, and so do we.
    pub atime: Timestamp,
    /// Last change of the inode.
    pub ctime: Timestamp,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Owner's name, if known.
    pub user: Option<Arc<str>>,
    /// Group's name, if known.
    pub group: Option<Arc<str>>,
    /// Inode number, 0 if there is none.
    pub inode: u64,
    /// Number of the device that holds it (`st_dev`), 0 if there is none.
    pub device_id: u64,
    /// Number of hard links; 0 for directories, pipes and sockets, as restic stores it.
    pub links: u64,
    /// Size in bytes as the source knows it; the pipeline stores the size it has read.
    pub size: u64,
    /// Extended attributes in the order in which the system lists them.
    pub xattrs: Vec<Xattr>,
}

impl Metadata {
    /// Metadata of a stream that has no inode: mode 0600, one time for all.
    #[must_use]
    pub fn stream(time: Timestamp) -> Self {
        Self {
            kind: NodeKind::File,
            mode: 0o600,
            mtime: time,
            atime: time,
            ctime: time,
            uid: 0,
            gid: 0,
            user: None,
            group: None,
            inode: 0,
            device_id: 0,
            links: 1,
            size: 0,
            xattrs: Vec::new(),
        }
    }

    /// Metadata of a directory that has no inode: mode 0700, one time for all.
    #[must_use]
    pub fn directory(time: Timestamp) -> Self {
        Self { kind: NodeKind::Dir, mode: 0o700, links: 0, ..Self::stream(time) }
    }
}
