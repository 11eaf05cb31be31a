//! A bar for every day.

use std::collections::BTreeMap;

use backup_core::log::{Base, Range};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::commands::logs::figures::Missing;
use crate::human;

/// Letters of a day.
const CELLS: usize = 48;
/// Days that are drawn, the last ones.
const DAYS: usize = 31;

/// The days that ranges, bases and gaps lie in, each with a bar.
pub(super) fn bars(
    ranges: &[Range],
    bases: &[Base],
    gaps: &[Missing],
    zone: &TimeZone,
) -> Vec<String> {
    let mut days = Days { zone, cells: BTreeMap::new() };
    for range in ranges {
        if let (Some(from), Some(to)) = (range.from_time, range.to_time) {
            days.paint(from, to, '=');
        }
    }
    for base in bases {
        days.paint(base.time, base.time, 'B');
    }
    for gap in gaps {
        if let (Some(from), Some(to)) = (gap.from_time, gap.to_time) {
            days.paint(from, to, '!');
        }
    }
    let left_out = days.cells.len().saturating_sub(DAYS);
    let earlier = (left_out > 0).then(|| {
        format!("{} not shown", human::count(left_out as u64, "earlier day", "earlier days"))
    });
    let shown = days
        .cells
        .iter()
        .skip(left_out)
        .map(|(date, bar)| format!("{date}  {}", bar.iter().collect::<String>()));
    earlier.into_iter().chain(shown).collect()
}

struct Days<'a> {
    zone: &'a TimeZone,
    cells: BTreeMap<Date, [char; CELLS]>,
}

impl Days<'_> {
    /// Paints from one moment to another; what is painted later covers what was there.
    fn paint(&mut self, from: Timestamp, to: Timestamp, letter: char) {
        let (Some(mut at), to) = (self.cell(from), to.max(from)) else { return };
        let Some(last) = self.cell(to) else { return };
        while at <= last {
            let (date, cell) = at;
            self.cells.entry(date).or_insert(['.'; CELLS])[cell] = letter;
            at = if cell + 1 < CELLS {
                (date, cell + 1)
            } else {
                match date.tomorrow() {
                    Ok(next) => (next, 0),
                    Err(_) => return,
                }
            };
        }
    }

    /// The day of a moment, and which part of it. Days on which clocks change are longer or
    /// shorter: so are their parts.
    fn cell(&self, moment: Timestamp) -> Option<(Date, usize)> {
        let date = moment.to_zoned(self.zone.clone()).date();
        let start = date.to_zoned(self.zone.clone()).ok()?.timestamp();
        let end = date.tomorrow().ok()?.to_zoned(self.zone.clone()).ok()?.timestamp();
        let length = end.duration_since(start).max(SignedDuration::from_secs(1));
        let share = moment.duration_since(start).as_secs_f64() / length.as_secs_f64();
        Some((date, ((share * CELLS as f64) as usize).min(CELLS - 1)))
    }
}

#[cfg(test)]
mod tests {
    use backup_core::log::Gap;

    use super::*;

    fn range(from: &str, to: &str) -> Range {
        let (from_time, to_time) = (Some(from.parse().unwrap()), Some(to.parse().unwrap()));
        Range { branch: String::new(), from: 0, to: 1, from_time, to_time }
    }

    #[test]
    fn midnight_divides_and_gaps_cover() {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let gap = Missing {
            gap: Gap { branch: String::new(), from: 1, to: Some(2), reason: None },
            from_time: Some("2026-03-02T01:00:00Z".parse().unwrap()),
            to_time: Some("2026-03-02T01:10:00Z".parse().unwrap()),
        };
        let lines =
            bars(&[range("2026-03-01T22:00:00Z", "2026-03-02T01:59:00Z")], &[], &[gap], &zone);
        let dots = |count: usize| ".".repeat(count);
        assert_eq!(
            lines,
            [format!("2026-03-01  {}==", dots(46)), format!("2026-03-02  ====!={}", dots(42)),]
        );
    }

    #[test]
    fn the_day_on_which_clocks_change_has_a_bar_too() {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let lines = bars(&[range("2026-03-28T23:00:00Z", "2026-03-29T21:59:00Z")], &[], &[], &zone);
        assert_eq!(lines, [format!("2026-03-29  {}", "=".repeat(48))]);
    }

    #[test]
    fn only_the_last_days_are_drawn() {
        let lines = bars(
            &[range("2026-01-01T00:00:00Z", "2026-03-01T00:00:00Z")],
            &[],
            &[],
            &TimeZone::UTC,
        );
        assert_eq!((lines.len(), lines[0].as_str()), (32, "29 earlier days not shown"));
        assert!(lines[31].starts_with("2026-03-01  =."));
    }
}
