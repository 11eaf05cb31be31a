//! Messages of a login: the method that the server demands, which the address may refuse, and the
//! cost. A server states how many rounds a client hashes its password. A false one states four
//! billion, which take an hour of processor time before the first error.

use std::fmt;
use std::io;

use super::super::options::{Method, Methods};

/// Most rounds of SCRAM. The server's default is 4096; ten million take seconds.
const MAX_ROUNDS: u64 = 10_000_000;
/// Longer messages before the login are refused by the limits of messages.
const LONGEST: usize = 64 << 10;
/// Kind of the authentication message that states the rounds.
const SASL_CONTINUE: &[u8] = &11_u32.to_be_bytes();

/// The server demands a method that `require_auth` does not allow.
#[derive(Debug)]
pub(in super::super) struct MethodRefused(Method);

impl MethodRefused {
    /// A remedy.
    pub(in super::super) const HINT: &str = "change the method in pg_hba.conf, or require_auth";
}

impl fmt::Display for MethodRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.0.name();
        write!(f, "the server demands the authentication method {name}, which require_auth refuses")
    }
}

impl std::error::Error for MethodRefused {}

/// Reads the messages up to the end of the login.
#[derive(Debug, Default)]
pub(super) struct Login {
    methods: Methods,
    /// The server has demanded a proof.
    is_asked: bool,
    /// Number of the server's process that serves the session, as it states it.
    process: Option<i32>,
    /// A message that has not arrived as a whole.
    buffer: Vec<u8>,
    is_over: bool,
}

impl Login {
    /// A login by one of these `methods`.
    pub(super) fn by(methods: Methods) -> Self {
        Self { methods, ..Self::default() }
    }

    /// Number of the server's process that serves the session. A connection pooler states another
    /// one than the server.
    pub(super) fn process(&self) -> Option<i32> {
        self.process
    }

    /// Bytes from the server, before anything else sees them.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] if the server demands too many rounds, [`MethodRefused`] in a
    /// [`io::ErrorKind::PermissionDenied`].
    pub(super) fn received(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.is_over {
            return Ok(());
        }
        self.buffer.extend_from_slice(bytes);
        let mut at = 0;
        while let Some([tag, len @ ..]) = self.buffer[at..].first_chunk::<5>() {
            let len = u32::from_be_bytes(*len) as usize;
            if *tag == b'Z' || !(4..=LONGEST).contains(&len) {
                if !self.is_asked && !self.methods.allows(Method::None) {
                    return Err(refused(Method::None));
                }
                self.is_over = true;
                self.buffer = Vec::new();
                return Ok(());
            }
            let Some(body) = self.buffer.get(at + 5..=at + len) else { break };
            if *tag == b'K' {
                self.process = body.first_chunk().map(|bytes| i32::from_be_bytes(*bytes));
            }
            let is_request = *tag == b'R';
            if is_request && let Some(method) = method(body, self.is_asked) {
                self.is_asked = true;
                if !self.methods.allows(method) {
                    return Err(refused(method));
                }
            }
            let rounds = if is_request { rounds(body) } else { None };
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

fn refused(method: Method) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, MethodRefused(method))
}

/// The method that an authentication message demands; none if it continues one, or ends it.
fn method(body: &[u8], is_asked: bool) -> Option<Method> {
    match u32::from_be_bytes(*body.first_chunk()?) {
        0 if !is_asked => Some(Method::None),
        3 => Some(Method::Password),
        5 => Some(Method::Md5),
        10 => Some(Method::Scram),
        _ => None,
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
                let mut found = Login::default();
                let refused = bytes.chunks(size).any(|piece| found.received(piece).is_err());
                assert_eq!(refused, is_refused, "{rounds} {size}");
            }
        }
        // Rows that look alike.
        let mut session = Login::default();
        session.received(&message(b'Z', b"I")).unwrap();
        session.received(&login("4294967295")).unwrap();
        assert!(session.buffer.is_empty());
    }
    #[test]
    fn methods_are_limited_by_the_address() {
        let [none, password, md5, scram] = [0_u32, 3, 5, 10]
            .map(|kind| message(b'R', &[&kind.to_be_bytes()[..], b"rest"].concat()));
        let ok = &none;
        let demanded = |methods: &str, messages: &[&[u8]]| {
            let mut login = Login::by(Methods::parse(methods).unwrap());
            messages.iter().try_for_each(|message| login.received(message)).is_ok()
        };
        for (methods, allowed) in [
            ("scram-sha-256", [false, false, false, true]),
            ("scram-sha-256,none", [true, false, false, true]),
            ("!password,!md5", [true, false, false, true]),
            ("gss", [false; 4]),
            ("!gss", [true; 4]),
        ] {
            let found = [
                demanded(methods, &[&none]),
                demanded(methods, &[&password, ok]),
                demanded(methods, &[&md5, ok]),
                demanded(methods, &[&scram, ok]),
            ];
            assert_eq!(found, allowed, "{methods}");
            // A session that begins without a word about its login.
            let ready = message(b'Z', b"I");
            assert_eq!(demanded(methods, &[&ready]), allowed[0], "{methods}");
        }
    }
}
