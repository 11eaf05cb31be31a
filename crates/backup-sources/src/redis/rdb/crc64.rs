//! CRC-64 as Redis computes it (`crc64.c`): polynomial of Jones, reflected, from zero, not
//! inverted.

use crc_fast::{CrcAlgorithm, Digest};

/// The checksum of what had `crc`, and `bytes` behind it.
pub(in super::super) fn crc64(crc: u64, bytes: &[u8]) -> u64 {
    let mut digest = Digest::new_with_init_state(CrcAlgorithm::Crc64Redis, crc);
    digest.update(bytes);
    digest.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_that_of_redis() {
        // The test value of crc64.c.
        assert_eq!(crc64(0, b"123456789"), 0xe9c6_d914_c4b8_d9ca);
        let text = b"This is a test of the emergency broadcast system.";
        for at in 0..text.len() {
            assert_eq!(crc64(crc64(0, &text[..at]), &text[at..]), crc64(0, text));
        }
    }
}
