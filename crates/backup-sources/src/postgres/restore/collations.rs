//! Collations of this machine beside those of the original: indexes on texts are in the order of the
//! original's, and another version may order texts in another way.

use backup_core::context::Context;
use backup_core::event::WarningKind;
use backup_core::source::RestoreReport;
use tokio::process::Command;

use super::super::backup::Description;
use crate::helpers::ask;

/// Warns if the C library of this machine has another version than the original's. From
/// version 15 on, the server compares versions of ICU at each connection.
pub(super) async fn compare(cx: &Context, description: &Description, report: &mut RestoreReport) {
    let Some(was) = description.collations.get("libc") else { return };
    let Ok(said) = ask(Command::new("getconf").arg("GNU_LIBC_VERSION")).await else { return };
    let Some(here) = said.trim().strip_prefix("glibc ").filter(|here| here != was) else { return };
    let text = format!(
        "texts are ordered by glibc {here} on this machine, and by glibc {was} on that of the \
         original: indexes on texts may be wrong (REINDEX DATABASE; ALTER DATABASE … REFRESH \
         COLLATION VERSION)"
    );
    cx.events.warn(WarningKind::Other, "collations", text);
    report.warnings += 1;
}
