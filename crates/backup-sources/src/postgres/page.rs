//! Checksums of pages, as the server computes them (`checksum_impl.h`): FNV-1a over 32 columns side
//! by side, mixed with the block's number.

use super::delta::BLOCK;
use super::lsn::Lsn;

const PRIME: u32 = 16_777_619;
/// Where a page has its checksum.
const PLACE: std::ops::Range<usize> = 8..10;
const BEGINNINGS: [u32; 32] = [
    0x5b1f_36e9,
    0xb852_5960,
    0x02ab_50aa,
    0x1de6_6d2a,
    0x79ff_467a,
    0x9bb9_f8a3,
    0x217e_7cd2,
    0x83e1_3d2c,
    0xf8d4_474f,
    0xe39e_b970,
    0x42c6_ae16,
    0x9932_16fa,
    0x7b09_3b5d,
    0x98da_ff3c,
    0xf718_902a,
    0x0b1c_9cdb,
    0xe58f_764b,
    0x1876_36bc,
    0x5d7b_3bb1,
    0xe73d_e7de,
    0x92be_c979,
    0xcca6_c0b2,
    0x304a_0979,
    0x85aa_43d4,
    0x7831_25bb,
    0x6ca8_eaa2,
    0xe407_eac6,
    0x4b5c_fc3e,
    0x9fbf_8c76,
    0x15ca_20be,
    0xf2ca_9fd3,
    0x959b_d756,
];

/// Writes the checksum of block `number` into `page`, if it has one: a cluster without checksums
/// has zeros there.
pub(super) fn seal(page: &mut [u8; BLOCK as usize], number: u32) {
    if page[PLACE] != [0, 0] {
        let sum = checksum(page, number);
        page[PLACE].copy_from_slice(&sum.to_le_bytes());
    }
}

/// Whether the checksum of block `number` is right, or does not matter: of pages that were never
/// used, and of those that were written at or behind `begin`, where a backup began.
pub(super) fn is_sound(page: &[u8; BLOCK as usize], number: u64, begin: Lsn) -> bool {
    let word = |at: usize| {
        u64::from(u32::from_le_bytes([page[at], page[at + 1], page[at + 2], page[at + 3]]))
    };
    let written = Lsn(word(0) << 32 | word(4));
    let unused = page[14..16] == [0, 0];
    let number = u32::try_from(number).unwrap_or(u32::MAX);
    unused || written >= begin || page[PLACE] == checksum(page, number).to_le_bytes()
}

fn checksum(page: &[u8; BLOCK as usize], number: u32) -> u16 {
    let mut sums = BEGINNINGS;
    let mut mix = |column: usize, value: u32| {
        let mixed = sums[column] ^ value;
        sums[column] = mixed.wrapping_mul(PRIME) ^ (mixed >> 17);
    };
    for (at, bytes) in page.as_chunks::<4>().0.iter().enumerate() {
        // The checksum itself, which shares its four bytes with the flags, does not count.
        let value = if at == 2 {
            u32::from_le_bytes([0, 0, bytes[2], bytes[3]])
        } else {
            u32::from_le_bytes(*bytes)
        };
        mix(at % 32, value);
    }
    for _ in 0..2 {
        (0..32).for_each(|column| mix(column, 0));
    }
    let sum = sums.iter().fold(0, |all, one| all ^ one) ^ number;
    // Never zero.
    u16::try_from(sum % 65_535 + 1).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_that_have_one_get_one() {
        let mut page = [0; BLOCK as usize];
        seal(&mut page, 7);
        assert_eq!(page, [0; BLOCK as usize]);
        page[8] = 1;
        seal(&mut page, 7);
        let first = page;
        seal(&mut page, 7);
        assert_eq!(page, first, "it does not depend on the one that was there");
        page[5000] = 1;
        seal(&mut page, 7);
        assert_ne!(page[PLACE], first[PLACE]);
        page[5000] = 0;
        seal(&mut page, 8);
        assert_ne!(page[PLACE], first[PLACE], "it depends on the place");
    }

    #[test]
    fn damage_is_found_where_it_matters() {
        let mut page = [0; BLOCK as usize];
        assert!(is_sound(&page, 7, Lsn(100)), "never used");
        (page[4], page[8], page[15]) = (50, 1, 1);
        seal(&mut page, 7);
        assert!(is_sound(&page, 7, Lsn(100)) && !is_sound(&page, 8, Lsn(100)));
        page[6000] = 1;
        assert!(
            !is_sound(&page, 7, Lsn(51)) && is_sound(&page, 7, Lsn(50)),
            "the log repairs what was written since"
        );
    }
}
