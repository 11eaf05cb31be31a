//! How fast a stage goes and how long it will take.

use std::time::Duration;

use backup_core::event::Progress;

use crate::human;

/// Weight of what is old against what is new, per second that passes.
const SMOOTHING: f64 = 0.8;
/// Before this the speed says nothing about what is to come.
const MIN_TIME: Duration = Duration::from_secs(2);

/// Running speed of one stage.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pace {
    at: Duration,
    bytes: u64,
    items: u64,
    bytes_per_second: f64,
    items_per_second: f64,
}

impl Pace {
    /// Takes the totals at `at`, counted from the start of the stage.
    pub(super) fn update(&mut self, at: Duration, progress: &Progress) {
        let passed = at.saturating_sub(self.at).as_secs_f64();
        if passed < 0.01 {
            return;
        }
        // The beginning counts in full: there is nothing older to weigh it against.
        let keep = if self.at.is_zero() { 0.0 } else { SMOOTHING.powf(passed) };
        let blend = |old: f64, before: u64, now: u64| {
            old * keep + now.saturating_sub(before) as f64 / passed * (1.0 - keep)
        };
        self.bytes_per_second = blend(self.bytes_per_second, self.bytes, progress.done_bytes);
        self.items_per_second = blend(self.items_per_second, self.items, progress.done_items);
        (self.at, self.bytes, self.items) = (at, progress.done_bytes, progress.done_items);
    }

    /// Everything to say about a stage that is going on.
    pub(super) fn describe(&self, progress: &Progress) -> String {
        let mut parts = Vec::new();
        if progress.done_items > 0 || progress.total_items > 0 {
            parts.push(match progress.total_items {
                total if total < progress.done_items => format!("{} done", progress.done_items),
                total => format!("{} of {total}", progress.done_items),
            });
        }
        if progress.done_bytes > 0 || progress.total_bytes > 0 {
            parts.push(match progress.total_bytes {
                // The source estimated less than it holds.
                total if total < progress.done_bytes => human::size(progress.done_bytes),
                total => format!("{} of {}", human::size(progress.done_bytes), human::size(total)),
            });
        }
        if self.bytes_per_second >= 1.0 {
            parts.push(format!("{}/s", human::size(self.bytes_per_second as u64)));
        }
        if let Some(left) = self.left(progress) {
            parts.push(format!("{} left", human::duration(left)));
        }
        parts.join(", ")
    }

    /// How long it will take yet, if that can be said.
    fn left(&self, progress: &Progress) -> Option<Duration> {
        if self.at < MIN_TIME {
            return None;
        }
        let estimate = |total: u64, done: u64, speed: f64| {
            (total > done && speed > 0.0).then(|| (total - done) as f64 / speed)
        };
        let bytes = estimate(progress.total_bytes, progress.done_bytes, self.bytes_per_second);
        let items = estimate(progress.total_items, progress.done_items, self.items_per_second);
        Duration::try_from_secs_f64(bytes.or(items)?.ceil()).ok()
    }
}

/// The share that is done, in thousandths, if the total is known.
pub(super) fn thousandths(progress: &Progress) -> Option<u64> {
    let share = |done: u64, total: u64| {
        (total > 0).then(|| (done.min(total) as f64 / total as f64 * 1000.0) as u64)
    };
    share(progress.done_bytes, progress.total_bytes)
        .or_else(|| share(progress.done_items, progress.total_items))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(done_bytes: u64, total_bytes: u64) -> Progress {
        Progress { done_items: 3, total_items: 0, done_bytes, total_bytes }
    }

    #[test]
    fn says_speed_and_what_is_left() {
        let mut pace = Pace::default();
        pace.update(Duration::from_secs(1), &progress(10 << 20, 100 << 20));
        assert_eq!(
            pace.describe(&progress(10 << 20, 100 << 20)),
            "3 done, 10.0 MiB of 100 MiB, 10.0 MiB/s"
        );
        pace.update(Duration::from_secs(4), &progress(40 << 20, 100 << 20));
        assert_eq!(
            pace.describe(&progress(40 << 20, 100 << 20)),
            "3 done, 40.0 MiB of 100 MiB, 10.0 MiB/s, 6 s left"
        );
        assert_eq!(thousandths(&progress(40, 100)), Some(400));
        assert_eq!(thousandths(&progress(40, 0)), None);
    }

    #[test]
    fn unknown_totals_are_left_out() {
        assert_eq!(Pace::default().describe(&progress(5, 0)), "3 done, 5 B");
    }

    #[test]
    fn totals_below_the_part_done_are_left_out() {
        assert_eq!(Pace::default().describe(&progress(5, 4)), "3 done, 5 B");
    }
}
