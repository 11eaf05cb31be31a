//! Indexes and options that a restore leaves out or converts, because its target refuses them.

use std::collections::BTreeSet;

use backup_core::source::{Selection, SourceError, SourceErrorKind, SourceResult};

use super::indexes::is_made_by_the_server;
use super::refused::{HAYSTACK, Taker, is_direction, is_index_option};
use crate::mongodb::catalog::Collection;
use crate::mongodb::error::malformed;
use crate::mongodb::fold::Live;
use crate::mongodb::namespace::{Filter, Namespace};
use crate::mongodb::options::Adjustments;
use crate::mongodb::raw::{Element, Fields};

/// Options without which a collection would hold other documents.
const KEPT: [&[u8]; 3] = [b"capped", b"size", b"max"];

/// Leaves out and converts indexes and options; returns a line about each of them.
///
/// # Errors
/// [`SourceErrorKind::NotFound`] names an index or a pattern that matches nothing.
pub(super) fn adjust(
    wanted: &mut [(Live, Collection)],
    taker: Taker,
    adjustments: &Adjustments,
) -> SourceResult<Vec<String>> {
    if adjustments.is_empty() {
        return Ok(Vec::new());
    }
    let mut adjusting = Adjusting::new(taker, adjustments)?;
    for (live, collection) in
        wanted.iter_mut().filter(|(_, collection)| !collection.namespace.is_authorization())
    {
        adjusting.collection(live, collection);
    }
    adjusting.refuse_unmatched()?;
    Ok(adjusting.lines)
}

struct Adjusting<'a> {
    taker: Taker,
    adjustments: &'a Adjustments,
    plain: Option<Filter>,
    selection: Selection,
    /// Names of indexes that are left out, as they were given.
    skipped: BTreeSet<&'a str>,
    lines: Vec<String>,
}

impl<'a> Adjusting<'a> {
    fn new(taker: Taker, adjustments: &'a Adjustments) -> SourceResult<Self> {
        let selection = Selection::new(adjustments.no_options.clone(), Vec::new());
        let selection = selection.map_err(|error| malformed("pattern").with_source(error))?;
        let plain = (!adjustments.no_options.is_empty()).then(|| Filter::new(&selection));
        let (skipped, lines) = (BTreeSet::new(), Vec::new());
        Ok(Self { taker, adjustments, plain: plain.transpose()?, selection, skipped, lines })
    }

    fn collection(&mut self, live: &mut Live, collection: &mut Collection) {
        let shown = collection.namespace.visible();
        let names = [live.collection.namespace.visible(), shown.clone()];
        let mut indexes = std::mem::take(&mut collection.indexes);
        if self.adjustments.convert_legacy_indexes {
            for index in indexes.iter_mut().filter(|index| !is_made_by_the_server(index)) {
                self.convert(&shown, index);
            }
        }
        indexes.retain(|index| is_made_by_the_server(index) || !self.skips(&names, index));
        if !collection.namespace.is_buckets()
            && self.plain.as_ref().is_some_and(|plain| names.iter().any(|name| plain.covers(name)))
        {
            self.without_options(&shown, collection, &mut indexes);
            live.changes = Fields::default();
        }
        live.collection.options = collection.options.clone();
        live.collection.indexes.clone_from(&indexes);
        collection.indexes = indexes;
    }

    /// `names` are those in the snapshot and at the target.
    fn skips(&mut self, names: &[Namespace; 2], index: &Fields) -> bool {
        let name = index.text("name").unwrap_or_default();
        let is_meant = |skip: &&String| {
            **skip == name || names.iter().any(|full| **skip == format!("{full}.{name}"))
        };
        let Some(skipped) = self.adjustments.skip_indexes.iter().find(is_meant) else {
            return false;
        };
        self.skipped.insert(skipped);
        self.lines.push(format!("{}: the index {name} is left out", names[1]));
        true
    }

    fn without_options(
        &mut self,
        shown: &Namespace,
        collection: &mut Collection,
        indexes: &mut [Fields],
    ) {
        let is_dropped = |name: &[u8]| name != b"uuid" && !KEPT.contains(&name);
        let names = collection.options.iter().map(|option| option.name);
        let dropped: Vec<String> = names
            .filter(|name| is_dropped(name))
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .collect();
        if dropped.is_empty() {
            return;
        }
        collection.options = collection.options.only(|name| !is_dropped(name));
        // The server makes this index without the options of the collection.
        for index in indexes.iter_mut().filter(|index| is_made_by_the_server(index)) {
            let key = Fields::default().with("_id", 1);
            *index = Fields::default().with("v", 2).with("key", key).with("name", "_id_");
        }
        let dropped = dropped.join(", ");
        self.lines.push(format!("{shown}: these options are left out: {dropped}"));
    }

    fn convert(&mut self, shown: &Namespace, index: &mut Fields) {
        let Some(old) = index.document("key") else { return };
        let (mut key, mut is_haystack) = (Fields::default(), false);
        for Element { name, value } in old.iter() {
            match value.text() {
                Some(kind) if kind == HAYSTACK && !self.taker.has_haystacks() => {
                    is_haystack = true;
                    key.push(name, "2d");
                }
                Some(kind) if !kind.is_empty() => key.push(name, value),
                _ if is_direction(value) => key.push(name, value),
                _ => key.push(name, 1),
            }
        }
        let is_kept = |name: &[u8]| {
            std::str::from_utf8(name).is_ok_and(is_index_option)
                && !(is_haystack && name == b"bucketSize")
        };
        let mut converted = index.only(is_kept);
        converted.set("key", key);
        if converted != *index {
            *index = converted;
            let name = index.text("name").unwrap_or_default();
            self.lines.push(format!("{shown}: the index {name} is converted"));
        }
    }

    fn refuse_unmatched(&self) -> SourceResult<()> {
        let mut skips = self.adjustments.skip_indexes.iter();
        let unmatched = skips.find(|skip| !self.skipped.contains(skip.as_str()));
        let text = match (unmatched, self.selection.unmatched().first()) {
            (Some(name), _) => format!("no restored collection has an index {name:?}"),
            (None, Some(pattern)) => format!("the pattern {pattern:?} matches no collection"),
            (None, None) => return Ok(()),
        };
        Err(SourceError::new(SourceErrorKind::NotFound, text)
            .with_hint("correct or leave out --skip-index or --no-options"))
    }
}

#[cfg(test)]
mod tests {
    use bson::{Document, doc};

    use super::*;
    use crate::mongodb::catalog::Kind;

    fn adjusted(
        options: Document,
        indexes: Vec<Document>,
        adjustments: &Adjustments,
    ) -> SourceResult<(Collection, Vec<String>)> {
        let taker = Taker { version: [6, 0], is_replica_set: true };
        let (namespace, kind) = (Namespace::new("db", "c"), Kind::Collection);
        let (options, indexes) = (options.into(), indexes.into_iter().map(Fields::from).collect());
        let mut collection = Collection { namespace, kind, uuid: None, options, indexes };
        let mut live = Live::of(collection.clone());
        let mut adjusting = Adjusting::new(taker, adjustments)?;
        adjusting.collection(&mut live, &mut collection);
        adjusting.refuse_unmatched()?;
        assert_eq!(live.collection, collection);
        Ok((collection, adjusting.lines))
    }

    #[test]
    fn named_indexes_and_options_are_left_out() {
        let id =
            doc! { "v": 2, "key": { "_id": 1 }, "name": "_id_", "collation": { "locale": "de" } };
        let index = |name: &str| doc! { "v": 2, "key": { name: 1 }, "name": name };
        let options = doc! { "capped": true, "size": 9, "collation": { "locale": "de" } };
        let indexes = vec![id, index("a"), index("b"), index("c")];
        let adjustments = Adjustments {
            skip_indexes: vec!["a".to_owned(), "db.c.c".to_owned()],
            no_options: vec!["db.*".to_owned()],
            convert_legacy_indexes: false,
        };
        let (collection, lines) = adjusted(options.clone(), indexes.clone(), &adjustments).unwrap();
        assert_eq!(collection.options, doc! { "capped": true, "size": 9 }.into());
        let plain = doc! { "v": 2, "key": { "_id": 1 }, "name": "_id_" };
        assert_eq!(collection.indexes, [plain.into(), index("b").into()]);
        assert_eq!(
            lines,
            [
                "db.c: the index a is left out",
                "db.c: the index c is left out",
                "db.c: these options are left out: collation"
            ]
        );
        for (skip, glob) in [("d", "db.*"), ("db.d.a", "*"), ("a", "db.d")] {
            let adjustments = Adjustments {
                skip_indexes: vec![skip.to_owned()],
                no_options: vec![glob.to_owned()],
                convert_legacy_indexes: false,
            };
            let error = adjusted(options.clone(), indexes.clone(), &adjustments).unwrap_err();
            assert_eq!(error.kind(), SourceErrorKind::NotFound, "{skip} {glob}");
        }
    }

    #[test]
    fn collections_are_named_as_in_the_snapshot_or_at_the_target() {
        for db in ["db", "copy"] {
            let adjustments = Adjustments {
                skip_indexes: vec![format!("{db}.c.a")],
                no_options: vec![format!("{db}.c")],
                convert_legacy_indexes: false,
            };
            let index = doc! { "v": 2, "key": { "a": 1 }, "name": "a" };
            let stored = Collection {
                namespace: Namespace::new("db", "c"),
                kind: Kind::Collection,
                uuid: None,
                options: doc! { "collation": { "locale": "de" } }.into(),
                indexes: vec![index.into()],
            };
            let namespace = Namespace::new("copy", "c");
            let mut renamed = Collection { namespace, ..stored.clone() };
            let taker = Taker { version: [6, 0], is_replica_set: true };
            let mut adjusting = Adjusting::new(taker, &adjustments).unwrap();
            adjusting.collection(&mut Live::of(stored), &mut renamed);
            adjusting.refuse_unmatched().unwrap();
            assert!(renamed.indexes.is_empty() && renamed.options.is_empty(), "{db}");
            assert_eq!(adjusting.lines.len(), 2);
        }
    }

    #[test]
    fn legacy_indexes_are_converted() {
        let adjustments = Adjustments { convert_legacy_indexes: true, ..Adjustments::default() };
        for (index, converted) in [
            (
                doc! { "key": { "p": "geoHaystack", "t": 1 }, "name": "h", "bucketSize": 1 },
                doc! { "key": { "p": "2d", "t": 1 }, "name": "h" },
            ),
            (
                doc! { "key": { "a": true, "b": 0, "c": "", "d": -1.5, "e": "text" }, "name": "x" },
                doc! { "key": { "a": 1, "b": 1, "c": 1, "d": -1.5, "e": "text" }, "name": "x" },
            ),
            (
                doc! { "key": { "a": 1 }, "name": "x", "safe": true, "unique": true },
                doc! { "key": { "a": 1 }, "name": "x", "unique": true },
            ),
        ] {
            let (collection, lines) = adjusted(doc! {}, vec![index], &adjustments).unwrap();
            assert_eq!((&collection.indexes[..], lines.len()), (&[converted.into()][..], 1));
        }
        let plain = doc! { "v": 2, "key": { "a": -1 }, "name": "x" };
        let (collection, lines) = adjusted(doc! {}, vec![plain.clone()], &adjustments).unwrap();
        assert_eq!((&collection.indexes[..], lines.len()), (&[plain.into()][..], 0));
    }
}
