//! One endless stream from a pipe. What makes it is measured on both sides, it costs hardly more
//! than a copy.

use backup_benches::{
    ALLOCATOR, Bar, Cost, Measure, Report, Result, Row, data, timed, tools, untimed,
};

use crate::peers::{Kind, available, variables};
use crate::{Options, child};

const STEP: &str = "backup of a stream";
const BARS: [Bar; 1] =
    [Bar { step: STEP, beside: Some("restic"), measure: Measure::Wall, at_most: 0.5 }];

pub(crate) fn contest(options: &Options) -> Result<Report> {
    let megabytes = options.size(20_000, 100);
    let itself = format!("{} {}", std::env::current_exe()?.display(), child::WORD);
    let input = format!("{itself} generate 1 {}", megabytes * 1_000_000);
    let allocator = ALLOCATOR.map(|(name, value)| format!("{name}={value}")).join(" ");
    let backup = tools::backup()?.display().to_string();
    let restic = tools::tool("restic-new")?.display().to_string();
    let peers = available(&[Kind::Backup, Kind::Restic])?;
    let mut costs = vec![Vec::new(); peers.len()];
    for run in 0..options.runs as usize {
        for which in (0..peers.len()).map(|at| (at + run) % peers.len()) {
            let room = tempfile::Builder::new().prefix("backup-bench-").tempdir()?;
            let repo = room.path().join("repo").display().to_string();
            let variables = variables(room.path());
            let (init, script) = match peers[which].kind {
                Kind::Backup => (
                    format!("{backup} init --quiet --repo {repo}"),
                    format!("{input} | {allocator} {itself} stream {repo}"),
                ),
                _ => (
                    format!("{restic} init --quiet --repo {repo}"),
                    format!(
                        "{input} | {restic} backup --quiet --repo {repo} --stdin --stdin-filename \
                         stream"
                    ),
                ),
            };
            untimed(&init, room.path(), &variables)?;
            let cost = timed(&script, room.path(), &variables)?;
            let stored = Some(data::size_of(&room.path().join("repo"))?);
            costs[which].push(Cost { stored, ..cost });
            // Stock restic reads both.
            let same = format!(
                "cmp <({restic} --quiet --no-lock --repo {repo} dump latest /stream) <({input})"
            );
            untimed(&same, room.path(), &variables)?;
        }
    }
    let row = |(peer, costs): (&crate::peers::Peer, _)| {
        let tool =
            if peer.kind == Kind::Backup { "backup-core".to_owned() } else { peer.name.clone() };
        Row { step: STEP.to_owned(), tool, costs }
    };
    let rows = peers.iter().zip(costs).map(row).collect();
    let title = format!("{megabytes} MB from a pipe; {}", options.told());
    Ok(Report::new("stream", title, rows, &BARS))
}
