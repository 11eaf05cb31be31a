//! Which level a blob is worth: a look at how small a sample gets, and now and then a trial at
//! several levels.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Packer, QUICK, SAMPLE, SAMPLE_FROM, THOROUGH, failed};
use crate::error::Result;

const BETWEEN: i32 = 2;

/// In blobs up to this size level 3 finds little that level 1 does not: program text in such files
/// gets 1 % smaller.
pub(super) const SMALL: usize = 8 << 10;
/// By so many hundredths level 3 has to make a sample of 32 KB smaller than level 1 does: program
/// text and machine code gain 2 to 7, and twice that over a whole blob; documents with short fields
/// of random content lose 1 to 5.
const HINT: usize = 1;
const HINT_LEN: usize = 32 << 10;
/// So many blobs like the first are taken for what the hint says,
pub(super) const TRUST_HINT: u32 = 7;
/// then so much of one is tried at several levels: level 3 also finds what is far apart. In 32 KB
/// of a table it finds nothing more than level 1, of 512 KB it leaves 6 % less, of 1 MB 10 %.
const TRIAL: usize = 512 << 10;
/// By so many hundredths level 2 has to make it smaller than level 1 does, at a third more CPU;
const WORTH_BETWEEN: usize = 3;
/// level 3 than level 1, at twice the CPU (of machine code at five times);
const WORTH: usize = 5;
/// and level 3 than level 2. Documents with short fields of random content are larger at level 2,
/// and as large at level 3.
const WORTH_MORE: usize = 2;
/// So many blobs are taken for what one was found to be whose sample level 1 made as small.
const TRUST: u32 = 63;
/// How finely "as small" is told.
const GRADES: usize = 64;

/// What was found of contents, for all who compress in one run: blobs come from streams, and one is
/// mostly like the one before.
#[derive(Debug, Clone, Default)]
pub(crate) struct Verdicts(Arc<Mutex<HashMap<usize, Verdict>>>);

/// The level that a content is worth, and how often more that is believed.
#[derive(Debug, Clone, Copy)]
struct Verdict {
    level: i32,
    left: u32,
}

/// What is known of contents like one.
enum Known {
    /// There was none yet.
    Nothing,
    /// There were some; it is time to look again.
    Before,
    Level(i32),
}

impl Verdicts {
    fn recall(&self, grade: usize) -> Known {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(verdict) = known.get_mut(&grade) else { return Known::Nothing };
        let Some(left) = verdict.left.checked_sub(1) else { return Known::Before };
        verdict.left = left;
        Known::Level(verdict.level)
    }

    fn note(&self, grade: usize, level: i32, left: u32) -> i32 {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(grade, Verdict { level, left });
        level
    }
}

impl Packer {
    /// The level that a blob is worth.
    pub(super) fn level_for(&mut self, data: &[u8]) -> Result<i32> {
        if data.len() < SAMPLE_FROM {
            return Ok(if data.len() > SMALL { THOROUGH } else { QUICK });
        }
        let grade = self.try_level(QUICK, middle(data, SAMPLE))? * GRADES / SAMPLE;
        match self.verdicts.recall(grade) {
            Known::Level(level) => Ok(level),
            Known::Nothing => {
                let hint = middle(data, HINT_LEN);
                let (quick, thorough) =
                    (self.try_level(QUICK, hint)?, self.try_level(THOROUGH, hint)?);
                let level = if saves(thorough, quick, HINT) { THOROUGH } else { QUICK };
                Ok(self.verdicts.note(grade, level, TRUST_HINT))
            }
            Known::Before => {
                let level = self.find_level(middle(data, TRIAL))?;
                Ok(self.verdicts.note(grade, level, TRUST))
            }
        }
    }

    fn find_level(&mut self, data: &[u8]) -> Result<i32> {
        let quick = self.try_level(QUICK, data)?;
        let between = self.try_level(BETWEEN, data)?;
        let thorough = self.try_level(THOROUGH, data)?;
        Ok(if saves(thorough, quick, WORTH) && saves(thorough, between, WORTH_MORE) {
            THOROUGH
        } else if saves(between, quick, WORTH_BETWEEN) {
            BETWEEN
        } else {
            QUICK
        })
    }

    /// How long a part is at a level.
    fn try_level(&mut self, level: i32, part: &[u8]) -> Result<usize> {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.resize(scratch.len().max(Self::room_for(part.len())), 0);
        let len = self.context(level)?.compress_to_buffer(part, &mut scratch[..]).map_err(failed);
        self.scratch = scratch;
        len
    }
}

/// Whether a length is so many hundredths less than another.
fn saves(len: usize, than: usize, hundredths: usize) -> bool {
    len * 100 <= than * (100 - hundredths)
}

/// So many bytes out of the middle, or all if there are not so many.
fn middle(data: &[u8], len: usize) -> &[u8] {
    let start = data.len().saturating_sub(len) / 2;
    &data[start..data.len().min(start + len)]
}
