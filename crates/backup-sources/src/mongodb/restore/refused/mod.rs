//! Options, indexes and views of the snapshot that the target refuses, found before anything is
//! written: all of them at once.
//!
//! | file | contents |
//! |---|---|
//! | `mod.rs` | [`refuse`]: looks for them; expressions are checked by the server, which only reads |
//! | `rules.rs` | definitions that servers of known versions refuse |

mod rules;

use std::fmt;

use backup_core::context::Context;
use backup_core::source::{SourceError, SourceErrorKind, SourceResult};

use super::indexes::is_made_by_the_server;
use crate::mongodb::catalog::Collection;
use crate::mongodb::error::{Explain as _, code_of, is_denied, is_transient};
use crate::mongodb::fold::Live;
use crate::mongodb::namespace::Namespace;
use crate::mongodb::raw::Fields;
use crate::mongodb::server::{Server, unless_cancelled};

pub(super) use rules::{HAYSTACK, Taker, is_direction, is_index_option};

/// Definitions that an error lists.
const LISTED: usize = 100;
/// A collection that does not exist: an expression about it is checked, and reads nothing.
const NOTHING: &str = "tmp.restore.nothing";

/// A definition that the target refuses.
#[derive(Debug)]
struct Refusal {
    namespace: Namespace,
    part: Part,
    reason: String,
}

#[derive(Debug)]
enum Part {
    Option(String),
    Index(String),
    /// A collection of a kind that the target lacks, or a view.
    Whole,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { namespace, part, reason } = self;
        match part {
            Part::Option(name) => write!(f, "{namespace}: option {name} ({reason})"),
            Part::Index(name) => write!(f, "{namespace}: index {name} ({reason})"),
            Part::Whole => write!(f, "{namespace} ({reason})"),
        }
    }
}

impl Taker {
    pub(super) fn of(server: &Server) -> Self {
        let [major, minor, _] = server.version;
        Self { version: [major, minor], is_replica_set: server.is_replica_set() }
    }
}

/// Refuses a restore with definitions that the target does not take. `is_merged` is true for
/// collections that keep the options that they have at the target; `version` is that of the snapshot.
///
/// # Errors
/// [`SourceErrorKind::Unsupported`] names all of them.
pub(super) async fn refuse(
    cx: &Context,
    server: &Server,
    (wanted, views): (&[(Live, Collection)], &[Collection]),
    version: [i32; 3],
    is_merged: impl Fn(&Namespace) -> bool,
) -> SourceResult<()> {
    let taker = Taker::of(server);
    let is_other_version = version[..2] != taker.version;
    let mut refused = Vec::new();
    for (_, collection) in
        wanted.iter().filter(|(_, collection)| !collection.namespace.is_authorization())
    {
        let keeps_options = is_merged(&collection.namespace);
        if !keeps_options {
            options(taker, collection, &mut refused);
        }
        indexes(taker, collection, &mut refused);
        if is_other_version && !keeps_options {
            unless_cancelled(cx, expressions(server, collection, &mut refused)).await?;
        }
    }
    for view in views.iter().filter(|_| is_other_version) {
        unless_cancelled(cx, pipeline(server, view, &mut refused)).await?;
    }
    if refused.is_empty() { Ok(()) } else { Err(error(&refused)) }
}

fn options(taker: Taker, collection: &Collection, refused: &mut Vec<Refusal>) {
    let is_buckets = collection.namespace.is_buckets();
    for (name, reason) in taker.refused_options(&collection.options) {
        // Buckets get their options by the time-series collection.
        if is_buckets && matches!(&*name, "clusteredIndex" | "validator") {
            continue;
        }
        let part = if name == "timeseries" { Part::Whole } else { Part::Option(name) };
        let reason = match part {
            Part::Whole => format!("a time-series collection {reason}"),
            _ => reason,
        };
        refused.push(Refusal { namespace: collection.namespace.visible(), part, reason });
    }
}

fn indexes(taker: Taker, collection: &Collection, refused: &mut Vec<Refusal>) {
    for index in collection.indexes.iter().filter(|index| !is_made_by_the_server(index)) {
        let Some(reason) = taker.refuses_index(index) else { continue };
        let name = index.text("name").unwrap_or_default().to_owned();
        let namespace = collection.namespace.visible();
        refused.push(Refusal { namespace, part: Part::Index(name), reason });
    }
}

/// Has the server check the validator and the collation of a collection, by a search in nothing.
async fn expressions(
    server: &Server,
    collection: &Collection,
    refused: &mut Vec<Refusal>,
) -> SourceResult<()> {
    if collection.namespace.is_buckets() {
        return Ok(());
    }
    let options = &collection.options;
    for (name, argument) in [("validator", "filter"), ("collation", "collation")] {
        let Some(expression) = options.get(name) else { continue };
        let command = Fields::default()
            .with("find", NOTHING)
            .with("limit", 1)
            .with("singleBatch", true)
            .with(argument, expression);
        if let Some(reason) = reason(server, &collection.namespace.db, command).await? {
            let namespace = collection.namespace.clone();
            refused.push(Refusal { namespace, part: Part::Option(name.to_owned()), reason });
        }
    }
    Ok(())
}

/// Has the server check the pipeline of a view.
async fn pipeline(
    server: &Server,
    view: &Collection,
    refused: &mut Vec<Refusal>,
) -> SourceResult<()> {
    let Some(pipeline) = view.options.get("pipeline") else { return Ok(()) };
    let mut command = Fields::default()
        .with("aggregate", NOTHING)
        .with("pipeline", pipeline)
        .with("cursor", Fields::default());
    if let Some(collation) = view.options.get("collation") {
        command.set("collation", collation);
    }
    if let Some(reason) = reason(server, &view.namespace.db, command).await? {
        let reason = format!("a view: {reason}");
        refused.push(Refusal { namespace: view.namespace.clone(), part: Part::Whole, reason });
    }
    Ok(())
}

/// Why the server refuses a command that reads; `None` if it does not, or the user may not read.
async fn reason(server: &Server, db: &str, command: Fields) -> SourceResult<Option<String>> {
    match server.write_raw(db, command.to_raw()?).await {
        Ok(_) => Ok(None),
        Err(error) if is_denied(&error) => Ok(None),
        Err(error) if is_transient(&error) || code_of(&error).is_none() => {
            Err(error).writing("cannot check the definitions of the snapshot")
        }
        // The message may repeat values of an expression.
        Err(error) => {
            let code = code_of(&error).unwrap_or_default();
            Ok(Some(format!("the server refuses it with code {code}")))
        }
    }
}

fn error(refused: &[Refusal]) -> SourceError {
    let mut list: Vec<String> = refused.iter().take(LISTED).map(Refusal::to_string).collect();
    if refused.len() > LISTED {
        list.push(format!("and {} more", refused.len() - LISTED));
    }
    let text = format!(
        "the target refuses some definitions of the snapshot; nothing was changed: {}",
        list.join("; ")
    );
    let mut ways = Vec::new();
    let has = |is_one: fn(&Part) -> bool| refused.iter().any(|one| is_one(&one.part));
    if has(|part| matches!(part, Part::Index(_))) {
        ways.push(
            "leave out indexes with --skip-index NAME, or convert those of old servers with \
                   --convert-legacy-indexes",
        );
    }
    if has(|part| matches!(part, Part::Option(_))) {
        ways.push("create collections without options with --no-options=DATABASE.COLLECTION");
    }
    if has(|part| matches!(part, Part::Whole)) {
        ways.push("leave out views and collections with --exclude DATABASE.COLLECTION");
    }
    SourceError::new(SourceErrorKind::Unsupported, text).with_hint(ways.join("; "))
}
