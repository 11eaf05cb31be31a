//! Answers of a false Redis server.

use crate::support::false_server::{Case, Step};
use Step::{Read, Repeat, Send};

/// Bytes that an endless answer has at most.
const ENDLESS: usize = 3 << 30;

/// The answer to PSYNC: a dump follows.
const FULL: &[u8] = b"+FULLRESYNC 8371b4fb1155b71f4a04d3e1bc3e18c4a990aeeb 42\r\n";

/// The first answers of a server of version 7, each after a request.
fn greeting() -> Vec<Step> {
    let info = "# Server\r\nredis_version:7.4.1\r\nrole:master\r\n";
    let info = format!("${}\r\n{info}\r\n", info.len()).into_bytes();
    vec![Read, Send(info)]
}

/// A dump of these bytes, after the header of its version.
fn dump(name: &'static str, body: &[u8]) -> Case {
    let body = [b"REDIS0011", body].concat();
    let ok = || [Read, Send(b"+OK\r\n".to_vec())];
    let head = format!("${}\r\n", body.len());
    let sync = [FULL, head.as_bytes(), &body].concat();
    // The connection of a replica answers five questions before PSYNC.
    let steps = [ok(), ok(), ok(), ok(), ok()].concat();
    Case { name, steps: [steps, vec![Read, Send(sync), Read]].concat() }
}

/// All conversations, each with an error as its only outcome. Every connection begins anew.
pub(crate) fn cases() -> Vec<Case> {
    let answers: Vec<(&'static str, Vec<Step>)> = vec![
        ("closes at once", vec![]),
        ("no protocol", vec![Send(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()), Read]),
        ("line without an end", vec![Repeat(b"+x".to_vec(), ENDLESS)]),
        (
            "endless parts",
            vec![Send(b"*9223372036854775807\r\n".to_vec()), Repeat(b":1\r\n".to_vec(), ENDLESS)],
        ),
        ("endless levels", vec![Repeat(b"*1\r\n".to_vec(), ENDLESS)]),
        (
            "text of 2^63 bytes",
            vec![Send(b"$9223372036854775807\r\n".to_vec()), Repeat(b"x".to_vec(), ENDLESS)],
        ),
        ("text of 1 GiB", vec![Send(b"$1073741824\r\n".to_vec()), Repeat(b"x".to_vec(), ENDLESS)]),
        (
            "many long texts",
            vec![
                Send(b"*1000000\r\n".to_vec()),
                Repeat([&b"$65536\r\n"[..], &[b'x'; 65_538]].concat(), ENDLESS),
            ],
        ),
        ("number that is none", vec![Send(b":1e999\r\n".to_vec()), Read]),
        ("length that is none", vec![Send(b"$-x\r\n".to_vec()), Read]),
        ("terminal codes in an error", vec![Send(b"-ERR \x1b[2Jcleared\x07\r\n".to_vec()), Read]),
    ];
    let mut cases: Vec<Case> = answers
        .into_iter()
        .map(|(name, steps)| Case { name, steps: [vec![Read], steps].concat() })
        .collect();
    let lines = b"used_memory_a_long_name_of_a_line:1\r\n".repeat(1 << 20);
    let text = [format!("${}\r\n", lines.len()).as_bytes(), &lines, b"\r\n"].concat();
    let repeated = Repeat(text, 64 << 20);
    cases.push(Case {
        name: "settings of 38 MiB",
        steps: [greeting(), vec![Read, repeated]].concat(),
    });
    cases.push(dump("dump without a version", b""));
    cases.push(dump("dump of an unknown type", b"\xfe\0\x7f\x01a\x01b"));
    cases.push(dump("string of 2^63 bytes", b"\xfe\0\0\x01a\x81\x7f\xff\xff\xff\xff\xff\xff\xff"));
    cases.push(dump("string of 4 GiB", b"\xfe\0\0\x01a\x80\xff\xff\xff\xff"));
    cases.push(dump(
        "compressed string of 4 GiB",
        b"\xfe\0\0\x01a\xc3\x05\x80\xff\xff\xff\xff\0\0\0\0\0",
    ));
    cases.push(dump(
        "list of 2^63 parts",
        b"\xfe\0\x01\x01a\x81\x7f\xff\xff\xff\xff\xff\xff\xff\x01b",
    ));
    cases.push(dump(
        "hash of 2^63 parts",
        b"\xfe\0\x04\x01a\x81\x7f\xff\xff\xff\xff\xff\xff\xff\x01b\x01c",
    ));
    cases.push(dump(
        "room for 2^63 keys",
        b"\xfe\0\xfb\x81\x7f\xff\xff\xff\xff\xff\xff\xff\0\xff\0\0\0\0\0\0\0\x01",
    ));
    cases.push(dump(
        "database 2^63",
        b"\xfe\x81\x7f\xff\xff\xff\xff\xff\xff\xff\0\x01a\x01b\xff\0\0\0\0\0\0\0\x01",
    ));
    cases.push(dump("wrong sum", b"\xfe\0\0\x01a\x01b\xff\x01\x02\x03\x04\x05\x06\x07\x08"));
    cases
}
