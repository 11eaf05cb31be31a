//! An RDB file, made of what DUMP answers: each value has there the form that it has in the file.

use backup_core::source::SourceResult;
use bytes::Bytes;

use super::super::error::malformed;
use super::crc64::crc64;
use super::parser::op;

/// From this version on files are of Valkey alone, and begin with its name.
const VALKEY: u16 = 80;

/// A file that grows.
#[derive(Debug)]
pub(in super::super) struct Builder {
    out: Vec<u8>,
    version: u16,
    crc: u64,
}

impl Builder {
    /// Begins a file as a server writes it whose newest version of the format is `version`, with
    /// remarks.
    pub(in super::super) fn new(version: u16, remarks: &[(&str, String)]) -> Self {
        let head = if version < VALKEY {
            format!("REDIS{version:04}")
        } else {
            format!("VALKEY{version:03}")
        };
        let mut builder = Self { out: head.into_bytes(), version, crc: 0 };
        for (name, value) in remarks {
            builder.out.push(op::AUX);
            builder.string(name.as_bytes());
            builder.string(value.as_bytes());
        }
        builder
    }

    /// Bytes that nobody has taken yet.
    pub(in super::super) fn len(&self) -> usize {
        self.out.len()
    }

    /// What FUNCTION DUMP has answered: libraries as they stand in a file.
    pub(in super::super) fn libraries(&mut self, payload: &[u8]) -> SourceResult<()> {
        // Version and checksum.
        let libraries =
            payload.len().checked_sub(10).ok_or_else(|| malformed("reply to FUNCTION DUMP"))?;
        self.out.extend_from_slice(&payload[..libraries]);
        Ok(())
    }

    /// What comes next is in this database.
    pub(in super::super) fn select(&mut self, database: u32) {
        self.out.push(op::SELECT);
        self.length(database as usize);
    }

    /// A key whose value has the form of `version`; it expires then, in milliseconds since 1970.
    pub(in super::super) fn key(
        &mut self,
        version: u16,
        name: &[u8],
        expires: Option<u64>,
        kind: u8,
        value: &[u8],
    ) -> SourceResult<()> {
        if version != self.version {
            return Err(malformed(format!(
                "value of RDB version {version} instead of {}",
                self.version
            )));
        }
        if let Some(expires) = expires {
            self.out.push(op::EXPIRES_MS);
            self.out.extend_from_slice(&expires.to_le_bytes());
        }
        self.out.push(kind);
        self.string(name);
        self.out.extend_from_slice(value);
        Ok(())
    }

    /// Ends the file.
    pub(in super::super) fn end(&mut self) {
        self.out.push(op::END);
        let crc = crc64(self.crc, &self.out);
        self.out.extend_from_slice(&crc.to_le_bytes());
    }

    /// Takes what there is.
    pub(in super::super) fn take(&mut self) -> Option<Bytes> {
        self.crc = crc64(self.crc, &self.out);
        Some(std::mem::take(&mut self.out)).filter(|bytes| !bytes.is_empty()).map(Bytes::from)
    }

    fn string(&mut self, bytes: &[u8]) {
        self.length(bytes.len());
        self.out.extend_from_slice(bytes);
    }

    fn length(&mut self, len: usize) {
        match len {
            0..0x40 => self.out.push(u8::try_from(len).unwrap_or_default()),
            0x40..0x4000 => {
                let len = u16::try_from(len).unwrap_or_default() | 0x4000;
                self.out.extend_from_slice(&len.to_be_bytes());
            }
            _ => {
                self.out.push(0x81);
                self.out.extend_from_slice(&(len as u64).to_be_bytes());
            }
        }
    }
}
