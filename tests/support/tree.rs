//! Building directories that hold everything a file system can hold.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, makedev, mknodat, utimensat};
use rustix::io::Errno;

use super::noise::{noise, text};

/// Names that break programs which take names for text.
pub(crate) const STRANGE_NAMES: [&[u8]; 17] = [
    b"caf\xe9 not utf-8",
    b"\xff\xfe\xfd",
    b"new\nline",
    b"tab\there",
    b"carriage\rreturn",
    b"quote\"quote'",
    b"back\\slash \\x41 \\u0041",
    b"control\x01\x1b[31m\x7f",
    b" leading and trailing ",
    b"-rf",
    b"*?[a-z]{x,y}",
    b"<html> & \xe2\x80\xa8 separators \xe2\x80\xa9",
    "ünïcödé 🦀 \u{fffd}".as_bytes(),
    "e\u{301} is not é".as_bytes(),
    "\u{feff}bom \u{ad}soft".as_bytes(),
    b"$HOME `id` ;",
    b"...",
];

/// Whether this process may make devices and give files away.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Writes a file and the directories above it.
pub(crate) fn write(path: impl Into<PathBuf>, content: impl AsRef<[u8]>) -> PathBuf {
    let path = path.into();
    fs::create_dir_all(path.parent().expect("a file has a directory")).unwrap();
    fs::write(&path, content).unwrap();
    path
}

/// Sets access and modification time; links are not followed.
pub(crate) fn touch(path: impl AsRef<Path>, seconds: i64, nanoseconds: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path.as_ref(), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// Sets the permission bits.
pub(crate) fn chmod(path: impl AsRef<Path>, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Waits until the kernel's clock has moved on: files changed just before a backup begins are read
/// again by the next one on purpose.
pub(crate) fn settle() {
    std::thread::sleep(std::time::Duration::from_millis(30));
}

/// Everything: node types, names, links, holes, attributes, owners, modes and times, some 5 MB.
pub(crate) fn everything(top: &Path) {
    contents(top);
    strange_names(&top.join("names"));
    links(top);
    special(&top.join("special"));
    attributes(&top.join("attributes"));
    if is_root() {
        owners(top);
    }
    modes(top);
    times(top);
    settle();
}

fn contents(top: &Path) {
    write(top.join("content/empty"), "");
    write(top.join("content/one byte"), "x");
    write(top.join("content/text"), text(1, 300_000));
    write(top.join("content/noise"), noise(2, 200_000));
    write(top.join("content/many chunks"), noise(3, 3_500_000));
    write(top.join("content/zeros"), vec![0; 1_000_000]);
    for at in 0..50 {
        write(top.join(format!("content/many/{at}")), text(100 + at, 40 * at as usize));
    }
    let deep = (0..40).fold(top.join("deep"), |path, at| path.join(format!("level {at}")));
    write(deep.join("bottom"), "bottom");
    fs::create_dir_all(top.join("empty directory")).unwrap();
    sparse(&top.join("content/sparse"));
    write(top.join("content").join("n".repeat(255)), "a name of 255 bytes");
}

/// 6 MB of which 8 KiB are there.
fn sparse(path: &Path) {
    let mut file = File::create(path).unwrap();
    file.seek(SeekFrom::Start(2 << 20)).unwrap();
    file.write_all(&noise(4, 4096)).unwrap();
    file.seek(SeekFrom::Start(5 << 20)).unwrap();
    file.write_all(&noise(5, 4096)).unwrap();
    file.set_len(6 << 20).unwrap();
}

fn strange_names(dir: &Path) {
    for (at, name) in STRANGE_NAMES.into_iter().enumerate() {
        let name = OsStr::from_bytes(name);
        write(dir.join("files").join(name), format!("content {at}"));
        write(dir.join("dirs").join(name).join("inside"), "inside");
        fs::create_dir_all(dir.join("links")).unwrap();
        symlink(name, dir.join("links").join(name)).unwrap();
    }
}

fn links(top: &Path) {
    let dir = top.join("links");
    write(dir.join("a hard link"), noise(6, 50_000));
    fs::hard_link(dir.join("a hard link"), dir.join("its second name")).unwrap();
    fs::hard_link(dir.join("a hard link"), top.join("its third name")).unwrap();
    write(dir.join("empty hard link"), "");
    fs::hard_link(dir.join("empty hard link"), dir.join("empty second name")).unwrap();
    symlink("a hard link", dir.join("to a file")).unwrap();
    symlink("../content", dir.join("to a directory")).unwrap();
    symlink("/nowhere/at all", dir.join("dangling")).unwrap();
    symlink("loop", dir.join("loop")).unwrap();
    symlink(OsStr::from_bytes(b"no\xfft utf-8"), dir.join("strange target")).unwrap();
    symlink("t".repeat(2000), dir.join("long target")).unwrap();
}

fn special(dir: &Path) {
    fs::create_dir_all(dir).unwrap();
    make_node(&dir.join("fifo"), FileType::Fifo, 0);
    make_node(&dir.join("socket"), FileType::Socket, 0);
    make_node(&dir.join("null"), FileType::CharacterDevice, makedev(1, 3));
    make_node(&dir.join("disk"), FileType::BlockDevice, makedev(259, 70_000));
}

/// Makes a node; a device only where this is allowed.
pub(crate) fn make_node(path: &Path, file_type: FileType, device: u64) {
    match mknodat(CWD, path, file_type, Mode::from_raw_mode(0o640), device) {
        Ok(()) => {}
        Err(Errno::PERM) if device != 0 => {}
        Err(errno) => panic!("cannot make {}: {errno}", path.display()),
    }
}

fn attributes(dir: &Path) {
    write(dir.join("file"), "attributes");
    fs::create_dir_all(dir.join("dir")).unwrap();
    let set = |name: &str, attribute: &str, value: &[u8]| {
        xattr::set(dir.join(name), attribute, value).is_ok()
    };
    if !set("file", "user.text", b"value") {
        return;
    }
    assert!(set("file", "user.binary", b"\x00\xff\n\x00"));
    assert!(set("file", "user.empty", b""));
    assert!(set("file", "user.long", &noise(7, 2000)));
    assert!(set("dir", "user.of a dir", b"d"));
    // An access control list: owner rwx, user 1234 r-x, group r--, mask r-x, others nothing.
    let entry = |tag: u16, rights: u16, id: u32| {
        [&tag.to_le_bytes()[..], &rights.to_le_bytes(), &id.to_le_bytes()].concat()
    };
    let nobody = u32::MAX;
    let list = [
        2_u32.to_le_bytes().to_vec(),
        entry(0x01, 7, nobody),
        entry(0x02, 5, 1234),
        entry(0x04, 4, nobody),
        entry(0x10, 5, nobody),
        entry(0x20, 0, nobody),
    ]
    .concat();
    set("file", "system.posix_acl_access", &list);
    set("dir", "system.posix_acl_default", &list);
    if is_root() {
        symlink("file", dir.join("link")).unwrap();
        set("link", "trusted.of a link", b"l");
        write(dir.join("able"), "may bind low ports");
        // CAP_NET_BIND_SERVICE, effective; a change of owner would strip it.
        set(
            "able",
            "security.capability",
            &[[1, 0, 0, 2], [0, 4, 0, 0], [0; 4], [0; 4], [0; 4]].concat(),
        );
    }
}

fn owners(top: &Path) {
    for (name, uid, gid) in [
        ("content/text", 1234, 4321),
        ("links/to a file", 1234, 4321),
        ("special/fifo", 1, 2),
        ("special/null", 65534, 65534),
        ("empty directory", 4_000_000_000, 4_000_000_001),
        ("deep/level 0", 33, 33),
    ] {
        lchown(top.join(name), Some(uid), Some(gid)).unwrap();
    }
}

fn modes(top: &Path) {
    for (name, mode) in [
        ("content/text", 0o4755),
        ("content/noise", 0o2751),
        ("content/one byte", 0o000),
        ("content/zeros", 0o400),
        ("content/many", 0o1777),
        ("deep/level 0/level 1", 0o2770),
        ("empty directory", 0o555),
        ("special/socket", 0o777),
    ] {
        chmod(top.join(name), mode);
    }
}

fn times(top: &Path) {
    for (at, (name, seconds)) in [
        ("content/text", 1_000_000_000),
        ("content/empty", -5),
        ("content/noise", 0),
        ("content/zeros", 7_000_000_000),
        ("links/to a file", 1_100_000_000),
        ("special/fifo", 1_200_000_000),
        ("content/many", 1_300_000_000),
        ("empty directory", 1_400_000_000),
        ("content", 1_500_000_000),
        ("", 1_600_000_000),
    ]
    .into_iter()
    .enumerate()
    {
        touch(top.join(name), seconds, 123_456_789 + at as i64);
    }
}
