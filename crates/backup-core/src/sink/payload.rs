//! The bytes of a put: segments with a known total length, cheap to clone for a retry.

use bytes::Bytes;

/// Bytes of an object in one or more segments.
#[derive(Debug, Clone, Default)]
pub struct Payload {
    segments: Vec<Bytes>,
    len: usize,
    cold: bool,
}

impl Payload {
    /// A payload of several segments, in order.
    #[must_use]
    pub fn from_segments(segments: Vec<Bytes>) -> Self {
        let len = segments.iter().map(Bytes::len).sum();
        Self { segments, len, cold: false }
    }

    /// Says that the object is read only when something is restored: where there are cheaper
    /// classes for such, it may go there.
    #[must_use]
    pub fn cold(mut self) -> Self {
        self.cold = true;
        self
    }

    /// Whether the object is read only when something is restored.
    #[must_use]
    pub fn is_cold(&self) -> bool {
        self.cold
    }

    /// Total length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The segments in order.
    #[must_use]
    pub fn segments(&self) -> &[Bytes] {
        &self.segments
    }

    /// All bytes in one piece; copies only if there are several segments.
    #[must_use]
    pub fn into_bytes(mut self) -> Bytes {
        if self.segments.len() == 1 {
            return self.segments.remove(0);
        }
        let mut all = Vec::with_capacity(self.len);
        for segment in &self.segments {
            all.extend_from_slice(segment);
        }
        all.into()
    }
}

impl<T: Into<Bytes>> From<T> for Payload {
    fn from(bytes: T) -> Self {
        Self::from_segments(vec![bytes.into()])
    }
}
