//! Rights, TLS, dumps that do not come as they should, and what a snapshot is worth while others
//! write.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backup_core::context::Context;
use backup_core::event::Events;
use backup_core::pipeline::BackupOptions;
use backup_core::source::{
    BackupKind, BackupRequest, Content, Item, LogCapture, Selection, Source as _, SourceErrorKind,
};
use backup_core::testing::MemorySink;
use backup_sources::Waits;
use backup_sources::redis::{RedisOptions, RedisSource, SnapshotReading};
use futures::StreamExt as _;

use super::{back_up, digest, file, source, source_with};
use crate::support::redis::{Redis, Version};
use crate::support::repo::Repo;
use crate::support::tls::Authority;

/// The rights that the documentation asks for are enough; without them the statement that grants
/// them is told.
pub(super) async fn few_rights_are_enough(version: Version) {
    let server = Redis::start(version);
    server.run(&["SET", "a", "x"]);
    server.run(&["ACL", "SETUSER", "backup", "on", ">secret", "+psync", "+replconf", "+ping"]);
    server.run(&["ACL", "SETUSER", "reader", "on", ">secret", "+@read", "~*"]);
    let login = |user: &str, password: &str| {
        let (user, password) = (Some(user.to_owned()), Some(password.to_owned()));
        RedisOptions { user, password, ..RedisOptions::parse(&server.address()).unwrap() }
    };
    let repo = Repo::init(Arc::new(MemorySink::new())).await;
    let allowed = source_with(login("backup", "secret")).await;
    let report = back_up(&repo, &allowed).await;
    let manifest = repo.reader(report.snapshot.unwrap()).await.manifest().await.unwrap().unwrap();
    assert_eq!(manifest.objects["db0"].count, 1);
    // The access list is not allowed, and there is no backlog.
    let probe = allowed.probe(&Context::silent()).await.unwrap();
    assert!(probe.problems[0].finding.contains("could not be checked"), "{:?}", probe.problems);
    assert_eq!((probe.problems.len(), probe.log_capture), (1, LogCapture::Unchecked));
    // It cannot write, nor read.
    let mut client = server.client();
    client.ok(&["AUTH", "backup", "secret"]);
    for command in [&["SET", "a", "y"][..], &["GET", "a"], &["FLUSHALL"]] {
        assert!(client.run(command).unwrap_err().starts_with("NOPERM"));
    }

    let reader = source_with(login("reader", "secret")).await;
    let problems = reader.probe(&Context::silent()).await.unwrap().problems;
    assert!(problems[0].remedy.contains("ACL SETUSER backup"), "{problems:?}");
    assert_eq!(reader.probe(&Context::silent()).await.unwrap().log_capture, LogCapture::Refused);
    let error = repo.try_backup(&reader, &BackupOptions::default()).await.unwrap_err();
    assert!(error.hint().unwrap().contains("ACL SETUSER backup"), "{}", error.chain());
    let error = RedisSource::connect(login("backup", "kaixoo")).await.unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::Invalid, "{}", error.chain());
    for text in [error.chain(), format!("{error:?}"), format!("{:?}", error.hint())] {
        assert!(!text.contains("kaixoo"), "{text}");
    }
    // Without a password nobody else is meant.
    let error =
        RedisSource::connect(RedisOptions { user: Some("backup".to_owned()), ..login("", "") })
            .await;
    assert!(error.is_err_and(|error| error.chain().contains("WRONGPASS")));
    server.run(&["CONFIG", "SET", "requirepass", "secret"]);
    let error =
        RedisSource::connect(RedisOptions::parse(&server.address()).unwrap()).await.unwrap_err();
    assert!(error.hint().unwrap().contains("redis://USER"), "{}", error.chain());
    assert_eq!(repo.snapshots().await.len(), 1);
}

/// A server that says nothing any more while its connections stay, as one in a machine that was
/// stopped: it is left, and found again.
pub(super) async fn silence_is_noticed(version: Version) {
    let server = Redis::with(version, &["--repl-ping-replica-period", "1"]);
    let silence = Duration::from_secs(3);
    let options = RedisOptions {
        waits: Waits::new(silence, Events::silent()),
        ..RedisOptions::parse(&server.address()).unwrap()
    };
    let cx = Context::silent();
    let mut log = source_with(options).await.open_log(&cx, None).await.unwrap();
    let mut client = server.client();
    client.ok(&["SET", "a", "x"]);
    let mut at = log.next().await.unwrap().to;
    let replicas = |client: &mut crate::support::redis::Client| {
        let all = client.ok(&["CLIENT", "LIST", "TYPE", "replica"]).text();
        all.split_whitespace()
            .filter(|word| word.starts_with("id="))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let before = replicas(&mut client);
    // Where nothing happens but signs of life, the connection is kept.
    tokio::time::sleep(silence + Duration::from_secs(1)).await;
    assert_eq!(replicas(&mut client), before);
    server.pause(true);
    tokio::time::sleep(silence + Duration::from_secs(1)).await;
    server.pause(false);
    client.ok(&["SET", "b", "x"]);
    let found = tokio::time::timeout(Duration::from_secs(60), async {
        loop {
            let segment = log.next().await.unwrap();
            assert_eq!(segment.from, at);
            at = segment.to;
            if segment.data.windows(3).any(|bytes| bytes == b"\nb\r") {
                return replicas(&mut client);
            }
        }
    });
    let after = found.await.unwrap();
    assert!(after.len() == 1 && after != before, "{before:?} {after:?}");
}

/// Under TLS with an authority of one's own; nobody else is believed.
pub(super) async fn certificates_are_checked(version: Version) {
    let (room, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let ca = authority.write(room.path());
    let (certificate, key) = authority.issue(room.path());
    let server = Redis::start(version);
    let port = server.second_port();
    let text = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    server.run(&[
        "CONFIG",
        "SET",
        "tls-ca-cert-file",
        &text(&ca),
        "tls-cert-file",
        &text(&certificate),
        "tls-key-file",
        &text(&key),
        "tls-auth-clients",
        "no",
        "tls-port",
        &port.to_string(),
    ]);
    server.run(&["SET", "a", "x"]);
    let plain = RedisOptions::parse(&format!("rediss://127.0.0.1:{port}")).unwrap();
    let trusting = RedisOptions { tls_ca_file: Some(ca), ..plain.clone() };
    let repo = Repo::init(Arc::new(MemorySink::new())).await;
    let over_tls = source_with(trusting.clone()).await;
    back_up(&repo, &over_tls).await;
    assert_eq!(digest(&over_tls).await, digest(&source(&server).await).await);
    let other = tempfile::tempdir().unwrap();
    let stranger =
        RedisOptions { tls_ca_file: Some(Authority::new().write(other.path())), ..plain };
    let error = RedisSource::connect(stranger).await.unwrap_err();
    assert_eq!(error.kind(), SourceErrorKind::Invalid, "{}", error.chain());
    let deaf = RedisOptions { port: server.port(), ..trusting };
    RedisSource::connect(deaf).await.unwrap_err();
}

/// A server that answers a replica with `dump` and nothing else, and hangs up.
pub(super) fn double(dump: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("redis://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            while let Some(Ok(line)) = lines.next() {
                let answer: &[u8] = match &*line {
                    "PING" | "REPLCONF" => b"+OK\r\n",
                    "INFO" => b"$0\r\n\r\n",
                    "PSYNC" => {
                        let id = "a".repeat(40);
                        stream.write_all(format!("\n\n+FULLRESYNC {id} 7\r\n").as_bytes()).unwrap();
                        // Whoever has seen enough may have gone.
                        _ = stream.write_all(&dump);
                        break;
                    }
                    _ => continue,
                };
                stream.write_all(answer).unwrap();
            }
        }
    });
    address
}

/// However it comes: what is cut or damaged becomes no snapshot; what is only unknown does.
pub(super) async fn damaged_dumps_become_no_snapshot(version: Version) {
    let server = Redis::start(version);
    super::data::fill(&server);
    let repo = Repo::init(Arc::new(MemorySink::new())).await;
    let taken = back_up(&repo, &source(&server).await).await.snapshot.unwrap();
    let dump = file(&repo.reader(taken).await, "dump.rdb").await;
    let mark = "m".repeat(40);
    let sized = |dump: &[u8]| [format!("${}\r\n", dump.len()).as_bytes(), dump].concat();
    let marked =
        |dump: &[u8]| [format!("$EOF:{mark}\r\n").as_bytes(), dump, mark.as_bytes()].concat();
    let mut flipped = dump.clone();
    flipped[dump.len() / 2] ^= 4;
    let half = &dump[..dump.len() / 2];
    let mut unknown = dump.clone();
    let at = if unknown.starts_with(b"VALKEY") { 6 } else { 5 };
    unknown[at..9].fill(b'9');
    let len = unknown.len() - 8;
    unknown[len..].fill(0);
    for (what, stream, good) in [
        ("whole", sized(&dump), true),
        ("whole, marked", marked(&dump), true),
        ("cut", sized(&dump)[..half.len()].to_vec(), false),
        ("cut, marked", [format!("$EOF:{mark}\r\n").as_bytes(), half].concat(), false),
        ("cut before", sized(half), false),
        ("cut before, marked", marked(half), false),
        ("flipped", sized(&flipped), false),
        ("flipped, marked", marked(&flipped), false),
        ("more", sized(&[&dump[..], b"x"].concat()), false),
        ("nothing", Vec::new(), false),
        ("refused", b"-ERR no memory to fork\r\n".to_vec(), false),
        ("unknown", sized(&unknown), true),
    ] {
        let count = repo.snapshots().await.len();
        let strange =
            RedisSource::connect(RedisOptions::parse(&double(stream)).unwrap()).await.unwrap();
        let soon = Duration::from_secs(60);
        let done = tokio::time::timeout(soon, repo.try_backup(&strange, &BackupOptions::default()))
            .await
            .unwrap();
        assert_eq!(
            done.is_ok(),
            good,
            "{what}: {:?}",
            done.as_ref().err().map(backup_core::error::Error::chain)
        );
        assert_eq!(repo.snapshots().await.len(), count + usize::from(good), "{what}");
        if let Ok(report) = done {
            let bytes = file(&repo.reader(report.snapshot.unwrap()).await, "dump.rdb").await;
            assert!(
                bytes == if what == "unknown" { unknown.clone() } else { dump.clone() },
                "{what}"
            );
        }
    }
    repo.assert_sound().await;
}

/// While money is moved all the time, none is lost or made in a snapshot; reading one account after
/// the other finds another sum.
pub(super) async fn sums_hold_while_others_write(version: Version) {
    const ACCOUNTS: u32 = 50_000;
    let server = Redis::start(version);
    let mut client = server.client();
    for first in (0..ACCOUNTS).step_by(1000) {
        let all: Vec<_> = (first..first + 1000)
            .map(|n| vec!["SET".to_owned(), format!("a{n}"), "100".to_owned()])
            .collect();
        client.all(&all);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let (ending, port) = (Arc::clone(&stop), server.port());
    let moving = std::thread::spawn(move || {
        let mut client = crate::support::redis::Client::connect(port);
        let (mut state, mut count) = (1_u32, 0_u64);
        while !ending.load(Ordering::Relaxed) {
            let mut commands = Vec::new();
            for _ in 0..100 {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                // From the first to the last, mostly: whoever looks at one after the other sees it
                // there and not here, or twice.
                let (from, to) = (
                    format!("a{}", (state >> 8) % ACCOUNTS),
                    format!("a{}", (state >> 3) % ACCOUNTS),
                );
                commands.push(vec!["MULTI".to_owned()]);
                commands.push(vec!["DECRBY".to_owned(), from, "7".to_owned()]);
                commands.push(vec!["INCRBY".to_owned(), to, "7".to_owned()]);
                commands.push(vec!["EXEC".to_owned()]);
            }
            client.all(&commands);
            count += 100;
        }
        count
    });
    let repo = Repo::init(Arc::new(MemorySink::new())).await;
    let taken = back_up(&repo, &source(&server).await).await.snapshot.unwrap();
    let options = RedisOptions::parse(&server.address()).unwrap();
    let scanning =
        RedisOptions { reader: Some(SnapshotReading::Scan), scan_percent: 100, ..options };
    let scanned = back_up(&repo, &source_with(scanning).await).await.snapshot.unwrap();
    stop.store(true, Ordering::Relaxed);
    let moved = moving.join().unwrap();
    assert!(moved > 1000, "{moved}");
    let sum = async |snapshot| {
        let room = tempfile::tempdir().unwrap();
        std::fs::write(
            room.path().join("dump.rdb"),
            file(&repo.reader(snapshot).await, "dump.rdb").await,
        )
        .unwrap();
        let copy = Redis::on(version, Some(room.path()), &[]);
        let all: Vec<_> = (0..ACCOUNTS).map(|n| vec!["GET".to_owned(), format!("a{n}")]).collect();
        copy.client()
            .all(&all)
            .iter()
            .map(|answer| answer.text().parse::<i64>().unwrap())
            .sum::<i64>()
    };
    let whole = i64::from(ACCOUNTS) * 100;
    assert_eq!(sum(taken).await, whole);
    assert_ne!(
        sum(scanned).await,
        whole,
        "a scan found nothing, which says nothing about the snapshot either"
    );
}

/// A capturer is no replica that WAIT may count on before what it has got is stored.
pub(super) async fn nobody_is_promised_what_is_not_stored(version: Version) {
    let server = Redis::start(version);
    let followed = source(&server).await;
    let cx = Context::silent();
    let mut log = followed.open_log(&cx, None).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let mut client = server.client();
    client.ok(&["SET", "a", "x"]);
    let segment = log.next().await.unwrap();
    assert_eq!(client.ok(&["WAIT", "1", "1500"]).number(), 0);
    let at = backup_core::log::Position::new(segment.branch, segment.to);
    log.acknowledge(&at).await.unwrap();
    assert_eq!(client.ok(&["WAIT", "1", "5000"]).number(), 1);
    cx.cancel.cancel();
    let error = loop {
        if let Err(error) = log.next().await {
            break error;
        }
    };
    assert_eq!(error.kind(), SourceErrorKind::Cancelled);
}

/// Whoever takes his time with the commands since the last snapshot is not taken for dead, and gets
/// all of them.
pub(super) async fn slow_readers_are_waited_for(version: Version) {
    let server = Redis::with(version, &["--repl-timeout", "4", "--repl-backlog-size", "64mb"]);
    let mut client = server.client();
    client.ok(&["SET", "a", "x"]);
    let repo = Repo::init(Arc::new(MemorySink::new())).await;
    let origin = source(&server).await;
    // The first one makes the server keep a backlog.
    back_up(&repo, &origin).await;
    let parent = repo.reader(back_up(&repo, &origin).await.snapshot.unwrap()).await;
    let from = parent.manifest().await.unwrap().unwrap().checkpoint.log.unwrap().at;
    let value = "v".repeat(1 << 20);
    for number in 0..40 {
        client.ok(&["SET", &format!("large{number}"), &value]);
    }
    let request = BackupRequest {
        kind: BackupKind::Incremental,
        selection: Selection::all(),
        parent: Some(parent),
    };
    let mut reader = origin.open_backup(&Context::silent(), &request).await.unwrap();
    let mut read = 0;
    while let Some(item) = reader.next().await.unwrap() {
        let Item::Entry(entry) = item else { continue };
        let Content::Stream(mut content) = entry.content else { panic!("no content") };
        // More than the server waits, and more than it keeps on the way.
        tokio::time::sleep(Duration::from_secs(9)).await;
        while let Some(bytes) = content.next().await {
            read += bytes.unwrap().len() as u64;
        }
    }
    let to = reader.finish().await.unwrap().log.unwrap().at;
    assert!(read > 40 << 20 && read == to.offset - from.offset, "{read} {from} {to}");
}
