//! A directory with a repository, and a daemon in it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Two jobs of every minute, which an accelerated clock has every second.
pub(crate) const CONFIG: &str = r#"
[defaults]
time_zone = "UTC"
keep = { last = 30 }
[repositories.main]
url = "repo"
passphrase_file = "key"
[sources.docs]
kind = "files"
paths = ["docs"]
[sources.more]
kind = "files"
paths = ["more"]
[jobs.docs]
source = "docs"
repository = "main"
[[jobs.docs.schedule]]
at = "* * * * *"
tier = "daily"
[jobs.more]
source = "more"
repository = "main"
schedule = "*/2 * * * *"
[schedule]
per_source_host = 2
cleanup = "*/10 * * * *"
"#;

/// The program `backup` of this build. Only the tests of its own package are told where it is; if
/// it is not there, it is built once.
pub(crate) fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let profile = Path::new(env!("CARGO_BIN_EXE_backupd")).parent().unwrap();
        let program = profile.join("backup");
        let lock = std::fs::File::create(profile.join(".backup-tests.lock")).unwrap();
        lock.lock().unwrap();
        if !program.exists() {
            let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
            let mut build = Command::new(cargo);
            build.args(["build", "--package", "backup-cli", "--bin", "backup", "--target-dir"]);
            build.arg(profile.parent().unwrap());
            if profile.ends_with("release") {
                build.arg("--release");
            }
            assert!(build.status().unwrap().success());
        }
        program
    })
}

pub(crate) struct Place {
    dir: TempDir,
}

impl Place {
    pub(crate) fn new(config: &str) -> Self {
        let place = Self { dir: tempfile::tempdir().unwrap() };
        place.write("backup.toml", config);
        place.write("key", "secret");
        place.write("docs/a", "0");
        place.write("more/b", "0");
        place.backup(&["init", "-q", "-r", "main"]);
        place
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.dir.path().join(relative)
    }

    pub(crate) fn write(&self, relative: &str, text: &str) {
        let path = self.path(relative);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        // Others cannot read keys.
        let mode = if relative.ends_with("key") { 0o600 } else { 0o644 };
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(&path, permissions).unwrap();
    }

    pub(crate) fn prepare(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.dir.path())
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .stdin(Stdio::null());
        command.env("HOME", self.dir.path()).env("BACKUP_STATE_DIR", self.path("state"));
        command.env("BACKUP_PROGRAM", self::program()).env("BACKUP_AUDIT_SYSLOG", "none");
        command
    }

    /// Runs `backup`, which succeeds.
    pub(crate) fn backup(&self, args: &[&str]) -> Output {
        let output = self.prepare(program()).args(args).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned()
            + &String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{args:?}: {text}");
        output
    }

    /// Runs `backup` with `--json`.
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let args: Vec<&str> = args.iter().copied().chain(["--json"]).collect();
        serde_json::from_slice(&self.backup(&args).stdout).unwrap()
    }

    /// A daemon whose clock has gone so many times as fast since a time before all tests.
    pub(crate) fn daemon(&self, log: &str, more: &[&str]) -> Daemon {
        self.daemon_with(log, more, &[])
    }

    pub(crate) fn daemon_with(&self, log: &str, more: &[&str], env: &[(&str, &str)]) -> Daemon {
        let log = self.path(log);
        let mut command = self.prepare(Path::new(env!("CARGO_BIN_EXE_backupd")));
        command.args(["run", "--log", "json"]).args(more).envs(env.iter().copied());
        command.stderr(std::fs::File::create(&log).unwrap());
        Daemon { child: command.spawn().unwrap(), log }
    }
}

pub(crate) struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Its lines so far.
    pub(crate) fn lines(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.log).unwrap();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole
            .lines()
            .map(|line| {
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
            })
            .collect()
    }

    /// Waits for so many lines with this message.
    pub(crate) fn wait_for(&mut self, count: usize, message: &str) {
        let began = Instant::now();
        let is_it = |line: &&Value| line["message"].as_str().unwrap().contains(message);
        while self.lines().iter().filter(is_it).count() < count {
            let ended = self.child.try_wait().unwrap();
            assert!(
                ended.is_none() && began.elapsed() < PATIENCE,
                "{message}: {ended:?} {:#?}",
                self.lines()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub(crate) fn wait(&mut self) -> Option<i32> {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(began.elapsed() < PATIENCE, "{:#?}", self.lines());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The number of its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
