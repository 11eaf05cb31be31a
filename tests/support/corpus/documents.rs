//! Answers of a false MongoDB server.

use crate::support::false_server::{Case, Step};
use Step::{Read, Repeat, Send};

/// Bytes that an endless answer has at most.
const ENDLESS: usize = 3 << 30;

/// The header of a message that states its length, in reply to the first request.
fn header(len: i32, code: i32) -> Vec<u8> {
    [len, 1, 1, code].iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// A reply of one document.
fn reply(document: &[u8]) -> Vec<u8> {
    let len = i32::try_from(document.len() + 21).unwrap();
    [&header(len, 2013)[..], &[0; 5], document].concat()
}

/// All conversations, each with an error as its only outcome.
pub(crate) fn cases() -> Vec<Case> {
    let document = |len: i32, body: &[u8]| [&len.to_le_bytes()[..], body].concat();
    let levels = 200_000;
    let mut nested = Vec::new();
    for left in (1..=levels).rev() {
        nested.extend(i32::try_from(8 * left + 5).unwrap().to_le_bytes());
        nested.extend(b"\x03a\0");
    }
    nested.extend_from_slice(b"\x05\0\0\0\0");
    nested.extend(std::iter::repeat_n(0, levels));
    let answers: Vec<(&'static str, Vec<Step>)> = vec![
        ("closes at once", vec![]),
        ("no protocol", vec![Send(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()), Read]),
        ("message of 2 GiB", vec![Send(header(i32::MAX, 2013)), Repeat(vec![0], ENDLESS)]),
        ("message of negative length", vec![Send(header(-1, 2013)), Read]),
        ("message shorter than its header", vec![Send(header(3, 2013)), Read]),
        ("unknown code", vec![Send([header(16, 9999), vec![0; 16]].concat()), Read]),
        ("document of 2 GiB", vec![Send(reply(&document(i32::MAX, b"\0"))), Read]),
        ("document of negative length", vec![Send(reply(&document(-5, b"\0"))), Read]),
        ("200 000 levels", vec![Send(reply(&nested)), Read]),
        ("empty document", vec![Send(reply(&document(5, b"\0"))), Read]),
        ("endless messages", vec![Repeat(reply(&document(5, b"\0")), ENDLESS)]),
    ];
    answers
        .into_iter()
        .map(|(name, steps)| Case { name, steps: [vec![Read], steps].concat() })
        .collect()
}
