//! Files that are damaged, cut, or made to harm.

use bytes::Bytes;
use proptest::prelude::*;

use super::crc64::crc64;
use super::*;

fn string(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![u8::try_from(bytes.len()).unwrap()];
    assert!(bytes.len() < 64);
    out.extend_from_slice(bytes);
    out
}

/// A value of every type that is known, as `(type, bytes)`.
fn values(flavour: Flavour) -> Vec<(u8, Vec<u8>)> {
    let s = |text: &str| string(text.as_bytes());
    let packed = string(&[0, 0, 0, 0, 0, 0, 0x81, b'f', 2, 7, 1, 0x81, b'g', 2, 9, 1, 0xff]);
    let triples = string(&[0, 0, 0, 0, 0, 0, 0x81, b'f', 2, 7, 1, 0, 1, 0xff]);
    let zipped = string(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, b'f', 3, 0xf2, 0xff]);
    let ints = string(&[2, 0, 0, 0, 2, 0, 0, 0, 1, 0, 2, 0]);
    let eight = [7_u8; 8];
    let stream = |more: usize, active: bool| {
        let mut out = [vec![1], string(&[0; 16]), packed.clone(), vec![2, 1, 1]].concat();
        out.extend(vec![3; more]);
        out.extend([&[1][..], &s("group"), &[5, 1], &vec![4; usize::from(more > 0)]].concat());
        out.extend([&[1][..], &[1; 24], &[9]].concat());
        out.extend(
            [&[1][..], &s("consumer"), &eight, if active { &eight } else { &[] }, &[1], &[1; 16]]
                .concat(),
        );
        out
    };
    let mut all = vec![
        (0, s("text")),
        (0, vec![0xc0, 0xf9]),
        (0, vec![0xc1, 1, 2]),
        (0, vec![0xc2, 1, 2, 3, 4]),
        (0, vec![0xc3, 6, 6, 2, b'a', b'b', b'c', 0x20, 2]),
        (1, [vec![2], s("a"), s("b")].concat()),
        (2, [vec![2], s("a"), s("b")].concat()),
        (
            3,
            [vec![3], s("a"), vec![3, b'1', b'.', b'5'], s("b"), vec![254], s("c"), vec![255]]
                .concat(),
        ),
        (4, [vec![1], s("f"), s("v")].concat()),
        (5, [vec![1], s("m"), eight.to_vec()].concat()),
        (
            7,
            vec![
                0x81, 1, 2, 3, 4, 5, 6, 7, 8, 1, 5, 2, 6, 3, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0,
                5, 1, b'x', 0,
            ],
        ),
        (9, s("zipmap")),
        (10, zipped.clone()),
        (11, ints),
        (12, zipped.clone()),
        (13, zipped.clone()),
        (14, [vec![2], zipped.clone(), zipped].concat()),
        (15, stream(0, false)),
        (16, packed.clone()),
        (17, packed.clone()),
        (18, [vec![2, 2], packed.clone(), vec![1], s("plain")].concat()),
        (19, stream(5, false)),
        (20, packed.clone()),
        (21, stream(5, true)),
    ];
    all.extend(match flavour {
        Flavour::Valkey => vec![(22, [vec![1], s("f"), s("v"), eight.to_vec()].concat())],
        Flavour::Redis => vec![
            (24, [eight.to_vec(), vec![2, 0], s("f"), s("v"), vec![5], s("g"), s("w")].concat()),
            (25, [eight.to_vec(), triples].concat()),
        ],
    });
    all
}

/// A file with everything, without its checksum.
fn body(flavour: Flavour) -> Vec<u8> {
    let mut file = match flavour {
        Flavour::Redis => b"REDIS0012".to_vec(),
        Flavour::Valkey => b"VALKEY080".to_vec(),
    };
    file.extend([&[0xfa][..], &string(b"redis-ver"), &string(b"8.0.0")].concat());
    file.extend([&[0xf5][..], &string(b"#!lua name=lib")].concat());
    file.extend([0xf7, 1, 2, 2, 1, 7, 0]);
    file.extend([0xfe, 0, 0xfb, 30, 2]);
    for (number, (kind, value)) in values(flavour).into_iter().enumerate() {
        match number % 4 {
            0 => file
                .extend([&[0xfc][..], &4_000_000_000_000_u64.to_le_bytes(), &[0xf9, 7]].concat()),
            1 => file.extend([0xfd, 0, 0, 0, 0xf0, 0xf8, 0x40, 99]),
            2 => file.extend([0xf4, 1, 2, 3]),
            _ => file.extend([0xfe, 1 + u8::try_from(number / 8).unwrap()]),
        }
        file.push(kind);
        file.extend(string(format!("key {number}").as_bytes()));
        file.extend(value);
    }
    file.push(0xff);
    file
}

fn sealed(mut body: Vec<u8>) -> Vec<u8> {
    let crc = crc64(0, &body);
    body.extend(crc.to_le_bytes());
    body
}

fn read(file: &[u8], piece: usize) -> Result<Survey, RdbError> {
    let pieces: Vec<Bytes> = file.chunks(piece).map(Bytes::copy_from_slice).collect();
    survey(pieces.into_iter(), |_| true)
}

const FLAVOURS: [Flavour; 2] = [Flavour::Redis, Flavour::Valkey];

#[test]
fn every_type_is_read_in_pieces_of_any_size() {
    for flavour in FLAVOURS {
        let file = sealed(body(flavour));
        let whole = read(&file, file.len()).unwrap();
        let keys: u64 = whole.databases.values().map(|database| database.keys).sum();
        assert_eq!(keys, values(flavour).len() as u64);
        assert_eq!((whole.unknown.clone(), whole.libraries, whole.module_data), (None, 1, true));
        assert_eq!(whole.bytes, file.len() as u64);
        for piece in 1..40 {
            assert_eq!(read(&file, piece).unwrap(), whole, "{piece}");
        }
        // A server that writes no checksums.
        let unsealed = [body(flavour), vec![0; 8]].concat();
        assert_eq!(read(&unsealed, 7).unwrap().databases, whole.databases);
    }
}

#[test]
fn values_are_taken_as_they_lie_there() {
    for flavour in FLAVOURS {
        let file = sealed(body(flavour));
        let mut parser = Parser::new(vec![Bytes::from(file)].into_iter());
        let (mut expected, mut taken) = (values(flavour).into_iter(), vec![b'x']);
        while let Some(record) = parser.next().unwrap() {
            let Record::Key(key) = record else { continue };
            let (kind, value) = expected.next().unwrap();
            taken.truncate(1);
            let (len, fits) = parser.take_value(&mut taken, 1 << 20).unwrap();
            assert_eq!(
                (key.kind, len, fits, &taken[1..]),
                (kind, value.len() as u64, true, &value[..])
            );
        }
        assert!(expected.next().is_none());
    }
    // Too long: it is skipped all the same.
    let file = sealed(body(Flavour::Redis));
    let mut parser = Parser::new(vec![Bytes::from(file)].into_iter());
    let mut taken = Vec::new();
    while let Some(record) = parser.next().unwrap() {
        if let Record::Key(key) = record {
            let (len, fits) = parser.take_value(&mut taken, 5).unwrap();
            assert_eq!(fits, len <= 5, "type {}", key.kind);
            assert_eq!(taken.len() as u64, if fits { len } else { 0 });
            taken.clear();
        }
    }
}

#[test]
fn whatever_is_cut_or_flipped_is_refused() {
    for flavour in FLAVOURS {
        let file = sealed(body(flavour));
        for len in 0..file.len() {
            assert!(read(&file[..len], 64).is_err(), "cut at {len}");
        }
        assert!(read(&[&file[..], b"x"].concat(), 64).is_err());
        for bit in 0..file.len() * 8 {
            let mut bad = file.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&bad, 64).is_err(), "bit {bit}");
        }
    }
}

#[test]
fn ever_new_databases_are_refused() {
    let file = |count: u32| {
        let mut file = b"REDIS0012".to_vec();
        for number in 0..count {
            // A number of 32 bits, a key and its value.
            file.extend([0xfe, 0x80]);
            file.extend(number.to_be_bytes());
            file.extend([&[0][..], &string(b"k"), &string(b"v")].concat());
        }
        file.push(0xff);
        read(&sealed(file), 4096)
    };
    assert_eq!(file(1 << 16).unwrap().databases.len(), 1 << 16);
    let refused = format!("{:?}", file((1 << 16) + 1).unwrap_err());
    assert!(refused.contains("more than 65536 databases"), "{refused}");
}

#[test]
fn what_is_not_known_is_no_damage() {
    for (at, byte) in [(8, b'9'), (9, 0xf2)] {
        let mut file = body(Flavour::Redis);
        file[at] = byte;
        let found = read(&sealed(file), 64).unwrap();
        assert!(found.unknown.is_some() && found.databases.is_empty(), "{found:?}");
    }
    for kind in [6, 8, 22, 23, 26, 30, 99, 239] {
        let file =
            [&b"REDIS0012\xfe\x00"[..], &[kind], &string(b"key"), b"whatever this is\xff"].concat();
        let found = read(&sealed(file.clone()), 64).unwrap();
        assert!(found.unknown.unwrap().contains(&kind.to_string()));
        // But it must have come as it was sent.
        let mut file = sealed(file);
        file[20] ^= 1;
        assert!(read(&file, 64).is_err());
    }
}

/// Wherever a length may stand: the largest one. What it promises does not come, and nothing is set
/// aside for it.
#[test]
fn lengths_are_not_believed() {
    for flavour in FLAVOURS {
        let body = body(flavour);
        for at in 9..body.len() {
            for length in [
                &[0x81, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff][..],
                &[0x80, 0x1f, 0xff, 0xff, 0xff],
            ] {
                let bad = [&body[..at], length, &body[at..], &[0; 8]].concat();
                // Some places are not lengths, and their bytes may mean anything: it must only end.
                _ = read(&bad, 64);
            }
        }
    }
    // A compressed string that promises the world.
    let bad = [
        &b"REDIS0012\xfe\x00\x00\x01k\xc3\x03\x81\xff\xff\xff\xff\xff\xff\xff\xff\x00ab\xff"[..],
        &[0; 8],
    ]
    .concat();
    assert!(read(&bad, 64).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    /// Damage that the checksum does not tell.
    #[test]
    fn crafted_files_end_in_peace(
        valkey in any::<bool>(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        piece in 1_usize..200,
    ) {
        let mut file = body(if valkey { Flavour::Valkey } else { Flavour::Redis });
        for (at, byte) in changes {
            let at = at.index(file.len());
            file[at] = byte;
        }
        _ = read(&sealed(file), piece);
    }

    #[test]
    fn any_bytes_end_in_peace(kind in 0_u8..30, valkey in any::<bool>(), value in proptest::collection::vec(any::<u8>(), 0..200)) {
        let flavour = if valkey { Flavour::Valkey } else { Flavour::Redis };
        _ = content_hash(kind, flavour, &value, 0);
        _ = living_fields(kind, flavour, &value, 7);
        _ = dump_parts(&value);
    }
}

/// A string of zeros takes an 88th of its length in the file: it is not expanded to be looked at,
/// and is no damage.
#[test]
fn what_expands_to_more_than_memory_is_not_damaged() {
    for len in [33_u32 << 20, 200 << 20] {
        let packed = len / 88 + 1;
        let mut file = b"REDIS0011\xfe\x00\x00\x01k\xc3\x80".to_vec();
        file.extend_from_slice(&packed.to_be_bytes());
        file.push(0x80);
        file.extend_from_slice(&len.to_be_bytes());
        file.resize(file.len() + packed as usize, 0);
        file.extend_from_slice(b"\x00\x01l\x01y\xff");
        let found = read(&sealed(file), 7000).unwrap();
        assert_eq!((found.not_hashed, found.databases[&0].keys), (1, 2));
        assert_eq!(found.databases[&0].content_bytes, 3);
    }
}

#[test]
fn fields_whose_time_has_come_are_told_apart() {
    let packed = [0, 0, 0, 0, 0, 0, 0x81, b'f', 2, 7, 1, 50, 1, 0x81, b'g', 2, 7, 1, 0, 1, 0xff];
    let metadata =
        [&40_u64.to_le_bytes()[..], &[2, 11], &string(b"f"), &string(b"7"), &[0, 1, b'g', 1, b'7']]
            .concat();
    let listpack = [&50_u64.to_le_bytes()[..], &string(&packed)].concat();
    let valkey = |expires: i64| [&[1, b'f', 1, b'7'][..], &expires.to_le_bytes()].concat();
    let second = [valkey(50), b"\x01g\x017".to_vec(), (-1_i64).to_le_bytes().to_vec()].concat();
    let hash_2 = [&[2][..], &second].concat();
    for (kind, flavour, value) in [
        (24, Flavour::Redis, &metadata),
        (25, Flavour::Redis, &listpack),
        (22, Flavour::Valkey, &hash_2),
    ] {
        assert!(has_field_times(kind, flavour));
        for (until, expected) in [(0, (2, 0)), (49, (2, 0)), (50, (1, 1)), (u64::MAX, (1, 1))] {
            assert_eq!(
                living_fields(kind, flavour, value, until).unwrap(),
                expected,
                "{kind} {until}"
            );
        }
        let hash = |until| content_hash(kind, flavour, value, until).unwrap();
        assert!(hash(0) == hash(49) && hash(49) != hash(50));
        // As if it had never been there: a hash with the other field alone, whatever its encoding.
        assert_eq!(hash(50), content_hash(4, flavour, b"\x01\x01g\x017", 0).unwrap());
    }
}
