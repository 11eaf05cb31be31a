//! From bytes as they arrive to chunks.

use std::io::{self, Read};

use super::{Gear, MAX_CHUNK, MAX_FIXED_CHUNK};
use crate::source::Chunking;

/// Extra room behind the look-ahead, so that few bytes are moved to the front again and again.
const SLACK: usize = 1 << 20;

/// Collects bytes and hands out chunks as soon as their ends are known. Memory: look-ahead plus 1 MiB.
#[derive(Debug)]
pub struct StreamChunker<'a> {
    gear: &'a Gear,
    chunking: Chunking,
    buffer: Vec<u8>,
    start: usize,
    /// How long the stream is said to be: a small one needs no large buffer.
    expected: usize,
}

impl<'a> StreamChunker<'a> {
    /// A chunker for one stream. A fixed size is limited to between 4 KiB and [`MAX_FIXED_CHUNK`].
    #[must_use]
    pub fn new(gear: &'a Gear, chunking: Chunking) -> Self {
        let mut new = Self { gear, chunking, buffer: Vec::new(), start: 0, expected: usize::MAX };
        new.restart(chunking, u64::MAX);
        new
    }

    /// Works in `buffer`, whose content is thrown away; take it back with [`Self::into_buffer`] to use it again.
    #[must_use]
    pub fn with_buffer(mut self, buffer: Vec<u8>) -> Self {
        self.buffer = buffer;
        self.buffer.clear();
        self
    }

    /// The buffer, for the next chunker.
    #[must_use]
    pub fn into_buffer(self) -> Vec<u8> {
        self.buffer
    }

    /// Starts another stream of about `expected` bytes, keeping the memory. What was left of the last one is thrown away.
    pub fn restart(&mut self, chunking: Chunking, expected: u64) {
        self.expected = usize::try_from(expected).unwrap_or(usize::MAX);
        self.chunking = match chunking {
            Chunking::Fixed(size) => Chunking::Fixed(size.clamp(4 << 10, MAX_FIXED_CHUNK)),
            Chunking::ContentDefined => Chunking::ContentDefined,
        };
        self.buffer.clear();
        self.start = 0;
    }

    /// How many bytes must be buffered before a chunk's end is certain.
    fn lookahead(&self) -> usize {
        match self.chunking {
            Chunking::ContentDefined => MAX_CHUNK,
            Chunking::Fixed(size) => size as usize,
        }
    }

    fn buffered(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// Moves what is left to the front if the room behind it is used up.
    fn make_room(&mut self) {
        if self.start > 0 && (self.start == self.buffer.len() || self.buffer.len() >= self.lookahead() + SLACK) {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
    }

    /// Adds bytes; take all chunks with [`Self::next_chunk`] before adding more.
    pub fn push(&mut self, bytes: &[u8]) {
        self.make_room();
        self.buffer.extend_from_slice(bytes);
    }

    /// Reads until a chunk's end is certain or the reader ends; says whether it ended.
    ///
    /// # Errors
    /// Those of the reader.
    pub fn fill_from(&mut self, reader: &mut dyn Read) -> io::Result<bool> {
        self.make_room();
        let full = self.lookahead() + SLACK;
        // One byte more than expected, so that the end is noticed without growing.
        self.buffer.reserve(full.min(self.expected.saturating_add(1)).saturating_sub(self.buffer.len()));
        while self.buffered().len() < self.lookahead() {
            let room = (full.max(self.buffer.len() + 1) - self.buffer.len()) as u64;
            if Read::take(&mut *reader, room).read_to_end(&mut self.buffer)? == 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The next chunk whose end is certain.
    pub fn next_chunk(&mut self) -> Option<&[u8]> {
        (self.buffered().len() >= self.lookahead()).then(|| self.take())
    }

    /// The next chunk at the end of the stream; `None` when nothing is left.
    pub fn next_at_end(&mut self) -> Option<&[u8]> {
        (!self.buffered().is_empty()).then(|| self.take())
    }

    fn take(&mut self) -> &[u8] {
        let data = self.buffered();
        let len = match self.chunking {
            Chunking::ContentDefined => self.gear.cut(data),
            Chunking::Fixed(size) => data.len().min(size as usize),
        };
        let start = self.start;
        self.start += len;
        &self.buffer[start..start + len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data() -> Vec<u8> {
        (0..5_000_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).rotate_left(n % 13).to_le_bytes()).collect()
    }

    fn pushed(gear: &Gear, data: &[u8], piece: usize, chunking: Chunking) -> Vec<Vec<u8>> {
        let mut chunker = StreamChunker::new(gear, chunking);
        let mut out = Vec::new();
        for part in data.chunks(piece) {
            chunker.push(part);
            while let Some(chunk) = chunker.next_chunk() {
                out.push(chunk.to_vec());
            }
        }
        out.extend(std::iter::from_fn(|| chunker.next_at_end().map(<[u8]>::to_vec)));
        out
    }

    fn read(gear: &Gear, mut data: &[u8], chunking: Chunking) -> Vec<Vec<u8>> {
        let mut chunker = StreamChunker::new(gear, chunking);
        let mut out = Vec::new();
        while !chunker.fill_from(&mut data).unwrap() {
            out.extend(std::iter::from_fn(|| chunker.next_chunk().map(<[u8]>::to_vec)));
        }
        out.extend(std::iter::from_fn(|| chunker.next_at_end().map(<[u8]>::to_vec)));
        out
    }

    #[test]
    fn chunks_do_not_depend_on_how_bytes_arrive() {
        let gear = Gear::from_seed([3; 32]);
        let data = data();
        for chunking in [Chunking::ContentDefined, Chunking::Fixed(256 << 10)] {
            let expected = pushed(&gear, &data, 10_007, chunking);
            assert_eq!(expected.concat(), data);
            assert_eq!(pushed(&gear, &data, 9_000_000, chunking), expected);
            assert_eq!(read(&gear, &data, chunking), expected);
        }
    }

    #[test]
    fn fixed_chunks_are_aligned() {
        let cut = read(&Gear::from_seed([3; 32]), &data(), Chunking::Fixed(256 << 10));
        assert!(cut[..cut.len() - 1].iter().all(|chunk| chunk.len() == 256 << 10));
    }

    #[test]
    fn an_empty_stream_has_no_chunks() {
        assert!(read(&Gear::from_seed([3; 32]), &[], Chunking::ContentDefined).is_empty());
    }
}
