//! An object store that answers for a repository in a directory, but for some requests.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::corpus::store::{Case, Twisted};
use super::false_server::Step;

/// Folder of the repository in the bucket.
const FOLDER: &str = "repo";

struct Store {
    objects: BTreeMap<String, PathBuf>,
    service: Service,
    case: Case,
    /// Requests that were answered falsely.
    twisted: AtomicUsize,
}

/// The service that a store plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    S3,
    Gcs,
    Azure,
}

/// Serves the repository in `dir` with the false answers of this case; returns its section of a
/// configuration, its endpoint, and that of a service for tokens.
pub(crate) fn serve(dir: &Path, service: Service, case: Case) -> (String, String, String) {
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let [endpoint, tokens] =
        listeners.each_ref().map(|one| format!("http://{}", one.local_addr().unwrap()));
    let mut objects = BTreeMap::new();
    collect(dir, FOLDER, &mut objects);
    let store = Arc::new(Store { objects, service, case, twisted: AtomicUsize::new(0) });
    for listener in listeners {
        let store = Arc::clone(&store);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let store = Arc::clone(&store);
                std::thread::spawn(move || store.serve(stream));
            }
        });
    }
    let (scheme, more) = match service {
        Service::S3 => ("s3", format!("region=x&endpoint={endpoint}")),
        Service::Gcs => ("gs", format!("endpoint={endpoint}")),
        Service::Azure => ("az", format!("account=acct&endpoint={endpoint}/acct")),
    };
    let config = format!(
        "[repositories.main]\nurl = \"{scheme}://bkt/{FOLDER}?allow_http=true&{more}\"\n\
         [repositories.main.store]\nretry_deadline = \"2s\"\nstall_timeout = \"5s\"\n"
    );
    (config, endpoint, format!("{tokens}/token"))
}

fn collect(dir: &Path, name: &str, objects: &mut BTreeMap<String, PathBuf>) {
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let name = format!("{name}/{}", entry.file_name().to_str().unwrap());
        if entry.path().is_dir() {
            collect(&entry.path(), &name, objects);
        } else {
            objects.insert(name, entry.path());
        }
    }
}

/// A request without its body.
struct Request {
    method: String,
    key: String,
    query: BTreeMap<String, String>,
    range: Option<String>,
    /// Of the service for the identity of the machine.
    is_token: bool,
}

impl Store {
    fn serve(&self, stream: TcpStream) -> Option<()> {
        let mut reading = BufReader::new(stream.try_clone().ok()?);
        let mut writing = stream;
        loop {
            let request = read(&mut reading)?;
            let is_list = request.query.contains_key("list-type")
                || request.query.get("comp").is_some_and(|comp| comp == "list");
            let of = |folder: &str| {
                is_list && request.query.get("prefix").is_some_and(|p| p.contains(folder))
            };
            let is_twisted = match self.case.twisted {
                Twisted::List => of("snapshots"),
                Twisted::Packs => of("/data"),
                Twisted::Object => request.method == "GET" && request.key.contains("/snapshots/"),
                Twisted::Token => request.is_token,
                Twisted::Nothing => false,
            };
            if is_twisted {
                let at = self.twisted.fetch_add(1, Ordering::SeqCst);
                for step in (self.case.answer)(at) {
                    match step {
                        // Until the client leaves.
                        Step::Read => _ = reading.read_until(0, &mut Vec::new()),
                        Step::Send(bytes) => writing.write_all(&bytes).ok()?,
                        Step::Repeat(bytes, most) => {
                            let piece = bytes.repeat(((256 << 10) / bytes.len()).max(1));
                            (0..most / piece.len())
                                .try_for_each(|_| writing.write_all(&piece))
                                .ok()?;
                        }
                    }
                }
                // False answers may end anywhere; the next request comes on another connection.
                return None;
            }
            let answer = if request.is_token {
                let token = "{\"access_token\":\"a\",\"expires_on\":\"1893456000\"}";
                response(200, "content-type: application/json\r\n", token.as_bytes())
            } else if is_list {
                self.list(&request)
            } else {
                self.object(&request)
            };
            writing.write_all(&answer).ok()?;
        }
    }

    fn list(&self, request: &Request) -> Vec<u8> {
        let prefix = request.query.get("prefix").map_or("", String::as_str);
        let mut all = String::new();
        for (key, path) in self.objects.iter().filter(|(key, _)| key.starts_with(prefix)) {
            let size = fs::metadata(path).unwrap().len();
            if self.service == Service::Azure {
                write!(
                    all,
                    "<Blob><Name>{key}</Name><Properties>\
                     <Last-Modified>Thu, 01 Jan 2026 00:00:00 GMT</Last-Modified><Etag>e</Etag>\
                     <Content-Length>{size}</Content-Length><Content-Type>x</Content-Type>\
                     </Properties></Blob>"
                )
                .unwrap();
            } else {
                write!(
                    all,
                    "<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z\
                     </LastModified><ETag>e</ETag><Size>{size}</Size></Contents>"
                )
                .unwrap();
            }
        }
        let body = if self.service == Service::Azure {
            format!(
                "<EnumerationResults><Prefix>{prefix}</Prefix><Blobs>{all}</Blobs><NextMarker/>\
                 </EnumerationResults>"
            )
        } else {
            format!(
                "<ListBucketResult><Prefix>{prefix}</Prefix><IsTruncated>false</IsTruncated>{all}\
                 </ListBucketResult>"
            )
        };
        response(200, "", body.as_bytes())
    }

    fn object(&self, request: &Request) -> Vec<u8> {
        let head = "etag: \"e\"\r\nlast-modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n";
        let Some(path) = self.objects.get(&request.key) else {
            return response(404, "", b"<Error><Code>NoSuchKey</Code></Error>");
        };
        let body = fs::read(path).unwrap();
        match (&*request.method, &request.range) {
            ("HEAD", _) => {
                let whole = response(200, head, &body);
                whole[..whole.len() - body.len()].to_vec()
            }
            ("GET", None) => response(200, head, &body),
            ("GET", Some(range)) => {
                let (start, last) = range.trim_start_matches("bytes=").split_once('-').unwrap();
                let start: usize = start.parse().unwrap();
                let end = last.parse().map_or(body.len(), |last: usize| body.len().min(last + 1));
                let head =
                    format!("{head}content-range: bytes {start}-{}/{}\r\n", end - 1, body.len());
                response(206, &head, &body[start..end])
            }
            // Locks and notes of readers: refused, as with credentials that only read.
            _ => response(403, "", b"<Error><Code>AccessDenied</Code></Error>"),
        }
    }
}

fn response(status: u16, head: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status} X\r\n{head}content-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn read(reading: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reading.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end().to_owned();
        if line.is_empty() {
            break;
        }
        lines.push(line);
    }
    let mut words = lines.first()?.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let header = |name: &str| {
        let named = |line: &String| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        };
        lines.iter().find_map(named)
    };
    let length = header("content-length").map_or(0, |length| length.parse().unwrap());
    std::io::copy(&mut reading.take(length), &mut std::io::sink()).ok()?;
    let decoded = |text: &str| text.replace("%2F", "/").replace("%3D", "=");
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let query = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let query = query.map(|(name, value)| (name.to_owned(), decoded(value))).collect();
    let is_token = path == "/token";
    let path = path.strip_prefix("/acct").unwrap_or(path);
    let key = decoded(path.strip_prefix("/bkt/").unwrap_or_default());
    let range = header("range").or_else(|| header("x-ms-range"));
    Some(Request { method, key, query, range, is_token })
}
