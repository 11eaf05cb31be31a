//! Requests and readings of a command, however many jobs its configuration has.

mod needs_moto_server {
    use std::collections::BTreeMap;
    use std::fmt::Write as _;
    use std::fs::{self, File};
    use std::io::Write as _;
    use std::os::unix::fs::FileTypeExt;
    use std::path::{Path, PathBuf};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::thread::JoinHandle;

    use tempfile::TempDir;

    use crate::support::cli::Cli;
    use crate::support::fault_proxy::FaultProxy;
    use crate::support::process::run;
    use crate::support::servers::moto::Moto;
    use crate::support::store::{BUCKET, Store};

    const JOBS: usize = 6;

    /// A configuration behind a FIFO: each reading of it is counted.
    struct Fifo {
        path: PathBuf,
        readings: Arc<AtomicUsize>,
        is_over: Arc<AtomicBool>,
        writer: Option<JoinHandle<()>>,
    }

    impl Fifo {
        fn new(path: PathBuf, text: String) -> Self {
            rustix::fs::mkfifoat(
                rustix::fs::CWD,
                &path,
                rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            )
            .unwrap();
            assert!(fs::metadata(&path).unwrap().file_type().is_fifo());
            let (readings, is_over) =
                (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
            let (counted, ended, to) = (Arc::clone(&readings), Arc::clone(&is_over), path.clone());
            let writer = std::thread::spawn(move || {
                loop {
                    // Waits for a reader.
                    let mut file = File::options().write(true).open(&to).unwrap();
                    if ended.load(Ordering::SeqCst) {
                        return;
                    }
                    counted.fetch_add(1, Ordering::SeqCst);
                    file.write_all(text.as_bytes()).unwrap();
                    drop(file);
                    // The reader has to see the end before the next one may begin.
                    std::thread::sleep(std::time::Duration::from_millis(50));
                }
            });
            Self { path, readings, is_over, writer: Some(writer) }
        }
    }

    impl Drop for Fifo {
        fn drop(&mut self) {
            self.is_over.store(true, Ordering::SeqCst);
            drop(File::open(&self.path));
            _ = self.writer.take().map(JoinHandle::join);
        }
    }

    /// Requests and readings of one command.
    #[derive(Debug, Clone, PartialEq, Eq)]
    struct Requests {
        /// Readings of the configuration.
        configuration: usize,
        /// Readings of the repository's `config`: to see that the bucket is there, and to open it.
        config: usize,
        /// Readings of its key file, from which the key is derived.
        key: usize,
        /// Listings, by prefix.
        listings: BTreeMap<String, usize>,
        /// Readings of snapshots.
        snapshots: usize,
    }

    struct Room {
        room: TempDir,
        proxy: FaultProxy,
        cli: Cli,
        address: String,
        _moto: Moto,
    }

    impl Room {
        fn new() -> Self {
            let moto = Moto::start();
            moto.s3.create_bucket(BUCKET, false);
            let proxy = FaultProxy::start(&moto.s3.endpoint);
            let Store { address, environment, .. } =
                Store::s3(&moto.s3.at(&proxy.endpoint()), "jobs");
            let cli = Cli::remote(&address, "password", environment);
            Self { room: tempfile::tempdir().unwrap(), proxy, cli, address, _moto: moto }
        }

        /// The configuration of the first jobs.
        fn config(&self, jobs: usize) -> String {
            let mut text = format!(
                "[repositories.main]\nurl = \"{}\"\n[notify.none]\nkind = \"command\"\ncommand = \"true\"\n\
                 [alerts.stale]\ncondition = \"stale > 24h\"\nseverity = \"high\"\nnotify = [\"none\"]\n",
                self.address
            );
            for job in 0..jobs {
                let source = self.room.path().join(format!("source-{job}"));
                fs::create_dir_all(&source).unwrap();
                fs::write(source.join("file"), format!("content {job}")).unwrap();
                write!(
                    text,
                    "[sources.s{job}]\nkind = \"files\"\npaths = [{:?}]\n\
                     [jobs.job-{job}]\nsource = \"s{job}\"\nrepository = \"main\"\nkeep = {{ last = 3 }}\n",
                    source.to_str().unwrap()
                )
                .unwrap();
            }
            text
        }

        fn requests(&self, jobs: usize, arguments: &[&str]) -> Requests {
            let fifo = Fifo::new(self.room.path().join("backup.toml"), self.config(jobs));
            self.proxy.forget();
            let arguments = [&["--config", fifo.path.to_str().unwrap()], arguments].concat();
            run(self.cli.command(&[], &arguments).env_remove("BACKUP_REPO")).succeeded();
            let counted = self.counted(fifo.readings.load(Ordering::SeqCst));
            let path: PathBuf = fifo.path.clone();
            drop(fifo);
            fs::remove_file(path).unwrap();
            counted
        }

        fn counted(&self, configuration: usize) -> Requests {
            let mut counted = Requests {
                configuration,
                config: 0,
                key: 0,
                listings: BTreeMap::new(),
                snapshots: 0,
            };
            for request in self.proxy.requests().iter().filter(|request| request.method == "GET") {
                let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
                let has = |part: &str| path.contains(&format!("/jobs/{part}"));
                if let Some(prefix) = query.split('&').find_map(|part| part.strip_prefix("prefix="))
                {
                    let prefix = prefix.replace("%2F", "/");
                    let prefix = Path::new(&prefix)
                        .strip_prefix("jobs")
                        .unwrap()
                        .to_str()
                        .unwrap()
                        .to_owned();
                    *counted.listings.entry(prefix).or_default() += 1;
                } else if has("config") {
                    counted.config += 1;
                } else if has("keys/") {
                    counted.key += 1;
                } else if has("snapshots/") {
                    counted.snapshots += 1;
                }
            }
            counted
        }
    }

    #[test]
    fn requests_do_not_grow_with_the_configured_jobs() {
        let room = Room::new();
        room.requests(1, &["init", "-r", "main"]);
        let names: Vec<String> = (0..JOBS).map(|job| format!("job-{job}")).collect();
        let all: Vec<&str> = ["run"].into_iter().chain(names.iter().map(String::as_str)).collect();
        for _ in 0..2 {
            room.requests(JOBS, &all);
        }
        let commands: [&[&str]; 8] = [
            &["config", "check"],
            &["status"],
            &["alerts", "check"],
            &["report"],
            &["list"],
            &["storage"],
            &["cleanup", "--all", "--dry-run"],
            &["run", "job-0"],
        ];
        for command in commands {
            let alone = room.requests(1, command);
            let among = room.requests(JOBS, command);
            assert_eq!(among.configuration, 1, "{command:?}");
            assert_eq!(among.listings, alone.listings, "{command:?}");
            assert!(among.config <= 2 && among.key <= 1, "{command:?}: {among:?}");
            let listed = among.listings.get("snapshots").copied().unwrap_or(0);
            assert!(listed <= 2, "{command:?}: {among:?}");
        }
        // Jobs that follow each other share a listing as long as others publish nothing, and no
        // snapshot is read twice.
        let before = room.requests(JOBS, &["list"]).snapshots;
        let alone = room.requests(JOBS, &["run", "job-0"]);
        let among = room.requests(JOBS, &all);
        for prefix in ["x-adopted", "x-receipts/snapshots"] {
            assert_eq!(among.listings.get(prefix), alone.listings.get(prefix), "{among:?}");
        }
        assert_eq!((among.configuration, among.config, among.key), (1, 2, 1), "{among:?}");
        let own = JOBS;
        assert!(among.snapshots <= before + 2 * own, "{before} were there: {among:?}");
    }
}
