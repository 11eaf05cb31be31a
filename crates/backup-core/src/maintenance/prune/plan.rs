//! What is to become of every pack.

use std::collections::{BTreeSet, HashSet};

use super::options::{PruneOptions, PruneReport};
use super::records::{Due, Records};
use super::usage::{PackUse, Usage};
use crate::format::BlobKind;
use crate::id::PackId;
use crate::repository::PackComparison;

/// So many small packs of one kind are worth being put together.
const MANY_SMALL: usize = 16;

/// What a run does. Numbers are those of packs in the index.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Packs that nothing needs: marked now.
    pub(super) mark: Vec<u32>,
    /// Packs whose needed part is moved, then marked; in the order in which it is worth most.
    pub(super) repack: Vec<u32>,
    /// Marked packs that are needed again.
    pub(super) recover: Vec<u32>,
    /// Marked packs to be deleted.
    pub(super) delete: Vec<u32>,
    /// Packs in the index that are gone and that nothing needs.
    pub(super) drop: Vec<u32>,
    /// Packs in no index to be deleted.
    pub(super) orphans: Vec<(PackId, u64)>,
}

impl Plan {
    /// Packs that this run or a later one removes, except those that are gone already.
    pub(super) fn given_up(&self) -> HashSet<u32> {
        let packs = self.mark.iter().chain(&self.repack).chain(&self.delete);
        packs.copied().collect()
    }
}

/// What the plan is made from.
pub(super) struct Facts<'a> {
    pub(super) options: &'a PruneOptions,
    pub(super) usage: &'a Usage,
    pub(super) records: &'a Records,
    pub(super) store: &'a PackComparison,
    /// Packs that a session at work may have written, which nothing needs yet.
    pub(super) recent: &'a HashSet<PackId>,
}

impl Facts<'_> {
    /// Decides, and counts what it comes to.
    pub(super) fn plan(&self, report: &mut PruneReport) -> Plan {
        let mut plan = Plan::default();
        let mut waits = BTreeSet::new();
        let mut lasting: Vec<u32> = Vec::new();
        for (number, pack) in (0_u32..).zip(&self.usage.packs) {
            let info = &pack.info;
            let is_gone =
                self.store.deleted.contains(&info.id) || self.store.missing.contains(&info.id);
            match info.mark {
                _ if is_gone => plan.drop.push(number),
                Some(_) if pack.is_used() => plan.recover.push(number),
                // Somebody relied upon it after it was marked: it begins anew.
                Some(_) if info.listed => plan.mark.push(number),
                Some(mark) => match self.records.mark_is_due(mark) {
                    Due::Now => plan.delete.push(number),
                    Due::Later(why) => {
                        waits.insert(why);
                        report.waiting_packs += 1;
                        report.waiting_bytes += info.size;
                    }
                },
                None => {
                    report.packs += 1;
                    report.bytes += info.size;
                    report.used_bytes += pack.used_bytes;
                    report.unused_bytes += pack.unused_bytes();
                    lasting.push(number);
                }
            }
        }
        for (id, size) in &self.store.unlisted {
            match self.records.orphan_is_due(id) {
                _ if self.recent.contains(id) => {}
                Due::Now => plan.orphans.push((*id, *size)),
                Due::Later(why) => {
                    waits.insert(why);
                    report.waiting_packs += 1;
                    report.waiting_bytes += size;
                }
            }
        }
        report.recovered_packs = plan.recover.len() as u64;
        report.waits_for = waits.into_iter().collect();
        lasting.retain(|number| !self.recent.contains(&self.pack(*number).info.id));
        self.choose(lasting, report, &mut plan);
        plan
    }

    fn pack(&self, number: u32) -> &PackUse {
        &self.usage.packs[number as usize]
    }

    /// Which of the lasting packs are given up, and which are moved.
    fn choose(&self, lasting: Vec<u32>, report: &PruneReport, plan: &mut Plan) {
        let all: u64 = lasting.iter().map(|number| self.pack(*number).unused_bytes()).sum();
        let (used, unused): (Vec<u32>, Vec<u32>) =
            lasting.into_iter().partition(|number| self.pack(*number).is_used());
        let given_up: u64 = unused.iter().map(|number| self.pack(*number).unused_bytes()).sum();
        plan.mark.extend(unused);
        let mut excess = all.saturating_sub(given_up);
        let allowed = self.options.max_unused.of(report.used_bytes);
        let mut budget = self.options.max_repack.unwrap_or(u64::MAX);
        let mut take = |number: u32, plan: &mut Plan| {
            let bytes = self.pack(number).used_bytes;
            let fits = bytes <= budget;
            if fits {
                budget -= bytes;
                plan.repack.push(number);
            }
            fits
        };
        let mut partly: Vec<u32> =
            used.iter().copied().filter(|n| self.pack(*n).unused_bytes() > 0).collect();
        // Most gained for what has to be moved comes first.
        partly.sort_by(|a, b| share_unused(self.pack(*b)).total_cmp(&share_unused(self.pack(*a))));
        let mut taken = HashSet::new();
        for number in partly {
            if excess <= allowed {
                break;
            }
            if take(number, plan) {
                taken.insert(number);
                excess = excess.saturating_sub(self.pack(number).unused_bytes());
            }
        }
        for kind in [BlobKind::Data, BlobKind::Tree] {
            let small: Vec<u32> = used
                .iter()
                .copied()
                .filter(|number| {
                    !taken.contains(number)
                        && self.pack(*number).kind == kind
                        && self.is_small(*number)
                })
                .collect();
            if small.len() >= MANY_SMALL {
                for number in small {
                    take(number, plan);
                }
            }
        }
    }

    fn is_small(&self, number: u32) -> bool {
        let pack = self.pack(number);
        pack.is_small(match pack.kind {
            BlobKind::Data => self.options.write.data_pack_size(),
            BlobKind::Tree => self.options.write.tree_pack_size(),
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "only compared")]
fn share_unused(pack: &PackUse) -> f64 {
    pack.unused_bytes() as f64 / pack.info.size.max(1) as f64
}
