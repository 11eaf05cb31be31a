//! Answers of a false PostgreSQL server.

use crate::support::false_server::{Case, Step};
use Step::{Read, Repeat, Send};

/// Bytes that an endless answer has at most.
const ENDLESS: usize = 3 << 30;

/// A message with the length of its body.
fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    announced(tag, u32::try_from(body.len() + 4).unwrap(), body)
}

/// A message that states a length of its own.
fn announced(tag: u8, len: u32, body: &[u8]) -> Vec<u8> {
    [&[tag][..], &len.to_be_bytes(), body].concat()
}

fn authentication(kind: u32, data: &[u8]) -> Vec<u8> {
    message(b'R', &[&kind.to_be_bytes()[..], data].concat())
}

/// Everything up to the first command.
fn login() -> Vec<u8> {
    let version = message(b'S', b"server_version\x0017.2\0");
    [authentication(0, b""), version, message(b'Z', b"I")].concat()
}

/// A description of columns of this name.
fn columns(count: u16, name: &str) -> Vec<u8> {
    let column = [name.as_bytes(), &[0; 19]].concat();
    message(b'T', &[&count.to_be_bytes()[..], &column.repeat(count.into())].concat())
}

/// All conversations, each with an error as its only outcome.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    let mut before = |name, steps: Vec<Step>| {
        cases.push(Case { name, steps: [vec![Read], steps].concat() });
    };
    before("closes at once", vec![]);
    before("no protocol", vec![Send(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()), Read]);
    before("login of 4 GiB", vec![Send(announced(b'R', u32::MAX, b"")), Repeat(vec![0], ENDLESS)]);
    before(
        "login of 1 GiB",
        vec![Send(announced(b'E', 1 << 30, b"")), Repeat(vec![b'S'], ENDLESS)],
    );
    before("login shorter than its header", vec![Send(announced(b'R', 3, b"")), Read]);
    before("endless settings", vec![Repeat(message(b'S', b"a\0b\0"), ENDLESS)]);
    before("unknown authentication", vec![Send(authentication(4711, b"")), Read]);
    before("authentication without a kind", vec![Send(message(b'R', b"\0\0")), Read]);
    let sasl = authentication(10, b"SCRAM-SHA-256\0\0");
    let rounds = authentication(11, b"r=NONCE,s=c2FsdA==,i=4294967295");
    before("foreign nonce", vec![Send(sasl), Read, Send(rounds), Read]);
    let endless = Repeat(message(b'N', b"SWARNING\0Mx\0\0"), ENDLESS);
    before("endless notices during the login", vec![Send(authentication(0, b"")), endless.clone()]);
    let codes = message(b'E', b"SFATAL\0C28000\0M\x1b[2Jcleared\x07\0\0");
    before("terminal codes in an error", vec![Send(codes), Read]);

    let mut after = |name, steps: Vec<Step>| {
        let steps = [vec![Read, Send(login()), Read], steps].concat();
        cases.push(Case { name, steps });
    };
    after("closes after the login", vec![]);
    after("unknown message", vec![Send(message(b'!', b"")), Read]);
    after("message of 4 GiB", vec![Send(announced(b'D', u32::MAX, b"")), Repeat(vec![0], ENDLESS)]);
    after("message of 1 GiB", vec![Send(announced(b'T', 1 << 30, b"")), Repeat(vec![0], ENDLESS)]);
    after("endless notices", vec![endless]);
    let null = message(b'D', b"\0\x01\xff\xff\xff\xff");
    after("endless rows", vec![Send(columns(1, "a")), Repeat(null, ENDLESS)]);
    let wide = message(b'D', &[&[0xff, 0xff][..], &[0xff; 4 * 65_535]].concat());
    after("65 535 columns", vec![Send(columns(65_535, "a")), Repeat(wide, ENDLESS)]);
    let negative = message(b'D', b"\0\x01\xff\xff\xff\x00x");
    after("negative length of a value", vec![Send(columns(1, "a")), Send(negative)]);
    let longer = message(b'D', b"\0\x01\x7f\xff\xff\xffx");
    after("value longer than its row", vec![Send(columns(1, "a")), Send(longer), Read]);
    let end = [message(b'C', b"SHOW\0"), message(b'Z', b"I")].concat();
    let version = message(b'D', b"\0\x01\0\0\0\x051e999");
    after("version of 1e999", vec![Send([columns(1, "a"), version, end.clone()].concat()), Read]);
    after("no rows", vec![Send(end), Read]);
    cases
}

/// The server's first message of SCRAM with this number of rounds, after the client's nonce.
pub(crate) fn rounds(nonce: &str, rounds: u32) -> Vec<u8> {
    authentication(11, format!("r={nonce}server,s=c2FsdA==,i={rounds}").as_bytes())
}

/// The offer of SCRAM.
pub(crate) fn offer() -> Vec<u8> {
    authentication(10, b"SCRAM-SHA-256\0\0")
}
