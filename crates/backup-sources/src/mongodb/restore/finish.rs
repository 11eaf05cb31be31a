//! Steps after the documents: validators, views, the wait for a majority.

use backup_core::context::Context;
use backup_core::source::{SourceError, SourceErrorKind, SourceResult};
use bson::doc;
use bson::oid::ObjectId;
use futures::FutureExt as _;

use super::aside::shown;
use super::target::Target;
use super::together::together;
use crate::mongodb::catalog::Collection;
use crate::mongodb::error::Explain as _;
use crate::mongodb::namespace::Namespace;
use crate::mongodb::raw::Fields;
use crate::mongodb::server::{Primary, Server, unless_cancelled};
use crate::progress::StageProgress;

/// What the oplog says of validators is said again, in the same words.
pub(super) async fn validator(
    target: &Target,
    namespace: &Namespace,
    (changes, options): (&Fields, &Fields),
) -> SourceResult<()> {
    if changes.is_empty() || namespace.is_buckets() {
        return Ok(());
    }
    let mut command = Fields::default().with("collMod", &namespace.name);
    command.extend(changes);
    if options.is_true("recordPreImages") {
        // Servers of version 5.0 forget it with every change that does not mention it.
        command.set("recordPreImages", true);
    }
    target
        .define(&namespace.db, &command)
        .await?
        .writing(format_args!("cannot set the validator of {}", shown(namespace)))
}

/// Creates all views, after everything else: the server allows a view on another one that does not
/// exist yet.
pub(super) async fn views(
    cx: &Context,
    target: &Target,
    views: &[Collection],
    progress: &StageProgress,
) -> SourceResult<()> {
    let making = views.iter().map(|view| {
        let made = async {
            target.create_view(view).await?;
            progress.done(1, 0);
            Ok(())
        };
        made.boxed()
    });
    together(cx, target.parallel, making.collect()).await.1
}

/// Waits until a majority of the target's members has everything: a write that changes nothing does
/// not return before. If somebody else than `primary` takes writes by then, what was acknowledged
/// to us may have been taken back.
pub(super) async fn barrier(
    cx: &Context,
    server: &Server,
    names: &[Namespace],
    primary: Primary,
    again: &str,
) -> SourceResult<()> {
    let hint = format!("when the target is stable, {again}");
    // The right to write is there where documents were written.
    let documents = names.iter().find(|name| !name.is_authorization());
    let Some(namespace) = documents.or(names.first()) else { return Ok(()) };
    let nothing = doc! { "q": { "_id": ObjectId::new() }, "limit": 1 };
    // There is no such collection, and there will be none: any other may be of a kind that does not
    // take this.
    let command = doc! { "delete": "tmp.restore.barrier", "deletes": [nothing], "writeConcern": { "w": "majority" } };
    let waiting = async {
        server
            .write(&namespace.db, command)
            .await
            .writing("no majority of the target's members confirmed the restored data")
    };
    unless_cancelled(cx, waiting).await.map_err(|error| match error.hint() {
        None => error.with_hint(&hint),
        Some(_) => error,
    })?;
    if unless_cancelled(cx, server.primary()).await? == primary {
        return Ok(());
    }
    let text = "the target's primary changed or restarted during the restore: writes that the \
                earlier primary acknowledged may be lost";
    Err(SourceError::new(SourceErrorKind::Unavailable, text).with_hint(hint))
}
