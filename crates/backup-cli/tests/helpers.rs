//! Programs and key files that deliver pass phrases: their end, their limit, and the hints.

use std::io::Write as _;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::common::Env;

/// Far above the time of a command, far below that of the processes that it must not wait for.
const SOON: Duration = Duration::from_secs(30);

fn fifo(env: &Env, name: &str) {
    assert!(Command::new("mkfifo").arg(env.path(name)).status().unwrap().success());
}

#[test]
fn password_command_ends_when_the_shell_exits() {
    let env = Env::with_repository();
    let since = Instant::now();
    env.run(&["list", "-q", "--password-command", "cat key; sleep 90 &"]).ok();
    assert!(since.elapsed() < SOON, "{:?}", since.elapsed());
}

#[test]
fn helper_timeout_kills_password_command_and_sessions() {
    let env = Env::with_repository();
    let line = "setsid sh -c 'echo $$ > pid; exec sleep 90' & sleep 90";
    let since = Instant::now();
    let late = env
        .run_with(&["list", "-q", "--password-command", line], &[("BACKUP_HELPER_TIMEOUT", "5s")]);
    assert!(since.elapsed() < SOON, "{:?}", since.elapsed());
    assert_eq!(late.code, 12, "{}", late.text());
    assert!(late.stderr.contains("did not exit within 5 seconds"), "{}", late.text());
    assert!(late.stderr.contains("BACKUP_HELPER_TIMEOUT"), "{}", late.text());
    let pid = std::fs::read_to_string(env.path("pid")).unwrap();
    let stat = format!("/proc/{}/stat", pid.trim());
    // A killed process is a zombie until its new parent has waited for it.
    while std::fs::read_to_string(&stat).is_ok_and(|status| !status.contains(") Z ")) {
        assert!(since.elapsed() < SOON, "process {pid} is running");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn key_file_may_be_a_fifo() {
    let env = Env::with_repository();
    fifo(&env, "fifo");
    let key = std::fs::read(env.path("key")).unwrap();
    let path = env.path("fifo");
    let writer = std::thread::spawn(move || {
        let mut file = std::fs::File::options().write(true).open(path).unwrap();
        file.write_all(&key).unwrap();
    });
    env.run(&["list", "-q", "--password-file", "fifo"]).ok();
    writer.join().unwrap();

    let since = Instant::now();
    let late = env
        .run_with(&["list", "-q", "--password-file", "fifo"], &[("BACKUP_HELPER_TIMEOUT", "5s")]);
    assert!(since.elapsed() < SOON, "{:?}", since.elapsed());
    assert_eq!(late.code, 12, "{}", late.text());
    assert!(late.stderr.contains("cannot read the pass phrase file fifo"), "{}", late.text());
    assert!(late.stderr.contains("no end within 5 seconds"), "{}", late.text());
}

#[test]
fn config_check_does_not_read_a_fifo() {
    let env = Env::with_repository();
    fifo(&env, "fifo");
    env.write("backup.toml", "[repositories.main]\nurl = \"repo\"\npassphrase_file = \"fifo\"\n");
    let since = Instant::now();
    env.run(&["config", "check"]).ok();
    assert!(since.elapsed() < SOON, "{:?}", since.elapsed());
}

#[test]
fn hint_of_a_wrong_pass_phrase_names_the_place() {
    let env = Env::with_repository();
    let key = std::fs::read_to_string(env.path("key")).unwrap();
    env.write("two", &format!("{key}old line\n"));
    let hint = |args: &[&str], variables: &[(&str, &str)]| {
        let run = env.run_with(args, variables);
        assert_eq!(run.code, 12, "{}", run.text());
        run.stderr.lines().find_map(|line| line.strip_prefix("Hint: ").map(str::to_owned)).unwrap()
    };
    let variables = [("BACKUP_PASSWORD", "x")];
    let two = hint(&["list", "--password-file", "two"], &variables);
    assert!(two.starts_with("the pass phrase came from the file two, which has several"), "{two}");
    let command = hint(&["list", "--password-command", "echo wrong"], &variables);
    assert!(command.starts_with("the pass phrase came from a command:"), "{command}");
    let variable = hint(&["list"], &variables);
    assert!(variable.contains("came from the variable BACKUP_PASSWORD:"), "{variable}");
}
