//! The program `backupd`; everything is in the library.

use std::process::ExitCode;

use backup_control::environment::Environment;

fn main() -> ExitCode {
    backup_daemon::run(
        std::env::args_os(),
        &Environment::from_process(),
        &mut std::io::stdout(),
        &mut std::io::stderr(),
    )
}
