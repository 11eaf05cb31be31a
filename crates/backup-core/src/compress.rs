//! zstd, one frame per blob, with reused contexts and a cheap look at whether it is worth while.

use std::fmt;
use std::str::FromStr;

use zstd::bulk::{Compressor, Decompressor};

use crate::error::{Error, ErrorKind, Result};

/// How hard to compress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// Not at all.
    Off,
    /// zstd level 1: about a third less CPU for about a tenth more size.
    Fast,
    /// zstd level 3.
    #[default]
    Auto,
    /// zstd level 19: 5–10 % smaller for many times the CPU.
    Max,
    /// A zstd level from 1 to 19.
    Level(i32),
}

impl Compression {
    /// The zstd level, or `None` for no compression.
    #[must_use]
    pub fn level(self) -> Option<i32> {
        match self {
            Self::Off => None,
            Self::Fast => Some(1),
            Self::Auto => Some(3),
            Self::Max => Some(19),
            Self::Level(level) => Some(level),
        }
    }
}

impl FromStr for Compression {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "off" => Ok(Self::Off),
            "fast" => Ok(Self::Fast),
            "auto" => Ok(Self::Auto),
            "max" => Ok(Self::Max),
            number => match number.parse() {
                Ok(level @ 1..=19) => Ok(Self::Level(level)),
                _ => Err(Error::new(ErrorKind::Invalid, format!("unknown compression {text:?}"))
                    .with_hint("use off, fast, auto, max or a zstd level from 1 to 19")),
            },
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Fast => f.write_str("fast"),
            Self::Auto => f.write_str("auto"),
            Self::Max => f.write_str("max"),
            Self::Level(level) => write!(f, "{level}"),
        }
    }
}

/// Blobs from this size on are judged by a sample before they are compressed at an expensive level.
const SAMPLE_FROM: usize = 128 << 10;
const SAMPLE: usize = 16 << 10;
/// Levels up to this one notice incompressible data by themselves at the cost of about 0.14 s per GB.
const SELF_DETECTING_LEVEL: i32 = 4;

/// A compressor for many blobs one after the other.
#[derive(Default)]
pub(crate) struct Packer(Option<(i32, Compressor<'static>)>);

impl fmt::Debug for Packer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Packer").field(&self.0.as_ref().map(|(level, _)| level)).finish()
    }
}

impl Packer {
    /// Room that [`Self::pack`] needs for `len` bytes.
    pub(crate) fn room_for(len: usize) -> usize {
        zstd::zstd_safe::compress_bound(len)
    }

    /// Compresses `data` into `out` if that makes it smaller, and says how long it is then; else `out` holds nothing of use.
    pub(crate) fn pack(&mut self, data: &[u8], compression: Compression, out: &mut [u8]) -> Result<Option<usize>> {
        let failed = |error: std::io::Error| Error::internal("zstd compression failed").with_source(error);
        let Some(level) = compression.level() else {
            return Ok(None);
        };
        if level > SELF_DETECTING_LEVEL && data.len() >= SAMPLE_FROM && looks_incompressible(data)? {
            return Ok(None);
        }
        let compressor = match &mut self.0 {
            Some((at, compressor)) if *at == level => compressor,
            slot => &mut slot.insert((level, Compressor::new(level).map_err(failed)?)).1,
        };
        let len = compressor.compress_to_buffer(data, out).map_err(failed)?;
        Ok((len < data.len()).then_some(len))
    }
}

fn looks_incompressible(data: &[u8]) -> Result<bool> {
    let mut compressed = 0;
    let starts = [0, data.len() / 2, data.len() - SAMPLE];
    for start in starts {
        compressed += compress_at(&data[start..start + SAMPLE], 1)?.len();
    }
    Ok(compressed * 100 > SAMPLE * starts.len() * 97)
}

/// Compresses at a level, whatever comes of it; for single small objects.
pub(crate) fn compress_at(data: &[u8], level: i32) -> Result<Vec<u8>> {
    zstd::bulk::compress(data, level).map_err(|error| Error::internal("zstd compression failed").with_source(error))
}

/// Takes a piece of a content.
pub(crate) type Take<'a> = &'a mut dyn FnMut(&[u8]) -> Result<()>;

/// Writes a content piece by piece; the same bytes whenever it is called.
pub(crate) type Produce<'a> = &'a dyn Fn(Take<'_>) -> Result<()>;

/// Compresses a content of `len` bytes that `produce` writes piece by piece, and appends it to `out`.
pub(crate) fn compress_pieces(out: Vec<u8>, len: u64, level: i32, produce: Produce<'_>) -> Result<Vec<u8>> {
    let failed = |error: std::io::Error| Error::internal("zstd compression failed").with_source(error);
    let mut encoder = zstd::stream::write::Encoder::new(out, level).map_err(failed)?;
    encoder.set_pledged_src_size(Some(len)).map_err(failed)?;
    produce(&mut |piece| std::io::Write::write_all(&mut encoder, piece).map_err(failed))?;
    encoder.finish().map_err(failed)
}

/// A reader of the plain content of a frame.
pub(crate) fn decompressing(data: &[u8]) -> Result<impl std::io::Read> {
    zstd::stream::read::Decoder::new(data).map_err(|error| Error::damaged("cannot decompress").with_source(error))
}

/// A decompressor for many blobs one after the other.
#[derive(Default)]
pub(crate) struct Unpacker(Option<Decompressor<'static>>);

impl fmt::Debug for Unpacker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Unpacker")
    }
}

impl Unpacker {
    /// Decompresses a frame of exactly `len` bytes into `out`, whose old content is thrown away.
    pub(crate) fn unpack(&mut self, data: &[u8], len: usize, out: &mut Vec<u8>) -> Result<()> {
        let failed = |error: std::io::Error| Error::damaged("cannot decompress").with_source(error);
        out.clear();
        out.reserve(len);
        let decompressor = match &mut self.0 {
            Some(decompressor) => decompressor,
            slot => slot.insert(Decompressor::new().map_err(failed)?),
        };
        decompressor.decompress_to_buffer(data, out).map_err(failed)?;
        if out.len() == len {
            Ok(())
        } else {
            Err(Error::damaged("decompressed data has another length than recorded"))
        }
    }
}

/// Decompresses a frame of unknown size, up to `limit` bytes.
pub(crate) fn decompress_up_to(data: &[u8], limit: usize) -> Result<Vec<u8>> {
    use std::io::Read;
    let failed = |error: std::io::Error| Error::damaged("cannot decompress").with_source(error);
    let mut plain = Vec::new();
    decompressing(data)?.take(limit as u64 + 1).read_to_end(&mut plain).map_err(failed)?;
    if plain.len() > limit {
        return Err(Error::damaged(format!("decompressed data is larger than {limit} bytes")));
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use rand::Rng;

    use super::*;

    fn pack(data: &[u8], compression: Compression) -> Option<Vec<u8>> {
        let mut out = vec![0; Packer::room_for(data.len())];
        let len = Packer::default().pack(data, compression, &mut out).unwrap()?;
        out.truncate(len);
        Some(out)
    }

    #[test]
    fn round_trip_at_every_setting() {
        let text = b"abcdefgh".repeat(40_000);
        for setting in ["fast", "auto", "max", "1", "7"] {
            let packed = pack(&text, setting.parse().unwrap()).unwrap();
            let packed = &packed[..];
            assert!(packed.len() < text.len() / 10);
            let mut plain = Vec::new();
            let mut unpacker = Unpacker::default();
            unpacker.unpack(packed, text.len(), &mut plain).unwrap();
            assert_eq!(plain, text);
            assert_eq!(decompress_up_to(packed, text.len()).unwrap(), text);
            assert!(unpacker.unpack(packed, text.len() + 1, &mut plain).is_err());
            assert!(decompress_up_to(packed, text.len() - 1).is_err());
        }
        assert_eq!(pack(&text, Compression::Off), None);
    }

    #[test]
    fn random_data_stays_as_it_is() {
        let mut random = vec![0; 300_000];
        rand::rng().fill_bytes(&mut random);
        for setting in [Compression::Auto, Compression::Max, Compression::Fast] {
            assert_eq!(pack(&random, setting), None);
        }
    }

    #[test]
    fn settings_are_checked() {
        for bad in ["", "0", "20", "-1", "best"] {
            assert!(bad.parse::<Compression>().is_err(), "{bad}");
        }
        assert_eq!("12".parse::<Compression>().unwrap().to_string(), "12");
    }
}
