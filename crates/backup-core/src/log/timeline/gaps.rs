//! Missing pieces of a log.

use super::{Gap, Timeline};

impl Timeline {
    /// What is missing between pieces that are kept.
    #[must_use]
    pub fn gaps(&self) -> Vec<Gap> {
        let mut gaps = Vec::new();
        for (branch, stretches) in &self.stretches {
            let mut end: Option<u64> = None;
            for stretch in stretches {
                if let Some(end) = end.filter(|end| stretch.from > *end) {
                    let noted = self.reasons.iter().find(|gap| {
                        gap.branch == *branch && gap.from <= stretch.from && gap.from >= end
                    });
                    let reason = noted.and_then(|gap| gap.reason.clone());
                    gaps.push(Gap {
                        branch: branch.clone(),
                        from: end,
                        to: Some(stretch.from),
                        reason,
                    });
                }
                end = Some(end.map_or(stretch.to, |end| end.max(stretch.to)));
            }
        }
        // At the beginning of a branch, or in front of what nothing is known of.
        for noted in self.reasons.iter().filter(|noted| noted.reason.is_some()) {
            let reported = gaps
                .iter()
                .any(|gap: &Gap| gap.branch == noted.branch && gap.to == Some(noted.from));
            let mut stretches = self.stretches.get(&noted.branch).into_iter().flatten();
            let filled =
                stretches.any(|stretch| stretch.from < noted.from && stretch.to >= noted.from);
            if !reported
                && !filled
                && noted.to.is_none()
                && self.reach(&noted.branch, noted.from) > noted.from
            {
                gaps.push(Gap { to: Some(noted.from), ..noted.clone() });
            }
        }
        // In front of a position behind which nothing has happened yet.
        let idle = self
            .reasons
            .iter()
            .filter(|gap| gap.to.is_none() && self.reach(&gap.branch, gap.from) == gap.from);
        let is_known = |gaps: &[Gap], gap: &Gap| {
            gaps.iter().any(|known| known.branch == gap.branch && known.to == gap.to)
        };
        let idle: Vec<Gap> = idle
            .map(|gap| Gap {
                from: self.kept_before(&gap.branch, gap.from),
                to: Some(gap.from),
                ..gap.clone()
            })
            .filter(|gap| !is_known(&gaps, gap))
            .collect();
        gaps.extend(idle);
        gaps
    }

    /// The end of the last piece that is kept before an offset, else the place of the last snapshot
    /// before it, else the offset itself.
    fn kept_before(&self, branch: &str, offset: u64) -> u64 {
        let kept = self.stretches.get(branch).into_iter().flatten().map(|stretch| stretch.to);
        let bases = self.bases.iter().map(|base| &base.at).filter(|at| at.branch == branch);
        let last_kept = kept.filter(|end| *end < offset).max();
        let last_base = || bases.map(|at| at.offset).filter(|at| *at < offset).max();
        last_kept.or_else(last_base).unwrap_or(offset)
    }
}
