//! Limits on the messages of a server, which may be a false one. The length of a message is known from
//! its header, before drivers make room for it.
//!
//! | message | limit |
//! |---|---|
//! | before the login | 64 KiB |
//! | a row of a copy | 1 GiB and 1 MiB, PostgreSQL's own limit |
//! | any other | 16 MiB |
//! | all rows of one statement | 128 MiB |

use std::io;

/// Messages before the login: requests for credentials, settings, errors.
const BEFORE_LOGIN: u64 = 64 << 10;
/// Rows of copies: the server makes none longer than 1 GiB.
const COPIED_ROW: u64 = (1 << 30) + (1 << 20);
const MESSAGE: u64 = 16 << 20;
/// Drivers keep all rows of a statement: catalogs, lists of files.
const ROWS: u64 = 128 << 20;

/// Sums and checks the lengths of messages.
#[derive(Debug, Default)]
pub(super) struct Limits {
    has_begun: bool,
    rows: u64,
    exceeded: Option<(&'static str, u64, u64)>,
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
            self.exceeded.get_or_insert((subject, len, limit));
        }
        match tag {
            b'D' => self.rows = self.rows.saturating_add(len),
            // The end of a statement.
            b'C' => self.rows = 0,
            b'Z' => (self.rows, self.has_begun) = (0, true),
            _ => {}
        }
        if self.rows > ROWS {
            self.exceeded.get_or_insert(("result of a statement", self.rows, ROWS));
        }
    }

    /// # Errors
    /// [`io::ErrorKind::InvalidData`] once a limit was exceeded.
    pub(super) fn check(&self) -> io::Result<()> {
        let Some((subject, len, limit)) = self.exceeded else { return Ok(()) };
        let text = format!("a {subject} of the server has {len} bytes, more than {limit}");
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
}
