//! Documents as no driver writes them and servers store them, byte by byte: names twice, odd names,
//! text that is not UTF-8, every type, arrays whose names are no indexes, many levels.

use bson::RawDocumentBuf;
use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _};

/// Names of fields: few, so that they meet again in one document.
const NAMES: [&[u8]; 8] = [b"a", b"b", b"n", b"7", b"", b"\xff\xfe", "ключ".as_bytes(), b"a b"];
/// Names that no document has twice: the oplog does not identify the changed one of several fields, and
/// members of a set then disagree.
pub(crate) const ONCE: [&str; 3] = ["u", "v w", "é"];

/// A document of the bytes of its elements.
pub(crate) fn document(elements: &[Vec<u8>]) -> Vec<u8> {
    let body = elements.concat();
    let length = u32::try_from(body.len() + 5).unwrap();
    [&length.to_le_bytes()[..], &body, &[0]].concat()
}

pub(crate) fn raw(bytes: Vec<u8>) -> RawDocumentBuf {
    RawDocumentBuf::from_bytes(bytes).unwrap()
}

pub(crate) fn element(kind: u8, name: &[u8], value: &[u8]) -> Vec<u8> {
    [&[kind][..], name, &[0], value].concat()
}

fn bytes<const N: usize>(random: &mut StdRng) -> Vec<u8> {
    let mut bytes = [0; N];
    random.fill_bytes(&mut bytes);
    bytes.to_vec()
}

fn counted(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_le_bytes()[..], bytes].concat()
}

/// Text with its length, often not UTF-8, sometimes with zeros in it.
fn text(random: &mut StdRng) -> Vec<u8> {
    let length = random.random_range(0..12);
    let mut text: Vec<u8> = (0..length).map(|_| random.random()).collect();
    if random.random_bool(0.5) {
        text = b"plain text".to_vec();
    }
    text.push(0);
    counted(&text)
}

/// Text that ends with a zero and has none before.
fn plain(random: &mut StdRng, letters: &[u8]) -> Vec<u8> {
    let length = random.random_range(0..5);
    let picked = (0..length).map(|_| letters[random.random_range(0..letters.len())]);
    picked.chain([0]).collect()
}

fn name(random: &mut StdRng) -> &'static [u8] {
    NAMES[random.random_range(0..NAMES.len())]
}

/// Type and bytes of a value with at most `levels` below it.
pub(crate) fn value(random: &mut StdRng, levels: u32) -> (u8, Vec<u8>) {
    let kinds: &[u8] =
        &[3, 4, 3, 4, 1, 2, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 127, 255];
    let kind = kinds[random.random_range(if levels == 0 { 4 } else { 0 }..kinds.len())];
    let value = match kind {
        1 | 9 | 18 => bytes::<8>(random),
        17 => {
            let some = bytes::<8>(random);
            if random.random_bool(0.3) { vec![0; 8] } else { some }
        }
        2 | 13 | 14 => text(random),
        3 => fields(random, levels - 1),
        4 => array(random, levels - 1),
        5 => {
            let inner = bytes::<6>(random);
            let subtype = [0, 2, 4, 5, 6, 0x80][random.random_range(0..6)];
            [&counted(&inner)[..4], &[subtype], &inner].concat()
        }
        7 => bytes::<12>(random),
        8 => vec![u8::from(random.random_bool(0.5))],
        11 => [plain(random, b"x.\xff*"), plain(random, b"mixs")].concat(),
        12 => [text(random), bytes::<12>(random)].concat(),
        15 => {
            let inner = [text(random), fields(random, 0)].concat();
            let length = u32::try_from(inner.len() + 4).unwrap();
            [&length.to_le_bytes()[..], &inner].concat()
        }
        16 => bytes::<4>(random),
        19 => bytes::<16>(random),
        _ => Vec::new(),
    };
    (kind, value)
}

/// A document without `_id`.
fn fields(random: &mut StdRng, levels: u32) -> Vec<u8> {
    let count = random.random_range(0..6);
    let mut names: Vec<&[u8]> = (0..count).map(|_| name(random)).collect();
    for once in ONCE {
        if random.random_bool(0.4) {
            names.insert(random.random_range(0..=names.len()), once.as_bytes());
        }
    }
    let fields: Vec<Vec<u8>> = names
        .into_iter()
        .map(|name| {
            let (kind, value) = value(random, levels);
            element(kind, name, &value)
        })
        .collect();
    document(&fields)
}

fn array(random: &mut StdRng, levels: u32) -> Vec<u8> {
    let is_odd = random.random_bool(0.3);
    let count = random.random_range(0..5);
    let items: Vec<Vec<u8>> = (0..count)
        .map(|place: usize| {
            let own = place.to_string();
            let name = if is_odd { name(random) } else { own.as_bytes() };
            let (kind, value) = value(random, levels);
            element(kind, name, &value)
        })
        .collect();
    document(&items)
}

/// A document with this `_id` in front, and sometimes very deep.
pub(crate) fn whole(random: &mut StdRng, id: &[u8]) -> Vec<u8> {
    let mut fields = fields(random, 3);
    if random.random_bool(0.1) {
        let mut deep = document(&[element(16, b"bottom", &[1, 0, 0, 0])]);
        for _ in 0..random.random_range(50..140) {
            deep = document(&[element(if random.random_bool(0.5) { 3 } else { 4 }, b"0", &deep)]);
        }
        fields = document(&[fields[4..fields.len() - 1].to_vec(), element(3, b"deep", &deep)]);
    }
    document(&[id.to_vec(), fields[4..fields.len() - 1].to_vec()])
}
