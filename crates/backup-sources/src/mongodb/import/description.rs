//! Descriptions of collections: the text of a `.metadata.json`, of every version of mongodump.

use std::fmt::Display;

use backup_core::source::{SourceError, SourceResult};
use sha2::{Digest as _, Sha256};

use super::extended;
use super::json::Json;
use crate::mongodb::catalog::{Collection, CollectionUuid, Kind};
use crate::mongodb::error::malformed;
use crate::mongodb::namespace::Namespace;
use crate::mongodb::raw::{Fields, refuse_deep};

/// Options that tools write and `create` does not take, and those of one member.
const NOT_OPTIONS: [&str; 6] =
    ["create", "autoIndexId", "idIndex", "temp", "uuid", "recordIdsReplicated"];

/// A collection or view, as it is described.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Description {
    pub(super) kind: Kind,
    pub(super) options: Fields,
    pub(super) indexes: Vec<Fields>,
    /// Tools before 4.2 do not write it.
    pub(super) uuid: Option<CollectionUuid>,
    /// The name, where the description has it: that of a file may be cut off or ambiguous.
    pub(super) name: Option<String>,
}

impl Description {
    /// Of a collection that no file describes.
    pub(super) fn absent() -> Self {
        let key = Fields::default().with("_id", 1);
        let index = Fields::default().with("v", 2).with("key", key).with("name", "_id_");
        let (options, indexes) = (Fields::default(), vec![index]);
        Self { kind: Kind::Collection, options, indexes, uuid: None, name: None }
    }

    /// Reads a description. `kind` is the type that stands beside it in an archive, or nothing.
    ///
    /// # Errors
    /// [`SourceErrorKind::Invalid`](backup_core::source::SourceErrorKind::Invalid) if it is no
    /// description; its text is not repeated.
    pub(super) fn parse(text: &str, kind: &str, subject: impl Display) -> SourceResult<Self> {
        let subject = format!("description of {subject}");
        let broken = |error: SourceError| error.context(&subject);
        let json = Json::parse(text).map_err(broken)?;
        let fields = json.object().ok_or_else(|| malformed(&subject))?;
        let text = |name: &str| json.get(name).and_then(Json::text).map(str::to_owned);
        let read = |fields: &[(String, Json)]| {
            let raw = extended::document(fields).map_err(broken)?;
            refuse_deep(raw.as_bytes(), &subject)?;
            Fields::parse(raw.as_bytes())
        };
        let mut options = match json.get("options") {
            None | Some(Json::Null) => Fields::default(),
            Some(options) => read(options.object().ok_or_else(|| malformed(&subject))?)?,
        };
        let mut indexes = Vec::new();
        match json.get("indexes") {
            None | Some(Json::Null) => {}
            Some(Json::Array(list)) => {
                for index in list {
                    indexes.push(read(index.object().ok_or_else(|| malformed(&subject))?)?);
                }
            }
            Some(_) => return Err(malformed(&subject)),
        }
        if fields.is_empty() {
            return Err(malformed(&subject));
        }
        let id_index = options.document("idIndex");
        NOT_OPTIONS.iter().for_each(|name| _ = options.remove(name));
        let kind = text("type").unwrap_or_else(|| kind.to_owned());
        let kind = match &*kind {
            "" if options.has("viewOn") => Kind::View,
            "" if options.has("timeseries") => Kind::TimeSeries,
            "" => Kind::Collection,
            word => Kind::parse(word)
                .ok_or_else(|| malformed(format!("{subject}: unknown type {word:?}")))?,
        };
        if kind == Kind::Collection && indexes.is_empty() && !options.has("clusteredIndex") {
            indexes.extend(id_index);
        }
        let uuid = text("uuid").and_then(|uuid| hex::decode(uuid).ok()?.try_into().ok());
        let name = text("collectionName").filter(|name| !name.is_empty()).or_else(|| {
            // Servers before 4.4 have the whole name in every index.
            let namespace = Namespace::parse(indexes.first()?.text("ns")?)?;
            Some(namespace.name)
        });
        Ok(Self { kind, options, indexes, uuid, name })
    }

    /// The collection, or view, of this name.
    pub(super) fn of(&self, namespace: Namespace) -> Collection {
        let Self { kind, options, indexes, uuid, .. } = self.clone();
        let uuid = uuid.filter(|_| kind == Kind::Collection);
        Collection { namespace, kind, uuid, options, indexes }
    }
}

/// A UUID for a collection of which none is known: the same for every dump of it.
pub(super) fn made_uuid(namespace: &Namespace) -> CollectionUuid {
    let mut uuid = [0; 16];
    let hash = Sha256::digest(format!("mongodump {namespace}"));
    uuid.copy_from_slice(&hash[..16]);
    // Version 8, for values of an application, and the variant of RFC 9562.
    uuid[6] = uuid[6] & 0x0f | 0x80;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    uuid
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;
    use crate::mongodb::layout;

    fn parsed_text(text: &str) -> SourceResult<Description> {
        Description::parse(text, "", "db.c")
    }

    #[test]
    fn parse_returns_the_written_collection() {
        let collection = Collection {
            namespace: Namespace::new("db", "c d"),
            kind: Kind::Collection,
            uuid: Some([7; 16]),
            options: doc! { "capped": true, "size": 4096_i64, "validator": { "a": { "$gt": 5 } } }
                .into(),
            indexes: vec![
                doc! { "v": 2, "key": { "b": 1, "a": -1 }, "name": "x", "unique": true }.into(),
            ],
        };
        let read = parsed_text(&layout::metadata(&collection)).unwrap();
        assert_eq!(read.name.as_deref(), Some("c d"));
        assert_eq!(read.of(Namespace::new("db", "c d")), collection);
        let view = Collection {
            kind: Kind::View,
            uuid: None,
            options: doc! { "viewOn": "c", "pipeline": [{ "$match": { "a": 1 } }] }.into(),
            indexes: Vec::new(),
            ..collection
        };
        assert_eq!(parsed_text(&layout::metadata(&view)).unwrap().of(view.namespace.clone()), view);
    }

    #[test]
    fn parse_reads_descriptions_of_old_tools() {
        let text = r#"{"options":{"create":"a+b","autoIndexId":true,"max":5},
            "indexes":[{"v":1,"key":{"_id":1},"name":"_id_","ns":"db.a+b"}]}"#;
        let read = parsed_text(text).unwrap();
        assert_eq!((read.uuid, read.name.as_deref()), (None, Some("a+b")));
        assert_eq!((read.kind, read.options), (Kind::Collection, doc! { "max": 5 }.into()));
        let view = parsed_text(r#"{"options":{"viewOn":"c","pipeline":[]},"indexes":[]}"#).unwrap();
        assert_eq!(view.kind, Kind::View);
        assert_ne!(made_uuid(&Namespace::new("a", "b")), made_uuid(&Namespace::new("a", "c")));
    }

    #[test]
    fn parse_names_the_collection_of_a_broken_description() {
        for bad in
            ["", "{}", "[]", "{\"options\": 1}", "{\"indexes\": [1]}", "{\"type\":\"sphere\"}"]
        {
            let error = parsed_text(bad).unwrap_err();
            assert!(error.chain().contains("description of db.c"), "{bad}: {}", error.chain());
        }
    }
}
