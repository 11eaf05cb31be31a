//! Which of those that wait goes next.

use std::collections::BTreeMap;
use std::time::Duration;

use backup_control::schedule::{Limits, Uses};

use super::items::Item;

/// Whoever waits rises by one in this time, so that his turn comes whatever else is there.
const RISES_IN: Duration = Duration::from_secs(360);
/// Whoever waits longer than this gets what he needs as soon as it is free: others wait for him.
const PATIENCE: Duration = Duration::from_secs(1800);

/// What is in use.
#[derive(Debug, Default)]
struct InUse {
    count: usize,
    jobs: BTreeMap<String, usize>,
    repositories: BTreeMap<String, usize>,
    hosts: BTreeMap<String, usize>,
}

impl InUse {
    fn add(&mut self, uses: &Uses) {
        if !uses.aside {
            self.count += 1;
        }
        self.add_names(uses);
    }

    fn add_names(&mut self, uses: &Uses) {
        for (names, counts) in [
            (&uses.jobs, &mut self.jobs),
            (&uses.repositories, &mut self.repositories),
            (&uses.hosts, &mut self.hosts),
        ] {
            for name in names {
                *counts.entry(name.clone()).or_default() += 1;
            }
        }
    }

    fn has_room(&self, uses: &Uses, limits: &Limits) -> bool {
        (uses.aside || self.count < limits.parallel) && self.has_names(uses, limits)
    }

    fn has_names(&self, uses: &Uses, limits: &Limits) -> bool {
        let fits = |names: &std::collections::BTreeSet<String>,
                    counts: &BTreeMap<String, usize>,
                    limit: usize| {
            names.iter().all(|name| counts.get(name).is_none_or(|count| *count < limit))
        };
        fits(&uses.jobs, &self.jobs, 1)
            && fits(&uses.repositories, &self.repositories, limits.per_repository)
            && fits(&uses.hosts, &self.hosts, limits.per_host)
    }
}

/// The identifiers of those that may begin now, of those for which `may` says that they may at all.
pub(super) fn next(
    items: &[Item],
    limits: &Limits,
    steady: Duration,
    may: impl Fn(&Item) -> bool,
) -> Vec<String> {
    let mut in_use = InUse::default();
    items.iter().filter(|item| !item.waits()).for_each(|item| in_use.add(&item.order.uses));
    let mut waiting: Vec<&Item> = items.iter().filter(|item| item.waits() && may(item)).collect();
    let waits = |item: &Item| steady.saturating_sub(item.waits);
    let rank = |item: &Item| {
        let risen = waits(item).as_secs() / RISES_IN.as_secs();
        i64::from(item.order.priority).saturating_add(i64::try_from(risen).unwrap_or(i64::MAX))
    };
    // The sort is stable: of equals, the one that came first.
    waiting.sort_by_key(|item| std::cmp::Reverse(rank(item)));
    let mut chosen = Vec::new();
    for item in waiting {
        let uses = &item.order.uses;
        if in_use.has_room(uses, limits) {
            in_use.add(uses);
            chosen.push(item.id.clone());
        } else if waits(item) > PATIENCE {
            // Or something that needs several things would wait for ever for all of them to be free
            // at once. Whoever waits for what somebody else uses leaves the room for one more
            // process to others meanwhile.
            match in_use.has_names(uses, limits) {
                true => in_use.add(uses),
                false => in_use.add_names(uses),
            }
        }
    }
    chosen
}
