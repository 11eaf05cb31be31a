//! Limits on the messages of a server, which may be a false one. The length of a message is known from
//! its header, before drivers make room for it.
//!
//! | message | limit |
//! |---|---|
//! | before the login | 64 KiB |
//! | a row of a copy | 1 GiB and 1 MiB, PostgreSQL's own limit |
//! | any other | 16 MiB |
//! | all rows of one statement | 128 MiB, of which each row takes 64 bytes and its own |
//! | number of messages before the login | 10 000 |
//! | number of notices and settings in a row | 100 000 |

use std::io;

/// Messages before the login: requests for credentials, settings, errors.
const BEFORE_LOGIN: u64 = 64 << 10;
/// Rows of copies: the server makes none longer than 1 GiB.
const COPIED_ROW: u64 = (1 << 30) + (1 << 20);
const MESSAGE: u64 = 16 << 20;
/// Drivers keep all rows of a statement: catalogs, lists of files.
const ROWS: u64 = 128 << 20;
/// Memory of a row in addition to its message, in bytes.
const PER_ROW: u64 = 64;
const MESSAGES_BEFORE_LOGIN: u64 = 10_000;
/// A server may send notices and settings at any time, and without an end.
const NOTICES: u64 = 100_000;

/// Sums and checks the lengths of messages.
#[derive(Debug, Default)]
pub(super) struct Limits {
    has_begun: bool,
    rows: u64,
    /// Messages since the beginning or since one that is neither a notice nor a setting.
    notices: u64,
    exceeded: Option<(&'static str, u64, u64, &'static str)>,
}

impl Limits {
    /// A message with `tag` and `len` bytes follows.
    pub(super) fn message(&mut self, tag: u8, len: u64) {
        let (subject, limit) = match tag {
            _ if !self.has_begun => ("message before the login", BEFORE_LOGIN),
            b'd' => ("row", COPIED_ROW),
            _ => ("message", MESSAGE),
        };
        if len > limit {
            self.exceeded.get_or_insert((subject, len, limit, "bytes"));
        }
        match tag {
            b'D' => self.rows = self.rows.saturating_add(len + PER_ROW),
            // The end of a statement.
            b'C' => self.rows = 0,
            b'Z' => (self.rows, self.has_begun) = (0, true),
            _ => {}
        }
        if self.rows > ROWS {
            self.exceeded.get_or_insert(("result of a statement", self.rows, ROWS, "bytes"));
        }
        self.count(tag);
    }

    fn count(&mut self, tag: u8) {
        let (subject, limit) = if self.has_begun {
            ("sequence of notices", NOTICES)
        } else {
            ("sequence of messages before the login", MESSAGES_BEFORE_LOGIN)
        };
        let is_counted = !self.has_begun || matches!(tag, b'N' | b'S' | b'A');
        self.notices = if is_counted { self.notices + 1 } else { 0 };
        if self.notices > limit {
            self.exceeded.get_or_insert((subject, self.notices, limit, "messages"));
        }
    }

    /// # Errors
    /// [`io::ErrorKind::InvalidData`] once a limit was exceeded.
    pub(super) fn check(&self) -> io::Result<()> {
        let Some((subject, len, limit, unit)) = self.exceeded else { return Ok(()) };
        let text = format!("a {subject} of the server has {len} {unit}, more than {limit}");
        Err(io::Error::new(io::ErrorKind::InvalidData, text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_depend_on_the_message() {
        let check = |messages: &[(u8, u64)]| {
            let mut limits = Limits::default();
            messages.iter().for_each(|&(tag, len)| limits.message(tag, len));
            limits.check().map_err(|error| error.to_string())
        };
        assert!(check(&[(b'R', 65_536), (b'Z', 5)]).is_ok());
        let login = check(&[(b'R', 65_537)]).unwrap_err();
        assert_eq!(
            login,
            "a message before the login of the server has 65537 bytes, more than 65536"
        );
        let begun = (b'Z', 5);
        assert!(check(&[begun, (b'd', 1 << 30)]).is_ok());
        assert!(check(&[begun, (b'd', 2 << 30)]).is_err());
        assert!(check(&[begun, (b'D', 17 << 20)]).is_err());
        let half = (b'D', 10 << 20);
        assert!(check(&[&[begun][..], &[half; 12]].concat()).is_ok());
        assert!(check(&[&[begun][..], &[half; 13]].concat()).is_err());
        assert!(check(&[&[begun][..], &[half; 12], &[(b'C', 9)], &[half; 12]].concat()).is_ok());
    }

    #[test]
    fn sequences_of_messages_have_an_end() {
        let check = |messages: &[(u8, usize)]| {
            let mut limits = Limits::default();
            for (tag, times) in messages {
                (0..*times).for_each(|_| limits.message(*tag, 11));
            }
            limits.check().map_err(|error| error.to_string())
        };
        assert!(check(&[(b'S', 9_999), (b'Z', 1)]).is_ok());
        assert!(check(&[(b'S', 10_001)]).unwrap_err().contains("before the login"));
        assert!(check(&[(b'Z', 1), (b'N', 100_000), (b'C', 1), (b'S', 100_000)]).is_ok());
        assert!(
            check(&[(b'Z', 1), (b'N', 60_000), (b'S', 60_000)]).unwrap_err().contains("notices")
        );
        assert!(check(&[(b'Z', 1), (b'D', 1_000_000)]).is_ok());
        assert!(check(&[(b'Z', 1), (b'D', 2_000_000)]).is_err());
    }
}
