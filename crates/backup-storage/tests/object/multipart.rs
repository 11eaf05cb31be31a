//! Uploads in parts, as a store would take them: a twist for the server.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::server::{Objects, Reply, Seen};

/// Answers requests that belong to uploads in parts. Parts that are not named in the completion are
/// not in the object.
pub(crate) fn multipart() -> impl Fn(&Seen, &Objects) -> Option<Reply> + Send + Sync + 'static {
    let parts: Arc<Mutex<BTreeMap<u32, Vec<u8>>>> = Arc::default();
    move |seen, objects| {
        let query: BTreeMap<String, String> =
            url::form_urlencoded::parse(seen.query.as_bytes()).into_owned().collect();
        let mut parts = parts.lock().unwrap();
        match (&*seen.method, query.get("uploadId"), query.get("partNumber")) {
            ("POST", None, None) if query.contains_key("uploads") => {
                parts.clear();
                let body = "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>";
                Some(Reply::Answer(200, Vec::new(), body.into()))
            }
            ("PUT", Some(_), Some(number)) => {
                parts.insert(number.parse().unwrap(), seen.body.clone());
                let sum = seen.header("x-amz-checksum-sha256").to_owned();
                Some(Reply::Answer(
                    200,
                    vec![("etag", "e".to_owned()), ("x-amz-checksum-sha256", sum)],
                    Vec::new(),
                ))
            }
            ("POST", Some(_), None) => {
                let asked = String::from_utf8_lossy(&seen.body).into_owned();
                let named =
                    |number: &u32| asked.contains(&format!("<PartNumber>{number}</PartNumber>"));
                let named: Vec<&[u8]> = parts
                    .iter()
                    .filter(|(number, _)| named(number))
                    .map(|(_, part)| &**part)
                    .collect();
                let whole = named.concat();
                let key = seen.path.strip_prefix("/bkt/").unwrap().to_owned();
                objects.lock().unwrap().insert(key, whole);
                let body =
                    "<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>";
                Some(Reply::Answer(200, Vec::new(), body.into()))
            }
            ("DELETE", Some(_), None) => Some(Reply::Answer(204, Vec::new(), Vec::new())),
            _ => None,
        }
    }
}
