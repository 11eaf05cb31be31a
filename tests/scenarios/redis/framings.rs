//! Odd ways in which servers frame a dump, replayed by a double, and servers with another name of
//! PSYNC.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use backup_core::context::Context;
use backup_core::pipeline::BackupOptions;
use backup_core::source::{BackupKind, IfExists, LogCapture, Source as _, SourceErrorKind};
use backup_core::testing::MemorySink;
use backup_sources::redis::{RedisOptions, RedisSource};

use super::restores::{assert_same, verified};
use super::{back_up, file, source, source_with, talking};
use crate::support::redis::{Redis, Version};
use crate::support::repo::Repo;

const MARK: [u8; 40] = [b'm'; 40];
const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";

/// A server that answers PSYNC by these pieces, one after the other, and keeps the connection.
fn master(pieces: Vec<Vec<u8>>) -> RedisOptions {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("redis://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let pieces = pieces.clone();
            std::thread::spawn(move || answer(stream.unwrap(), &pieces));
        }
    });
    RedisOptions::parse(&address).unwrap()
}

/// Ends when the client has closed the connection.
fn answer(mut stream: TcpStream, pieces: &[Vec<u8>]) {
    let mut input = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    while input.read_line(&mut line).is_ok_and(|len| len > 0) {
        match line.trim_end() {
            "PING" | "REPLCONF" => stream.write_all(b"+OK\r\n").unwrap(),
            "INFO" => stream.write_all(b"$0\r\n\r\n").unwrap(),
            "PSYNC" => {
                for piece in pieces {
                    // A client that has seen enough may have gone.
                    if stream.write_all(piece).is_err() {
                        return;
                    }
                    std::thread::sleep(Duration::from_millis(20));
                }
                _ = input.read_to_end(&mut Vec::new());
                return;
            }
            _ => {}
        }
        line.clear();
    }
}

fn full_resync() -> Vec<u8> {
    format!("+FULLRESYNC {} 7\r\n", "a".repeat(40)).into_bytes()
}

/// Every published framing: the dump is complete when its end has arrived, though the server keeps
/// the connection.
pub(super) async fn odd_framings_end_with_the_dump(version: Version) {
    let server = Redis::start(version);
    super::data::fill(&server);
    let repo = Repo::init(Arc::new(MemorySink::new())).await;
    let taken = back_up(&repo, &source(&server).await).await.snapshot.unwrap();
    let dump = file(&repo.reader(taken).await, "dump.rdb").await;
    let len = format!("${}\r\n", dump.len()).into_bytes();
    let mark = [b"$EOF:", &MARK[..], b"\r\n"].concat();
    let marked = [&dump[..], &MARK].concat();
    let newlines = b"\n\n".to_vec();
    for (name, has_place, pieces) in [
        ("length", true, vec![full_resync(), len.clone(), dump.clone()]),
        (
            "newlines before everything",
            true,
            vec![
                newlines.clone(),
                full_resync(),
                newlines.clone(),
                newlines.clone(),
                len.clone(),
                dump.clone(),
            ],
        ),
        ("length, then PING", true, vec![full_resync(), [&len[..], &dump, PING].concat()]),
        ("mark", true, vec![full_resync(), mark.clone(), marked.clone()]),
        (
            "mark with a newline",
            true,
            vec![full_resync(), mark.clone(), [&marked[..], b"\n"].concat()],
        ),
        (
            "mark, then a newline",
            true,
            vec![full_resync(), mark.clone(), marked.clone(), newlines.clone()],
        ),
        (
            "mark in two parts with a newline",
            true,
            vec![
                full_resync(),
                mark.clone(),
                marked[..marked.len() - 15].to_vec(),
                [&MARK[..15], b"\n"].concat(),
            ],
        ),
        (
            "mark, then PING",
            true,
            vec![full_resync(), mark.clone(), [&marked[..], PING, PING].concat()],
        ),
        ("SYNC with length", false, vec![newlines.clone(), len.clone(), dump.clone()]),
        ("SYNC with mark", false, vec![[&newlines[..], &mark, &marked, b"\n"].concat()]),
    ] {
        let origin = source_with(master(pieces)).await;
        let options = BackupOptions::default();
        let backing_up = repo.try_backup(&origin, &options);
        let done = tokio::time::timeout(Duration::from_secs(60), backing_up).await;
        let report = done.unwrap_or_else(|_| panic!("{name}: no end")).unwrap();
        let snapshot = repo.reader(report.snapshot.unwrap()).await;
        assert!(file(&snapshot, "dump.rdb").await == dump, "{name}");
        let manifest = snapshot.manifest().await.unwrap().unwrap();
        assert_eq!(manifest.checkpoint.position.is_some(), has_place, "{name}");
        assert_eq!(manifest.checkpoint.log.is_some(), has_place, "{name}");
    }
    repo.assert_sound().await;
}

/// A server that always sends something is never silent: the time limit of the dump ends it.
pub(super) async fn endless_dumps_are_given_up(version: Version) {
    let server = Redis::start(version);
    super::data::fill(&server);
    let repo = Repo::init(Arc::new(MemorySink::new())).await;
    let taken = back_up(&repo, &source(&server).await).await.snapshot.unwrap();
    let dump = file(&repo.reader(taken).await, "dump.rdb").await;
    let len = format!("${}\r\n", dump.len()).into_bytes();
    let slow = dump.iter().map(|byte| vec![*byte]);
    for (name, pieces) in [
        ("newlines", vec![b"\n".to_vec(); 1000]),
        ("bytes", [full_resync(), len].into_iter().chain(slow).take(1000).collect()),
    ] {
        let limit = Duration::from_secs(2);
        let origin = source_with(RedisOptions { dump_timeout: limit, ..master(pieces) }).await;
        let begun = Instant::now();
        let error = repo.try_backup(&origin, &BackupOptions::default()).await.unwrap_err();
        assert!((2..8).contains(&begun.elapsed().as_secs()), "{name}: {:?}", begun.elapsed());
        let told = format!("{} ({:?})", error.chain(), error.hint());
        assert!(told.contains("after 2 seconds") && told.contains("dump_timeout"), "{told}");
    }
    assert_eq!(repo.snapshots().await.len(), 1);
}

/// A server whose PSYNC has another name answers as to an old replica: a snapshot of one moment,
/// without a log.
pub(super) async fn renamed_psync_gives_snapshots_without_a_log(version: Version) {
    let server = Redis::with(version, &["--rename-command", "PSYNC", "COPY-ALL"]);
    super::data::fill(&server);
    let options = RedisOptions {
        psync: "COPY-ALL".to_owned(),
        ..RedisOptions::parse(&server.address()).unwrap()
    };
    let origin = source_with(options.clone()).await;
    let repo = Repo::init(Arc::new(MemorySink::new())).await;
    for _ in 0..2 {
        let report = back_up(&repo, &origin).await;
        let snapshot = repo.reader(report.snapshot.unwrap()).await;
        let manifest = snapshot.manifest().await.unwrap().unwrap();
        assert_eq!(report.kind, BackupKind::Full);
        assert_eq!((manifest.totals.warnings, manifest.checkpoint.position), (0, None));
        assert!(manifest.remarks[0].contains("COPY-ALL as SYNC"), "{:?}", manifest.remarks);
        assert!(!snapshot.snapshot().tags.iter().any(|tag| tag == "not-point-in-time"));
        let target = Redis::start(version);
        let to = source(&target).await;
        let request = verified(IfExists::Fail);
        backup_core::pipeline::restore(&snapshot, &to, &request, &talking()).await.unwrap();
        assert_same(&server, &target);
    }
    let refused = origin.open_log(&Context::silent(), None).await.err().unwrap();
    assert_eq!(refused.kind(), SourceErrorKind::Unsupported, "{}", refused.chain());
    let probe = origin.probe(&Context::silent()).await.unwrap();
    assert_eq!(probe.log_capture, LogCapture::Unchecked);
    assert!(probe.problems[0].finding.contains("as SYNC"), "{:?}", probe.problems);
    // An unknown name.
    let wrong = RedisOptions { psync: "COPY-NONE".to_owned(), ..options };
    let probe = source_with(wrong).await.probe(&Context::silent()).await.unwrap();
    assert_eq!(probe.log_capture, LogCapture::Refused);
    assert!(probe.problems[0].finding.contains("no command copy-none"), "{:?}", probe.problems);
}

/// A proxy that repeats the password in its refusal.
#[tokio::test]
async fn error_hides_the_password_that_a_proxy_repeats() {
    for text in ["WRONGPASS user me has no password kaixoo", "ERR kaixoo is wrong"] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            _ = stream.read(&mut [0; 100]).unwrap();
            stream.write_all(format!("-{text}\r\n").as_bytes()).unwrap();
        });
        let options = RedisOptions::parse(&format!("redis://me:kaixoo@127.0.0.1:{port}")).unwrap();
        let error = RedisSource::connect(options).await.unwrap_err();
        let told = format!("{} {error:?} {:?}", error.chain(), error.hint());
        assert!(!told.contains("kaixoo"), "{told}");
    }
}
