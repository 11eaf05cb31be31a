//! Giving up and cancelling.

use super::subject::{Subject, everything};
use crate::context::Context;
use crate::source::{Selection, SourceError, SourceErrorKind};

/// More backups than a source has slots, sessions or connections to spare.
const TIMES: usize = 30;

pub(super) async fn giving_up_releases_everything(subject: &Subject) {
    let (before, _) = subject.read_all(&Selection::all()).await;
    for round in 0..TIMES {
        let mut reader = subject.open(&Context::silent(), &everything()).await;
        let mut kept = Vec::new();
        for _ in 0..round {
            match subject.ok(reader.next().await, "asking for an item") {
                Some(item) => kept.push(item),
                None => break,
            }
        }
        subject.soon(reader.abort(), "giving up").await;
    }
    for _ in 0..TIMES {
        let reader = subject.open(&Context::silent(), &everything()).await;
        // Nobody has asked for anything: this is a backup of what little was selected.
        subject.soon(reader.abort(), "giving up at once").await;
    }
    let (after, _) = subject.read_all(&Selection::all()).await;
    subject.ensure(before == after, "a backup reads something else after others were given up");
}

pub(super) async fn a_cancelled_call_ends_soon(subject: &Subject) {
    let cx = Context::silent();
    cx.cancel.cancel();
    // A probe may be over before it looks.
    if let Err(error) = subject.soon(subject.source.probe(&cx), "a cancelled probe").await {
        cancelled(subject, error, "a cancelled probe");
    }
    let digest =
        subject.soon(subject.source.digest(&cx, &Selection::all()), "a cancelled digest").await;
    match digest {
        Ok(_) => subject.fail("a cancelled digest succeeded"),
        Err(error) => cancelled(subject, error, "a cancelled digest"),
    }
    match subject
        .soon(subject.source.open_backup(&cx, &everything()), "a cancelled beginning")
        .await
    {
        Err(error) => cancelled(subject, error, "a cancelled beginning"),
        Ok(mut reader) => {
            let ended = async {
                loop {
                    match reader.next().await {
                        Ok(Some(_)) => {}
                        Ok(None) => break None,
                        Err(error) => break Some(error),
                    }
                }
            };
            match subject.soon(ended, "a backup that was cancelled before it began").await {
                None => subject.fail("a backup that was cancelled before it began came to its end"),
                Some(error) => {
                    cancelled(subject, error, "a backup that was cancelled before it began");
                }
            }
            subject.soon(reader.abort(), "giving up after cancelling").await;
        }
    }
}

fn cancelled(subject: &Subject, error: SourceError, what: &str) {
    subject.refused::<()>(Err(error), SourceErrorKind::Cancelled, what);
}

pub(super) async fn a_cancelled_reader_ends_soon(subject: &Subject) {
    let (before, _) = subject.read_all(&Selection::all()).await;
    for asked in 0..before.len().min(TIMES) {
        let cx = Context::silent();
        let mut reader = subject.open(&cx, &everything()).await;
        let mut kept = Vec::new();
        for _ in 0..asked {
            kept.push(subject.ok(reader.next().await, "asking for an item"));
        }
        cx.cancel.cancel();
        let ended = async {
            loop {
                match reader.next().await {
                    Ok(Some(_)) => {}
                    // What was ready already may still be handed out, also the end.
                    Ok(None) => break None,
                    Err(error) => break Some(error),
                }
            }
        };
        if let Some(error) = subject.soon(ended, "a cancelled backup").await {
            cancelled(subject, error, "a cancelled backup");
        }
        subject.soon(reader.abort(), "giving up after cancelling").await;
    }
    let (after, _) = subject.read_all(&Selection::all()).await;
    subject.ensure(before == after, "a backup reads something else after others were cancelled");
}
