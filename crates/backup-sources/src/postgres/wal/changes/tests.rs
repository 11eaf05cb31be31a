//! Records as servers write them, cut and damaged.

use proptest::prelude::*;

use super::*;

const TABLE: RelationFile = RelationFile { tablespace: 1663, database: 5, number: 16384 };

/// A full-page image: its length, where its hole begins, what it says of itself, how long the hole
/// is if it says that.
type Image = (u16, u16, u8, Option<u16>);

/// Writes a record as the server does.
#[derive(Default)]
struct Writer {
    headers: Vec<u8>,
    behind: Vec<u8>,
}

impl Writer {
    fn block(
        mut self,
        id: u8,
        fork: u8,
        number: u32,
        relation: Option<RelationFile>,
        image: Option<Image>,
        data: u16,
    ) -> Self {
        let flags = fork
            | if image.is_some() { 0x10 } else { 0 }
            | if data > 0 { 0x20 } else { 0 }
            | if relation.is_none() { 0x80 } else { 0 };
        self.headers.extend([id, flags]);
        self.headers.extend(data.to_le_bytes());
        if let Some((len, hole, info, hole_len)) = image {
            self.headers.extend([len, hole].map(u16::to_le_bytes).concat());
            self.headers.push(info);
            self.headers.extend(hole_len.into_iter().flat_map(u16::to_le_bytes));
            self.behind.resize(self.behind.len() + usize::from(len), 0xee);
        }
        if let Some(RelationFile { tablespace, database, number }) = relation {
            self.headers.extend([tablespace, database, number].map(u32::to_le_bytes).concat());
        }
        self.headers.extend(number.to_le_bytes());
        self.behind.resize(self.behind.len() + usize::from(data), 0xdd);
        self
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.headers.extend(bytes);
        self
    }

    fn record(mut self, manager: u8, info: u8, own: &[u8]) -> Vec<u8> {
        match u8::try_from(own.len()) {
            Ok(0) => {}
            Ok(len) => self.headers.extend([255, len]),
            Err(_) => {
                self.headers.push(254);
                self.headers.extend(u32::try_from(own.len()).unwrap().to_le_bytes());
            }
        }
        let len = HEADER + self.headers.len() + self.behind.len() + own.len();
        let mut record = u32::try_from(len).unwrap().to_le_bytes().to_vec();
        record.extend([0; 12]);
        record.extend([info, manager, 0, 0, 0, 0, 0, 0]);
        [&record[..], &self.headers, &self.behind, own].concat()
    }
}

fn told(record: &[u8], major: u32) -> Result<Vec<Change>, String> {
    let mut told = Vec::new();
    changes(record, major, |change| told.push(change))?;
    Ok(told)
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

#[test]
fn blocks_of_any_record() {
    let other = RelationFile { number: 7, ..TABLE };
    for (major, images) in [
        (
            13,
            [
                (8192, 0, 0x04, None),
                (8000, 100, 0x05, None),
                (500, 100, 0x03, Some(90)),
                (500, 0, 0x02, None),
            ],
        ),
        (
            15,
            [
                (8192, 0, 0x02, None),
                (8000, 100, 0x03, None),
                (500, 100, 0x09, Some(90)),
                (500, 0, 0x10, None),
            ],
        ),
    ] {
        let [whole, with_hole, compressed, without_hole] = images.map(Some);
        let record = Writer::default()
            .block(0, 0, 9, Some(TABLE), whole, 0)
            .block(1, 2, 1, None, with_hole, 30)
            .block(5, 0, u32::MAX, Some(other), compressed, 7)
            .block(32, 1, 3, None, without_hole, 0)
            .raw(&[253, 1, 0])
            .record(10, 0x20, &[1; 300]);
        let expected = [
            Change::Block(TABLE, 0, 9),
            Change::Block(TABLE, 2, 1),
            Change::Block(other, 0, u32::MAX),
            Change::Block(other, 1, 3),
        ];
        assert_eq!(told(&record, major).unwrap(), expected, "{major}");
    }
    // From 14 on it may say which transaction it belongs to.
    let record = Writer::default()
        .block(0, 0, 9, Some(TABLE), None, 4)
        .raw(&[252, 1, 2, 3, 4])
        .record(10, 0, &[1]);
    assert_eq!(told(&record, 14).unwrap(), [Change::Block(TABLE, 0, 9)]);
    assert!(told(&record, 13).is_err());
    assert_eq!(told(&Writer::default().record(0, 0x40, &[]), 18).unwrap(), []);
    // Of a long record only the beginning is kept.
    let record =
        Writer::default().block(0, 0, 9, Some(TABLE), None, 60_000).record(10, 0, &[1; 60_000]);
    assert_eq!(told(&record[..65_536], 16).unwrap(), [Change::Block(TABLE, 0, 9)]);
}

#[test]
fn files_that_are_made_cut_off_and_copied() {
    let of = |manager, info, own: &[u32], major| {
        told(&Writer::default().record(manager, info, &words(own)), major)
    };
    let made = Change::CutOff(TABLE, 0);
    assert_eq!(of(2, 0x10, &[1663, 5, 16384, 0], 13).unwrap(), [made]);
    assert_eq!(of(2, 0x10, &[1663, 5, 16384, 2], 13).unwrap(), []);
    assert_eq!(of(2, 0x20, &[44, 1663, 5, 16384, 7], 18).unwrap(), [Change::CutOff(TABLE, 44)]);
    assert_eq!(of(2, 0x20, &[44, 1663, 5, 16384, 6], 18).unwrap(), []);
    for info in [0, 0x10, 0x20] {
        assert_eq!(of(4, info, &[99, 1663, 1, 1663], 15).unwrap(), [Change::Database(99)]);
    }
    assert_eq!(of(0, 0x60, &[100, 8, 10, 0, 64, 0, 1], 16).unwrap(), [Change::Untold]);
    assert_eq!(of(0, 0x60, &[100, 8, 10, 0, 64, 1, 1], 16).unwrap(), []);
    assert_eq!(of(0, 0xe0, &[1], 17).unwrap(), []);
}

#[test]
fn files_that_vanish_with_a_transaction() {
    let of = |info, own: &[u32]| told(&Writer::default().record(1, info, &words(own)), 14);
    let gone = [Change::CutOff(TABLE, 0), Change::CutOff(RelationFile { number: 7, ..TABLE }, 0)];
    let files = [2, 1663, 5, 16384, 1663, 5, 7];
    // Behind the time and the bits: database and tablespace, subtransactions, files.
    assert_eq!(of(0x80, &[&[0, 0, 4][..], &files].concat()).unwrap(), gone);
    assert_eq!(
        of(0xa0, &[&[0, 0, 7, 5, 1663, 3, 10, 11, 12][..], &files, &[99]].concat()).unwrap(),
        gone
    );
    assert_eq!(of(0xb0, &[&[0, 0, 6, 1, 10][..], &files].concat()).unwrap(), gone);
    for none in [of(0x00, &[0, 0]), of(0x80, &[0, 0, 3, 5, 1663, 1, 10]), of(0x10, &[0, 0, 4])] {
        assert_eq!(none.unwrap(), []);
    }
    for bad in
        [of(0x80, &[0, 0, 4, 2, 1663, 5, 7]), of(0x80, &[0, 0, 6, u32::MAX, 1]), of(0x80, &[0, 0])]
    {
        assert!(bad.is_err());
    }
}

#[test]
fn what_is_not_known_is_an_error() {
    let of = |manager, info, own: &[u32], major| {
        told(&Writer::default().record(manager, info, &words(own)), major)
    };
    for (manager, info, own, major) in [
        // Of extensions, and of versions to come.
        (128, 0, &[][..], 18),
        (22, 0, &[], 18),
        (0, 0xe0, &[1], 16),
        (0, 0xf0, &[], 18),
        (0, 0xc0, &[], 18),
        (2, 0x30, &[1, 2, 3, 4], 18),
        (4, 0x30, &[1], 18),
        // Too short, or of a fork that there is not.
        (2, 0x10, &[1663, 5, 16384], 18),
        (2, 0x10, &[1663, 5, 16384, 4], 18),
        (2, 0x20, &[44, 1663, 5, 16384], 18),
        (4, 0x00, &[], 18),
        (0, 0x60, &[100, 8, 10, 0, 64], 18),
    ] {
        assert!(of(manager, info, own, major).is_err(), "{manager} {info:#x} {own:?}");
    }
    let block =
        |id, fork, image, data| Writer::default().block(id, fork, 1, Some(TABLE), image, data);
    let plain = block(1, 0, None, 3);
    for bad in [
        block(33, 0, None, 0).record(10, 0, &[]),
        block(0, 4, None, 0).record(10, 0, &[]),
        block(0, 0, Some((100, 0, 0x20, None)), 0).record(10, 0, &[]),
        block(0, 0, Some((8000, 0, 0x01, None)), 0).record(10, 0, &[]),
        block(0, 0, Some((8000, 0, 0x00, None)), 0).record(10, 0, &[]),
        block(0, 0, Some((9000, 0, 0x00, None)), 0).record(10, 0, &[]),
        block(0, 0, Some((8192, 0, 0x04, None)), 0).record(10, 0, &[]),
        Writer::default().block(0, 0, 1, None, None, 0).record(10, 0, &[]),
        plain.block(1, 0, 2, None, None, 0).record(10, 0, &[]),
        Writer::default().record(10, 0, &[1, 2])[..25].to_vec(),
    ] {
        assert!(told(&bad, 16).is_err(), "{bad:?}");
    }
}

fn image() -> impl Strategy<Value = Option<Image>> {
    prop_oneof![
        Just(None),
        Just(Some((8192, 0, 0x02, None))),
        (1u16..8191, 24u16..4000).prop_map(|(len, hole)| Some((len, hole, 0x03, None))),
        (1u16..8191, 24u16..4000, 1u16..8191).prop_map(|(len, hole, hole_len)| Some((
            len,
            hole,
            0x09,
            Some(hole_len)
        ))),
    ]
}

fn record() -> impl Strategy<Value = (Vec<u8>, Vec<(u32, u32)>)> {
    let block = (any::<bool>(), any::<u32>(), any::<u32>(), image(), 0u16..200);
    (proptest::collection::vec(block, 0..33), 0usize..600, 5u8..22).prop_map(
        |(blocks, own, manager)| {
            let (mut writer, mut expected, mut last) = (Writer::default(), Vec::new(), None);
            for (id, (is_same, relation, number, image, data)) in (0u8..).zip(blocks) {
                let named = (!is_same || last.is_none())
                    .then_some(RelationFile { number: relation, ..TABLE });
                let relation = *last
                    .insert(named.map_or_else(|| last.unwrap_or(relation), |named| named.number));
                writer = writer.block(id, 0, number, named, image, data);
                expected.push((relation, number));
            }
            (writer.record(manager, 0, &vec![7; own]), expected)
        },
    )
}

proptest! {
    #[test]
    fn every_block_is_told((record, expected) in record()) {
        let told = told(&record, 16).unwrap();
        let found: Vec<_> = told.iter().filter_map(|change| match change {
            Change::Block(relation, MAIN, number) => Some((relation.number, *number)),
            _ => None,
        }).collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn damage_never_panics((record, _) in record(), flips in proptest::collection::vec((any::<usize>(), 0u8..8), 1..4), major in 13u32..=18) {
        let mut bad = record;
        for (at, bit) in flips {
            let at = at % bad.len();
            bad[at] ^= 1 << bit;
        }
        // No more than there is room for, whatever it says.
        if let Ok(told) = told(&bad, major) {
            prop_assert!(told.len() <= bad.len() / 8);
        }
    }

    #[test]
    fn what_is_cut_off_is_noticed((record, expected) in record(), cut in any::<usize>()) {
        let cut = cut % record.len();
        // Where only data of blocks is missing, all of them are told.
        if let Ok(told) = told(&record[..cut], 16) {
            prop_assert_eq!(told.len(), expected.len());
        }
    }

    #[test]
    fn noise_never_panics(noise in proptest::collection::vec(any::<u8>(), 0..300), major in 13u32..=18) {
        if let Ok(told) = told(&noise, major) {
            prop_assert!(told.len() <= noise.len() / 8);
        }
    }
}
