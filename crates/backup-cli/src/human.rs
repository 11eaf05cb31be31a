//! How people are shown sizes, durations, ages, times, counts and paths: all of it in this one
//! place.

use std::time::Duration;

pub(crate) use backup_control::words::count;
use backup_control::zone;
use backup_core::source::{Metadata, NodeKind};
use jiff::Timestamp;
use jiff::tz::TimeZone;

const SIZES: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/// A number of bytes: `17 B`, `1.2 MiB`, `340 GiB`.
pub(crate) fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = 0;
    // 999.5 and not 1024, so that a number never has four digits.
    while value >= 999.5 && unit + 1 < SIZES.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 || value >= 99.95 {
        format!("{value:.0} {}", SIZES[unit])
    } else {
        format!("{value:.1} {}", SIZES[unit])
    }
}

/// Bytes in a time, as a speed; `None` if the time is too short to say.
pub(crate) fn rate(bytes: u64, time: Duration) -> Option<String> {
    let seconds = time.as_secs_f64();
    (seconds >= 0.001).then(|| format!("{}/s", size((bytes as f64 / seconds) as u64)))
}

/// A duration: `40 ms`, `1.4 s`, `12 s`, `3 min 5 s`, `2 h 10 min`, `3 d 4 h`.
pub(crate) fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    let pair = |large: u64, a: &str, small: u64, b: &str| match small {
        0 => format!("{large} {a}"),
        _ => format!("{large} {a} {small} {b}"),
    };
    match seconds {
        0 => format!("{} ms", time.as_millis()),
        1..10 if time.subsec_millis() > 0 => format!("{:.1} s", time.as_secs_f64()),
        1..60 => format!("{seconds} s"),
        60..3600 => pair(seconds / 60, "min", seconds % 60, "s"),
        3600..86400 => pair(seconds / 3600, "h", seconds % 3600 / 60, "min"),
        _ => pair(seconds / 86400, "d", seconds % 86400 / 3600, "h"),
    }
}

/// The time between two moments; none if they are in the wrong order.
pub(crate) fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

/// A word of a command line as a shell needs it: what is shown can be pasted.
pub(crate) fn shell(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+:@%=,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// How long ago something was: `just now`, `3 minutes ago`, `2 days ago`.
pub(crate) fn age(then: Timestamp, now: Timestamp) -> String {
    if then > now {
        return "in the future".to_owned();
    }
    let seconds = between(then, now).as_secs();
    let ago = |value: u64, one: &str, many: &str| format!("{} ago", count(value, one, many));
    match seconds {
        0..10 => "just now".to_owned(),
        10..60 => ago(seconds, "second", "seconds"),
        60..3600 => ago(seconds / 60, "minute", "minutes"),
        3600..86_400 => ago(seconds / 3600, "hour", "hours"),
        86_400..5_184_000 => ago(seconds / 86_400, "day", "days"),
        5_184_000..63_072_000 => ago(seconds / 2_592_000, "month", "months"),
        _ => ago(seconds / 31_536_000, "year", "years"),
    }
}

/// A moment in local time, to the minute; with its offset if clocks show this time twice.
pub(crate) fn time(moment: Timestamp, zone: &TimeZone) -> String {
    zone::minute(moment, zone)
}

/// A moment in local time, to the second and with its zone.
pub(crate) fn full_time(moment: Timestamp, zone: &TimeZone) -> String {
    zone::second(moment, zone)
}

/// Any text from outside: what would control a terminal is escaped, what is not UTF-8 replaced.
pub(crate) fn text(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for c in String::from_utf8_lossy(bytes).chars() {
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// Type and permissions as `ls -l` shows them.
pub(crate) fn mode(metadata: &Metadata) -> String {
    let kind = match metadata.kind {
        NodeKind::File => '-',
        NodeKind::Dir => 'd',
        NodeKind::Symlink { .. } => 'l',
        NodeKind::BlockDevice { .. } => 'b',
        NodeKind::CharDevice { .. } => 'c',
        NodeKind::Fifo => 'p',
        NodeKind::Socket => 's',
    };
    let mut out = String::from(kind);
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = metadata.mode >> shift;
        out.push(if bits & 4 != 0 { 'r' } else { '-' });
        out.push(if bits & 2 != 0 { 'w' } else { '-' });
        out.push(match (bits & 1 != 0, metadata.mode & special != 0) {
            (true, false) => 'x',
            (false, false) => '-',
            (true, true) => letter,
            (false, true) => letter.to_ascii_uppercase(),
        });
    }
    out
}

/// The word for a type of node, as in JSON.
pub(crate) fn kind(kind: &NodeKind) -> &'static str {
    match kind {
        NodeKind::File => "file",
        NodeKind::Dir => "dir",
        NodeKind::Symlink { .. } => "symlink",
        NodeKind::BlockDevice { .. } => "block_device",
        NodeKind::CharDevice { .. } => "char_device",
        NodeKind::Fifo => "fifo",
        NodeKind::Socket => "socket",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shells_see_words_as_they_are() {
        for (word, shown) in [
            ("/a/b-1", "/a/b-1"),
            ("/a b/it's", r"'/a b/it'\''s'"),
            (
                "s3://bucket/x?region=eu&endpoint=http://h",
                "'s3://bucket/x?region=eu&endpoint=http://h'",
            ),
            ("", "''"),
        ] {
            assert_eq!(shell(word), shown);
        }
    }

    #[test]
    fn sizes_have_at_most_three_digits() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 KiB"),
            (1024, "1.0 KiB"),
            (1_290_000, "1.2 MiB"),
            (365_000_000_000, "340 GiB"),
            (1 << 30, "1.0 GiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
        assert_eq!(rate(10 << 20, Duration::from_secs(2)).as_deref(), Some("5.0 MiB/s"));
        assert_eq!(rate(1, Duration::ZERO), None);
    }

    #[test]
    fn durations_and_ages() {
        for (millis, text) in [
            (40, "40 ms"),
            (1_400, "1.4 s"),
            (12_000, "12 s"),
            (60_000, "1 min"),
            (185_000, "3 min 5 s"),
            (7_800_000, "2 h 10 min"),
            (273_600_000, "3 d 4 h"),
        ] {
            assert_eq!(duration(Duration::from_millis(millis)), text);
        }
        let now: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        for (then, text) in [
            ("2026-11-21T11:59:55Z", "just now"),
            ("2026-11-21T11:59:00Z", "1 minute ago"),
            ("2026-11-21T09:00:00Z", "3 hours ago"),
            ("2026-11-19T12:00:00Z", "2 days ago"),
            ("2026-08-21T12:00:00Z", "3 months ago"),
            ("2023-11-21T12:00:00Z", "3 years ago"),
            ("2026-11-21T12:00:01Z", "in the future"),
        ] {
            assert_eq!(age(then.parse().unwrap(), now), text);
        }
    }

    #[test]
    fn names_cannot_control_the_terminal() {
        assert_eq!(text(b"a\x1b[31m\n\xffb"), "a\\u{1b}[31m\\n\u{fffd}b");
    }

    #[test]
    fn modes_look_like_those_of_ls() {
        let mut metadata = Metadata::directory(Timestamp::UNIX_EPOCH);
        metadata.mode = 0o1777;
        assert_eq!(mode(&metadata), "drwxrwxrwt");
        let mut metadata = Metadata::stream(Timestamp::UNIX_EPOCH);
        metadata.mode = 0o4644;
        assert_eq!(mode(&metadata), "-rwSr--r--");
    }
}
