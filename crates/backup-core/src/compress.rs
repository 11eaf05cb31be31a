//! zstd, one frame per blob, with reused contexts and a cheap look at whether it is worth while.

mod choice;

use std::cell::RefCell;
use std::fmt;
use std::str::FromStr;

use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::{self, DCtx, ResetDirective};

pub(crate) use choice::Verdicts;

use crate::error::{Error, ErrorKind, Result};

/// Bytes of a content up to which the context that read it is kept.
const SMALL_FRAME: usize = 1 << 20;
const QUICK: i32 = 1;
const THOROUGH: i32 = 3;

/// How hard to compress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// Not at all.
    Off,
    /// zstd level 1: about a third less CPU for about a tenth more size.
    Fast,
    /// zstd level 3 where it pays, else level 2 or 1: on documents with short, varied fields level
    /// 1 takes half the CPU and is not larger.
    #[default]
    Auto,
    /// zstd level 19: 5–10 % smaller for many times the CPU.
    Max,
    /// A zstd level from 1 to 19.
    Level(i32),
}

impl Compression {
    /// The highest zstd level it uses, or `None` for no compression.
    #[must_use]
    pub fn level(self) -> Option<i32> {
        match self {
            Self::Off => None,
            Self::Fast => Some(QUICK),
            Self::Auto => Some(THOROUGH),
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
/// Levels up to this one notice incompressible data by themselves at the cost of about 0.14 s per
/// GB.
const SELF_DETECTING_LEVEL: i32 = 4;

/// A compressor for many blobs one after the other.
#[derive(Default)]
pub(crate) struct Packer {
    /// Contexts by level: one, or three for [`Compression::Auto`].
    contexts: Vec<(i32, Compressor<'static>)>,
    /// Where samples are compressed to.
    scratch: Vec<u8>,
    verdicts: Verdicts,
}

impl fmt::Debug for Packer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.contexts.iter().map(|(level, _)| level)).finish()
    }
}

impl Packer {
    /// One that knows what others have found.
    pub(crate) fn sharing(verdicts: &Verdicts) -> Self {
        Self { verdicts: verdicts.clone(), ..Self::default() }
    }

    /// Room that [`Self::pack`] needs for `len` bytes.
    pub(crate) fn room_for(len: usize) -> usize {
        zstd::zstd_safe::compress_bound(len)
    }

    /// Compresses `data` into `out` if that makes it smaller, and says how long it is then; else
    /// `out` holds nothing of use.
    pub(crate) fn pack(
        &mut self,
        data: &[u8],
        compression: Compression,
        out: &mut [u8],
    ) -> Result<Option<usize>> {
        let Some(level) = compression.level() else {
            return Ok(None);
        };
        if level > SELF_DETECTING_LEVEL && data.len() >= SAMPLE_FROM && looks_incompressible(data)?
        {
            return Ok(None);
        }
        let level = if compression == Compression::Auto { self.level_for(data)? } else { level };
        let len = self.context(level)?.compress_to_buffer(data, out).map_err(failed)?;
        Ok((len < data.len()).then_some(len))
    }

    fn context(&mut self, level: i32) -> Result<&mut Compressor<'static>> {
        let known = self.contexts.iter().position(|(at, _)| *at == level);
        let at = match known {
            Some(at) => at,
            None => {
                self.contexts.push((level, Compressor::new(level).map_err(failed)?));
                self.contexts.len() - 1
            }
        };
        Ok(&mut self.contexts[at].1)
    }
}

fn failed(error: std::io::Error) -> Error {
    Error::internal("zstd compression failed").with_source(error)
}

fn looks_incompressible(data: &[u8]) -> Result<bool> {
    let mut compressed = 0;
    let starts = [0, data.len() / 2, data.len() - SAMPLE];
    for start in starts {
        compressed +=
            zstd::bulk::compress(&data[start..start + SAMPLE], QUICK).map_err(failed)?.len();
    }
    Ok(compressed * 100 > SAMPLE * starts.len() * 97)
}

/// Compresses what `write` writes, at a level and whatever comes of it, and appends it to `out`.
pub(crate) fn compress_with(
    out: Vec<u8>,
    level: i32,
    write: impl FnOnce(&mut dyn std::io::Write) -> std::io::Result<()>,
) -> std::io::Result<Vec<u8>> {
    let mut encoder = zstd::stream::write::Encoder::new(out, level)?;
    write(&mut encoder)?;
    encoder.finish()
}

/// Takes a piece of a content.
pub(crate) type Take<'a> = &'a mut dyn FnMut(&[u8]) -> Result<()>;

/// Writes a content piece by piece; the same bytes whenever it is called.
pub(crate) type Produce<'a> = &'a dyn Fn(Take<'_>) -> Result<()>;

/// Compresses a content of `len` bytes that `produce` writes piece by piece, and appends it to
/// `out`.
pub(crate) fn compress_pieces(
    out: Vec<u8>,
    len: u64,
    level: i32,
    produce: Produce<'_>,
) -> Result<Vec<u8>> {
    let mut encoder = zstd::stream::write::Encoder::new(out, level).map_err(failed)?;
    encoder.set_pledged_src_size(Some(len)).map_err(failed)?;
    produce(&mut |piece| std::io::Write::write_all(&mut encoder, piece).map_err(failed))?;
    encoder.finish().map_err(failed)
}

/// A reader of the plain content of a frame.
pub(crate) fn decompressing(data: &[u8]) -> Result<impl std::io::Read> {
    zstd::stream::read::Decoder::new(data)
        .map_err(|error| Error::damaged("cannot decompress").with_source(error))
}

thread_local! {
    /// Making one costs as much as decompressing a small object.
    static CONTEXT: RefCell<DCtx<'static>> = RefCell::new(DCtx::create());
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
            Err(Error::damaged(
                "the length of the decompressed data differs from the recorded length",
            ))
        }
    }
}

/// Decompresses a frame of unknown size, up to `limit` bytes.
pub(crate) fn decompress_up_to(data: &[u8], limit: usize) -> Result<Vec<u8>> {
    use std::io::Read;
    let failed = |error: std::io::Error| Error::damaged("cannot decompress").with_source(error);
    let mut plain = Vec::new();
    CONTEXT.with_borrow_mut(|context| {
        // A frame that was damaged leaves it in the middle.
        context.reset(ResetDirective::SessionOnly).map_err(|code| {
            Error::internal("cannot prepare a decompressor")
                .with_source(zstd_safe::get_error_name(code))
        })?;
        let reader = zstd::stream::read::Decoder::with_context(data, context);
        reader.take(limit as u64 + 1).read_to_end(&mut plain).map_err(failed)?;
        // The window of a large frame is not kept.
        if plain.len() > SMALL_FRAME {
            *context = DCtx::create();
        }
        Ok::<_, Error>(())
    })?;
    if plain.len() > limit {
        return Err(Error::damaged(format!("decompressed data is larger than {limit} bytes")));
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use rand::{Rng, RngExt as _};

    use super::choice::{SMALL, TRUST_HINT};
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
    fn auto_spends_time_where_it_pays() {
        let documents = documents();
        assert_eq!(
            pack(documents.as_bytes(), Compression::Auto),
            pack(documents.as_bytes(), Compression::Fast)
        );
        let sources = sources();
        assert_eq!(pack(&sources, Compression::Auto), pack(&sources, Compression::Level(3)));
        assert!(
            pack(&sources, Compression::Auto).unwrap().len()
                < pack(&sources, Compression::Fast).unwrap().len()
        );
        let small = &sources[..SMALL];
        assert_eq!(pack(small, Compression::Auto), pack(small, Compression::Fast));
    }

    #[test]
    fn what_was_found_of_one_content_is_not_believed_of_others() {
        let (documents, sources) = (documents().into_bytes(), sources());
        let auto = |packer: &mut Packer, data: &[u8]| {
            let mut out = vec![0; Packer::room_for(data.len())];
            let len = packer.pack(data, Compression::Auto, &mut out).unwrap().unwrap();
            out.truncate(len);
            out
        };
        let (mut of_both, mut of_one, mut of_other) =
            (Packer::default(), Packer::default(), Packer::default());
        for _ in 0..TRUST_HINT + 3 {
            assert!(auto(&mut of_both, &documents) == auto(&mut of_one, &documents));
            assert!(auto(&mut of_both, &sources) == auto(&mut of_other, &sources));
        }
        // Another one that shares what was found needs no hint: it is not the first.
        let mut sharing = Packer::sharing(&of_both.verdicts);
        assert!(auto(&mut sharing, &documents) == auto(&mut of_both, &documents));
    }

    #[test]
    fn what_is_far_apart_is_found_at_the_second_look() {
        // Rows with a few thousand words at random: each comes again far behind.
        let mut random = rand::rng();
        let words: Vec<[u8; 12]> =
            (0..4000).map(|_| std::array::from_fn(|_| random.random_range(b'a'..=b'z'))).collect();
        let mut table = Vec::new();
        while table.len() < 1 << 20 {
            table.extend(random.random::<u64>().to_le_bytes());
            table.extend(words[random.random_range(0..words.len())]);
            table.extend([b' '; 18]);
        }
        let mut packer = Packer::default();
        let mut out = vec![0; Packer::room_for(table.len())];
        let mut lens = Vec::new();
        for _ in 0..TRUST_HINT + 3 {
            lens.push(packer.pack(&table, Compression::Auto, &mut out).unwrap().unwrap());
        }
        let best = pack(&table, Compression::Level(3)).unwrap().len();
        assert!(lens[lens.len() - 1] * 100 <= best * 105, "{lens:?}, at level 3 {best}");
    }

    fn documents() -> String {
        let mut random = rand::rng();
        let mut line = |n| {
            format!(
                "{{\"at\":{n},\"done\":true,\"user\":{},\"took\":{}}}\n",
                random.random::<u16>(),
                random.random::<f64>()
            )
        };
        (1_700_000_000..1_700_005_000).map(&mut line).collect()
    }

    fn sources() -> Vec<u8> {
        walk(std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src/repository")))
    }

    /// The contents of all files below a directory.
    fn walk(dir: &std::path::Path) -> Vec<u8> {
        let mut paths: Vec<_> =
            std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        let read = |path: &std::path::PathBuf| {
            if path.is_dir() { walk(path) } else { std::fs::read(path).unwrap() }
        };
        paths.iter().flat_map(read).collect()
    }

    #[test]
    fn settings_are_checked() {
        for bad in ["", "0", "20", "-1", "best"] {
            assert!(bad.parse::<Compression>().is_err(), "{bad}");
        }
        assert_eq!("12".parse::<Compression>().unwrap().to_string(), "12");
    }
}
