//! The log file by file: `archive_command` and `restore_command` of real servers.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use backup_core::context::Context;
use backup_core::crypto::Passphrase;
use backup_core::log::{LogView, Stream};
use backup_core::repository::Repository;
use backup_core::source::Source as _;
use backup_sources::postgres::WalFile;
use backup_storage::LocalSink;

use super::logs::{newest, write};
use super::place::{Place, with_role};
use super::program::text_of;
use super::{digest, source};
use crate::support::postgres::{Postgres, Version, hand_over};

/// A command that servers can run: this program with its configuration and environment.
fn script(place: &Place) -> PathBuf {
    let path = PathBuf::from(place.path("backup.sh"));
    let command = place.command(&["--quiet"]);
    let mut text = "#!/bin/sh\n".to_owned();
    for (name, value) in command.get_envs() {
        let value = value.unwrap_or_default().to_str().unwrap();
        text.push_str(&format!("export {}='{value}'\n", name.to_str().unwrap()));
    }
    let arguments: Vec<&str> =
        command.get_args().map(|argument| argument.to_str().unwrap()).collect();
    // Behind whoever it is run as, if there is somebody.
    let own = arguments.iter().position(|argument| *argument == "--").map_or(0, |at| at + 1);
    let program = match own {
        0 => command.get_program().to_str().unwrap().to_owned(),
        _ => String::new(),
    };
    text.push_str(&format!("exec {program} {} \"$@\"\n", arguments[own..].join(" ")));
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Archived by the server, fetched by another one; nothing is ever taken for the end of the log
/// that is not.
pub(super) async fn files_go_there_and_back(version: Version) {
    let server = with_role(version, &["--wal-segsize", "1"], &["archive_mode=on"]).await;
    server.run("CREATE TABLE log (id int, t text)").await;
    let place = Place::unprivileged(&server);
    let script = script(&place);
    let archive =
        format!("ALTER SYSTEM SET archive_command = '{} wal-push --job crm %p'", script.display());
    server.run(&archive).await;
    server.run("SELECT pg_reload_conf()").await;
    place.done(&["run", "crm"]);
    write(&server, 0, 60).await;
    // The last segment has something in it, too.
    while server.value("SELECT ((pg_current_wal_lsn() - '0/0') % 1048576 > 200000)::text").await
        != "true"
    {
        server
            .run("INSERT INTO log SELECT 0, sha512(n::text::bytea) FROM generate_series(1, 500) n")
            .await;
    }
    let (expected, last) = (digest(&source(&server).await).await, newest(&server).await);
    let segment = server.value("SELECT pg_walfile_name(pg_switch_wal())").await;
    archived(&server, &segment).await;
    place.reached(&text_of(&last));
    again_and_of_others(&place, &server, &segment, version).await;
    // Another server fetches what it needs from the beginning of the backup on.
    let target = place.path("copy");
    place.done(&["restore", "latest", "--target", &target]);
    let fetch = format!("restore_command={} wal-fetch --job crm %f %p", script.display());
    let to_the_end =
        ["recovery_target_lsn=", "recovery_target_timeline=latest", "archive_mode=off", &fetch];
    let copy = Postgres::recovered(version, Path::new(&target), &to_the_end).await;
    assert_eq!(expected, digest(&source(&copy).await).await, "{}", copy.log());
    drop(copy);
    ends_and_gaps(&place, &server, &segment).await;
}

/// Promoted servers go on with the archive of the one before, also twice within one segment; each
/// timeline comes back. Another copy that takes the number of one of them is refused.
pub(super) async fn promotions_go_through_the_archive(version: Version) {
    // Smaller ones are filled by a checkpoint and what is read after it, where pages have
    // checksums.
    let server = with_role(version, &["--wal-segsize", "4"], &["archive_mode=on"]).await;
    server.run("CREATE TABLE log (id int, t text)").await;
    let place = Place::unprivileged(&server);
    let script = script(&place);
    let archive = format!("archive_command={} wal-push --job crm %p", script.display());
    server.run(&format!("ALTER SYSTEM SET {}", archive.replacen('=', " = '", 1) + "'")).await;
    server.run("SELECT pg_reload_conf()").await;
    place.done(&["run", "crm"]);
    write(&server, 0, 10).await;
    let (on_first, first) = (newest(&server).await, digest(&source(&server).await).await);
    let segment = server.value("SELECT pg_walfile_name(pg_switch_wal())").await;
    archived(&server, &segment).await;
    drop(server);
    let (data, rival) = (place.path("copy"), place.path("rival"));
    for target in [&data, &rival] {
        place.done(&["restore", "latest", "--target", target]);
    }
    let fetch = format!("restore_command={} wal-fetch --job crm %f %p", script.display());
    let to_the_end = [
        "recovery_target_lsn=",
        "recovery_target_timeline=latest",
        "archive_mode=on",
        &archive,
        &fetch,
    ];
    let copy = Postgres::recovered(version, Path::new(&data), &to_the_end).await;
    // Its first timeline was left between two segments,
    number_is_taken(&place, &data, 2, (&behind(&segment, 1), 1));
    copy.run("INSERT INTO log VALUES (-1, 'on the second timeline')").await;
    let (on_second, second) = (newest(&copy).await, digest(&source(&copy).await).await);
    // In peace it would go on with another segment.
    copy.kill();
    drop(copy);
    let signal = Path::new(&data).join("recovery.signal");
    std::fs::write(&signal, "").unwrap();
    hand_over(&signal);
    let copy = Postgres::recovered(version, Path::new(&data), &to_the_end).await;
    // and the second one within one.
    number_is_taken(&place, &data, 3, (&behind(&segment, 2), 0));
    copy.run("INSERT INTO log VALUES (-2, 'on the third timeline')").await;
    let (on_third, third) = (newest(&copy).await, digest(&source(&copy).await).await);
    assert_eq!([&on_first, &on_second, &on_third].map(|at| &*at.branch), ["1", "2", "3"]);
    assert_eq!(on_second.offset >> 22, on_third.offset >> 22, "not within one segment");
    let segment = copy.value("SELECT pg_walfile_name(pg_switch_wal())").await;
    archived(&copy, &segment).await;
    for name in [&segment, "00000003.history"] {
        std::fs::copy(Path::new(&data).join("pg_wal").join(name), place.path(name)).unwrap();
        hand_over(Path::new(&place.path(name)));
    }
    drop(copy);
    for (number, (at, expected)) in
        [(on_first, first), (on_second, second), (on_third, third)].iter().enumerate()
    {
        let target = place.path(&format!("at-{number}"));
        place.done(&["restore", "--job", "crm", "--at", &text_of(at), "--target", &target]);
        let found = Postgres::recovered(version, Path::new(&target), &[]).await;
        assert_eq!(*expected, digest(&source(&found).await).await, "{at}");
    }
    another_of_that_number(&place, version, Path::new(&rival)).await;
    a_beginning_is_lost(&place, &data, &segment).await;
}

/// As soon as a server is promoted, and long before a segment of its own is full, nobody else takes
/// its number; what is kept of the timeline before, up to where it was left, is there, and no more.
fn number_is_taken(place: &Place, data: &str, timeline: u32, (before, code): (&str, i32)) {
    let (bare, to) = (bare(place, data), place.path("fetched"));
    let fetch = |name: &str| place.run(&["wal-fetch", name, &to, "--data-directory", &bare]).code;
    let (name, started) = (format!("{timeline:08X}.history"), Instant::now());
    while fetch(&name) != 0 {
        assert!(started.elapsed() < Duration::from_secs(60), "the history is not archived");
        std::thread::sleep(Duration::from_millis(200));
    }
    let own = std::fs::read_to_string(Path::new(data).join("pg_wal").join(&name)).unwrap();
    let places = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| !line.is_empty());
        lines.map(|line| line.split('\t').take(2).collect::<Vec<_>>().join(" ")).collect()
    };
    assert_eq!(places(&std::fs::read_to_string(&to).unwrap()), places(&own));
    assert_eq!(fetch(before), code, "{before}");
}

/// The name of the segment behind one, on a timeline.
fn behind(segment: &str, timeline: u32) -> String {
    format!("{timeline:08X}{:016X}", u64::from_str_radix(&segment[8..], 16).unwrap() + 1)
}

/// What says where the second timeline came from goes: nobody may take the first one for all there
/// is. Pushed again, it is there again.
async fn a_beginning_is_lost(place: &Place, data: &str, segment: &str) {
    let (bare, to) = (bare(place, data), place.path("fetched"));
    let fetch = |name: &str| place.run(&["wal-fetch", name, &to, "--data-directory", &bare]).code;
    let names =
        ["00000002.history", "00000003.history", &segment.replacen("00000003", "00000001", 1)];
    let codes = || names.map(fetch);
    assert_eq!(codes(), [0, 0, 1]);
    let sink = Arc::new(LocalSink::open(place.path("repository")).unwrap());
    let repository = Repository::open(sink, &Passphrase::new("key")).await.unwrap();
    let stream =
        Stream::of(&WalFile::read(Path::new(&place.path(segment))).unwrap().unwrap().identity());
    let view = LogView::load(&repository, &stream, &Context::silent()).await.unwrap();
    let slices = view.slices().filter(|header| header.takes_over.is_none());
    let mut slices = slices.zip(place.slices());
    let begins = slices.find(|(header, _)| header.branch == "2" && header.parent.is_some());
    std::fs::remove_dir_all(begins.unwrap().1.parent().unwrap()).unwrap();
    assert_eq!(codes(), [200; 3]);
    // Who has the history need not ask for it.
    let wal = Path::new(&bare).join("pg_wal");
    std::fs::create_dir(&wal).unwrap();
    std::fs::copy(place.path("00000003.history"), wal.join("00000003.history")).unwrap();
    assert_eq!(codes(), [200, 1, 200]);
    std::fs::remove_dir_all(&wal).unwrap();
    let again = ["wal-push", &place.path(segment)];
    assert!(!place.done(&again).contains("already stored"));
    assert_eq!(codes(), [0, 0, 1]);
    assert!(place.done(&again).contains("already stored"));
    assert!(place.done(&["wal-push", &place.path("00000003.history")]).contains("already stored"));
}

/// A data directory of which only the cluster is known.
fn bare(place: &Place, data: &str) -> String {
    let bare = place.path("bare");
    std::fs::create_dir_all(format!("{bare}/global")).unwrap();
    std::fs::copy(format!("{data}/global/pg_control"), format!("{bare}/global/pg_control"))
        .unwrap();
    for path in [&*bare, &format!("{bare}/global"), &format!("{bare}/global/pg_control")] {
        hand_over(Path::new(path));
    }
    bare
}

/// A copy that nobody has told of the others.
async fn another_of_that_number(place: &Place, version: Version, data: &Path) {
    let server = Postgres::recovered(version, data, &["recovery_target_timeline=latest"]).await;
    server.run("CREATE TABLE elsewhere (id int)").await;
    let segment = server.value("SELECT pg_walfile_name(pg_switch_wal())").await;
    assert!(segment.starts_with("00000002"), "{segment}");
    for name in [&segment, "00000002.history"] {
        let kept = PathBuf::from(place.path(name));
        std::fs::copy(data.join("pg_wal").join(name), &kept).unwrap();
        hand_over(&kept);
    }
    for name in [&segment, "00000002.history"] {
        let text = place.fails(2, &["wal-push", &place.path(name)]);
        assert!(text.contains("timeline 2 of this server begins at"), "{text}");
    }
}

async fn archived(server: &Postgres, segment: &str) {
    let started = Instant::now();
    let asking = format!(
        "SELECT coalesce(max(last_archived_wal) >= '{segment}', false)::text FROM pg_stat_archiver"
    );
    while server.value(&asking).await != "true" {
        assert!(
            started.elapsed() < Duration::from_secs(120),
            "nothing is archived:\n{}",
            server.log()
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// The same once more is no mistake; something else is, and so is the log of another cluster.
async fn again_and_of_others(place: &Place, server: &Postgres, segment: &str, version: Version) {
    let kept = PathBuf::from(place.path(segment));
    std::fs::copy(server.data().join("pg_wal").join(segment), &kept).unwrap();
    hand_over(&kept);
    assert!(place.done(&["wal-push", kept.to_str().unwrap()]).contains("already stored"));
    for name in [&format!("{segment}.00000028.backup"), &format!("{segment}.partial")] {
        place.done(&["wal-push", &place.path(name)]);
    }
    let mut bytes = std::fs::read(&kept).unwrap();
    let whole = bytes.clone();
    bytes[100] ^= 1;
    std::fs::write(&kept, &bytes).unwrap();
    assert_ne!(place.run(&["wal-push", kept.to_str().unwrap()]).code, 0);
    // Its checksums are right, but it is not the one that is there.
    let filled = whole.iter().rposition(|byte| *byte != 0).unwrap();
    let mut bytes = whole;
    assert!(filled + 8 < bytes.len(), "the segment is full to its end");
    bytes[filled + 8] = 1;
    std::fs::write(&kept, &bytes).unwrap();
    assert_ne!(place.run(&["wal-push", kept.to_str().unwrap()]).code, 0);
    let other = Postgres::with(version, &["--wal-segsize", "1"], &[]).await;
    other.run("CREATE TABLE t (id int)").await;
    let foreign = other.value("SELECT pg_walfile_name(pg_switch_wal())").await;
    let kept = PathBuf::from(place.path(&foreign));
    std::fs::copy(other.data().join("pg_wal").join(&foreign), &kept).unwrap();
    hand_over(&kept);
    let text = place.fails(2, &["wal-push", "--job", "crm", kept.to_str().unwrap()]);
    assert!(text.contains("another cluster"), "{text}");
}

/// What is not there is told from what is missing, and from everything that fails.
async fn ends_and_gaps(place: &Place, server: &Postgres, last: &str) {
    let (to, data) = (place.path("fetched"), place.path("copy"));
    let fetch = |name: &str| place.run(&["wal-fetch", name, &to, "--data-directory", &data]).code;
    assert_eq!(fetch(last), 0);
    assert_eq!(
        std::fs::read(&to).unwrap(),
        std::fs::read(server.data().join("pg_wal").join(last)).unwrap()
    );
    for none in ["0000000100000000000000F0", "00000007.history", "000000070000000000000001", "odd"]
    {
        assert_eq!(fetch(none), 1, "{none}");
    }
    assert_eq!(
        place.run(&["wal-fetch", last, &to, "--data-directory", &place.path("nowhere")]).code,
        200
    );
    assert_eq!(
        place.run(&["--repo", "/nowhere", "wal-fetch", last, &to, "--data-directory", &data]).code,
        200
    );
    assert_eq!(place.run(&["wal-fetch", last]).code, 200);
    // One of the slices in the middle goes.
    let slices = place.slices();
    std::fs::remove_file(&slices[slices.len() / 2]).unwrap();
    let names: Vec<String> = (1..=u64::from_str_radix(&last[16..], 16).unwrap())
        .map(|number| format!("0000000100000000{number:08X}"))
        .collect();
    let codes: Vec<i32> = names.iter().map(|name| fetch(name)).collect();
    // What the server has itself it may take from there.
    for (name, code) in names.iter().zip(&codes) {
        let has = Path::new(&data).join("pg_wal").join(name).exists();
        assert!([0, 200].contains(code) || (*code == 1 && has), "{name}: {code}");
    }
    assert!(codes.contains(&0) && codes.contains(&200), "{codes:?}");
    // Without a piece of its own the server cannot go on where nothing is kept before.
    let bare = bare(place, &data);
    let of_bare = |name: &str| place.run(&["wal-fetch", name, &to, "--data-directory", &bare]).code;
    assert!(names.iter().all(|name| of_bare(name) != 1));
    // The last slice is damaged: nobody knows where the log ends.
    assert_eq!(of_bare("0000000100000000000000F0"), 1);
    let newest = place.slices().pop().unwrap();
    let mut bytes = std::fs::read(&newest).unwrap();
    let len = bytes.len();
    bytes[len - 200..].fill(7);
    std::fs::write(&newest, bytes).unwrap();
    for name in [last, "0000000100000000000000F0", "00000002.history"] {
        assert_eq!(of_bare(name), 200, "{name}");
    }
}
