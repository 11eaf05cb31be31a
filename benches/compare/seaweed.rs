//! Files into an object store, SeaweedFS, and back. It counts requests itself.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use backup_benches::{Bar, Measure, Report, Result, data, tools};
use tempfile::TempDir;

use crate::Options;
use crate::contest::{Contest, Store, measure};
use crate::peers::{Kind, Step, available};

const BARS: [Bar; 4] = [
    Bar { step: "first backup", beside: Some("restic"), measure: Measure::Wall, at_most: 0.7 },
    Bar { step: "restore", beside: Some("restic"), measure: Measure::Wall, at_most: 0.7 },
    Bar { step: "first backup", beside: Some("restic"), measure: Measure::Requests, at_most: 1.0 },
    Bar { step: "restore", beside: Some("restic"), measure: Measure::Requests, at_most: 1.0 },
];
const BUCKET: &str = "bench";
const KEY: [&str; 2] = ["bench", "bench-secret"];
/// Whoever asks without a name may make the bucket; nobody else can reach it.
const USERS: &str = r#"{"identities": [
    {"name": "bench", "credentials": [{"accessKey": "bench", "secretKey": "bench-secret"}], "actions": ["Admin"]},
    {"name": "anonymous", "actions": ["Admin"]}
]}"#;
const PARTS: [&str; 5] = ["s3", "master", "filer", "volume", "admin"];
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn contest(options: &Options) -> Result<Report> {
    let megabytes = options.size(2000, 60);
    let scratch = tempfile::Builder::new().prefix("backup-bench-").tempdir()?;
    let source = scratch.path().join("data");
    let files = data::create(&source, megabytes * 1_000_000)?;
    let seaweed = Seaweed::start()?;
    let steps = [Step::Init, Step::First, Step::Restore];
    let contest = Contest {
        source,
        scratch: &scratch,
        steps: &steps,
        runs: options.runs,
        store: &seaweed,
        is_kept: false,
    };
    let rows = measure(&contest, &available(&[Kind::Backup, Kind::Restic])?)?;
    let title = format!(
        "{megabytes} MB in {files} files into SeaweedFS on the same machine; {}",
        options.told()
    );
    Ok(Report::new("seaweedfs", title, rows, &BARS))
}

struct Seaweed {
    server: Child,
    ports: Vec<u16>,
    room: TempDir,
}

impl Drop for Seaweed {
    fn drop(&mut self) {
        // It may have ended already.
        _ = self.server.kill();
        _ = self.server.wait();
        // Sockets that no option moves.
        for (at, part) in PARTS.iter().enumerate() {
            _ = std::fs::remove_file(format!(
                "/tmp/seaweedfs-{part}-grpc-{}.sock",
                self.ports[2 * at + 1]
            ));
        }
    }
}

impl Seaweed {
    fn start() -> Result<Self> {
        let (room, ports) =
            (tempfile::Builder::new().prefix("backup-bench-weed-").tempdir()?, free_ports()?);
        let (data, users) = (room.path().join("data"), room.path().join("users.json"));
        std::fs::create_dir(&data)?;
        std::fs::write(&users, USERS)?;
        let log = File::create(room.path().join("log"))?;
        let mut command = Command::new(tools::tool("weed")?);
        command.arg("mini").args([
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            "-webdav=false",
            "-admin.ui=false",
        ]);
        command.args(["-master.telemetry=false", "-s3.autoCreateBucket=false"]);
        command.args(["-s3.port.iceberg=0", "-s3.port.lance=0"]);
        for (at, part) in PARTS.iter().enumerate() {
            command.arg(format!("-{part}.port={}", ports[2 * at]));
            command.arg(format!("-{part}.port.grpc={}", ports[2 * at + 1]));
        }
        command.arg(format!("-metricsPort={}", ports[2 * PARTS.len()]));
        let sockets = [("s3.localSocket", "s3.sock"), ("filer.localSocket", "filer.sock")];
        command.args(
            sockets.map(|(option, name)| format!("-{option}={}", room.path().join(name).display())),
        );
        command
            .arg(format!("-dir={}", data.display()))
            .arg(format!("-s3.config={}", users.display()));
        command.env("HOME", room.path()).current_dir(room.path());
        let server = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
        let seaweed = Self { server, ports, room };
        let begun = Instant::now();
        // A bucket can be made as soon as all its parts have found each other.
        while !http(seaweed.ports[0], &format!("PUT /{BUCKET}"))
            .is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
        {
            if begun.elapsed() > PATIENCE {
                let log = std::fs::read_to_string(seaweed.room.path().join("log"))?;
                return Err(format!("SeaweedFS is not ready: {log}").into());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(seaweed)
    }
}

impl Store for Seaweed {
    fn repository(&self, kind: Kind, room: &Path) -> String {
        let name = room.file_name().unwrap_or_default().display();
        let endpoint = format!("http://127.0.0.1:{}", self.ports[0]);
        match kind {
            Kind::Backup => format!("s3://{BUCKET}/{name}?endpoint={endpoint}&allow_http=true"),
            _ => format!("s3:{endpoint}/{BUCKET}/{name}"),
        }
    }

    fn variables(&self) -> Vec<(String, String)> {
        let [key, secret] = KEY;
        let variables = [
            ("AWS_ACCESS_KEY_ID", key),
            ("AWS_SECRET_ACCESS_KEY", secret),
            ("AWS_DEFAULT_REGION", "us-east-1"),
        ];
        variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }

    fn stored(&self, _: &Path) -> Result<Option<u64>> {
        Ok(None)
    }

    /// Whatever they asked for.
    fn requests(&self) -> Result<Option<u64>> {
        let metrics = http(self.ports[2 * PARTS.len()], "GET /metrics")?;
        let counters =
            metrics.lines().filter(|line| line.starts_with("SeaweedFS_s3_request_total{"));
        let counts = counters.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a counter")]
        Ok(Some(counts.sum::<f64>() as u64))
    }
}

/// All at once, so that none comes twice.
fn free_ports() -> Result<Vec<u16>> {
    let listeners = (0..=2 * PARTS.len())
        .map(|_| TcpListener::bind("127.0.0.1:0"))
        .collect::<std::io::Result<Vec<_>>>()?;
    Ok(listeners
        .iter()
        .map(|listener| Ok(listener.local_addr()?.port()))
        .collect::<std::io::Result<_>>()?)
}

/// The answer to a request without a body.
fn http(port: u16, request: &str) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(
        stream,
        "{request} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 0\r\nConnection: \
         close\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
