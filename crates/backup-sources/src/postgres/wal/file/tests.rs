//! What is told of timelines, and what of it is left out.

use backup_core::log::{Branch, Place, Stretch};

use super::*;

const SIZE: u64 = 1 << 20;
const TEXT: &str =
    "1\t0/180000\tno recovery target specified\n4\t0/200000\tno recovery target specified\n";

/// A log with pieces of these timelines, and some of which it is known where they came from.
fn log_of(pieces: &[u32], parents: &[(u32, u32, u64)]) -> Timeline {
    let stretches = pieces.iter().map(|branch| Stretch {
        branch: branch.to_string(),
        from: 0,
        to: 0x20_0000,
        ticks: Vec::new(),
        place: Place::Slice(branch.to_string()),
        bytes: 1,
    });
    let branches = parents.iter().map(|(name, before, at)| Branch {
        name: name.to_string(),
        parent: Some(Position::new(before.to_string(), *at)),
    });
    Timeline::new(Vec::new(), stretches, branches, Vec::new())
}

/// The history of timeline 5, beside a segment that begins with it.
fn history() -> WalFile {
    let dir = tempfile::tempdir().unwrap();
    let mut segment = vec![0; usize::try_from(SIZE).unwrap()];
    segment[SYSTEM_ID..][..8].copy_from_slice(&77_u64.to_le_bytes());
    segment[SEGMENT_SIZE..][..4].copy_from_slice(&u32::try_from(SIZE).unwrap().to_le_bytes());
    let path = dir.path().join("00000005.history");
    fs::write(&path, TEXT).unwrap();
    let error = WalFile::read(&path).unwrap_err();
    assert!(error.hint().is_some_and(|hint| hint.contains("pg_wal")), "{error}");
    fs::write(dir.path().join("000000050000000000000002"), segment).unwrap();
    WalFile::read(&path).unwrap().unwrap()
}

/// The timelines that are told of, and where what is stored ends.
fn told(file: &WalFile, known: &Timeline, back_to: Option<&Position>) -> (Vec<String>, Position) {
    let file = file.beyond(known);
    let log = file.log(back_to).unwrap();
    let notes = log.iter().filter(|segment| segment.parent.is_some());
    let last = log.last().map(|last| Position::new(last.branch.clone(), last.to));
    (notes.map(|segment| segment.branch.clone()).collect(), last.unwrap())
}

#[test]
fn a_history_tells_what_is_not_known() {
    let file = history();
    assert_eq!((file.system_id(), file.is_segment(), file.tells_history()), (77, false, true));
    assert_eq!(file.to_string(), "history 00000005.history of cluster 77");
    let at_end = Position::new("5".to_owned(), 0x20_0000);
    // What is older than the log is left out, and what the log ought to know is told.
    assert_eq!(told(&file, &Timeline::default(), None), (vec!["5".to_owned()], at_end.clone()));
    assert_eq!(told(&file, &log_of(&[4], &[]), None), (vec!["5".to_owned()], at_end.clone()));
    assert_eq!(
        told(&file, &log_of(&[1], &[]), None),
        (vec!["4".to_owned(), "5".to_owned()], at_end.clone())
    );
    // It ends on its own timeline, or where the log goes on.
    let without_fourth = log_of(&[1], &[(5, 4, 0x20_0000)]);
    assert_eq!(told(&file, &without_fourth, None), (vec!["4".to_owned(), "5".to_owned()], at_end));
    let later = Position::new("7".to_owned(), 0x30_0000);
    assert_eq!(told(&file, &without_fourth, Some(&later)).1, later);
    let all = log_of(&[1], &[(4, 1, 0x18_0000), (5, 4, 0x20_0000)]);
    assert!(!file.beyond(&all).tells_history());
}

/// A segment of timeline 5, of which nothing is looked at.
fn segment(number: u64) -> WalFile {
    let file = WalFile { number, is_segment: true, ..history() };
    file.with_history(&Bytes::from(TEXT)).unwrap()
}

#[test]
fn a_cluster_that_was_never_seen_younger_tells_nothing() {
    let later = segment(3);
    assert!(!later.beyond(&log_of(&[5], &[])).tells_history());
    assert!(
        !later.beyond(&log_of(&[1, 5], &[(4, 1, 0x18_0000), (5, 4, 0x20_0000)])).tells_history()
    );
    // Where the second timeline's beginning is lost, every segment brings it back.
    assert!(later.beyond(&log_of(&[1, 5], &[(5, 4, 0x20_0000)])).tells_history());
    assert!(later.beyond(&log_of(&[1, 5], &[(4, 1, 0x18_0000)])).tells_history());
    assert!(segment(2).beyond(&log_of(&[5], &[])).tells_history(), "its first segment");
}

#[test]
fn what_comes_late_must_belong_to_what_came_since() {
    let known = log_of(&[1, 7], &[(5, 1, 0x10_0000), (7, 5, 0x28_0000), (8, 6, 0x40_0000)]);
    let later = |number: u32| Position::new(number.to_string(), 0x90_0000);
    let is_taken = |number: u64, by: u32| segment(number).beyond(&known).is_before(&later(by));
    assert!(is_taken(1, 7) && is_taken(2, 7), "in whole, and with its beginning");
    assert!(!is_taken(3, 7) && !is_taken(1, 8) && !is_taken(1, 9));
    assert!(history().beyond(&known).is_before(&later(8)));
}
