//! The documents.

use super::bucket::{Bucket, Refused};

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn document(root: &str, content: &str) -> String {
    let space = "http://s3.amazonaws.com/doc/2006-03-01/";
    format!(r#"<?xml version="1.0" encoding="UTF-8"?><{root} xmlns="{space}">{content}</{root}>"#)
}

pub(super) fn error((_, code): Refused, details: &str) -> String {
    let (message, details) = (format!("The request was refused: {code}."), escape(details));
    let content =
        format!("<Code>{code}</Code><Message>{message}</Message><Details>{details}</Details>");
    format!("<?xml version='1.0' encoding='UTF-8'?><Error>{content}</Error>")
}

/// What a listing asks for.
#[derive(Debug)]
pub(super) struct Listing<'a> {
    pub(super) bucket: &'a str,
    pub(super) prefix: &'a str,
    pub(super) delimiter: &'a str,
    /// Exclusive: `start-after`, or the continuation token, which is the last name of the page
    /// before.
    pub(super) after: &'a str,
    pub(super) max: usize,
}

/// One name of a listing: a key, or a prefix that stands for many.
fn name_of<'a>(key: &'a str, listing: &Listing<'_>) -> (&'a str, bool) {
    let rest = &key[listing.prefix.len()..];
    match rest.find(listing.delimiter).filter(|_| !listing.delimiter.is_empty()) {
        Some(at) => (&key[..listing.prefix.len() + at + listing.delimiter.len()], true),
        None => (key, false),
    }
}

pub(super) fn list(bucket: &Bucket, listing: &Listing<'_>) -> String {
    let (mut content, mut last, mut count, mut more) = (String::new(), "", 0, false);
    for (key, object) in bucket.objects.range(listing.prefix.to_owned()..) {
        if !key.starts_with(listing.prefix) {
            break;
        }
        let (name, is_prefix) = name_of(key, listing);
        if name <= listing.after || name == last {
            continue;
        }
        if count == listing.max {
            more = true;
            break;
        }
        (last, count) = (name, count + 1);
        content += &if is_prefix {
            format!("<CommonPrefixes><Prefix>{}</Prefix></CommonPrefixes>", escape(name))
        } else {
            format!(
                "<Contents><Key>{}</Key><Generation>{}</Generation><LastModified>{}</LastModified><ETag>{}</ETag><Size>{}</Size></Contents>",
                escape(name),
                object.generation,
                object.modified.strftime("%Y-%m-%dT%H:%M:%S.%3fZ"),
                escape(&object.e_tag()),
                object.content.len()
            )
        };
    }
    if more {
        content += &format!("<NextContinuationToken>{}</NextContinuationToken>", escape(last));
    }
    let head = format!(
        "<Name>{}</Name><Prefix>{}</Prefix><KeyCount>{count}</KeyCount><IsTruncated>{more}</IsTruncated>",
        listing.bucket,
        escape(listing.prefix)
    );
    document("ListBucketResult", &(head + &content))
}

pub(super) fn uploads(name: &str, bucket: &Bucket, prefix: &str) -> String {
    let uploads = bucket.uploads.iter().filter(|(_, upload)| upload.key.starts_with(prefix)).map(|(id, upload)| {
        let (key, started) = (escape(&upload.key), upload.started.strftime("%Y-%m-%dT%H:%M:%S.%3fZ"));
        format!("<Upload><Key>{key}</Key><UploadId>{id}</UploadId><Initiated>{started}</Initiated></Upload>")
    });
    let content = format!(
        "<Bucket>{name}</Bucket><IsTruncated>false</IsTruncated>{}",
        uploads.collect::<String>()
    );
    document("ListMultipartUploadsResult", &content)
}

pub(super) fn initiated(bucket: &str, key: &str, id: &str) -> String {
    let content =
        format!("<Bucket>{bucket}</Bucket><Key>{}</Key><UploadId>{id}</UploadId>", escape(key));
    document("InitiateMultipartUploadResult", &content)
}

pub(super) fn completed(bucket: &str, key: &str, tag: &str) -> String {
    let content =
        format!("<Bucket>{bucket}</Bucket><Key>{}</Key><ETag>{}</ETag>", escape(key), escape(tag));
    document("CompleteMultipartUploadResult", &content)
}

pub(super) fn copied(modified: jiff::Timestamp, tag: &str) -> String {
    let modified = modified.strftime("%Y-%m-%dT%H:%M:%S.%3fZ");
    document(
        "CopyObjectResult",
        &format!("<LastModified>{modified}</LastModified><ETag>{}</ETag>", escape(tag)),
    )
}

/// The parts that a completion names, as numbers and tags.
pub(super) fn parts(document: &str) -> Option<Vec<(u32, String)>> {
    let between = |text: &str, name: &str| -> Option<String> {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        Some(rest.split_once(&format!("</{name}>"))?.0.replace("&quot;", "\""))
    };
    let parts = document.split("<Part>").skip(1);
    parts
        .map(|part| Some((between(part, "PartNumber")?.parse().ok()?, between(part, "ETag")?)))
        .collect()
}
