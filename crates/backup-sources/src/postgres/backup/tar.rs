//! Archives in the form that PostgreSQL writes (POSIX ustar, sizes above 8 GiB in base 256), piece
//! by piece as they come.

use backup_core::source::SourceResult;
use bytes::{Buf as _, Bytes};

use super::super::error::malformed;

const BLOCK: usize = 512;

/// What an entry of an archive says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) name: Vec<u8>,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) size: u64,
    /// Seconds since 1970.
    pub(super) mtime: i64,
    pub(super) kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Dir,
    Symlink(Vec<u8>),
}

/// What comes next in an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Header(Header),
    /// Bytes of the file whose header came last.
    Data(Bytes),
    /// That file is complete. Comes for every file, empty ones too.
    End,
}

/// Takes an archive apart.
#[derive(Debug, Default)]
pub(super) struct Tar {
    state: State,
    /// Of a header that is not whole yet.
    header: Vec<u8>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Header,
    Data {
        left: u64,
        padding: usize,
    },
    Padding(usize),
    /// Behind the block of zeros.
    Ended,
}

impl Tar {
    /// The next piece of `bytes`; `None` when more of them are needed.
    pub(super) fn next(&mut self, bytes: &mut Bytes) -> SourceResult<Option<Piece>> {
        loop {
            match self.state {
                State::Header => {
                    let len = bytes.len().min(BLOCK - self.header.len());
                    self.header.extend_from_slice(&bytes.split_to(len));
                    if self.header.len() < BLOCK {
                        return Ok(None);
                    }
                    let block = std::mem::take(&mut self.header);
                    if block.iter().all(|byte| *byte == 0) {
                        self.state = State::Ended;
                        continue;
                    }
                    let header =
                        header(&block).ok_or_else(|| malformed("tar archive from the server"))?;
                    if header.kind == Kind::File {
                        let padding = (BLOCK - (header.size % BLOCK as u64) as usize) % BLOCK;
                        self.state = State::Data { left: header.size, padding };
                    }
                    return Ok(Some(Piece::Header(header)));
                }
                State::Data { left: 0, padding } => {
                    self.state = State::Padding(padding);
                    return Ok(Some(Piece::End));
                }
                State::Data { left, padding } => {
                    if bytes.is_empty() {
                        return Ok(None);
                    }
                    let len = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    self.state = State::Data { left: left - len as u64, padding };
                    return Ok(Some(Piece::Data(bytes.split_to(len))));
                }
                State::Padding(0) => self.state = State::Header,
                State::Padding(left) => {
                    if bytes.is_empty() {
                        return Ok(None);
                    }
                    let len = left.min(bytes.len());
                    bytes.advance(len);
                    self.state = State::Padding(left - len);
                }
                State::Ended => {
                    bytes.clear();
                    return Ok(None);
                }
            }
        }
    }

    /// Fails if the archive ends within an entry. Until 14 the block of zeros at its end is left
    /// out.
    pub(super) fn finish(&self) -> SourceResult<()> {
        match self.state {
            State::Header if self.header.is_empty() => Ok(()),
            State::Ended => Ok(()),
            _ => Err(malformed("tar archive from the server: truncated")),
        }
    }
}

fn header(block: &[u8]) -> Option<Header> {
    let field = |at: usize, len: usize| &block[at..at + len];
    let text = |at: usize, len: usize| {
        let bytes = field(at, len);
        bytes[..bytes.iter().position(|byte| *byte == 0).unwrap_or(len)].to_vec()
    };
    // The checksum counts its own field as spaces.
    let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
    let own: u64 = field(148, 8).iter().map(|byte| u64::from(*byte)).sum();
    if number(field(148, 8))? != sum - own + 8 * u64::from(b' ') {
        return None;
    }
    let (name, prefix) = (text(0, 100), text(345, 155));
    let name = if prefix.is_empty() { name } else { [&prefix[..], b"/", &name].concat() };
    let kind = match block[156] {
        b'0' | 0 => Kind::File,
        b'2' => Kind::Symlink(text(157, 100)),
        b'5' => Kind::Dir,
        _ => return None,
    };
    let small = |at: usize| u32::try_from(number(field(at, 8))?).ok();
    Some(Header {
        name,
        mode: small(100)? & 0o7777,
        uid: small(108)?,
        gid: small(116)?,
        size: number(field(124, 12))?,
        mtime: i64::try_from(number(field(136, 12))?).ok()?,
        kind,
    })
}

/// Octal digits, or a binary number behind a byte of 0x80.
fn number(field: &[u8]) -> Option<u64> {
    if let Some((0x80, rest)) = field.split_first() {
        return rest
            .iter()
            .try_fold(0u64, |sum, byte| sum.checked_mul(256)?.checked_add(u64::from(*byte)));
    }
    let digits =
        field.iter().skip_while(|byte| **byte == b' ').take_while(|byte| !matches!(byte, b' ' | 0));
    digits.clone().try_fold(0u64, |sum, byte| match byte {
        b'0'..=b'7' => sum.checked_mul(8)?.checked_add(u64::from(byte - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(name: &str, kind: u8, size: &[u8; 12], data: &[u8]) -> Vec<u8> {
        let mut block = vec![0u8; BLOCK];
        block[..name.len()].copy_from_slice(name.as_bytes());
        block[100..107].copy_from_slice(b"0000600");
        block[108..115].copy_from_slice(b"0000007");
        block[116..123].copy_from_slice(b"0000010");
        block[124..136].copy_from_slice(size);
        block[136..147].copy_from_slice(b"14000000000");
        block[148..156].copy_from_slice(b"        ");
        block[156] = kind;
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        let padding = (BLOCK - data.len() % BLOCK) % BLOCK;
        [block, data.to_vec(), vec![0; padding]].concat()
    }

    fn octal(size: usize) -> [u8; 12] {
        format!("{size:011o} ").into_bytes().try_into().unwrap()
    }

    fn taken_apart(bytes: &[u8], cut: usize) -> Vec<(String, Vec<u8>)> {
        let (mut tar, mut files) = (Tar::default(), Vec::new());
        let mut open = None;
        for piece in bytes.chunks(cut) {
            let mut piece = Bytes::copy_from_slice(piece);
            while let Some(piece) = tar.next(&mut piece).unwrap() {
                match piece {
                    Piece::Header(header) if header.kind == Kind::File => {
                        open = Some((String::from_utf8(header.name).unwrap(), Vec::new()));
                    }
                    Piece::Header(header) => {
                        files.push((format!("{:?} {}", header.kind, header.mode), Vec::new()));
                    }
                    Piece::Data(data) => open.as_mut().unwrap().1.extend_from_slice(&data),
                    Piece::End => files.push(open.take().unwrap()),
                }
            }
        }
        tar.finish().unwrap();
        files
    }

    #[test]
    fn large_sizes_and_bad_headers() {
        let mut size = [0; 12];
        (size[0], size[7]) = (0x80, 3);
        let found =
            Tar::default().next(&mut Bytes::from(entry("big", b'0', &size, b""))).unwrap().unwrap();
        assert!(matches!(found, Piece::Header(header) if header.size == 3 << 32));
        let mut bad = entry("x", b'0', &octal(0), b"");
        bad[3] = b'y';
        assert!(Tar::default().next(&mut Bytes::from(bad)).is_err());
        assert!(Tar::default().next(&mut Bytes::from(entry("x", b'7', &octal(0), b""))).is_err());
        let mut tar = Tar::default();
        let mut half = Bytes::from(entry("x", b'0', &octal(700), &[1; 700])).split_to(900);
        while tar.next(&mut half).unwrap().is_some() {}
        assert!(tar.finish().is_err());
    }

    proptest! {
        #[test]
        fn archives_are_the_same_wherever_they_are_cut(
            files in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..1500), 0..5),
            cut in 1usize..3000,
            closed in any::<bool>(),
        ) {
            let mut bytes = entry("d", b'5', &octal(0), b"");
            let mut expected = vec![("Dir 384".to_owned(), Vec::new())];
            for (number, data) in files.iter().enumerate() {
                let name = format!("d/{number}");
                bytes.extend(entry(&name, b'0', &octal(data.len()), data));
                expected.push((name, data.clone()));
            }
            if closed {
                bytes.extend([0; 2 * BLOCK]);
            }
            prop_assert_eq!(taken_apart(&bytes, cut), expected);
        }
    }
}
