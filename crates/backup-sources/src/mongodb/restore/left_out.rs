//! Collections and views that the fold cannot bring to the moment: a restore leaves them out. Objects
//! of their names at the target stay.

use backup_core::context::Context;
use backup_core::event::WarningKind;
use backup_core::source::SourceResult;

use crate::mongodb::fold::{Folded, Spoiled};
use crate::mongodb::namespace::{Filter, Namespace};

/// Warns about those that `filter` covers; returns their visible names.
///
/// # Errors
/// The reason of the first one if nothing else is to be restored.
pub(super) fn leave_out(
    cx: &Context,
    folded: &mut Folded,
    filter: &Filter,
) -> SourceResult<Vec<Namespace>> {
    let is_meant =
        |namespace: &Namespace| filter.covers(namespace) && !namespace.is_restored_by_the_server();
    folded.spoiled.retain(|spoiled| is_meant(&spoiled.namespace));
    let has_others = folded.live.iter().any(|live| is_meant(&live.collection.namespace))
        || folded.views.iter().any(|view| is_meant(&view.namespace));
    if !has_others && let Some(Spoiled { reason, .. }) = folded.spoiled.pop() {
        return Err(reason);
    }
    let mut names = Vec::with_capacity(folded.spoiled.len());
    for Spoiled { namespace, reason } in &folded.spoiled {
        let path = namespace.visible().to_string();
        cx.events.warn(WarningKind::Other, path, format!("left out of the restore: {reason}"));
        names.push(namespace.visible());
    }
    Ok(names)
}
