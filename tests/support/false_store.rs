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
    case: Case,
    /// Requests that were answered falsely.
    twisted: AtomicUsize,
}

/// Serves the repository in `dir` with the false answers of this case; returns its section of a
/// configuration.
pub(crate) fn serve(dir: &Path, case: Case) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut objects = BTreeMap::new();
    collect(dir, FOLDER, &mut objects);
    let store = Arc::new(Store { objects, case, twisted: AtomicUsize::new(0) });
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let store = Arc::clone(&store);
            std::thread::spawn(move || store.serve(stream));
        }
    });
    format!(
        "[repositories.main]\nurl = \"s3://bkt/{FOLDER}?allow_http=true&region=x&endpoint=\
         http://127.0.0.1:{port}\"\n[repositories.main.store]\nretry_deadline = \"2s\"\n\
         stall_timeout = \"5s\"\n"
    )
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
}

impl Store {
    fn serve(&self, stream: TcpStream) -> Option<()> {
        let mut reading = BufReader::new(stream.try_clone().ok()?);
        let mut writing = stream;
        loop {
            let request = read(&mut reading)?;
            let is_list = request.query.contains_key("list-type");
            let is_twisted = match self.case.twisted {
                Twisted::List => {
                    is_list && request.query.get("prefix").is_some_and(|p| p.contains("snapshots"))
                }
                Twisted::Object => request.method == "GET" && request.key.contains("/snapshots/"),
            };
            if is_twisted {
                let at = self.twisted.fetch_add(1, Ordering::SeqCst);
                for step in (self.case.answer)(at) {
                    match step {
                        Step::Read => {}
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
            let answer = if is_list { self.list(&request) } else { self.object(&request) };
            writing.write_all(&answer).ok()?;
        }
    }

    fn list(&self, request: &Request) -> Vec<u8> {
        let prefix = request.query.get("prefix").map_or("", String::as_str);
        let mut body =
            format!("<ListBucketResult><Prefix>{prefix}</Prefix><IsTruncated>false</IsTruncated>");
        for (key, path) in self.objects.iter().filter(|(key, _)| key.starts_with(prefix)) {
            let size = fs::metadata(path).unwrap().len();
            write!(
                body,
                "<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>\
                 <ETag>e</ETag><Size>{size}</Size></Contents>"
            )
            .unwrap();
        }
        body.push_str("</ListBucketResult>");
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
    let key = decoded(path.strip_prefix("/bkt/").unwrap_or_default());
    Some(Request { method, key, query, range: header("range") })
}
