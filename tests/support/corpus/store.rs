//! Answers of a false object store.

use serde_json::{Value, json};

use crate::support::false_server::Step;
use Step::{Repeat, Send};

/// Bytes that an endless answer has at most.
const ENDLESS: usize = 3 << 30;

/// Requests that are answered falsely.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Twisted {
    /// Listings of snapshots.
    List,
    /// Listings of packs.
    Packs,
    /// Reading a snapshot.
    Object,
    /// Tokens of the service for the identity of the machine.
    Token,
    /// None.
    Nothing,
}

/// A false answer to some requests, of which each has a number.
#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) twisted: Twisted,
    pub(crate) answer: fn(usize) -> Vec<Step>,
}

impl Case {
    /// Without false answers.
    pub(crate) fn sound() -> Self {
        Self { name: "sound", twisted: Twisted::Nothing, answer: |_| vec![] }
    }
}

/// A case with its first three answers.
pub(crate) fn shown(case: &Case) -> Value {
    let answers = (0..3).map(|at| (case.answer)(at).iter().map(super::step).collect::<Vec<_>>());
    json!({
        "name": case.name,
        "requests": format!("{:?}", case.twisted),
        "answers": answers.collect::<Vec<_>>(),
    })
}

pub(super) fn page(text: &str) -> Vec<Step> {
    let head = format!("HTTP/1.1 200 X\r\ncontent-length: {}\r\n\r\n", text.len());
    vec![Send([head.as_bytes(), text.as_bytes()].concat())]
}

fn content(key: &str, size: &str) -> String {
    format!(
        "<Contents><Key>repo/snapshots/{key}</Key>\
         <LastModified>2026-01-01T00:00:00.000Z</LastModified><Size>{size}</Size></Contents>"
    )
}

pub(super) fn list(is_truncated: bool, rest: &str) -> String {
    format!(
        "<ListBucketResult><Prefix>repo/snapshots/</Prefix>\
         <IsTruncated>{is_truncated}</IsTruncated>{rest}</ListBucketResult>"
    )
}

/// A page that continues at `next`.
pub(super) fn continued(rest: &str, next: &str) -> Vec<Step> {
    let token = format!("<NextContinuationToken>{next}</NextContinuationToken>");
    page(&list(true, &format!("{rest}{token}")))
}

pub(super) fn id(number: usize) -> String {
    format!("{number:064x}")
}

/// A thousand objects after `first`.
pub(super) fn thousand(first: usize) -> String {
    (first..first + 1000).map(|number| content(&id(number), "500")).collect()
}

pub(super) fn announced(status: &str, len: &str, body: &[u8]) -> Vec<Step> {
    let head = format!("HTTP/1.1 {status}\r\netag: \"e\"\r\ncontent-length: {len}\r\n\r\n");
    vec![Send([head.as_bytes(), body].concat())]
}

pub(super) fn endless(head: &str, body: &[u8]) -> Vec<Step> {
    let head = format!("HTTP/1.1 {head}\r\n");
    vec![Send(head.into_bytes()), Repeat(body.to_vec(), ENDLESS)]
}

/// Entities that refer to each other ten times each.
pub(super) fn entities() -> String {
    let mut text = "<?xml version=\"1.0\"?><!DOCTYPE x [<!ENTITY a0 \"aaaaaaaaaa\">".to_owned();
    for level in 1..12 {
        let inner = format!("&a{};", level - 1).repeat(10);
        text.push_str(&format!("<!ENTITY a{level} \"{inner}\">"));
    }
    let key = content("&a11;", "5");
    format!("{text}]>{}", list(false, &key))
}

/// The name of a case, and its answers by number.
type Answer = (&'static str, fn(usize) -> Vec<Step>);

/// All cases, each with an error as its only outcome.
pub(crate) fn cases() -> Vec<Case> {
    let lists: Vec<Answer> = vec![
        ("closes at once", |_| vec![]),
        ("no XML", |_| page("{\"objects\":[]}")),
        ("entities that expand", |_| page(&entities())),
        ("a million levels", |_| page(&list(false, &"<a>".repeat(1 << 20)))),
        ("page without an end", |_| page(&list(false, "")[..90])),
        ("same page for ever", |_| continued(&thousand(0), "again")),
        ("two pages for ever", |at| continued(&thousand(1000 * (at % 2)), &id(at % 2))),
        ("pages for ever", |at| continued(&thousand(1000 * at), &id(at))),
        ("groups for ever", |at| {
            continued(
                "<CommonPrefixes><Prefix>repo/snapshots/a/</Prefix></CommonPrefixes>",
                &id(at),
            )
        }),
        ("empty pages for ever", |at| continued("", &id(at))),
        ("other folders for ever", |at| {
            continued(&thousand(1000 * at).replace("repo/snapshots/", "other/"), &id(at))
        }),
        ("negative size", |_| page(&list(false, &content(&id(1), "-1")))),
        ("size of 2^64", |_| page(&list(false, &content(&id(1), "18446744073709551616")))),
        ("size of 1e999", |_| page(&list(false, &content(&id(1), "1e999")))),
        ("longer than its body", |_| announced("200 X", "5000", list(false, "").as_bytes())),
        ("body for ever", |_| endless("200 X\r\ncontent-length: 9000000000000\r\n", b"<a/>")),
        ("headers for ever", |_| endless("200 X", b"x-a: b\r\n")),
        ("error for ever", |_| endless("500 X\r\ncontent-length: 9000000000000\r\n", b"<Error/>")),
        ("redirection to itself", |_| {
            announced("301 X\r\nlocation: /bkt?list-type=2&prefix=repo%2Fsnapshots%2F", "0", b"")
        }),
    ];
    let objects: Vec<Answer> = vec![
        ("object that is cut off", |_| announced("200 X", "5000", b"abc")),
        ("object of negative length", |_| announced("200 X", "-5", b"abc")),
        ("object of 2^63 bytes", |_| announced("200 X", "9223372036854775807", b"abc")),
        ("object without an end", |_| {
            endless("200 X\r\ncontent-length: 9000000000000\r\n", b"abcd")
        }),
        ("object in endless pieces", |_| {
            endless("200 X\r\ntransfer-encoding: chunked\r\n", b"4\r\nabcd\r\n")
        }),
        ("other content", |_| announced("200 X", "3", b"abc")),
    ];
    let packs: Vec<Answer> = vec![("packs for ever", |at| {
        continued(&thousand(1000 * at).replace("repo/snapshots/", "repo/data/00/"), &id(at))
    })];
    all([(Twisted::List, lists), (Twisted::Object, objects), (Twisted::Packs, packs)])
}

pub(super) fn all<const N: usize>(groups: [(Twisted, Vec<Answer>); N]) -> Vec<Case> {
    let cases = |(twisted, answers): (Twisted, Vec<Answer>)| {
        answers.into_iter().map(move |(name, answer)| Case { name, twisted, answer })
    };
    groups.into_iter().flat_map(cases).collect()
}
