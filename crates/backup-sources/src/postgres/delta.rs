//! Files of incremental backups, `INCREMENTAL.<name>`: the blocks of a relation's file that
//! changed, and what becomes of them together with earlier ones.
//!
//! As PostgreSQL writes them from 17 on (`basebackup_incremental.h`), in little-endian numbers of
//! 32 bits: a magic number, how many blocks there are, the truncation block length (blocks from
//! there on that do not come are empty), the blocks' numbers, zeros up to a whole block if any
//! block follows, the blocks.

use std::ops::Range;

use backup_core::source::SourceResult;

use super::error::malformed;

/// Bytes of a block. Servers can be built with others; their backups are full ones.
pub(super) const BLOCK: u64 = 8192;
const MAGIC: u32 = 0xd3ae_1f0d;
/// Bytes before the numbers.
const HEAD: u64 = 12;
/// Blocks of a file of 1 GiB, the largest there are: servers can be built with others; their
/// backups are full ones.
pub(super) const MOST: u32 = 131_072;
/// Nobody's block: it is empty.
const EMPTY: u8 = u8::MAX;

/// What such a file says before its blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Delta {
    /// Of the blocks that follow, in their order.
    numbers: Vec<u32>,
    truncation: u32,
}

impl Delta {
    /// What stands before the name of the file that it is of.
    pub(super) const PREFIX: &[u8] = b"INCREMENTAL.";

    /// What such a file is called of the file at `path`.
    pub(super) fn path_of(path: &[u8]) -> Vec<u8> {
        let (dir, name) =
            path.split_at(path.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1));
        [dir, Self::PREFIX, name].concat()
    }

    /// The opposite, also of a path of which that has become nothing.
    pub(super) fn path_of_whole(path: &[u8]) -> Vec<u8> {
        let (dir, name) =
            path.split_at(path.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1));
        [dir, name.strip_prefix(Self::PREFIX).unwrap_or(name)].concat()
    }

    /// From the beginning of such a file of `size` bytes; if that is not enough, how many bytes are
    /// needed.
    pub(super) fn parse(bytes: &[u8], size: u64) -> SourceResult<Result<Self, u64>> {
        let number = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
        let bad = || malformed("file of an incremental backup");
        let (Some(magic), Some(count), Some(truncation)) = (number(0), number(4), number(8)) else {
            return if size < HEAD { Err(bad()) } else { Ok(Err(HEAD)) };
        };
        if magic != MAGIC || count > MOST || size != header(count) + u64::from(count) * BLOCK {
            return Err(bad());
        }
        // Of a table that was cut off behind this file, some servers say how much of all its files
        // is left.
        let truncation = truncation.min(MOST);
        let numbers: Option<Vec<u32>> = bytes.get(12..12 + 4 * count as usize).map(|numbers| {
            numbers.as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect()
        });
        let Some(numbers) = numbers else { return Ok(Err(header(count))) };
        if numbers.iter().any(|number| *number >= MOST) {
            return Err(bad());
        }
        Ok(Ok(Self { numbers, truncation }))
    }

    /// Of these blocks, in rising order, of a file of which `truncation` blocks may be older ones.
    pub(super) fn new(numbers: Vec<u32>, truncation: u32) -> Self {
        Self { numbers, truncation }
    }

    /// Bytes of the file with its blocks.
    pub(super) fn size(&self) -> u64 {
        self.header() + self.numbers.len() as u64 * BLOCK
    }

    /// Of the blocks that follow.
    pub(super) fn numbers(&self) -> &[u32] {
        &self.numbers
    }

    /// What stands before the blocks.
    pub(super) fn head(&self) -> Vec<u8> {
        let count = u32::try_from(self.numbers.len()).unwrap_or(MOST);
        let words = [MAGIC, count, self.truncation].into_iter().chain(self.numbers.iter().copied());
        let mut head: Vec<u8> = words.flat_map(u32::to_le_bytes).collect();
        head.resize(usize::try_from(self.header()).unwrap_or(0), 0);
        head
    }

    /// The parts of `len` bytes at `at` of the file itself that belong to its blocks.
    pub(super) fn select(&self, at: u64, len: usize) -> impl Iterator<Item = Range<usize>> {
        let end = at + len as u64;
        let begin = self.numbers.partition_point(|number| (u64::from(*number) + 1) * BLOCK <= at);
        let numbers = self.numbers[begin..].iter().map(|number| u64::from(*number) * BLOCK);
        let within = move |place: u64| usize::try_from(place.clamp(at, end) - at).unwrap_or(len);
        numbers
            .take_while(move |place| *place < end)
            .map(move |place| within(place)..within(place + BLOCK))
    }

    /// Where the first block begins.
    fn header(&self) -> u64 {
        header(u32::try_from(self.numbers.len()).unwrap_or(MOST))
    }

    /// Length of the file that it is of, in blocks.
    fn blocks(&self) -> u32 {
        self.numbers.iter().map(|number| number + 1).max().unwrap_or(0).max(self.truncation)
    }
}

/// Bytes before the blocks.
fn header(count: u32) -> u64 {
    let bytes = HEAD + 4 * u64::from(count);
    if count == 0 { bytes } else { bytes.next_multiple_of(BLOCK) }
}

/// A file that is made of a full one and what changed since: which layer each block comes from.
#[derive(Debug)]
pub(super) struct Combined {
    /// The layer that has the file in full.
    full: u8,
    deltas: Vec<(u8, Delta)>,
    /// Of each block.
    owners: Vec<u8>,
}

impl Combined {
    /// Of a full file of `size` bytes in layer `full`, and what changed in later layers, in their
    /// order.
    pub(super) fn new(full: u8, size: u64, deltas: Vec<(u8, Delta)>) -> SourceResult<Self> {
        // A block that was being added when the file was read comes again with what changed.
        let blocks = usize::try_from(size / BLOCK).ok().filter(|blocks| *blocks <= MOST as usize);
        let blocks = blocks.ok_or_else(|| malformed("length of a relation file"))?;
        let mut owners = vec![full; blocks];
        for (layer, delta) in &deltas {
            owners.truncate(delta.truncation as usize);
            owners.resize(delta.blocks() as usize, EMPTY);
            delta.numbers.iter().for_each(|number| owners[*number as usize] = *layer);
        }
        Ok(Self { full, deltas, owners })
    }

    /// Bytes.
    pub(super) fn len(&self) -> u64 {
        self.owners.len() as u64 * BLOCK
    }

    /// The layer of each block; `None` if the block is empty.
    pub(super) fn owners(&self) -> impl Iterator<Item = Option<u8>> {
        self.owners.iter().map(|owner| (*owner != EMPTY).then_some(*owner))
    }

    /// Which layer a block is from, and where it stands in that layer's file; `None` if it is
    /// empty.
    pub(super) fn place_of(&self, block: u64) -> Option<(u8, u64)> {
        let number = u32::try_from(block).ok()?;
        let owner = *self.owners.get(number as usize).filter(|owner| **owner != EMPTY)?;
        if owner == self.full {
            return Some((owner, block * BLOCK));
        }
        let (_, delta) = self.deltas.iter().find(|(layer, _)| *layer == owner)?;
        // Servers write them in rising order, and are not asked to.
        let found = delta.numbers.binary_search(&number).ok();
        let at = found.or_else(|| delta.numbers.iter().position(|one| *one == number))?;
        Some((owner, delta.header() + at as u64 * BLOCK))
    }

    /// Whether anything is needed of these bytes of the file of a layer.
    pub(super) fn needs(&self, layer: u8, at: u64, len: u64) -> bool {
        if layer != self.full {
            return true;
        }
        let range = at / BLOCK..(at + len).div_ceil(BLOCK).min(self.owners.len() as u64);
        range.into_iter().any(|block| self.owners.get(block as usize) == Some(&layer))
    }

    /// Hands on what is needed of `data`, which stands at `at` in the file of a layer, with its
    /// place in the combined one.
    pub(super) fn scatter(
        &self,
        layer: u8,
        at: u64,
        data: &[u8],
        mut each: impl FnMut(u64, &[u8]) -> SourceResult<()>,
    ) -> SourceResult<()> {
        let delta = self.deltas.iter().find(|(of, _)| *of == layer).map(|(_, delta)| delta);
        let header = delta.map_or(0, Delta::header);
        let mut pos =
            usize::try_from(header.saturating_sub(at)).unwrap_or(usize::MAX).min(data.len());
        // What lies side by side goes on together.
        let mut run: Option<(u64, std::ops::Range<usize>)> = None;
        while pos < data.len() {
            let of_blocks = at + pos as u64 - header;
            let (number, within) = (of_blocks / BLOCK, of_blocks % BLOCK);
            let next = data.len().min(pos + usize::try_from(BLOCK - within).unwrap_or(usize::MAX));
            let block = match delta {
                None => Some(number),
                Some(delta) => delta.numbers.get(number as usize).map(|number| u64::from(*number)),
            };
            if let Some(block) =
                block.filter(|block| self.owners.get(*block as usize) == Some(&layer))
            {
                let place = block * BLOCK + within;
                match &mut run {
                    Some((begin, range))
                        if range.end == pos && *begin + range.len() as u64 == place =>
                    {
                        range.end = next;
                    }
                    _ => {
                        if let Some((begin, range)) = run.replace((place, pos..next)) {
                            each(begin, &data[range])?;
                        }
                    }
                }
            }
            pos = next;
        }
        run.map_or(Ok(()), |(begin, range)| each(begin, &data[range]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Such a file, each block filled with a byte.
    fn file(truncation: u32, blocks: &[(u32, u8)]) -> Vec<u8> {
        let mut file = Vec::new();
        for number in [MAGIC, u32::try_from(blocks.len()).unwrap(), truncation] {
            file.extend_from_slice(&number.to_le_bytes());
        }
        blocks.iter().for_each(|(number, _)| file.extend_from_slice(&number.to_le_bytes()));
        if !blocks.is_empty() {
            file.resize(file.len().next_multiple_of(8192), 0);
        }
        blocks.iter().for_each(|(_, byte)| file.extend_from_slice(&[*byte; 8192]));
        file
    }

    fn parse(file: &[u8]) -> Delta {
        Delta::parse(file, file.len() as u64).unwrap().unwrap()
    }

    /// Combined, in pieces of a length; a byte of each block.
    fn combined(full: &[u8], files: &[Vec<u8>], pieces: usize) -> Vec<u8> {
        let whole: Vec<u8> = full.iter().flat_map(|byte| [*byte; 8192]).collect();
        let deltas = files
            .iter()
            .enumerate()
            .map(|(at, file)| (u8::try_from(at + 1).unwrap(), parse(file)))
            .collect();
        let combined = Combined::new(0, whole.len() as u64, deltas).unwrap();
        let mut result = vec![0; usize::try_from(combined.len()).unwrap()];
        let mut written = 0;
        for (layer, file) in std::iter::once(&whole).chain(files).enumerate() {
            let layer = u8::try_from(layer).unwrap();
            for (number, piece) in file.chunks(pieces).enumerate() {
                let at = (number * pieces) as u64;
                let before = written;
                let put = |place: u64, bytes: &[u8]| {
                    let place = usize::try_from(place).unwrap();
                    written += bytes.len();
                    result[place..place + bytes.len()].copy_from_slice(bytes);
                    Ok(())
                };
                combined.scatter(layer, at, piece, put).unwrap();
                assert!(written == before || combined.needs(layer, at, piece.len() as u64));
            }
        }
        assert_eq!(written, combined.owners().flatten().count() * 8192, "each block once");
        // The other way round, from the blocks to where they come from.
        let layers: Vec<&Vec<u8>> = std::iter::once(&whole).chain(files).collect();
        for (block, bytes) in (0..).zip(result.chunks(8192)) {
            let place = combined
                .place_of(block)
                .map(|(layer, at)| (usize::from(layer), usize::try_from(at).unwrap()));
            let expected = place
                .map_or_else(|| vec![0; 8192], |(layer, at)| layers[layer][at..at + 8192].to_vec());
            assert!(bytes == expected, "{block}");
        }
        assert_eq!(combined.place_of(combined.len() / BLOCK), None);
        assert!(result.chunks(8192).all(|block| block.iter().all(|byte| *byte == block[0])));
        result.chunks(8192).map(|block| block[0]).collect()
    }

    #[test]
    fn newer_blocks_take_the_place_of_older_ones() {
        for pieces in [8192, 262_144, 5000, 12] {
            let of = |full: &[u8], files: &[Vec<u8>]| combined(full, files, pieces);
            assert_eq!(of(&[1, 2, 3], &[file(3, &[])]), [1, 2, 3]);
            assert_eq!(of(&[1, 2, 3], &[file(3, &[(1, 9)])]), [1, 9, 3]);
            assert_eq!(
                of(&[1, 2, 3], &[file(3, &[(1, 9), (4, 8)]), file(5, &[(0, 7), (1, 6)])]),
                [7, 6, 3, 0, 8]
            );
            // Cut off, and grown again: what was there does not come back.
            assert_eq!(of(&[1, 2, 3, 4], &[file(1, &[(3, 9)])]), [1, 0, 0, 9]);
            assert_eq!(of(&[1, 2, 3, 4], &[file(2, &[])]), [1, 2]);
            assert_eq!(of(&[1, 2, 3, 4], &[file(0, &[]), file(2, &[(1, 5)])]), [0, 5]);
            assert_eq!(of(&[], &[file(1, &[(0, 5)])]), [5]);
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let whole: Vec<u8> = (0..6).flat_map(|byte| [byte; 8192]).collect();
        for (numbers, pieces) in
            [(vec![], 8192), (vec![0, 1, 4], 5000), (vec![5], 100_000), (vec![1, 2, 3], 1)]
        {
            let delta = Delta::new(numbers.clone(), 6);
            let mut made = delta.head();
            for (at, piece) in whole.chunks(pieces).enumerate() {
                delta
                    .select((at * pieces) as u64, piece.len())
                    .for_each(|range| made.extend_from_slice(&piece[range]));
            }
            let blocks: Vec<(u32, u8)> =
                numbers.iter().map(|number| (*number, u8::try_from(*number).unwrap())).collect();
            assert!(made == file(6, &blocks) && made.len() as u64 == delta.size(), "{numbers:?}");
            assert_eq!(parse(&made), delta);
        }
    }

    #[test]
    fn damage_is_noticed() {
        let good = file(3, &[(1, 9), (2, 8)]);
        let size = good.len() as u64;
        assert_eq!(Delta::parse(&good[..8], size).unwrap(), Err(12));
        assert_eq!(Delta::parse(&good[..16], size).unwrap(), Err(8192));
        assert_eq!(parse(&good[..]), Delta { numbers: vec![1, 2], truncation: 3 });
        assert!(Delta::parse(&good, size - 1).is_err());
        assert!(Delta::parse(&[], 3).is_err());
        for at in [0, 4, 7, 14, 15] {
            let mut bad = good.clone();
            bad[at] ^= 0x40;
            assert!(Delta::parse(&bad, size).is_err(), "{at}");
        }
        assert!(Combined::new(0, u64::MAX, Vec::new()).is_err());
        assert_eq!(Combined::new(0, 3 * 8192 - 1, Vec::new()).unwrap().len(), 2 * 8192);
        assert_eq!(parse(&file(196_608, &[])).blocks(), 131_072);
        assert!(Delta::parse(&file(0, &[(131_072, 1)]), 8192 * 2).is_err());
    }

    impl Delta {
        pub(in super::super) fn truncation(&self) -> u32 {
            self.truncation
        }
    }

    proptest::proptest! {
        #[test]
        fn anything_is_parsed_or_refused(bytes: Vec<u8>, size in 0_u64..100_000) {
            _ = Delta::parse(&bytes, size);
        }
    }
}
