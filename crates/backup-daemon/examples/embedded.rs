//! A service that makes its own backups: it holds a scheduler, hears what happens, asks for a
//! backup itself, and ends in order.
//!
//! ```sh
//! cargo run -p backup-daemon --example embedded -- backup.toml target/debug/backup JOB
//! ```

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use backup_control::config;
use backup_control::environment::Environment;
use backup_daemon::Scheduler;
use backup_daemon::engine::{Engine, TaskEvent, Work};
use backup_daemon::journal::{Form, Written};
use tokio::sync::broadcast::error::RecvError;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().collect();
    let [_, file, program, job] = &args[..] else {
        return Err("call it with a configuration, the program `backup` and a job".into());
    };
    let loaded =
        config::load(&std::path::absolute(Path::new(file))?, &Environment::from_process())?;
    let journal = Arc::new(Written::new(Form::Human, std::io::stderr()));
    let scheduler = Scheduler::builder(loaded, program).journal(journal).start()?;
    let mut events = scheduler.events();

    // Schedules go on by themselves. Besides, somebody presses a button.
    let work = Work::Backup { job: job.clone(), kind: None, tier: Some("manual".to_owned()) };
    let id = scheduler.start(work, "the button")?;
    let ended = loop {
        match events.recv().await {
            Ok(TaskEvent::Ended(ended)) if ended.id == id => break ended,
            // Whoever is too slow misses something; what is over can still be asked for.
            Ok(_) | Err(RecvError::Lagged(_)) => {
                if let Some(ended) = scheduler.ended().into_iter().find(|ended| ended.id == id) {
                    break ended;
                }
            }
            Err(RecvError::Closed) => return Err("the scheduler is gone".into()),
        }
    };
    scheduler.shutdown().await;
    match ended.exit_code {
        Some(0) => Ok(()),
        _ => Err(format!("the backup failed: {}", ended.error).into()),
    }
}
