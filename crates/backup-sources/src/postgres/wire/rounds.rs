//! The cost of a login: a server states how many rounds a client hashes its password. A false one
//! states four billion, which take an hour of processor time before the first error.

use std::io;

/// Most rounds of SCRAM. The server's default is 4096; ten million take seconds.
const MAX_ROUNDS: u64 = 10_000_000;
/// Longer messages before the login are refused by the limits of messages.
const LONGEST: usize = 64 << 10;
/// Kind of the authentication message that states the rounds.
const SASL_CONTINUE: &[u8] = &11_u32.to_be_bytes();

/// Reads the messages up to the end of the login.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    /// A message that has not arrived as a whole.
    buffer: Vec<u8>,
    is_over: bool,
}

impl Rounds {
    /// Bytes from the server, before anything else sees them.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] if the server demands too many rounds.
    pub(super) fn received(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.is_over {
            return Ok(());
        }
        self.buffer.extend_from_slice(bytes);
        let mut at = 0;
        while let Some([tag, len @ ..]) = self.buffer[at..].first_chunk::<5>() {
            let len = u32::from_be_bytes(*len) as usize;
            if *tag == b'Z' || !(4..=LONGEST).contains(&len) {
                self.is_over = true;
                self.buffer = Vec::new();
                return Ok(());
            }
            let Some(body) = self.buffer.get(at + 5..=at + len) else { break };
            let rounds = if *tag == b'R' { rounds(body) } else { None };
            if let Some(rounds) = rounds.filter(|rounds| *rounds > MAX_ROUNDS) {
                let text = format!(
                    "the server demands {rounds} rounds of password hashing, more than {MAX_ROUNDS}"
                );
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
            at += len + 1;
        }
        self.buffer.drain(..at);
        Ok(())
    }
}

/// The rounds that the body of an authentication message demands.
fn rounds(body: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(body.strip_prefix(SASL_CONTINUE)?).ok()?;
    text.split(',').find_map(|part| part.strip_prefix("i="))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        [&[tag][..], &(body.len() as u32 + 4).to_be_bytes(), body].concat()
    }

    #[test]
    fn rounds_are_limited_wherever_the_message_is_cut() {
        let login = |rounds: &str| {
            let demand = format!("r=abc,s=c2FsdA==,i={rounds}");
            let offer = message(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0");
            [offer, message(b'R', &[SASL_CONTINUE, demand.as_bytes()].concat())].concat()
        };
        for (rounds, is_refused) in [
            ("4096", false),
            ("10000000", false),
            ("10000001", true),
            ("4294967295", true),
            ("x", false),
        ] {
            let bytes = login(rounds);
            for size in [1, 7, bytes.len()] {
                let mut found = Rounds::default();
                let refused = bytes.chunks(size).any(|piece| found.received(piece).is_err());
                assert_eq!(refused, is_refused, "{rounds} {size}");
            }
        }
        // Rows that look alike.
        let mut session = Rounds::default();
        session.received(&message(b'Z', b"I")).unwrap();
        session.received(&login("4294967295")).unwrap();
        assert!(session.buffer.is_empty());
    }
}
