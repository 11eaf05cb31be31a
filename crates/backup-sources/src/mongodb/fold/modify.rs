//! `collMod` in the oplog: changed options and indexes.

use backup_core::source::SourceResult;
use bson::RawDocument;

use super::unknown;
use crate::mongodb::catalog::Collection;
use crate::mongodb::raw::{Element, Fields, Value, get};

/// Carries out a `collMod` on options and indexes. Changes of the validator are collected in `changes`.
/// A setting that is not known is an error: its effect could not be repeated.
pub(super) fn modify(
    collection: &mut Collection,
    changes: &mut Fields,
    object: &Fields,
    entry: &RawDocument,
) -> SourceResult<()> {
    let options = &mut collection.options;
    for Element { name: option, value } in object.iter().skip(1) {
        match (option, value.document()) {
            (b"index", Some(change)) => {
                modify_index(&mut collection.indexes, &Fields::parse(change)?, entry)?;
            }
            (b"validator" | b"validationLevel" | b"validationAction", _) => {
                changes.set(option, value);
            }
            (b"expireAfterSeconds", None) if value.text() == Some("off") => {
                options.remove("expireAfterSeconds");
            }
            (b"timeseries", Some(change)) => {
                let mut timeseries = options.document("timeseries").unwrap_or_default();
                change_timeseries(&mut timeseries, &Fields::parse(change)?);
                options.set("timeseries", timeseries);
            }
            (b"cappedSize", _) => options.set("size", value),
            // As servers take "no limit".
            (b"cappedMax", _) if value.number().is_some_and(|max| max <= 0.0) => {
                options.set("max", i64::from(i32::MAX));
            }
            (b"cappedMax", _) => options.set("max", value),
            // Servers list these only while they are switched on.
            (b"recordPreImages", _) if value.boolean() == Some(false) => {
                _ = options.remove("recordPreImages");
            }
            (b"changeStreamPreAndPostImages", Some(change))
                if get(change, "enabled")?.and_then(Value::boolean) == Some(false) =>
            {
                _ = options.remove("changeStreamPreAndPostImages");
            }
            (b"expireAfterSeconds" | b"recordPreImages" | b"changeStreamPreAndPostImages", _) => {
                options.set(option, value);
            }
            // Markings that the server makes by itself.
            (
                b"timeseriesBucketsMayHaveMixedSchemaData"
                | b"timeseriesBucketingParametersHaveChanged"
                | b"_removeLegacyTimeseriesBucketingParametersHaveChanged"
                | b"isUnsplittable",
                _,
            ) => {}
            _ => {
                let option = String::from_utf8_lossy(option);
                return Err(unknown(format_args!("a change of the option {option}"), entry));
            }
        }
    }
    Ok(())
}

/// Changes how measurements are put into buckets. The oplog holds what the user asked for; the span
/// that follows from a granularity is the server's
/// (<https://www.mongodb.com/docs/manual/core/timeseries/timeseries-granularity/>).
fn change_timeseries(timeseries: &mut Fields, change: &Fields) {
    for Element { name, value } in change.iter() {
        timeseries.set(name, value);
    }
    let span = match change.text("granularity") {
        Some("seconds") => 3600,
        Some("minutes") => 24 * 3600,
        Some("hours") => 30 * 24 * 3600,
        _ => {
            if change.has("bucketMaxSpanSeconds") {
                timeseries.remove("granularity");
            }
            return;
        }
    };
    if !change.has("bucketMaxSpanSeconds") {
        timeseries.remove("bucketRoundingSeconds");
        timeseries.set("bucketMaxSpanSeconds", span);
    }
}

/// Returns `true` for equal keys; servers ignore the types of numbers.
fn is_same_key(one: Value<'_>, other: Value<'_>) -> bool {
    let fields = |key: Value<'_>| Fields::parse(key.document()?).ok();
    let (Some(one), Some(other)) = (fields(one), fields(other)) else { return false };
    let is_same = |(one, other): (Element<'_>, Element<'_>)| {
        let number = one.value.number();
        one.name == other.name
            && (one.value == other.value || (number.is_some() && number == other.value.number()))
    };
    one.len() == other.len() && one.iter().zip(other.iter()).all(is_same)
}

fn modify_index(indexes: &mut [Fields], change: &Fields, entry: &RawDocument) -> SourceResult<()> {
    let (name, key) = (change.get("name"), change.get("keyPattern"));
    let is_meant = |spec: &&mut Fields| match name {
        Some(name) => spec.get("name") == Some(name),
        None => key.zip(spec.get("key")).is_some_and(|(key, of)| is_same_key(key, of)),
    };
    // Of one that was dropped later on, or that is still being built.
    let Some(spec) = indexes.iter_mut().find(is_meant) else { return Ok(()) };
    for Element { name: field, value } in change.iter() {
        let is_true = value.boolean() == Some(true);
        match field {
            b"name" | b"keyPattern" => {}
            b"expireAfterSeconds" => spec.set(field, value),
            b"hidden" if is_true => spec.set(field, true),
            b"hidden" => _ = spec.remove("hidden"),
            b"prepareUnique" if is_true => spec.set(field, true),
            b"prepareUnique" => _ = spec.remove("prepareUnique"),
            b"unique" if is_true => {
                spec.remove("prepareUnique");
                spec.set("unique", true);
            }
            b"forceNonUnique" if is_true => _ = spec.remove("unique"),
            other => {
                let other = String::from_utf8_lossy(other);
                return Err(unknown(format_args!("a change of the index option {other}"), entry));
            }
        }
    }
    Ok(())
}
