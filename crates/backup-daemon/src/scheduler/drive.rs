//! Does what the core says.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use backup_control::audit::USER_VARIABLE;
use tokio::process::Command;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Shared;
use super::child::{self, Output, Wish};
use super::core::{Do, SCHEDULE};
use super::items::Ending;
use super::memory::Store;

/// How often is looked whether something is due.
const EVERY: Duration = Duration::from_secs(1);

/// Runs until it was told to stop and nothing goes on any more.
pub(super) async fn run(shared: Arc<Shared>, store: Store) {
    let store = Arc::new(store);
    let mut wishes: HashMap<String, watch::Sender<Wish>> = HashMap::new();
    let mut children: JoinSet<()> = JoinSet::new();
    let mut ids = HashMap::new();
    loop {
        let todo = shared.core().tick(shared.now());
        // Before anything is begun: whatever happens now, it is known that it was.
        store_changes(&shared, &store).await;
        for what in todo {
            match what {
                Do::Begin { id, args, by } => {
                    let (send, wish) = watch::channel(Wish::GoOn);
                    wishes.insert(id.clone(), send);
                    let mut command =
                        child::command(&shared.program, &args, &shared.env, &shared.state_dir);
                    // What nobody asked for is done for the user of the daemon.
                    if by != SCHEDULE {
                        command.env(USER_VARIABLE, by);
                    }
                    let task = children.spawn(one(Arc::clone(&shared), id.clone(), command, wish));
                    ids.insert(task.id(), id);
                }
                Do::Ask { id, is_late: true } => wish(&wishes, &id, Wish::StopLate),
                Do::Ask { id, is_late: false } => wish(&wishes, &id, Wish::Stop),
                Do::Kill(id) => wish(&wishes, &id, Wish::Die),
            }
        }
        shared.tell();
        if shared.core().is_over() {
            break;
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = shared.wake.notified() => {}
            Some(done) = children.join_next_with_id() => {
                let (task, failure) = match done {
                    Ok((task, ())) => (task, None),
                    Err(error) => (error.id(), Some(error.to_string())),
                };
                let Some(id) = ids.remove(&task) else { continue };
                wishes.remove(&id);
                if let Some(error) = failure {
                    shared.core().over(&id, Ending::failed(error), shared.now());
                    shared.core().exited(&id, shared.now());
                }
            }
        }
    }
    store_changes(&shared, &store).await;
    shared.tell();
    _ = shared.over.send_replace(true);
}

fn wish(wishes: &HashMap<String, watch::Sender<Wish>>, id: &str, wish: Wish) {
    if let Some(sender) = wishes.get(id) {
        sender.send_replace(wish);
    }
}

/// One piece of work, from its beginning to its end.
async fn one(shared: Arc<Shared>, id: String, mut command: Command, wish: watch::Receiver<Wish>) {
    let said = |output| {
        match output {
            Output::Progress(progress) => shared.core().progress(&id, progress),
            Output::Event(event) => shared.core().heard(&id, &event, shared.now()),
        }
        shared.tell();
    };
    let (ending, lingering) = child::run(&mut command, wish, shared.exit_limits, said).await;
    if let Some(process) = &lingering {
        shared.core().lingers(&id, process.pid, shared.now());
    }
    shared.core().over(&id, ending, shared.now());
    shared.tell();
    let Some(process) = lingering else { return };
    // Other work can start in the place of this one.
    shared.wake.notify_one();
    process.wait().await;
    shared.core().exited(&id, shared.now());
    shared.tell();
}

/// Stores what must survive, if it has changed. That it cannot be stored is said, and tried again.
async fn store_changes(shared: &Arc<Shared>, store: &Arc<Store>) {
    let Some(memory) = shared.core().changed_memory() else { return };
    let store = Arc::clone(store);
    let written = tokio::task::spawn_blocking(move || store.write(&memory)).await;
    let failure = match written {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(format!("cannot store the state of the tasks: {error}")),
        Err(error) => Some(error.to_string()),
    };
    shared.core().stored(failure);
}
