//! What a record changes of relations' files, as far as that can be told without knowing what it is
//! about (`xlogrecord.h`, `xlogreader.c`): every record lists the blocks that it changes before
//! anything else, whichever resource manager it is of. Only creating, cutting off and copying files
//! is noted in ways of their own (`storage_xlog.h`, `dbcommands_xlog.h`). What is not known is an
//! error: a block that is overlooked would be restored as it was before.

/// Fewest bytes of a record, which are its header.
const HEADER: usize = 24;
/// Bytes of a page, of which images may leave a hole out.
const PAGE: u16 = 8192;
/// The highest number that a reference to a block may have (`XLR_MAX_BLOCK_ID`).
const LAST_REFERENCE: u8 = 32;
/// The last resource manager that belongs to the server itself; others are of extensions.
const LAST_MANAGER: u8 = 21;
/// The first version whose full-page images say how they are compressed.
const SAYS_COMPRESSION: u32 = 15;
/// Versions whose log is known.
pub(in super::super) const KNOWN: std::ops::RangeInclusive<u32> = 13..=18;

/// Forks of a relation.
pub(in super::super) const MAIN: u8 = 0;
const LAST_FORK: u32 = 3;

/// A relation's files, as the log names them: tablespace, database, number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in super::super) struct RelationFile {
    pub(in super::super) tablespace: u32,
    pub(in super::super) database: u32,
    pub(in super::super) number: u32,
}

/// What a record does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Change {
    /// It changes a block of a fork.
    Block(RelationFile, u8, u32),
    /// The main fork is made anew, or has so many blocks from now on.
    CutOff(RelationFile, u32),
    /// All of a database is made, copied or dropped.
    Database(u32),
    /// From now on the server may change files and write nothing of it to the log.
    Untold,
}

/// Tells `each` what a record of a server of version `major` changes; `record` is its beginning,
/// with everything before the data of blocks. The error says what is not known of it.
pub(in super::super) fn changes(
    record: &[u8],
    major: u32,
    mut each: impl FnMut(Change),
) -> Result<(), String> {
    let (Some(&info), Some(&manager)) = (record.get(16), record.get(17)) else {
        return Err("a truncated record".to_owned());
    };
    if manager > LAST_MANAGER {
        return Err(format!("a record of an extension (resource manager {manager})"));
    }
    let odd =
        || format!("an unknown record of resource manager {manager}, kind {:#04x},", info & 0xf0);
    let own = blocks(record, major, &mut each).ok_or_else(odd)?;
    let number = |at: usize| Some(u32::from_le_bytes(*own.get(at..)?.first_chunk()?));
    let relation = |at: usize| {
        Some(RelationFile {
            tablespace: number(at)?,
            database: number(at + 4)?,
            number: number(at + 8)?,
        })
    };
    let change = match (manager, info & 0xf0) {
        (XLOG, 0x00..=0x50 | 0x70..=0xb0 | 0xd0) => None,
        (XLOG, 0xe0) if major >= 17 => None,
        // The sixth of the settings that standbys need is wal_level.
        (XLOG, 0x60) => (number(20).ok_or_else(odd)? == 0).then_some(Change::Untold),
        (XLOG, _) => return Err(odd()),
        (STORAGE, 0x10) => match (relation(0), number(12)) {
            (Some(relation), Some(0)) => Some(Change::CutOff(relation, 0)),
            // Other forks are always read in full.
            (Some(_), Some(1..=LAST_FORK)) => None,
            _ => return Err(odd()),
        },
        (STORAGE, 0x20) => match (number(0), relation(4), number(16)) {
            (Some(len), Some(relation), Some(flags)) => {
                (flags & 1 != 0).then_some(Change::CutOff(relation, len))
            }
            _ => return Err(odd()),
        },
        (STORAGE, _) => return Err(odd()),
        // Made by copying files, made through the log, or dropped: their numbers differ from
        // version to version.
        (DATABASE, 0x00..=0x20) => Some(Change::Database(number(0).ok_or_else(odd)?)),
        (DATABASE, _) => return Err(odd()),
        (TRANSACTION, kind)
            if matches!(kind & 0x70, 0 | 0x20 | 0x30 | 0x40) && kind & 0x80 != 0 =>
        {
            return dropped(own, &mut each).ok_or_else(odd);
        }
        _ => None,
    };
    change.into_iter().for_each(each);
    Ok(())
}

const XLOG: u8 = 0;
const TRANSACTION: u8 = 1;
const STORAGE: u8 = 2;
const DATABASE: u8 = 4;

/// Files that vanish with the end of a transaction, and whose numbers may come again
/// (`ParseCommitRecord`): they stand behind its time, its database and its subtransactions, each
/// only if a bit says that it is there.
fn dropped(own: &[u8], each: &mut impl FnMut(Change)) -> Option<()> {
    let mut rest = Cursor(own.get(8..)?);
    let bits = rest.word()?;
    if bits & 4 == 0 {
        return Some(());
    }
    if bits & 1 != 0 {
        rest.take::<8>()?;
    }
    if bits & 2 != 0 {
        let bytes = usize::try_from(rest.word()?).ok()?.checked_mul(4)?;
        rest = Cursor(rest.0.get(bytes..)?);
    }
    (0..rest.word()?).try_for_each(|_| {
        each(Change::CutOff(rest.relation()?, 0));
        Some(())
    })
}

/// Reads forward.
struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take().map(|[byte]| byte)
    }

    fn short(&mut self) -> Option<u16> {
        self.take().map(u16::from_le_bytes)
    }

    fn word(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn relation(&mut self) -> Option<RelationFile> {
        Some(RelationFile {
            tablespace: self.word()?,
            database: self.word()?,
            number: self.word()?,
        })
    }
}

/// The blocks that a record refers to; returns its own data, as much as was kept, and `None` if it
/// cannot be understood.
fn blocks<'a>(record: &'a [u8], major: u32, each: &mut impl FnMut(Change)) -> Option<&'a [u8]> {
    let total = Cursor(record).word()? as usize;
    let mut rest = Cursor(record.get(HEADER..)?);
    let read = |rest: &Cursor<'_>| record.len() - rest.0.len();
    // Bytes behind all headers: of blocks, and the record's own.
    let (mut behind, mut own) = (0_usize, 0_usize);
    let (mut last, mut relation) = (None, None);
    while total.checked_sub(read(&rest))? > behind {
        match rest.byte()? {
            id @ 0..=LAST_REFERENCE => {
                if last.replace(id).is_some_and(|last| last >= id) {
                    return None;
                }
                let block = block(&mut rest, major, &mut relation)?;
                behind += block.bytes;
                each(Change::Block(relation?, block.fork, block.number));
            }
            // The transaction above; where it was replicated from.
            252 if major >= 14 => _ = rest.word()?,
            253 => _ = rest.short()?,
            // Its own data comes last.
            id @ (254 | 255) => {
                own = if id == 254 { rest.word()? as usize } else { usize::from(rest.byte()?) };
                behind += own;
                break;
            }
            _ => return None,
        }
    }
    if total.checked_sub(read(&rest))? != behind {
        return None;
    }
    Some(record.get(total - own..).unwrap_or_default())
}

/// A reference to a block: how many bytes of it come behind all headers.
struct Block {
    fork: u8,
    number: u32,
    bytes: usize,
}

fn block(rest: &mut Cursor<'_>, major: u32, relation: &mut Option<RelationFile>) -> Option<Block> {
    const HAS_IMAGE: u8 = 0x10;
    const HAS_DATA: u8 = 0x20;
    const SAME_RELATION: u8 = 0x80;
    let flags = rest.byte()?;
    let data = rest.short()?;
    let fork = flags & 0x0f;
    if u32::from(fork) > LAST_FORK || (flags & HAS_DATA != 0) != (data > 0) {
        return None;
    }
    let mut bytes = usize::from(data);
    if flags & HAS_IMAGE != 0 {
        bytes += usize::from(image(rest, major)?);
    }
    if flags & SAME_RELATION == 0 {
        *relation = Some(rest.relation()?);
    }
    Some(Block { fork, number: rest.word()?, bytes })
}

/// The length of a full-page image.
fn image(rest: &mut Cursor<'_>, major: u32) -> Option<u16> {
    const HAS_HOLE: u8 = 1;
    let (len, hole, info) = (rest.short()?, rest.short()?, rest.byte()?);
    // One kind of compression, or one of three.
    let (known, compressed) = if major < SAYS_COMPRESSION { (0x07, 0x02) } else { (0x1f, 0x1c) };
    let (has_hole, is_compressed) = (info & HAS_HOLE != 0, info & compressed != 0);
    let hole_len = match (is_compressed, has_hole) {
        (true, true) => rest.short()?,
        (true, false) => 0,
        (false, _) => PAGE.checked_sub(len)?,
    };
    // As the server checks it.
    let sound = if has_hole {
        hole > 0 && hole_len > 0 && hole_len < PAGE
    } else {
        hole == 0 && hole_len == 0
    };
    let fits = len > 0 && if is_compressed { len < PAGE } else { len <= PAGE };
    (info & !known == 0 && sound && fits).then_some(len)
}

#[cfg(test)]
mod tests;
