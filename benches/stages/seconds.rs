//! What stages on bytes in memory take in time, by criterion: their instructions are what CI
//! counts, but not all of them take as long.
//!
//! `cargo bench -p backup-benches --bench stages [-- NAME]`; `main.rs` has the map.

mod bytes;
mod wal;
mod work;

use std::path::Path;

use backup_benches::{Result, data};
use criterion::Criterion;

fn main() -> Result<()> {
    let scratch = tempfile::Builder::new().prefix("backup-stages-").tempdir()?;
    data::create(&scratch.path().join(work::FILES), work::BYTES)?;
    let mut criterion = Criterion::default().without_plots().configure_from_args();
    for stage in &work::STAGES {
        measure(&mut criterion, stage, scratch.path())?;
    }
    criterion.final_summary();
    Ok(())
}

fn measure(criterion: &mut Criterion, stage: &work::Stage, dir: &Path) -> Result<()> {
    let mut work = (stage.prepare)(dir)?;
    let mut result = Ok(());
    criterion.bench_function(&format!("{}: {}", stage.name, stage.what), |bencher| {
        bencher.iter(|| {
            if result.is_ok() {
                result = work();
            }
        });
    });
    result
}
