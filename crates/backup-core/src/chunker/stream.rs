//! From bytes as they arrive to chunks.

use std::io::{self, Read};
use std::ops::Deref;

use super::{Gear, MAX_CHUNK, MAX_FIXED_CHUNK, MIN_CHUNK};
use crate::source::Chunking;

/// So many bytes at a time are read, or taken over, and then searched for the end of the chunk: few
/// enough to be in the processor's cache still, and of what was read behind the end only so much
/// has to be moved.
const STEP: usize = 128 << 10;

/// A chunk in memory that may be longer.
#[derive(Debug, Default)]
pub struct Chunk {
    memory: Vec<u8>,
    len: usize,
}

impl Chunk {
    /// The memory, to be used for another one.
    #[must_use]
    pub fn into_memory(self) -> Vec<u8> {
        self.memory
    }
}

impl Deref for Chunk {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[..self.len]
    }
}

/// Collects the bytes of one chunk and hands it out as soon as its end is known, with the memory
/// that it is in. Memory: a chunk and 128 KiB.
#[derive(Debug)]
pub struct StreamChunker<'a> {
    gear: &'a Gear,
    chunking: Chunking,
    /// Longer than what is in it: to make it longer is to clear it.
    memory: Vec<u8>,
    filled: usize,
    /// So many of these bytes were searched.
    searched: usize,
    /// Where the chunk ends, once that is known.
    end: Option<usize>,
    /// How long the rest of the stream is said to be: a small one needs no large buffer.
    expected: usize,
}

impl<'a> StreamChunker<'a> {
    /// A chunker for one stream. A fixed size is limited to between 4 KiB and [`MAX_FIXED_CHUNK`].
    #[must_use]
    pub fn new(gear: &'a Gear, chunking: Chunking) -> Self {
        let mut new = Self {
            gear,
            chunking,
            memory: Vec::new(),
            filled: 0,
            searched: 0,
            end: None,
            expected: usize::MAX,
        };
        new.restart(chunking, u64::MAX);
        new
    }

    /// Works in `memory`, whose content is thrown away; take it back with [`Self::into_memory`] to
    /// use it again.
    #[must_use]
    pub fn with_memory(mut self, memory: Vec<u8>) -> Self {
        self.memory = memory;
        self.begin(0);
        self
    }

    /// The memory, for the next chunker.
    #[must_use]
    pub fn into_memory(self) -> Vec<u8> {
        self.memory
    }

    /// Starts another stream of about `expected` bytes, keeping the memory. What was left of the
    /// last one is thrown away.
    pub fn restart(&mut self, chunking: Chunking, expected: u64) {
        self.expected = usize::try_from(expected).unwrap_or(usize::MAX);
        self.chunking = match chunking {
            Chunking::Fixed(size) => Chunking::Fixed(size.clamp(4 << 10, MAX_FIXED_CHUNK)),
            Chunking::ContentDefined => Chunking::ContentDefined,
        };
        self.begin(0);
    }

    /// Begins a chunk of which so many bytes are there.
    fn begin(&mut self, filled: usize) {
        (self.filled, self.searched, self.end) = (filled, 0, None);
    }

    /// Adds bytes up to the end of the chunk, taking them from the front of `bytes`; says whether
    /// the chunk is complete. Then take it with [`Self::take`] before adding more.
    pub fn push(&mut self, bytes: &mut &[u8]) -> bool {
        self.search();
        while self.end.is_none() && !bytes.is_empty() {
            let all = *bytes;
            let len = self.wanted().min(all.len());
            self.room(len).copy_from_slice(&all[..len]);
            self.filled += len;
            self.search();
            let excess = self.end.map_or(0, |end| self.filled - end);
            self.filled -= excess;
            *bytes = &all[len - excess..];
        }
        self.end.is_some()
    }

    /// Reads up to the end of the chunk; says whether the reader ended instead, so that what there
    /// is is the last one.
    ///
    /// # Errors
    /// Those of the reader.
    pub fn fill_from(&mut self, reader: &mut dyn Read) -> io::Result<bool> {
        self.search();
        while self.end.is_none() {
            // One byte more than expected, so that the end is noticed without growing.
            let len = self.wanted().min(self.expected.saturating_add(1));
            match reader.read(self.room(len)) {
                Ok(0) => return Ok(true),
                Ok(read) => {
                    self.filled += read;
                    // What is longer than it was said to be may have any length.
                    self.expected = self.expected.checked_sub(read).unwrap_or(usize::MAX);
                    self.search();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// Whether there is nothing to take.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// The chunk, complete or, at the end of the stream, as far as it goes. The next one is made in
    /// `memory`.
    pub fn take(&mut self, memory: Vec<u8>) -> Chunk {
        let len = self.end.unwrap_or(self.filled);
        let memory = std::mem::replace(&mut self.memory, memory);
        let behind = &memory[len..self.filled];
        self.begin(0);
        self.room(behind.len()).copy_from_slice(behind);
        self.begin(behind.len());
        Chunk { memory, len }
    }

    /// How many bytes to add before the end is looked for.
    fn wanted(&self) -> usize {
        match self.chunking {
            Chunking::ContentDefined => MIN_CHUNK.saturating_sub(self.filled).max(STEP),
            Chunking::Fixed(size) => (size as usize).saturating_sub(self.filled),
        }
    }

    /// Room for so many bytes behind those that are there.
    fn room(&mut self, len: usize) -> &mut [u8] {
        let end = self.filled + len;
        if self.memory.capacity() < end {
            self.grow(end);
        }
        if self.memory.len() < end {
            self.memory.resize(end, 0);
        }
        &mut self.memory[self.filled..end]
    }

    /// Takes as much memory as the chunk may need, once: pages that nothing is written to cost
    /// nothing, and growing in steps would copy.
    fn grow(&mut self, needed: usize) {
        let longest = match self.chunking {
            Chunking::ContentDefined => MAX_CHUNK,
            Chunking::Fixed(size) => size as usize,
        };
        let likely = self
            .filled
            .saturating_add(self.expected)
            .max(self.memory.capacity() * 2)
            .min(longest + STEP);
        let mut memory = Vec::with_capacity(needed.max(likely));
        memory.extend_from_slice(&self.memory[..self.filled]);
        self.memory = memory;
    }

    fn search(&mut self) {
        if self.end.is_some() {
            return;
        }
        self.end = match self.chunking {
            Chunking::ContentDefined => self.gear.cut(&self.memory[..self.filled], self.searched),
            Chunking::Fixed(size) => (self.filled >= size as usize).then_some(size as usize),
        };
        self.searched = self.filled;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data() -> Vec<u8> {
        (0..5_000_000_u32)
            .flat_map(|n| n.wrapping_mul(2_654_435_761).rotate_left(n % 13).to_le_bytes())
            .collect()
    }

    fn pushed(gear: &Gear, data: &[u8], piece: usize, chunking: Chunking) -> Vec<Vec<u8>> {
        let mut chunker = StreamChunker::new(gear, chunking);
        let mut out = Vec::new();
        for mut part in data.chunks(piece) {
            while chunker.push(&mut part) {
                out.push(chunker.take(Vec::new()).to_vec());
            }
            assert!(part.is_empty());
        }
        if !chunker.is_empty() {
            out.push(chunker.take(Vec::new()).to_vec());
        }
        out
    }

    /// Gives a few bytes at a time, and is interrupted now and then.
    struct Slow<'a>(&'a [u8], usize);

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 += 1;
            if self.1.is_multiple_of(7) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let len = buffer.len().min(50_021);
            self.0.read(&mut buffer[..len])
        }
    }

    fn read(gear: &Gear, data: &[u8], chunking: Chunking, expected: u64) -> Vec<Vec<u8>> {
        let mut chunker = StreamChunker::new(gear, chunking).with_memory(vec![7; 1000]);
        chunker.restart(chunking, expected);
        let mut reader = Slow(data, 0);
        let mut out = Vec::new();
        while !chunker.fill_from(&mut reader).unwrap() {
            out.push(chunker.take(vec![9; 77]).to_vec());
        }
        if !chunker.is_empty() {
            out.push(chunker.take(Vec::new()).to_vec());
        }
        assert!(chunker.is_empty());
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
            for said in [0, 1000, data.len() as u64, u64::MAX] {
                assert_eq!(read(&gear, &data, chunking, said), expected, "{said}");
            }
        }
    }

    #[test]
    fn fixed_chunks_are_aligned() {
        let cut = read(&Gear::from_seed([3; 32]), &data(), Chunking::Fixed(256 << 10), u64::MAX);
        assert!(cut[..cut.len() - 1].iter().all(|chunk| chunk.len() == 256 << 10));
    }

    #[test]
    fn an_empty_stream_has_no_chunks() {
        assert!(read(&Gear::from_seed([3; 32]), &[], Chunking::ContentDefined, 0).is_empty());
    }
}
