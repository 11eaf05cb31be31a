//! What DUMP would answer, made of the value in the file: `type | value | version | checksum`.

use super::crc64::crc64;
use super::parser::Flavour;
use super::value::kind;

/// The oldest version of the format that knows a type: a server of that version, and any newer one,
/// restores it.
pub(in super::super) fn oldest_version(kind: u8, flavour: Flavour) -> u16 {
    match kind {
        kind::STRING..=kind::HASH => 6,
        kind::ZSET_2 | kind::MODULE_2 => 8,
        kind::HASH_ZIPMAP..=kind::LIST_QUICKLIST => 7,
        kind::STREAM => 9,
        kind::HASH_LISTPACK..=kind::STREAM_2 => 10,
        kind::SET_LISTPACK | kind::STREAM_3 => 11,
        kind::HASH_2 if flavour == Flavour::Valkey => 80,
        _ => 12,
    }
}

/// Completes `type | value` to a payload for RESTORE.
pub(in super::super) fn frame(payload: &mut Vec<u8>, version: u16) {
    payload.extend_from_slice(&version.to_le_bytes());
    let crc = crc64(0, payload);
    payload.extend_from_slice(&crc.to_le_bytes());
}

/// Type and value of what DUMP has answered, if its checksum is right.
pub(in super::super) fn dump_parts(payload: &[u8]) -> Option<(u8, &[u8])> {
    let (body, sum) = payload.split_last_chunk::<8>()?;
    let (value, _version) = body.split_last_chunk::<2>()?;
    let (&kind, value) = value.split_first()?;
    let stored = u64::from_le_bytes(*sum);
    (stored == 0 || stored == crc64(0, body)).then_some((kind, value))
}

/// The version of the format that DUMP or FUNCTION DUMP has answered in.
pub(in super::super) fn payload_version(payload: &[u8]) -> Option<u16> {
    let (body, _) = payload.split_last_chunk::<8>()?;
    body.last_chunk().copied().map(u16::from_le_bytes)
}

/// What FUNCTION DUMP would answer for these libraries.
pub(in super::super) fn functions_payload(libraries: &[Vec<u8>], version: u16) -> Vec<u8> {
    let mut payload = Vec::new();
    for library in libraries {
        payload.push(0xf5);
        // The longest form of a length is one as well.
        payload.push(0x81);
        payload.extend_from_slice(&(library.len() as u64).to_be_bytes());
        payload.extend_from_slice(library);
    }
    frame(&mut payload, version);
    payload
}
