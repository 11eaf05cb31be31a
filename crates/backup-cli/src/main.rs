//! The program `backup`; everything is in the library.

use std::process::ExitCode;

use backup_control::environment::Environment;

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().collect();
    backup_cli::run(&args, Environment::from_process())
}
