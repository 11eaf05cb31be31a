//! Comparing snapshot and data directory with the server's manifest.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use backup_core::source::{RestoreReport, SourceError, SourceErrorKind, SourceResult};
use futures::StreamExt as _;

use super::Job;
use super::layers::directories;
use super::target::{Target, failed};
use crate::postgres::backup::Sums;
use crate::postgres::error::malformed;

/// Whether the newest backup has all that its manifest lists.
pub(super) async fn verify_names(job: &Job<'_>, target: &Target) -> SourceResult<()> {
    let newest = job.layout.newest(job.description.increments);
    let mut sums = Sums::of_sizes();
    let nodes = directories(job, target, &newest).await?;
    let places = target.places(&newest).zip(target.roots());
    for (((top, _), (prefix, _)), node) in places.zip(nodes) {
        let Some(tree) = node.and_then(|node| node.subtree) else { continue };
        let mut walk = job.snapshot.walk_below(top.clone(), tree);
        while let Some((path, node)) = walk.next().await? {
            let name = &path.as_bytes()[top.as_bytes().len() + 1..];
            if node.is_file() && name != b"backup_manifest" {
                sums.add(&[prefix.as_bytes(), name].concat(), node.metadata.size, 0);
            }
        }
    }
    let none = || malformed("snapshot: no manifest");
    let manifest = job.snapshot.find(&newest.manifest()).await?.ok_or_else(none)?;
    let mut content = job.snapshot.content(&manifest);
    let mut compared = Ok(());
    while let (Some(piece), Ok(())) = (content.next().await.transpose()?, &compared) {
        compared = sums.manifest(&piece).map(|_| ());
    }
    compared.and_then(|()| sums.finish()).map_err(|error| {
        SourceError::new(
            SourceErrorKind::Mismatch,
            "the snapshot differs from the server's backup manifest",
        )
        .with_source(error)
    })
}

/// Reads everything back and compares it with the server's manifest.
pub(super) async fn verify_sums(
    job: &Job<'_>,
    target: &Target,
    report: &mut RestoreReport,
) -> SourceResult<()> {
    let (roots, manifest, cx) =
        (target.roots(), target.root.join("backup_manifest"), job.cx.clone());
    let work = move || -> SourceResult<u64> {
        let (mut sums, mut bytes) = (Sums::default(), 0);
        let mut buffer = vec![0; 1 << 20];
        for (prefix, root) in roots {
            add_dir(&mut sums, &mut bytes, &mut buffer, &root, prefix.as_bytes(), &|| {
                Ok(cx.check_cancelled()?)
            })?;
        }
        let mut file = File::open(&manifest).map_err(|error| failed(&manifest, error))?;
        loop {
            match file.read(&mut buffer).map_err(|error| failed(&manifest, error))? {
                0 => break,
                len => _ = sums.manifest(&buffer[..len])?,
            }
        }
        sums.finish()?;
        Ok(bytes)
    };
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.map_err(|error| {
        SourceError::new(SourceErrorKind::Target, "the verification ended unexpectedly")
            .with_source(error)
    })?;
    report.verified_bytes += done.map_err(|error| match error.kind() {
        SourceErrorKind::Unavailable => {
            SourceError::new(SourceErrorKind::Mismatch, "the restored files differ from the backup")
                .with_source(error)
        }
        _ => error,
    })?;
    Ok(())
}

fn add_dir(
    sums: &mut Sums,
    bytes: &mut u64,
    buffer: &mut [u8],
    dir: &Path,
    prefix: &[u8],
    go_on: &dyn Fn() -> SourceResult<()>,
) -> SourceResult<()> {
    go_on()?;
    for entry in fs::read_dir(dir).map_err(|error| failed(dir, error))? {
        let entry = entry.map_err(|error| failed(dir, error))?;
        let path = entry.path();
        let listed = [prefix, entry.file_name().as_bytes()].concat();
        let kind = entry.file_type().map_err(|error| failed(&path, error))?;
        if kind.is_dir() {
            add_dir(sums, bytes, buffer, &path, &[&listed[..], b"/"].concat(), go_on)?;
        } else if kind.is_file() && listed != b"backup_manifest" {
            let (size, crc) = sum_of(&path, buffer).map_err(|error| failed(&path, error))?;
            sums.add(&Target::listed(listed), size, crc);
            *bytes += size;
        }
    }
    Ok(())
}

fn sum_of(path: &Path, buffer: &mut [u8]) -> std::io::Result<(u64, u32)> {
    let (mut file, mut size, mut crc) = (File::open(path)?, 0, 0);
    loop {
        match file.read(buffer)? {
            0 => return Ok((size, crc)),
            len => {
                size += len as u64;
                crc = crc32c::crc32c_append(crc, &buffer[..len]);
            }
        }
    }
}
