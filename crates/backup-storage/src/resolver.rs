//! From an address to a sink.
//!
//! A sink over a network is wrapped into a [`RetrySink`] here, once and nowhere else, so that no
//! failure is tried again by two layers. A local disk is not: what it refuses once, it refuses
//! again.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use backup_core::sink::{Key, Operation, Sink, SinkError, SinkErrorKind, SinkResult};

pub use crate::location::Location;
use crate::location::refused;
use crate::object::build::{Plan, azure, gcs, s3};
use crate::object::{Kind, ObjectSink};
use crate::settings::{StoreSettings, overlay};
use crate::{LimitSink, LocalSink, RefusedCredentials, RetryPolicy, RetrySink};

/// For how long a store that does not answer is asked when it is opened. What is wrong then is
/// mostly the address.
const FIRST_ANSWER: Duration = Duration::from_secs(15);

/// The sink of a place that exists. A bucket is asked for an object, so that what is wrong with its
/// address or the credentials is said here.
///
/// # Errors
/// [`SinkErrorKind::NotFound`] if nothing is there (a directory, a bucket),
/// [`SinkErrorKind::Invalid`] for a regular file and for settings that make no sense, and those of
/// the kind of storage. Errors have hints.
pub async fn open(location: &Location, settings: &StoreSettings) -> SinkResult<Arc<dyn Sink>> {
    match location {
        Location::Local(path) => {
            refuse_file(path, location)?;
            Ok(limited(LocalSink::open(path)?, settings))
        }
        _ => open_store(location, settings, SinkErrorKind::NotFound).await,
    }
}

/// The sink of a place; a directory is made if it does not exist, a bucket is not.
///
/// # Errors
/// [`SinkErrorKind::Invalid`] for a regular file and for settings that make no sense, and those of
/// the kind of storage: that a bucket does not exist is [`SinkErrorKind::Other`] here, for who
/// wants to make a repository need not be told that there is none. Errors have hints.
pub async fn create(location: &Location, settings: &StoreSettings) -> SinkResult<Arc<dyn Sink>> {
    match location {
        Location::Local(path) => {
            refuse_file(path, location)?;
            Ok(limited(LocalSink::create(path)?, settings))
        }
        _ => open_store(location, settings, SinkErrorKind::Other).await,
    }
}

fn limited(sink: LocalSink, settings: &StoreSettings) -> Arc<dyn Sink> {
    match (settings.limit_upload, settings.limit_download) {
        (None, None) => Arc::new(sink),
        (upload, download) => Arc::new(LimitSink::new(Arc::new(sink), upload, download)),
    }
}

async fn open_store(
    location: &Location,
    settings: &StoreSettings,
    no_bucket: SinkErrorKind,
) -> SinkResult<Arc<dyn Sink>> {
    let name = location.to_string();
    let (build, kind, bucket, prefix, query): (
        fn(&Plan<'_>) -> SinkResult<ObjectSink>,
        _,
        _,
        _,
        _,
    ) = match location {
        Location::S3 { bucket, prefix, query } => (s3, Kind::S3, bucket, prefix, query),
        Location::Gcs { bucket, prefix, query } => (gcs, Kind::Gcs, bucket, prefix, query),
        Location::Azure { container, prefix, query } => {
            (azure, Kind::Azure, container, prefix, query)
        }
        Location::Local(_) => {
            return Err(refused(
                SinkErrorKind::Invalid,
                &name,
                "a directory is not an object store",
            ));
        }
    };
    let settings =
        overlay(settings, query).map_err(|error| refused(SinkErrorKind::Invalid, &name, error))?;
    let plan = Plan { name, kind, bucket, prefix, settings };
    let sink = Arc::new(build(&plan)?);
    let policy = plan.policy();
    let deadline = policy.deadline.min(FIRST_ANSWER);
    reach(
        &plan.name,
        RetrySink::new(Arc::clone(&sink), RetryPolicy { deadline, ..policy }),
        no_bucket,
    )
    .await?;
    Ok(Arc::new(RetrySink::new(sink, policy)))
}

/// Asks for the object that every repository has. That it is not there is an answer; `no_bucket` is
/// what it is that there is no bucket.
async fn reach(
    name: &str,
    sink: RetrySink<ObjectSink>,
    no_bucket: SinkErrorKind,
) -> SinkResult<()> {
    let Ok(config) = Key::new("config") else { return Ok(()) };
    let error = match sink.get(&config, None).await {
        Ok(_) => return Ok(()),
        Err(error) => error,
    };
    let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
    let kind = match error.kind() {
        SinkErrorKind::NotFound | SinkErrorKind::Archived => return Ok(()),
        // Who may not list is not told that something is missing, and it may be that this is a new
        // repository.
        SinkErrorKind::PermissionDenied if cause.contains("AccessDenied") => return Ok(()),
        SinkErrorKind::Other
            if cause.contains("NoSuchBucket") || cause.contains("ContainerNotFound") =>
        {
            no_bucket
        }
        other => other,
    };
    let reached = SinkError::on(kind, Operation::Head, name).without_effect();
    let mut reached = match RefusedCredentials::caused(&error) {
        true => reached.with_source(RefusedCredentials::new(cause)),
        false => reached.with_source(cause),
    };
    if let Some(hint) = error.hint() {
        reached = reached.with_hint(hint);
    }
    Err(reached)
}

fn refuse_file(path: &Path, location: &Location) -> SinkResult<()> {
    if path.exists() && !path.is_dir() {
        let name = location.to_string();
        return Err(refused(SinkErrorKind::Invalid, &name, "this is a file, not a directory"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_place_must_be_there_to_be_opened() {
        let dir = tempfile::tempdir().unwrap();
        let place = Location::local(dir.path().join("a/b"));
        assert_eq!(
            open(&place, &StoreSettings::default()).await.unwrap_err().kind(),
            SinkErrorKind::NotFound
        );
        create(&place, &StoreSettings::default()).await.unwrap();
        create(&place, &StoreSettings::default()).await.unwrap();
        assert_eq!(
            open(&place, &StoreSettings::default()).await.unwrap().to_string(),
            place.to_string()
        );
    }

    #[tokio::test]
    async fn a_file_is_no_place_for_a_repository() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "x").unwrap();
        let settings = StoreSettings::default();
        for place in [Location::local(&file), Location::local(file.join("below"))] {
            assert!(open(&place, &settings).await.is_err(), "{place}");
            assert_eq!(
                create(&place, &settings).await.unwrap_err().kind(),
                SinkErrorKind::Invalid,
                "{place}"
            );
        }
    }
}
