//! What is stored, and under which conditions.

use std::collections::BTreeMap;

use backup_core::clock::{Clock, SystemClock};
use sha2::{Digest, Sha256};

/// Objects and unfinished uploads.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    pub(super) objects: BTreeMap<String, Object>,
    pub(super) uploads: BTreeMap<String, Upload>,
    /// Counts up: generations and the ids of uploads.
    last: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Object {
    pub(super) content: Vec<u8>,
    /// Content type, storage class, metadata.
    pub(super) headers: Vec<(String, String)>,
    pub(super) generation: u64,
    pub(super) modified: jiff::Timestamp,
}

#[derive(Debug)]
pub(super) struct Upload {
    pub(super) key: String,
    headers: Vec<(String, String)>,
    parts: BTreeMap<u32, Vec<u8>>,
    pub(super) started: jiff::Timestamp,
}

/// Why something was refused: a status and a code of Google's.
pub(super) type Refused = (u16, &'static str);

pub(super) const NO_SUCH_KEY: Refused = (404, "NoSuchKey");
pub(super) const NO_SUCH_UPLOAD: Refused = (404, "NoSuchUpload");
const PRECONDITION_FAILED: Refused = (412, "PreconditionFailed");

impl Object {
    pub(super) fn e_tag(&self) -> String {
        e_tag(&self.content, self.generation)
    }
}

/// Google's is no digest of the content either, not of every object.
fn e_tag(content: &[u8], generation: u64) -> String {
    format!("\"{}{generation:x}\"", hex::encode(&Sha256::digest(content)[..4]))
}

impl Bucket {
    fn next(&mut self) -> u64 {
        self.last += 1;
        // In the range of Google's, which are microseconds.
        1_700_000_000_000_000 + self.last
    }

    /// Stores an object, if the present one has the wanted generation; 0 is none.
    pub(super) fn put(
        &mut self,
        key: &str,
        content: Vec<u8>,
        headers: Vec<(String, String)>,
        wanted: Option<u64>,
    ) -> Result<&Object, Refused> {
        let present = self.objects.get(key).map_or(0, |object| object.generation);
        if wanted.is_some_and(|wanted| wanted != present) {
            return Err(PRECONDITION_FAILED);
        }
        let object =
            Object { content, headers, generation: self.next(), modified: SystemClock.now() };
        self.objects.insert(key.to_owned(), object);
        Ok(&self.objects[key])
    }

    pub(super) fn delete(&mut self, key: &str, wanted: Option<u64>) -> Result<(), Refused> {
        let present = self.objects.get(key).ok_or(NO_SUCH_KEY)?.generation;
        if wanted.is_some_and(|wanted| wanted != present) {
            return Err(PRECONDITION_FAILED);
        }
        self.objects.remove(key);
        Ok(())
    }

    pub(super) fn initiate(&mut self, key: &str, headers: Vec<(String, String)>) -> String {
        let id = format!("upload-{}", self.next());
        let upload = Upload {
            key: key.to_owned(),
            headers,
            parts: BTreeMap::new(),
            started: SystemClock.now(),
        };
        self.uploads.insert(id.clone(), upload);
        id
    }

    /// Returns the part's tag.
    pub(super) fn part(
        &mut self,
        key: &str,
        id: &str,
        number: u32,
        content: Vec<u8>,
    ) -> Result<String, Refused> {
        let upload =
            self.uploads.get_mut(id).filter(|upload| upload.key == key).ok_or(NO_SUCH_UPLOAD)?;
        let tag = e_tag(&content, u64::from(number));
        upload.parts.insert(number, content);
        Ok(tag)
    }

    /// Makes an object of the named parts, which must be there with these tags, in order.
    pub(super) fn complete(
        &mut self,
        key: &str,
        id: &str,
        parts: &[(u32, String)],
    ) -> Result<&Object, Refused> {
        let upload =
            self.uploads.get(id).filter(|upload| upload.key == key).ok_or(NO_SUCH_UPLOAD)?;
        if parts.is_empty() || !parts.is_sorted_by(|one, next| one.0 < next.0) {
            return Err((400, "InvalidPartOrder"));
        }
        let mut content = Vec::new();
        for (number, tag) in parts {
            let part =
                upload.parts.get(number).filter(|part| e_tag(part, u64::from(*number)) == *tag);
            content.extend_from_slice(part.ok_or((400, "InvalidPart"))?);
        }
        let headers = self.uploads.remove(id).map(|upload| upload.headers).unwrap_or_default();
        self.put(key, content, headers, None)
    }

    pub(super) fn abort(&mut self, key: &str, id: &str) -> Result<(), Refused> {
        self.uploads.get(id).filter(|upload| upload.key == key).ok_or(NO_SUCH_UPLOAD)?;
        self.uploads.remove(id);
        Ok(())
    }
}
