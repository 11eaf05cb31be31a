use backup_core::log::{Branch, Gap, Place, Stretch, Tick};

use super::*;

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn stretch(branch: &str, from: u64, to: u64, times: [&str; 2]) -> Stretch {
    let ticks = vec![
        Tick { offset: from + 1, time: time(times[0]) },
        Tick { offset: to, time: time(times[1]) },
    ];
    Stretch {
        branch: branch.to_owned(),
        from,
        to,
        ticks,
        place: Place::Slice(format!("{from}")),
        bytes: 10,
    }
}

fn base(digit: char, branch: &str, at: u64, moment: &str) -> Base {
    let id = digit.to_string().repeat(64).parse().unwrap();
    Base {
        id,
        needs: at,
        at: Position::new(branch, at),
        is_whole: false,
        time: time(moment),
        bytes: 2048,
        rate: None,
    }
}

fn drawn(timeline: &Timeline, gaps: Vec<Missing>) -> String {
    let drawing = Drawing::new(timeline, &[], gaps, time("2026-03-02T12:00:05Z"));
    let text = drawing.text(timeline, &[], &TimeZone::UTC);
    anstream::adapter::strip_str(&text).to_string()
}

#[test]
fn ranges_gaps_and_bases() {
    let stretches = [
        stretch("", 10, 20, ["2026-03-01T10:00:00Z", "2026-03-01T18:00:00Z"]),
        stretch("", 25, 40, ["2026-03-01T20:00:00Z", "2026-03-02T12:00:00Z"]),
    ];
    let bases =
        vec![base('a', "", 10, "2026-03-01T09:59:00Z"), base('b', "", 30, "2026-03-02T00:10:00Z")];
    let gap = Gap {
        branch: String::new(),
        from: 25,
        to: None,
        reason: Some("the server forgot it".to_owned()),
    };
    let timeline = Timeline::new(bases, stretches, [], vec![gap]);
    let gaps = timeline.gaps().into_iter().map(|gap| Missing {
        from_time: Some(time("2026-03-01T18:00:00Z")),
        to_time: Some(time("2026-03-01T20:00:00Z")),
        gap,
    });
    insta::assert_snapshot!("timeline_gap", drawn(&timeline, gaps.collect()));
}

#[test]
fn branches_are_named_where_there_are_several() {
    let stretches = [
        stretch("a", 0, 20, ["2026-03-02T08:00:00Z", "2026-03-02T10:00:00Z"]),
        stretch("b\x1b", 15, 30, ["2026-03-02T10:30:00Z", "2026-03-02T12:00:00Z"]),
    ];
    let left = Branch { name: "b\x1b".to_owned(), parent: Some(Position::new("a", 15)) };
    let branches = [Branch { name: "a".to_owned(), parent: None }, left];
    let timeline =
        Timeline::new(vec![base('a', "a", 0, "2026-03-02T07:59:00Z")], stretches, branches, vec![]);
    insta::assert_snapshot!("timeline_branches", drawn(&timeline, Vec::new()));
}

#[test]
fn nothing_yet() {
    insta::assert_snapshot!("timeline_empty", drawn(&Timeline::default(), Vec::new()));
}
