//! Answers of false stores of Google and Azure, and of a false service for tokens.

use super::store::{
    Case, Twisted, all, announced, continued, endless, entities, id, list, page, thousand,
};
use crate::support::false_server::Step;
use Step::{Read, Send};

type Answer = (&'static str, fn(usize) -> Vec<Step>);

/// Only a head, and no end of the connection.
fn silent(head: &str) -> Vec<Step> {
    vec![Send(format!("HTTP/1.1 {head}\r\n\r\n").into_bytes()), Read]
}

fn redirected(to: &str) -> Vec<Step> {
    let head = format!("HTTP/1.1 302 X\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n");
    vec![Send(head.into_bytes())]
}

fn html() -> Vec<Step> {
    page("<!DOCTYPE html><html><body>Sign in to the network</body></html>")
}

/// Answers of objects and heads that are the same for every service.
fn objects() -> Vec<Answer> {
    vec![
        ("object that is cut off", |_| announced("200 X", "5000", b"abc")),
        ("object without an end", |_| {
            endless("200 X\r\netag: \"e\"\r\ncontent-length: 9000000000000\r\n", b"abcd")
        }),
        ("page of HTML as object", |_| html()),
        ("other content", |_| announced("200 X", "3", b"abc")),
    ]
}

/// A false Google Cloud Storage; each has an error as its only outcome.
pub(crate) fn gcs() -> Vec<Case> {
    let lists: Vec<Answer> = vec![
        ("entities that expand", |_| page(&entities())),
        ("a million levels", |_| page(&list(false, &"<a>".repeat(1 << 20)))),
        ("same page for ever", |_| continued(&thousand(0), "again")),
        ("pages for ever", |at| continued(&thousand(1000 * at), &id(at))),
        ("page of HTML", |_| html()),
        ("list of JSON", |_| page("{\"kind\":\"storage#objects\",\"items\":[]}")),
        ("longer than its body", |_| announced("200 X", "5000", list(false, "").as_bytes())),
        ("silent after its head", |_| silent("200 X\r\ncontent-length: 500")),
        ("redirection to a file", |_| redirected("file:///etc/passwd")),
        ("redirection elsewhere", |_| redirected("http://127.0.0.1:1/bkt")),
        ("error for ever", |_| endless("500 X\r\ncontent-length: 9000000000000\r\n", b"<Error/>")),
    ];
    all([(Twisted::List, lists), (Twisted::Object, objects())])
}

/// A page of a listing of Azure that continues at `next`.
fn blobs(rest: &str, next: &str) -> Vec<Step> {
    page(&format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults>\
         <Prefix>repo/snapshots/</Prefix><Blobs>{rest}</Blobs><NextMarker>{next}</NextMarker>\
         </EnumerationResults>"
    ))
}

/// A blob of a listing.
fn blob(number: usize, size: &str) -> String {
    format!(
        "<Blob><Name>repo/snapshots/{}</Name><Properties>\
         <Last-Modified>Thu, 01 Jan 2026 00:00:00 GMT</Last-Modified><Etag>e</Etag>\
         <Content-Length>{size}</Content-Length><Content-Type>x</Content-Type></Properties></Blob>",
        id(number)
    )
}

fn thousand_blobs(first: usize) -> String {
    (first..first + 1000).map(|number| blob(number, "500")).collect()
}

/// A false Azure Blob Storage, and a false service for its tokens; each has an error as its only
/// outcome.
pub(crate) fn azure() -> Vec<Case> {
    let lists: Vec<Answer> = vec![
        ("entities that expand", |_| page(&entities())),
        ("a million levels", |_| blobs(&"<a>".repeat(1 << 20), "")),
        ("same page for ever", |_| blobs(&thousand_blobs(0), "again")),
        ("pages for ever", |at| blobs(&thousand_blobs(1000 * at), &id(at))),
        ("empty pages for ever", |at| blobs("", &id(at))),
        ("negative size", |_| blobs(&blob(1, "-1"), "")),
        ("size of 2^64", |_| blobs(&blob(1, "18446744073709551616"), "")),
        ("page of HTML", |_| html()),
        ("silent after its head", |_| silent("200 X\r\ncontent-length: 500")),
        ("redirection to a file", |_| redirected("file:///etc/passwd")),
    ];
    let tokens: Vec<Answer> = vec![
        ("no JSON", |_| page("token")),
        ("empty object", |_| page("{}")),
        ("100 000 levels", |_| page(&"[".repeat(100_000))),
        ("page of HTML as token", |_| html()),
        ("expires after 2^64 - 1 seconds", |_| token("a", "18446744073709551615")),
        ("expires never", |_| token("a", "1e999")),
        ("expired before 1970", |_| token("a", "-1")),
        ("token with a line break", |_| token("a\\r\\nx: y", "1893456000")),
        ("token without an end", |_| {
            endless("200 X\r\ncontent-length: 9000000000000\r\n", b"{\"a\":\"")
        }),
        ("token that is silent after its head", |_| silent("200 X\r\ncontent-length: 500")),
        ("redirection of a token", |_| redirected("http://127.0.0.1:1/token")),
        ("refused token", |_| announced("403 X", "2", b"{}")),
    ];
    all([(Twisted::List, lists), (Twisted::Object, objects()), (Twisted::Token, tokens)])
}

fn token(text: &str, expires: &str) -> Vec<Step> {
    page(&format!("{{\"access_token\":\"{text}\",\"expires_on\":\"{expires}\"}}"))
}
