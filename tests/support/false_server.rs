//! A server that answers with fixed bytes, whatever the client sends.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A step of a server.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Waits for a request.
    Read,
    Send(Vec<u8>),
    /// Sends the bytes again and again, up to this many in sum.
    Repeat(Vec<u8>, usize),
}

/// A conversation of a false server, which is the same on every connection.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) steps: Vec<Step>,
}

/// Answers until the process of the test ends. Returns the port, and the number of connections.
pub(crate) fn serve(case: &Case) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let steps = Arc::new(case.steps.clone());
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            counted.fetch_add(1, Ordering::SeqCst);
            let steps = Arc::clone(&steps);
            std::thread::spawn(move || converse(stream, &steps));
        }
    });
    (port, connections)
}

/// The client may leave at any time.
fn converse(mut stream: TcpStream, steps: &[Step]) -> Option<()> {
    let mut buffer = vec![0; 64 << 10];
    for step in steps {
        match step {
            Step::Read => (stream.read(&mut buffer).ok()? > 0).then_some(())?,
            Step::Send(bytes) => stream.write_all(bytes).ok()?,
            Step::Repeat(bytes, most) => {
                let times = ((256 << 10) / bytes.len()).max(1);
                let piece = bytes.repeat(times);
                for _ in 0..most / piece.len() {
                    stream.write_all(&piece).ok()?;
                }
            }
        }
    }
    Some(())
}
