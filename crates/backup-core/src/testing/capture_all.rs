//! Capturing a log up to its end.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::ScriptedLog;
use crate::context::Context;
use crate::log::{CaptureOptions, capture};
use crate::repository::Repository;

/// Captures until everything that has happened is acknowledged, as `me@here`. `more` may make
/// something happen meanwhile: it is called now and then until the first of what it makes happen is
/// stored.
pub async fn capture_all(repository: &Repository, source: &ScriptedLog, more: impl Fn()) {
    let cancel = CancellationToken::new();
    let cx = Context { cancel: cancel.clone(), ..Context::silent() };
    let flush_after = Duration::from_millis(20);
    let options =
        CaptureOptions { flush_after, holder: "me@here".to_owned(), ..CaptureOptions::default() };
    let before = source.end().offset;
    let stop = async {
        while source.acknowledged().as_ref() != Some(&source.end()) {
            if source.acknowledged().is_none_or(|at| at.offset <= before) {
                more();
            }
            // A slow machine need not keep up.
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        cancel.cancel();
    };
    let (captured, ()) = tokio::join!(capture(repository, source, &options, &cx), stop);
    captured.unwrap_or_else(|error| panic!("{}", error.chain()));
}
