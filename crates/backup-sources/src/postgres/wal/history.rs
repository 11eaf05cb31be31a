//! Histories of timelines: where each one left the one before (`timeline.c`).

use std::fmt::Write as _;

use backup_core::log::{Position, Timeline};
use backup_core::source::{SourceError, SourceErrorKind, SourceResult};

use super::super::error::malformed;
use super::super::lsn::Lsn;

/// The timelines that one came from, the oldest first, and where each was left.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in super::super) struct History(pub(in super::super) Vec<(u32, Lsn)>);

impl History {
    /// Reads `<timeline> <place> <reason>`, line by line.
    pub(in super::super) fn parse(text: &str) -> SourceResult<Self> {
        let lines =
            text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let entries = lines.map(|line| {
            let mut words = line.split_whitespace();
            let timeline = words.next().and_then(|word| word.parse().ok());
            let at = words.next().and_then(|word| word.parse().ok());
            timeline.zip(at).ok_or_else(|| malformed("timeline history"))
        });
        Ok(Self(entries.collect::<SourceResult<_>>()?))
    }

    /// The file that PostgreSQL reads.
    pub(in super::super) fn text(&self) -> String {
        self.0.iter().fold(String::new(), |mut text, (timeline, at)| {
            // Writing to a string never fails.
            _ = writeln!(text, "{timeline}\t{at}\trestored");
            text
        })
    }

    /// Where a timeline was left, and for which one; `last` is the one that this is the history of.
    pub(in super::super) fn left(&self, timeline: u32, last: u32) -> Option<(Lsn, u32)> {
        let at = self.0.iter().position(|(one, _)| *one == timeline)?;
        Some((self.0[at].1, self.0.get(at + 1).map_or(last, |(next, _)| *next)))
    }

    /// Fails if a timeline on the way to `last` is known to have left its parent somewhere else:
    /// two copies of a cluster may have been promoted with the same number, and the log of only one
    /// of them is kept.
    pub(in super::super) fn require(&self, last: u32, known: &Timeline) -> SourceResult<()> {
        for (index, (before, at)) in self.0.iter().enumerate() {
            let next = self.0.get(index + 1).map_or(last, |(next, _)| *next).to_string();
            let lineage = known.lineage(&next);
            let [.., (parent, Some(left)), _] = lineage.as_slice() else { continue };
            let (is, was) =
                (Position::new(before.to_string(), at.0), Position::new(parent.clone(), *left));
            if is != was {
                let text = format!(
                    "timeline {next} of this server begins at {at} on timeline {before}, but the \
                     captured one begins at {} on timeline {parent}",
                    Lsn(*left)
                );
                return Err(SourceError::new(SourceErrorKind::Invalid, text).with_hint(
                    "capture only the other copy, or use a separate repository for this one: two \
                     copies of the cluster were promoted",
                ));
            }
        }
        Ok(())
    }

    /// The name of a timeline's file.
    pub(in super::super) fn file_name(timeline: u32) -> String {
        format!("{timeline:08X}.history")
    }
}

#[cfg(test)]
mod tests {
    use backup_core::log::Branch;

    use super::*;

    #[test]
    fn another_way_to_the_same_timeline_is_refused() {
        let branch = |name: &str, at: u64| Branch {
            name: name.to_owned(),
            parent: Some(Position::new("1".to_owned(), at)),
        };
        let known = Timeline::new(Vec::new(), [], [branch("2", 0x500)], Vec::new());
        let on_second = |at| History(vec![(1, Lsn(at))]).require(2, &known);
        assert!(on_second(0x500).is_ok());
        let error = on_second(0x600).unwrap_err();
        assert!(
            error.kind() == SourceErrorKind::Invalid && error.to_string().contains("0/600"),
            "{error}"
        );
        // Also on the way to one that nothing is known of; and what is not known of any is no
        // reason.
        assert!(History(vec![(1, Lsn(0x600)), (2, Lsn(0x700))]).require(3, &known).is_err());
        assert!(History(vec![(1, Lsn(0x600))]).require(3, &known).is_ok());
    }

    #[test]
    fn is_read_and_written() {
        let text = "1\t0/5000000\tno recovery target specified\n\n# remark\n3\t0/7000028\tbefore \
                    2026-01-01\n";
        let history = History::parse(text).unwrap();
        assert_eq!(history.0, [(1, Lsn(0x500_0000)), (3, Lsn(0x700_0028))]);
        assert_eq!(History::parse(&history.text()).unwrap(), history);
        assert_eq!(history.left(1, 4), Some((Lsn(0x500_0000), 3)));
        assert_eq!(history.left(3, 4), Some((Lsn(0x700_0028), 4)));
        assert_eq!(history.left(2, 4), None);
        assert!(History::parse("x 0/1").is_err() && History::parse("1").is_err());
        assert_eq!(History::file_name(11), "0000000B.history");
    }
}
