//! Addresses of `mongodb+srv`, by a double of the DNS on port 53 of a loopback address. The program
//! runs in a mount namespace with a `resolv.conf` of its own.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bson::doc;

use super::say;
use crate::support::cli::Cli;
use crate::support::mongod::{Mongod, Version};
use crate::support::mongod_state::{same, state};
use crate::support::process::{Outcome, run};
use crate::support::tls::Authority;

const A: u16 = 1;
const TXT: u16 = 16;
const SRV: u16 = 33;
const NO_SUCH_NAME: u8 = 3;

/// Records by name and type.
type Records = Vec<(&'static str, u16, Vec<u8>)>;

fn labels(name: &str) -> Vec<u8> {
    let label = |label: &str| [&[u8::try_from(label.len()).unwrap()], label.as_bytes()].concat();
    let mut bytes: Vec<u8> = name.split('.').flat_map(label).collect();
    bytes.push(0);
    bytes
}

fn srv(port: u16, host: &str) -> Vec<u8> {
    [&[0, 0, 0, 0][..], &port.to_be_bytes(), &labels(host)].concat()
}

fn txt(text: &str) -> Vec<u8> {
    [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat()
}

/// The reply to a query with one question.
fn reply(query: &[u8], records: &Records) -> Vec<u8> {
    let (mut name, mut at) = (Vec::new(), 12);
    while query[at] != 0 {
        let end = at + 1 + usize::from(query[at]);
        name.push(String::from_utf8_lossy(&query[at + 1..end]).to_lowercase());
        at = end;
    }
    let (name, end) = (name.join("."), at + 5);
    let kind = u16::from_be_bytes([query[at + 1], query[at + 2]]);
    let known = records.iter().any(|(known, ..)| *known == name);
    let found: Vec<_> =
        records.iter().filter(|(known, of, _)| *known == name && *of == kind).collect();
    let status = if known { 0 } else { NO_SUCH_NAME };
    let count = u8::try_from(found.len()).unwrap();
    let mut reply = query[..2].to_vec();
    reply.extend([0x81, 0x80 | status, 0, 1, 0, count, 0, 0, 0, 0]);
    reply.extend(&query[12..end]);
    for (_, kind, data) in found {
        reply.extend([0xC0, 12]);
        reply.extend(kind.to_be_bytes());
        reply.extend([0, 1, 0, 0, 0, 60]);
        reply.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
        reply.extend(data);
    }
    reply
}

/// A name server; a silent one without records.
struct Dns {
    address: Ipv4Addr,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Dns {
    /// `None` if this user may not listen on port 53.
    fn start(last: u8, records: Option<Records>) -> Option<Self> {
        let id = std::process::id().to_be_bytes();
        let address = Ipv4Addr::new(127, id[2] | 128, id[3], last);
        let socket = match UdpSocket::bind((address, 53)) {
            Ok(socket) => socket,
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => return None,
            Err(error) => panic!("{address}: {error}"),
        };
        socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let is_over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || {
            let mut query = [0; 2048];
            while !ends.load(Ordering::SeqCst) {
                let Ok((len, from)) = socket.recv_from(&mut query) else { continue };
                if let Some(records) = &records {
                    socket.send_to(&reply(&query[..len], records), from).unwrap();
                }
            }
        });
        Some(Self { address, is_over, thread: Some(thread) })
    }

    /// Runs the program with this name server.
    fn run(&self, cli: &Cli, room: &Path, arguments: &[&str]) -> Outcome {
        let file = room.join(format!("{}.conf", self.address));
        std::fs::write(&file, format!("nameserver {}\n", self.address)).unwrap();
        let under = format!("mount --bind '{}' /etc/resolv.conf && exec \"$@\"", file.display());
        let root: &[&str] =
            if rustix::process::geteuid().is_root() { &[] } else { &["--map-root-user"] };
        let wrapper = [&["unshare", "--mount"][..], root, &["sh", "-c", &under, "sh"]].concat();
        run(&mut cli.command(&wrapper, arguments))
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// Members and set name are in the DNS, and TLS is on.
pub(super) async fn records_lead_to_the_replica_set(version: Version) {
    let room = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let ca = authority.write(room.path());
    let (certificate, key) = authority.issue_for(room.path(), &["localhost", "m0.example.test"]);
    let pem = room.path().join("server.pem");
    let both = [std::fs::read(&certificate).unwrap(), std::fs::read(&key).unwrap()].concat();
    std::fs::write(&pem, both).unwrap();
    let origin = Mongod::with_tls(version, &ca, &pem).await;
    origin
        .run("shop", doc! { "insert": "orders", "documents": [{ "_id": 1 }, { "_id": 2 }] })
        .await;
    let local = Ipv4Addr::LOCALHOST.octets().to_vec();
    let records: Records = vec![
        ("_mongodb._tcp.cluster.example.test", SRV, srv(origin.port(), "m0.example.test")),
        ("cluster.example.test", TXT, txt("replicaSet=rs")),
        ("m0.example.test", A, local),
        ("_mongodb._tcp.other.example.test", SRV, srv(origin.port(), "m0.example.test")),
        ("other.example.test", TXT, txt("replicaSet=other")),
        ("_mongodb._tcp.foreign.example.test", SRV, srv(1, "m0.elsewhere.test")),
        ("_mongodb._tcp.gone.example.test", SRV, srv(1, "gone.example.test")),
        ("_mongodb._tcp.balanced.example.test", SRV, srv(1, "m0.example.test")),
        ("balanced.example.test", TXT, txt("loadBalanced=true")),
    ];
    let (Some(dns), Some(silent)) = (Dns::start(1, Some(records)), Dns::start(2, None)) else {
        say("not run: this user may not listen on port 53");
        return;
    };
    assert!(IpAddr::from(dns.address).is_loopback());
    let cli = Cli::new(&room.path().join("repository"), "key");
    cli.run(&["init"]).succeeded();
    let address = |name: &str| {
        let ca = ca.display();
        format!("mongodb+srv://admin:pass%20word@{name}.example.test/?tlsCAFile={ca}")
    };
    let backup = |dns: &Dns, name: &str| {
        let begun = Instant::now();
        let arguments = ["run", "--job", "shop", "--source", &address(name)];
        let outcome = dns.run(&cli, room.path(), &arguments);
        (outcome, begun.elapsed())
    };
    backup(&dns, "cluster").0.succeeded();
    let target = Mongod::start(version).await;
    let restore = ["restore", "latest", "--job", "shop", "--target", target.uri(), "--no-users"];
    cli.run(&restore).succeeded();
    same(&state(&origin.client).await, &state(&target.client).await);

    for (dns, name, cause) in [
        (&dns, "nothing", "records of nothing.example.test: there is no SRV record"),
        (&dns, "foreign", "a record names a host of another domain"),
        (&dns, "gone", "gone.example.test:1: the host name cannot be resolved"),
        (&dns, "other", "a member of the replica set rs, not of other"),
        (&dns, "balanced", "option that is not supported: loadBalanced"),
        (&silent, "cluster", "no answer of the DNS"),
    ] {
        let (outcome, passed) = backup(dns, name);
        let text = outcome.stderr.replace("\n", " ");
        assert_eq!(outcome.code, if name == "balanced" { 2 } else { 1 }, "{name}: {text}");
        assert!(text.contains(cause) && text.contains("Hint:"), "{name}: {text}");
        assert!(!text.contains("pass%20word") && !text.contains("pass word"), "{name}: {text}");
        assert!(passed < Duration::from_secs(12), "{name}: {passed:?}");
    }
}
