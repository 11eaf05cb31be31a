//! Full disks: the reserve of a repository that maintenance frees, and the hint that names it.

use backup_control::repositories::RepositorySpec;
use backup_control::reserve::Reserve;

use crate::command_error::{CommandError, CommandResult};
use crate::human;
use crate::session::Session;

/// Does `work`. If the disk is full, frees the reserve of the repository and does it once more.
pub(crate) async fn with_room<T>(
    session: &Session,
    spec: &RepositorySpec,
    mut work: impl AsyncFnMut() -> CommandResult<T>,
) -> CommandResult<T> {
    let result = work().await;
    let full = matches!(&result, Err(error) if error.is_full());
    let result = if full && free(session, spec).await? { work().await } else { result };
    result.map_err(|error| with_hint(error, spec))
}

/// Frees the reserve; false if none is allocated.
async fn free(session: &Session, spec: &RepositorySpec) -> CommandResult<bool> {
    let Some(reserve) = spec.reserve() else { return Ok(false) };
    let freed = session
        .blocking(move || {
            reserve.free().map_err(|error| CommandError::io("cannot free the reserve", &error))
        })
        .await?;
    if freed > 0 {
        session.ui.status(format_args!(
            "The disk of {spec} is full: freed the reserve of {}",
            human::size(freed)
        ));
    }
    Ok(freed > 0)
}

/// Allocates the reserve, after a success. That it cannot be is a warning.
pub(crate) async fn keep(session: &Session, spec: &RepositorySpec) {
    let Some(reserve) = spec.reserve().filter(|reserve| reserve.wanted().is_some()) else {
        return;
    };
    let wanted = human::size(reserve.wanted().unwrap_or_default());
    let allocated = session
        .blocking(move || {
            reserve.allocate().map_err(|error| CommandError::io("cannot allocate it", &error))
        })
        .await;
    if let Err(error) = allocated
        && !error.is_cancelled()
    {
        session.ui.warning(session.of_job(format_args!(
            "the reserve of {wanted} in {spec} is not allocated: {}",
            error.chain()
        )));
    }
}

/// For a full disk of a repository in a directory: the command that makes room, and the bytes that
/// the reserve gives it.
pub(crate) fn with_hint(error: CommandError, spec: &RepositorySpec) -> CommandError {
    let Some(reserve) = spec.reserve().filter(|_| error.is_full()) else { return error };
    let hint = hint(&reserve);
    error.with_hint(hint)
}

fn hint(reserve: &Reserve) -> String {
    let room = match (reserve.allocated(), reserve.wanted()) {
        (0, None) => "free some space; `reserve` in the configuration keeps some for maintenance",
        (0, Some(_)) => "free some space: the reserve is not allocated",
        (bytes, _) => {
            return format!(
                "remove unneeded data with `backup prune --grace 0s`, twice: it may use the \
                 reserve of {}; then run the command again, which reuses the data already stored",
                human::size(bytes)
            );
        }
    };
    format!(
        "{room}; remove unneeded data with `backup prune --grace 0s`, twice; then run the command \
         again, which reuses the data already stored"
    )
}
