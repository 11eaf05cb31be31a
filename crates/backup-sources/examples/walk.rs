//! Walks directories as a backup would and prints what that costs:
//! `cargo run --release --example walk -- DIR...`
//!
//! The CPU time is that of all threads, from `/proc/self/stat`, over as many walks as take about
//! two seconds.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use backup_core::context::Context;
use backup_core::source::{BackupRequest, Item, Selection, Source, SourceResult};
use backup_sources::files::{FilesOptions, FilesSource};

#[tokio::main]
#[expect(clippy::print_stdout, reason = "a measuring tool")]
async fn main() -> SourceResult<()> {
    let paths = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let source = FilesSource::new(paths, FilesOptions::default())?;
    let (mut walks, mut entries, mut warnings) = (0_u64, 0_u64, 0_u64);
    let (began, cpu) = (Instant::now(), ticks());
    while began.elapsed() < Duration::from_secs(2) {
        let request = BackupRequest::full(Selection::all());
        let mut reader = source.open_backup(&Context::silent(), &request).await?;
        while let Some(item) = reader.next().await? {
            match item {
                Item::Entry(_) => entries += 1,
                Item::Warning(_) => warnings += 1,
                Item::Close(_) | Item::Keep(_) | Item::Skipped(_) => {}
            }
        }
        reader.finish().await?;
        walks += 1;
    }
    let wall = began.elapsed();
    let cpu = (ticks() - cpu) * 10_000;
    println!("{} entries, {} warnings, {walks} walks", entries / walks, warnings / walks);
    println!(
        "wall {:.2} µs, CPU {:.2} µs per entry",
        wall.as_micros() as f64 / entries as f64,
        cpu as f64 / entries as f64
    );
    Ok(())
}

/// CPU time of this process in hundredths of a second.
fn ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    after_name
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum()
}
