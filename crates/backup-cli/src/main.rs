//! The program `backup`; everything is in the library.

use std::process::ExitCode;

use backup_control::environment::Environment;

fn main() -> ExitCode {
    backup_cli::run(std::env::args_os().collect(), Environment::from_process())
}
