//! Measuring step by step, each tool in turn.

use std::fs;
use std::path::{Path, PathBuf};

use backup_benches::{Cost, Result, Row, data, timed};
use tempfile::TempDir;

use crate::peers::{self, Kind, Peer, Place, Step};
use crate::same;

/// Where repositories are kept.
pub(crate) trait Store {
    /// A new one, as the tool calls it.
    fn repository(&self, kind: Kind, room: &Path) -> String;

    /// What programs have to know besides.
    fn variables(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    /// Bytes of the repository; nothing if nobody says so.
    fn stored(&self, room: &Path) -> Result<Option<u64>>;

    /// Requests so far.
    fn requests(&self) -> Result<Option<u64>> {
        Ok(None)
    }
}

/// Directories.
pub(crate) struct Directories;

impl Store for Directories {
    fn repository(&self, _: Kind, room: &Path) -> String {
        room.join("repo").display().to_string()
    }

    fn stored(&self, room: &Path) -> Result<Option<u64>> {
        Ok(Some(data::size_of(&room.join("repo"))?))
    }
}

/// Steps on one source.
pub(crate) struct Contest<'a> {
    pub(crate) source: PathBuf,
    pub(crate) scratch: &'a TempDir,
    pub(crate) steps: &'a [Step],
    pub(crate) runs: u32,
    pub(crate) store: &'a dyn Store,
    /// See [`has_room`].
    pub(crate) is_kept: bool,
}

/// True if the disk has room for the results of all runs, which then stay until the contest ends.
/// On ext4, files cost more to create within minutes after others were deleted.
pub(crate) fn has_room(source: &Path, files: u64, tools: usize, runs: u32) -> Result<bool> {
    let free = rustix::fs::statvfs(source)?;
    // The repository, the restored files, and as much again.
    let times = 3 * tools as u64 * u64::from(runs);
    let bytes = data::size_of(source)?.saturating_mul(times);
    let has_bytes = free.f_bavail.saturating_mul(free.f_frsize) > bytes;
    Ok(has_bytes && free.f_favail > files.saturating_mul(times))
}

/// The tools take turns, and each run begins with another one, so that neither a slow minute of the
/// machine nor what the tool before has left behind is one tool's alone. What is restored must be
/// what was backed up. A tool that no bar is about and that fails takes no further part.
pub(crate) fn measure(contest: &Contest<'_>, peers: &[Peer]) -> Result<Vec<Row>> {
    let mut costs: Vec<Vec<Vec<Cost>>> = vec![vec![Vec::new(); contest.steps.len()]; peers.len()];
    let mut failed = vec![false; peers.len()];
    for run in 0..contest.runs as usize {
        for which in (0..peers.len())
            .map(|at| (at + run) % peers.len())
            .filter(|at| !failed[*at])
            .collect::<Vec<_>>()
        {
            match one_run(contest, &peers[which], &mut costs[which]) {
                Err(error) if peers[which].kind.is_extra() => {
                    println!("{} is left out: {error}", peers[which].name);
                    costs[which].iter_mut().for_each(Vec::clear);
                    failed[which] = true;
                }
                other => other?,
            }
        }
    }
    let mut rows = Vec::new();
    for (at, step) in contest.steps.iter().enumerate() {
        for (peer, costs) in peers.iter().zip(&costs).filter(|(_, costs)| !costs[at].is_empty()) {
            rows.push(Row {
                step: step.title().to_owned(),
                tool: peer.name.clone(),
                costs: costs[at].clone(),
            });
        }
    }
    Ok(rows)
}

fn one_run(contest: &Contest<'_>, peer: &Peer, costs: &mut [Vec<Cost>]) -> Result<()> {
    let kept = tempfile::tempdir_in(contest.scratch)?;
    let room = &kept.path().to_path_buf();
    let place = Place {
        source: contest.source.clone(),
        repo: contest.store.repository(peer.kind, room),
        target: room.join("restored"),
        room: room.to_owned(),
    };
    let mut variables = peers::variables(&place.room);
    variables.extend(contest.store.variables());
    for (step, costs) in contest.steps.iter().zip(costs) {
        let Some(script) = peer.script(*step, &place) else { continue };
        let before = contest.store.requests()?;
        let mut cost = timed(&script, room, &variables)?;
        cost.requests = contest.store.requests()?.zip(before).map(|(after, before)| after - before);
        if *step == Step::First {
            cost.stored = contest.store.stored(room)?;
        }
        costs.push(cost);
        if *step == Step::Restore {
            same::require(&contest.source, &place.target)
                .map_err(|error| format!("{}: {error}", peer.name))?;
            if !contest.is_kept {
                fs::remove_dir_all(&place.target)?;
            }
        }
    }
    if contest.is_kept {
        // Removed with the scratch directory.
        _ = kept.keep();
    }
    Ok(())
}
