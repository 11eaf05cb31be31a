//! Half of a repository is no longer needed: one of two snapshots of very many blobs is forgotten,
//! and what only it needed removed. Both tools work on copies of the same repository, which is a
//! restic repository.

use std::fs;

use backup_benches::{Bar, Cost, Measure, Report, Result, Row, data, timed, tools, untimed};

use crate::peers::{Kind, available, phrases, variables};
use crate::{Options, child};

const STEP: &str = "forget and prune";
const BARS: [Bar; 2] = [
    Bar { step: STEP, beside: Some("restic"), measure: Measure::Cpu, at_most: 0.3 },
    Bar { step: STEP, beside: Some("restic"), measure: Measure::Peak, at_most: 0.2 },
];
/// Less than this must be left of the data.
const LEFT: f64 = 0.6;

pub(crate) fn contest(options: &Options) -> Result<Report> {
    let blobs = options.size(2_000_000, 20_000);
    let scratch = tempfile::Builder::new().prefix("backup-bench-").tempdir()?;
    let template = scratch.path().join("template").display().to_string();
    let backup = tools::backup()?.display().to_string();
    let restic = tools::tool("restic-new")?.display().to_string();
    let make = format!("{} {} blobs {template}", std::env::current_exe()?.display(), child::WORD);
    // As the README says it: a generated key needs no stretching, which ours would be charged for
    // three times. It opens for both.
    let key = scratch.path().join("key");
    let own = variables(scratch.path());
    let init = format!(
        "{backup} init --quiet --repo {template} --generate-key --key-file {}",
        key.display()
    );
    untimed(&init, scratch.path(), &own)?;
    let phrases = phrases(fs::read_to_string(&key)?.trim_end());
    let own = [own, phrases.clone()].concat();
    let snapshot = untimed(&format!("{make} 1 {}", blobs / 2), scratch.path(), &own)?;
    untimed(&format!("{make} 2 {}", blobs / 2), scratch.path(), &own)?;
    let full = data::size_of(&scratch.path().join("template/data"))?;
    let peers = available(&[Kind::Backup, Kind::Restic])?;
    let mut costs = vec![Vec::new(); peers.len()];
    for run in 0..options.runs as usize {
        for which in (0..peers.len()).map(|at| (at + run) % peers.len()) {
            let room = tempfile::tempdir_in(&scratch)?;
            let repo = room.path().join("repo").display().to_string();
            let (variables, id) =
                ([variables(room.path()), phrases.clone()].concat(), snapshot.trim());
            // The lock that keeps stock tools from removing anything beside our writers: nobody
            // writes here.
            untimed(
                &format!("cp -a {template} {repo} && rm -f {repo}/locks/*"),
                room.path(),
                &variables,
            )?;
            let script = match peers[which].kind {
                Kind::Backup => own_script(&backup, &repo, id),
                _ => format!("{restic} --quiet --repo {repo} forget {id} --prune --max-unused 5%"),
            };
            let cost = timed(&script, room.path(), &variables)?;
            let stored = data::size_of(&room.path().join("repo/data"))?;
            #[expect(clippy::cast_precision_loss, reason = "a share is wanted")]
            if stored as f64 > full as f64 * LEFT {
                return Err(format!(
                    "{}: {stored} of {full} bytes of data remain after the prune",
                    peers[which].name
                )
                .into());
            }
            costs[which].push(Cost { stored: Some(stored), ..cost });
            untimed(
                &format!("{restic} --quiet --no-lock --repo {repo} check"),
                room.path(),
                &variables,
            )?;
        }
    }
    let row = |(peer, costs): (&crate::peers::Peer, _)| Row {
        step: STEP.to_owned(),
        tool: peer.name.clone(),
        costs,
    };
    let rows = peers.iter().zip(costs).map(row).collect();
    let title = format!("half of {blobs} blobs; {}", options.told());
    Ok(Report::new("prune", title, rows, &BARS))
}

/// Forgets snapshot `id` and prunes with our program.
fn own_script(backup: &str, repo: &str, id: &str) -> String {
    let ours = |words: &str| format!("{backup} {words} --repo {repo} --quiet --yes");
    let prune = ours("prune --grace 0s --max-unused 5%");
    // It marks what is not needed, and the next run removes it.
    [ours(&format!("forget {id}")), prune.clone(), prune].join(" && ")
}
