//! PostgreSQL's log: a segment is made as the server makes it (`xlog_internal.h`, `xlogrecord.h`),
//! and read.

use std::hint::black_box;
use std::path::Path;

use backup_benches::Result;
use backup_sources::postgres::WalFile;
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

use crate::work::Work;

const SEGMENT: usize = 1 << 20;
const PAGE: usize = 8192;
/// The first one that there is.
const NAME: &str = "000000010000000000000001";
const MAGIC: u16 = 0xd118;
/// Bytes of a record before what it says.
const HEADER: usize = 24;
/// A page that has no more room is filled up by its last record, so that none goes on on the next
/// page.
const LEAST: usize = 64;

pub(crate) fn read(dir: &Path) -> Result<Work> {
    let scratch = tempfile::tempdir_in(dir)?;
    let path = scratch.path().join(NAME);
    std::fs::write(&path, segment()?)?;
    Ok(Box::new(move || {
        // Removed in the end.
        let _ = &scratch;
        let file = WalFile::read(&path)?.ok_or("the segment was skipped")?;
        black_box(file.range());
        Ok(())
    }))
}

fn segment() -> Result<Vec<u8>> {
    let (mut rng, mut out, mut last) =
        (StdRng::seed_from_u64(2026), Vec::with_capacity(SEGMENT), 0);
    while out.len() < SEGMENT {
        let is_first = out.is_empty();
        let begin = SEGMENT + out.len();
        out.extend(MAGIC.to_le_bytes());
        out.extend(if is_first { 2_u16 } else { 0 }.to_le_bytes());
        out.extend(1_u32.to_le_bytes());
        out.extend((begin as u64).to_le_bytes());
        out.extend([0; 8]);
        if is_first {
            out.extend(4711_u64.to_le_bytes());
            out.extend(u32::try_from(SEGMENT)?.to_le_bytes());
            out.extend(u32::try_from(PAGE)?.to_le_bytes());
        }
        while !out.len().is_multiple_of(PAGE) {
            let room = PAGE - out.len() % PAGE;
            let at = (SEGMENT + out.len()) as u64;
            let len = rng.random_range(40..400_usize).next_multiple_of(8);
            let len = if room < len + LEAST { room } else { len };
            record(&mut out, len, last, &mut rng)?;
            last = at;
        }
    }
    Ok(out)
}

/// One in eight is a commit, the others change rows.
fn record(out: &mut Vec<u8>, len: usize, last: u64, rng: &mut StdRng) -> Result<()> {
    let is_commit = rng.random_bool(0.125);
    let mut header = Vec::with_capacity(HEADER);
    header.extend(u32::try_from(len)?.to_le_bytes());
    header.extend(rng.random_range(1000..2000_u32).to_le_bytes());
    header.extend(last.to_le_bytes());
    header.extend([0, if is_commit { 1 } else { 10 }, 0, 0]);
    let mut body = vec![0; len - HEADER];
    rng.fill_bytes(&mut body);
    // Data of a length of four bytes; a commit begins with its time.
    body[0] = 254;
    body[1..5].copy_from_slice(&u32::try_from(len - HEADER - 5)?.to_le_bytes());
    body[5..13].copy_from_slice(&rng.random_range(0..800_000_000_000_000_i64).to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&body), &header);
    out.extend(header);
    out.extend(crc.to_le_bytes());
    out.extend(body);
    Ok(())
}
