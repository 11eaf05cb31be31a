//! The stream of commands that a replica gets, cut into whole events: a command, or everything from
//! MULTI to EXEC.

use bytes::{Bytes, BytesMut};

use backup_core::source::SourceResult;

use super::error::malformed;

/// A longer line begins no command.
const LONGEST_LINE: usize = 64;
/// Largest argument, bytes: more than any server takes.
const LARGEST: usize = 1 << 30;

/// Finds the ends of events. Bytes are put in as they come, at any borders.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    buffer: BytesMut,
    /// Up to here it has been looked through,
    at: usize,
    /// and up to here events are whole.
    whole: usize,
    /// Arguments of the command at hand that are still to come.
    left: Option<u64>,
    /// Its name comes next.
    named: bool,
    in_transaction: bool,
    /// The end of the first event in the buffer.
    first: usize,
    /// Whether there is an event that is more than a sign of life.
    tells: bool,
    /// What the command at hand is.
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Kind {
    #[default]
    Change,
    Multi,
    Exec,
    /// What servers tell each other.
    Noise,
}

/// Events that are whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Whole {
    pub(super) bytes: Bytes,
    /// Where the first of them ends.
    pub(super) first: usize,
}

impl Splitter {
    /// More of the stream.
    ///
    /// # Errors
    /// If that is no stream of commands.
    pub(super) fn push(&mut self, bytes: &[u8]) -> SourceResult<()> {
        self.buffer.extend_from_slice(bytes);
        while self.step()? {}
        Ok(())
    }

    /// Whether there are whole events, and they are more than signs of life.
    pub(super) fn tells(&self) -> bool {
        self.tells
    }

    /// How many bytes of whole events there are.
    pub(super) fn whole(&self) -> usize {
        self.whole
    }

    /// How many bytes of an event there are that is not whole.
    pub(super) fn unfinished(&self) -> usize {
        self.buffer.len() - self.whole
    }

    /// Takes the whole events.
    pub(super) fn take(&mut self) -> Option<Whole> {
        self.take_up_to(self.whole)
    }

    fn take_up_to(&mut self, len: usize) -> Option<Whole> {
        if len == 0 {
            return None;
        }
        let bytes = self.buffer.split_to(len).freeze();
        let first = std::mem::take(&mut self.first).min(len);
        (self.at, self.whole, self.tells) = (self.at - len, 0, false);
        Some(Whole { bytes, first })
    }

    /// Goes on by a line or an argument; false if that has not come.
    fn step(&mut self) -> SourceResult<bool> {
        let rest = &self.buffer[self.at..];
        let Some(&kind) = rest.first() else { return Ok(false) };
        match (self.left, kind) {
            // A master that gets ready.
            (None, b'\n' | b'\r') => {
                self.at += 1;
                return Ok(true);
            }
            (None, b'*') | (Some(_), b'$') => {}
            _ => return Err(malformed("replication stream: not at the beginning of a command")),
        }
        let Some(end) = rest.iter().take(LONGEST_LINE).position(|byte| *byte == b'\n') else {
            if rest.len() >= LONGEST_LINE {
                return Err(malformed("replication stream"));
            }
            return Ok(false);
        };
        let number = std::str::from_utf8(&rest[1..end])
            .ok()
            .and_then(|text| text.trim_end().parse::<usize>().ok());
        let number = number.ok_or_else(|| malformed("replication stream"))?;
        let Some(left) = self.left else {
            if number == 0 {
                return Err(malformed("replication stream: a command without a name"));
            }
            (self.left, self.named) = (Some(number as u64), true);
            self.at += end + 1;
            return Ok(true);
        };
        if number > LARGEST {
            return Err(malformed(
                "replication stream: an argument is larger than any server accepts",
            ));
        }
        let Some(argument) = rest.get(end + 1..end + 1 + number + 2) else { return Ok(false) };
        if std::mem::take(&mut self.named) {
            self.kind = kind_of(&argument[..number]);
        }
        self.at += end + 1 + number + 2;
        self.left = Some(left - 1).filter(|left| *left > 0);
        if self.left.is_none() {
            self.end_of_command();
        }
        Ok(true)
    }

    fn end_of_command(&mut self) {
        match self.kind {
            Kind::Multi => self.in_transaction = true,
            Kind::Exec => self.in_transaction = false,
            Kind::Change | Kind::Noise => {}
        }
        if !self.in_transaction {
            self.whole = self.at;
            if self.first == 0 {
                self.first = self.at;
            }
            self.tells |= self.kind != Kind::Noise;
        }
    }
}

fn kind_of(name: &[u8]) -> Kind {
    let is = |word: &str| name.eq_ignore_ascii_case(word.as_bytes());
    match () {
        () if is("MULTI") => Kind::Multi,
        () if is("EXEC") => Kind::Exec,
        // Messages are not stored, and sentinels publish one every two seconds.
        () if is("PING") || is("REPLCONF") || is("PUBLISH") => Kind::Noise,
        () => Kind::Change,
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::push_command;
    use super::*;

    fn events(parts: &[&[&str]]) -> Vec<u8> {
        let mut events = Vec::new();
        parts.iter().for_each(|words| push_command(&mut events, words));
        events
    }

    #[test]
    fn events_are_whole_at_any_borders() {
        let single = events(&[&["SET", "a", "MULTI"]]);
        let transaction =
            events(&[&["MULTI"], &["SET", "b", "\r\n*1\r\n$4\r\nEXEC\r\n"], &["exec"]]);
        let stream = [&single[..], &transaction[..], &single[..]].concat();
        let ends = [single.len(), single.len() + transaction.len(), stream.len()];
        for cut in 0..=stream.len() {
            let mut splitter = Splitter::default();
            splitter.push(&stream[..cut]).unwrap();
            let first = splitter.take();
            let len = first.as_ref().map_or(0, |whole| whole.bytes.len());
            assert_eq!(
                len,
                *[0].iter().chain(&ends).filter(|end| **end <= cut).max().unwrap(),
                "{cut}"
            );
            if let Some(first) = first {
                assert_eq!(first.first, single.len());
            }
            splitter.push(&stream[cut..]).unwrap();
            let rest = splitter.take().map_or_else(Bytes::new, |whole| whole.bytes);
            assert_eq!(len + rest.len(), stream.len());
        }
    }

    #[test]
    fn signs_of_life_tell_nothing() {
        let mut splitter = Splitter::default();
        splitter
            .push(&events(&[&["PING"], &["REPLCONF", "GETACK", "*"], &["PUBLISH", "a", "b"]]))
            .unwrap();
        assert!(!splitter.tells() && splitter.whole() > 0);
        splitter.push(&events(&[&["DEL", "x"]])).unwrap();
        assert!(splitter.tells());
        splitter.take().unwrap();
        assert!(!splitter.tells());
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in [
            "SET a b\r\n",
            "*x\r\n",
            "*0\r\n",
            "*1\r\n:1\r\n",
            "*1\r\n$9999999999999\r\n",
            "*-1\r\n",
        ] {
            assert!(Splitter::default().push(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(Splitter::default().push(&[b'*'; 100]).is_err());
        // What is promised and does not come takes no memory.
        let mut splitter = Splitter::default();
        splitter.push(b"*99999999\r\n$999999999\r\nabc").unwrap();
        assert_eq!(splitter.take(), None);
    }
}
