//! A hermetic environment for running the program.

use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// User and group that may read only what everybody may.
const NOBODY: u32 = 65534;

/// What differs from run to run and from machine to machine, and what stands for it.
const FILTERS: [(&str, &str); 39] = [
    // Runs: named by the time, done by a process.
    (r"\b\d{8}-\d{6}-[0-9a-f]{6}\b", "[RUN]"),
    (r#""(pid|millis|age_seconds|newest_anchor_age_seconds)": \d+"#, r#""$1": 0"#),
    (r#""seconds": [\d.]+"#, r#""seconds": 0.0"#),
    // Identifiers: the content holds times and random numbers.
    (r"\b[0-9a-f]{64}\b", "[ID]"),
    (r"\b[0-9a-f]{32}\b", "[CHAIN]"),
    (r"\b[0-9a-f]{8}\b", "[SHORT]"),
    (r"\b([0-9a-z]{4}-){12}[0-9a-z]{4}\b", "[KEY]"),
    // Time and speed.
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "[TIME]"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d(:\d\d UTC)?", "[TIME]"),
    (r"just now|\d+ seconds? ago", "[AGE]"),
    (r"\b\d+(\.\d+)? m?s(, [\d.]+ [KMGT]?i?B/s)?( |\b)", "[DURATION]"),
    // Who and where.
    (r#""(host|user|group|snapshot_host)": "[^"]*""#, r#""$1": "[NAME]""#),
    (r"(?m)^(  of: .*host )\S+,", "$1[NAME],"),
    (r#""(uid|gid)": \d+"#, r#""$1": 0"#),
    (r"(?m)^(  (?:Host|User) +)\S+$", "$1[NAME]"),
    (r"([-dlbcps][-rwxsStT]{9})  \S+ +\S+ +", "$1  [USER] [GROUP] "),
    // A blob goes to a random pack.
    (r"\b\d+ packs?\b", "[N] packs"),
    // What is above the test's directory is in snapshots too: more or fewer directories, which
    // other programs change, and longer or shorter paths; and sizes of stored things depend on
    // random identifiers.
    (r"(?m)^(  Directories +).*$", "$1[N]"),
    (r"\b\d+ director(y|ies)\b", "[N] directories"),
    (r"\b\d+ blobs?\b", "[N] blobs"),
    (r"\b\d+ of them directories\b", "[N] of them directories"),
    (r"(verified|the same): \d+ entr(y|ies), [\d.]+ [KM]?i?B", "$1: [N] entries, [SIZE]"),
    (r"\b\d+ in metadata only\b", "[N] in metadata only"),
    (
        r"[\d.]+ [KMG]?i?B of new data, [\d.]+ [KMG]?i?B after compression",
        "[SIZE] of new data, [SIZE] after compression",
    ),
    (r"(?m)^(  (?:Copied|To copy) +).* blobs?, .*$", "$1[N]"),
    (
        r"(?m)^(  (?:Before|Needed|Not needed|Deduplication|Compression|Growth per day) +)\S.*$",
        "$1[N]",
    ),
    (r"(?m)^(\w+ +\d+ +[\d.]+ [KM]?i?B) +[\d.]+ [KM]?i?B$", "$1  [SIZE]"),
    (r#""(deduplication|compression)": \d[\d.]*"#, r#""$1": "[N]""#),
    (r#""growth_per_day": [1-9]\d*"#, r#""growth_per_day": "[N]""#),
    (r"(?m)^(  (?:After deduplication|As stored|Packs|Blobs) +)\S.*$", "$1[N]"),
    (r"\[USER\] \[GROUP\] [\d.]+ [KM]?i?B( .* /\.backup/)", "[USER] [GROUP] [SIZE]$1"),
    (r#"(?s)"dirs": (\d+|\{[^}]*\})"#, r#""dirs": "[N]""#),
    (r#""(added|stored|packed|unique|read|done|total)_bytes": [1-9]\d*"#, r#""${1}_bytes": "[N]""#),
    (r#""(done|total)_items": [1-9]\d*"#, r#""${1}_items": "[N]""#),
    (r#""(packs|read_packs|sampled_blobs|sampled_packs)": \d+"#, r#""$1": "[N]""#),
    (r#""(trees|blobs|tree_blobs|data_blobs|metadata_only)": [1-9]\d*"#, r#""$1": "[N]""#),
    (r#""bytes": \d+,(\s+)"entries": \d+"#, r#""bytes": "[N]",$1"entries": "[N]""#),
    (r#""entries": \d+,(\s+)"event""#, r#""entries": "[N]",$1"event""#),
    (r"backup \d+\.\d+\.\d+", "backup [VERSION]"),
];

/// The beginning of most configurations: repository `main`, source `data` and job `docs`. The keys
/// and sections that follow begin with further keys of the job.
macro_rules! docs_config {
    ($more:literal) => {
        concat!(
            "\n[repositories.main]\nurl = \"repo\"\npassphrase_file = \"key\"\n",
            "[sources.data]\nkind = \"files\"\npaths = [\"data\"]\n",
            "[jobs.docs]\nsource = \"data\"\nrepository = \"main\"\n",
            $more
        )
    };
}
pub(crate) use docs_config;

/// A directory of its own, and a program that knows nothing else.
pub(crate) struct Env {
    dir: TempDir,
    program: PathBuf,
    unprivileged: bool,
    variables: Vec<(String, String)>,
}

/// What a run of the program came to.
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    dir: PathBuf,
    program: PathBuf,
}

impl Env {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("home")).unwrap();
        let program = PathBuf::from(env!("CARGO_BIN_EXE_backup"));
        Self { dir, program, unprivileged: false, variables: Vec::new() }
    }

    /// With a repository `repo` whose pass phrase is known to all commands.
    pub(crate) fn with_repository() -> Self {
        let mut env = Self::new();
        env.run(&["init", "-r", "repo", "--generate-key", "--key-file", "key"]).ok();
        env.set("BACKUP_REPO", "repo");
        env.set("BACKUP_PASSWORD_FILE", "key");
        env
    }

    /// With that, something in it to be backed up, and a configuration.
    pub(crate) fn configured(config: &str) -> Self {
        let env = Self::with_repository();
        env.write_tree();
        env.write("backup.toml", config);
        env
    }

    /// Runs as a user whom permissions apply to, also where the tests run as root.
    pub(crate) fn unprivileged(mut self) -> Self {
        if std::fs::metadata(self.path("")).unwrap().uid() != 0 {
            return self;
        }
        // The place where it was built may not be accessible.
        let program = self.path("program");
        std::fs::copy(&self.program, &program).unwrap();
        std::fs::set_permissions(self.path(""), std::fs::Permissions::from_mode(0o755)).unwrap();
        self.give_away(&self.path(""));
        (self.program, self.unprivileged) = (program, true);
        self
    }

    fn give_away(&self, path: &Path) {
        std::os::unix::fs::lchown(path, Some(NOBODY), Some(NOBODY)).unwrap();
        if path.symlink_metadata().unwrap().is_dir() {
            std::fs::read_dir(path)
                .unwrap()
                .for_each(|entry| self.give_away(&entry.unwrap().path()));
        }
    }

    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.dir.path().join(relative)
    }

    /// Writes a file with a fixed time, making the directories above it.
    pub(crate) fn write(&self, relative: &str, content: &str) {
        let path = self.path(relative);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        // The same with every umask. Others cannot read keys.
        let mode = if relative.ends_with("key") { 0o600 } else { 0o644 };
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        for dir in path.ancestors().skip(1).take_while(|dir| *dir != self.dir.path()) {
            std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        if self.unprivileged {
            self.give_away(&path);
        }
    }

    /// A small tree: two directories, three files, a link.
    pub(crate) fn write_tree(&self) {
        self.write("data/letter.txt", "Dear reader\n");
        self.write("data/photos/sea.jpg", &"blue ".repeat(400));
        self.write("data/photos/sky.jpg", &"grey ".repeat(800));
        std::os::unix::fs::symlink("letter.txt", self.path("data/link")).unwrap();
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(args)
            .current_dir(self.path(""))
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.path("home"))
            .env("TZ", "UTC")
            .env("BACKUP_AUDIT_SYSLOG", "none")
            .env("NO_COLOR", "1")
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        if self.unprivileged {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }

    #[must_use = "what came of it is to be looked at: `ok`, `snapshot`, `code`"]
    pub(crate) fn run(&self, args: &[&str]) -> Run {
        self.finish(self.command(args).output().unwrap())
    }

    #[must_use = "what came of it is to be looked at: `ok`, `snapshot`, `code`"]
    pub(crate) fn run_with(&self, args: &[&str], variables: &[(&str, &str)]) -> Run {
        self.finish(self.command(args).envs(variables.iter().copied()).output().unwrap())
    }

    /// Runs without a variable that all commands have.
    #[must_use = "what came of it is to be looked at: `ok`, `snapshot`, `code`"]
    pub(crate) fn run_without(&self, args: &[&str], variable: &str) -> Run {
        self.finish(self.command(args).env_remove(variable).output().unwrap())
    }

    /// Runs with something on standard input.
    #[must_use = "what came of it is to be looked at: `ok`, `snapshot`, `code`"]
    pub(crate) fn run_fed(&self, args: &[&str], input: &str) -> Run {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        self.finish(child.wait_with_output().unwrap())
    }

    fn finish(&self, output: Output) -> Run {
        Run {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
            dir: self.dir.path().to_path_buf(),
            program: self.program.clone(),
        }
    }

    /// The packs of the repository.
    pub(crate) fn packs(&self) -> Vec<PathBuf> {
        let dirs = std::fs::read_dir(self.path("repo/data")).unwrap();
        let packs = dirs.flat_map(|dir| std::fs::read_dir(dir.unwrap().path()).unwrap());
        packs.map(|pack| pack.unwrap().path()).collect()
    }

    pub(crate) fn largest_pack(&self) -> PathBuf {
        let size = |pack: &PathBuf| pack.metadata().unwrap().len();
        self.packs().into_iter().max_by_key(size).unwrap()
    }

    /// The identifier of the newest snapshot.
    pub(crate) fn latest(&self) -> String {
        let list = self.run(&["list", "--json"]).ok().json();
        list["snapshots"].as_array().unwrap().last().unwrap()["id"].as_str().unwrap().to_owned()
    }
}

impl Run {
    /// Fails unless the program succeeded.
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{}\n{}", self.stdout, self.stderr);
        self
    }

    /// Without lines of progress, which come where the machine is slow.
    pub(crate) fn without(mut self, beginning: &str) -> Self {
        let lines = self.stderr.lines().filter(|line| !line.starts_with(beginning));
        self.stderr = lines.map(|line| format!("{line}\n")).collect();
        self
    }

    /// Standard output as one JSON value.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", self.stdout))
    }

    /// Standard output as events.
    pub(crate) fn events(&self) -> Vec<serde_json::Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Everything a user sees.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("exit code {}\n", self.code);
        for (name, content) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            if !content.is_empty() {
                text.push_str(&format!("---- {name}\n{content}"));
            }
        }
        text
    }

    /// The JSON lines of standard output, indented; running totals, which come by time, are left
    /// out.
    pub(crate) fn pretty(&self) -> String {
        let mut text = format!("exit code {}\n", self.code);
        for event in self.events() {
            let above = event["path"].as_str().is_some_and(|path| self.dir.starts_with(path));
            if event["event"] != "progress" && !above {
                text.push_str(&serde_json::to_string_pretty(&event).unwrap());
                text.push('\n');
            }
        }
        text + &self.stderr
    }

    /// Compares `text`, made from this run, with the stored snapshot `name`.
    pub(crate) fn compare(&self, name: &str, text: &str) {
        let dir = self.dir.to_str().unwrap();
        // A temporary directory may be called by another name through a link.
        let real = self.dir.canonicalize().unwrap();
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let text = text
            .replace(&format!(r#""id": "{host}""#), r#""id": "[NAME]""#)
            .replace(self.program.to_str().unwrap(), "backup")
            .replace(real.to_str().unwrap(), "[DIR]")
            .replace(dir, "[DIR]");
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path("../snapshots");
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        FILTERS
            .iter()
            .for_each(|(pattern, replacement)| settings.add_filter(pattern, *replacement));
        settings.bind(|| insta::assert_snapshot!(name, text));
    }

    /// Compares what a user sees with the stored snapshot `name`.
    pub(crate) fn snapshot(self, name: &str) -> Self {
        self.compare(name, &self.text());
        self
    }

    /// Like [`Self::snapshot`] where columns are as wide as the name of the machine: any number of
    /// spaces is as good.
    pub(crate) fn snapshot_table(self, name: &str) -> Self {
        let mut text = self.text();
        while text.contains("   ") {
            text = text.replace("   ", "  ");
        }
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        self.compare(name, &text.replace(&format!("  {host}  "), "  [HOST]  "));
        self
    }

    /// Like [`Self::snapshot`], without lines about the directories above that of the test.
    pub(crate) fn snapshot_below(self, name: &str) -> Self {
        let text = self.text();
        let lines = text.lines().filter(|line| match line.split_once("  ") {
            Some(("U", path)) => !self.dir.starts_with(path) || Path::new(path) == self.dir,
            _ => true,
        });
        self.compare(name, &lines.collect::<Vec<_>>().join("\n"));
        self
    }

    /// Compares the JSON with the stored snapshot `name`.
    pub(crate) fn snapshot_json(self, name: &str) -> Self {
        self.compare(name, &self.pretty());
        self
    }
}
