//! The part of a snapshot that is restored, under its names at the target.

use std::collections::HashSet;

use backup_core::source::{SourceError, SourceErrorKind, SourceResult};

use crate::mongodb::catalog::Collection;
use crate::mongodb::fold::{Folded, Live};
use crate::mongodb::namespace::{Filter, Namespace};
use crate::mongodb::options::MongoOptions;

/// Collections and views.
pub(super) type Wanted = (Vec<(Live, Collection)>, Vec<Collection>);

/// What the selection covers, under the names at the target.
pub(super) fn wanted(
    folded: &Folded,
    filter: &Filter,
    options: &MongoOptions,
) -> SourceResult<Wanted> {
    let covers =
        |namespace: &Namespace| filter.covers(namespace) && !namespace.is_restored_by_the_server();
    let renamed = |collection: &Collection| {
        let namespace = options.renames.apply(&collection.namespace)?;
        SourceResult::Ok(Collection { namespace, ..collection.clone() })
    };
    let mut collections = Vec::new();
    for live in &folded.live {
        let namespace = &live.collection.namespace;
        let left_out = live.temporary || (namespace.is_authorization() && !options.restore_users);
        if covers(namespace) && !left_out {
            collections.push((live.clone(), renamed(&live.collection)?));
        }
    }
    let views = folded
        .views
        .iter()
        .filter(|view| covers(&view.namespace))
        .map(renamed)
        .collect::<SourceResult<Vec<_>>>()?;
    let restored = collections.iter().map(|(live, _)| &live.collection.namespace);
    let restored: Vec<&Namespace> = restored
        .chain(folded.views.iter().map(|view| &view.namespace).filter(|view| covers(view)))
        .collect();
    // That nothing at all is selected is another mistake.
    if !restored.is_empty() || filter.covers_everything() {
        options.renames.refuse_unmatched(restored)?;
    }
    let mut seen = HashSet::new();
    let all = collections.iter().map(|(_, collection)| collection).chain(&views);
    for collection in all {
        if !seen.insert(&collection.namespace) {
            let text = format!("two collections would be restored as {}", collection.namespace);
            return Err(SourceError::new(SourceErrorKind::Invalid, text)
                .with_hint("change the renaming rules"));
        }
    }
    Ok((collections, views))
}
