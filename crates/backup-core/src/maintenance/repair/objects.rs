//! Objects that lead to the others: the copy of the config, key files, and the inventory.

use std::collections::HashSet;

use bytes::Bytes;

use super::{Run, quarantine};
use crate::check::Problem;
use crate::error::{ErrorKind, Result};
use crate::id::KeyId;
use crate::repository::layout;
use crate::sink::{Key, SinkErrorKind, SinkOps};

/// The copy of the config is what a lost config is recovered from.
pub(super) async fn config_copy(run: &mut Run<'_>) -> Result<()> {
    let sink = run.repository().sink().clone();
    let config = sink.get_bytes(&layout::config()).await?;
    let key = layout::config_copy();
    match sink.get_bytes(&key).await {
        Ok(copy) if copy == config => return Ok(()),
        Ok(_) => _ = quarantine::put(run, &key).await?,
        Err(error) if error.kind() == SinkErrorKind::NotFound => {}
        Err(error) => return Err(error.into()),
    }
    if !run.options.dry_run {
        sink.put_bytes(&key, config).await?;
    }
    run.repaired(key.to_string(), "rewritten from the object config");
    Ok(())
}

/// Key files that are damaged or gone: from another copy, or given up.
pub(super) async fn keys(run: &mut Run<'_>) -> Result<()> {
    let repository = run.repository().clone();
    let receipts = repository.key_receipts().await?;
    let keys = repository.keys().await?;
    let there: HashSet<KeyId> = keys.iter().map(|(id, _)| *id).collect();
    let damaged = keys.iter().filter(|(_, info)| info.is_err()).map(|(id, _)| (*id, true));
    let gone = receipts.iter().filter(|id| !there.contains(*id)).map(|id| (*id, false));
    let bad: Vec<(KeyId, bool)> = damaged.chain(gone).collect();
    for (id, is_there) in bad {
        let (key, object) = (layout::key_file(&id), format!("key {}", id.short()));
        if let Some(bytes) = key_from_copies(run, &key, id).await? {
            let is_aside = quarantine::put(run, &key).await?;
            if is_aside && !run.options.dry_run {
                repository.sink().put_bytes(&key, bytes).await?;
            }
            if is_aside {
                run.repaired(object, "recovered from another repository");
                continue;
            }
        }
        let is_aside = quarantine::put(run, &key).await?;
        let message = match (is_there, is_aside) {
            (_, false) => "the storage cannot read the object: it stays in place",
            (true, true) => "cannot be read: moved to x-quarantine/",
            (false, true) => "is missing, and no copy of it was found",
        };
        let affects = vec!["its pass phrase, which no longer opens the repository".to_owned()];
        run.report.lost.push(Problem { object, message: message.to_owned(), affects });
        if is_aside && !run.options.dry_run {
            repository.sink().delete_one(&layout::key_receipt(&id)).await?;
            repository.sink().delete_one(&key).await?;
        }
    }
    Ok(())
}

/// The same key file in a copy, which has the same bytes.
async fn key_from_copies(run: &Run<'_>, key: &Key, id: KeyId) -> Result<Option<Bytes>> {
    for copy in &run.copies {
        match copy.repository().sink().get_bytes(key).await {
            Ok(bytes) if KeyId::digest(&bytes) == id => return Ok(Some(bytes)),
            Ok(_) => {}
            Err(error) if error.kind() == SinkErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

/// Inventory entries that cannot be read, of objects that are there.
pub(super) async fn inventory(run: &mut Run<'_>) -> Result<()> {
    let repository = run.repository().clone();
    let mut entries = Vec::new();
    for id in repository.key_receipts().await? {
        entries.push((layout::key_receipt(&id), layout::key_file(&id)));
    }
    for id in repository.snapshot_receipts().await? {
        entries.push((layout::snapshot_receipt(&id), layout::snapshot(&id)));
    }
    for (entry, object) in entries {
        run.cx.check_cancelled()?;
        match repository.check_receipt(&entry).await {
            Ok(()) => continue,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) if !error.is_damage() => return Err(error),
            Err(_) => {}
        }
        // The entry of an object that is gone is removed with the report of the loss.
        if !repository.sink().exists(&object).await? || !quarantine::put(run, &entry).await? {
            continue;
        }
        if !run.options.dry_run {
            repository.put_receipt(&entry, run.cx.clock.now()).await?;
        }
        run.repaired(entry.to_string(), "could not be read; written again");
    }
    Ok(())
}
