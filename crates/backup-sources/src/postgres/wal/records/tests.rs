//! Log as the server writes it, cut and damaged.

use proptest::prelude::*;

use super::*;

const SIZE: u64 = 1 << 20;

/// Writes log as the server does.
struct Writer {
    bytes: Vec<u8>,
    start: u64,
    ends: Vec<(Lsn, Lsn)>,
    /// Where the last record begins.
    last: u64,
}

impl Writer {
    fn new(start: u64) -> Self {
        Self { bytes: Vec::new(), start, ends: Vec::new(), last: 0 }
    }

    fn at(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    fn raw(&mut self, data: &[u8], mut left: usize) {
        for byte in data {
            if self.at().is_multiple_of(PAGE) {
                self.page(left);
            }
            self.bytes.push(*byte);
            left -= 1;
        }
    }

    /// The header of a page on which `left` bytes of a record are still to come.
    fn page(&mut self, left: usize) {
        let (at, long) = (self.at(), self.at().is_multiple_of(SIZE));
        let continued = left > 0
            && !self.bytes.is_empty()
            && self.ends.last().is_some_and(|(_, to)| to.0 == u64::MAX);
        let info = u16::from(continued) | if long { IS_LONG } else { 0 };
        self.bytes.extend([0x10, 0xd1]);
        self.bytes.extend(info.to_le_bytes());
        self.bytes.extend(1u32.to_le_bytes());
        self.bytes.extend(at.to_le_bytes());
        let left = if continued { u32::try_from(left).unwrap() } else { 0 };
        self.bytes.extend(left.to_le_bytes());
        self.bytes.extend([0; 4]);
        if long {
            self.bytes.extend([0; 16]);
        }
    }

    fn record(&mut self, manager: u8, info: u8, body: &[u8]) {
        let mut record = Vec::new();
        record.extend(u32::try_from(HEADER + body.len()).unwrap().to_le_bytes());
        record.extend(77u32.to_le_bytes());
        record.extend(self.last.to_le_bytes());
        record.extend([info, manager, 0, 0]);
        let crc = crc32c::crc32c_append(crc32c::crc32c(body), &record);
        record.extend(crc.to_le_bytes());
        record.extend(body);
        if self.at().is_multiple_of(PAGE) {
            self.page(0);
        }
        let from = Lsn(self.at());
        self.last = from.0;
        self.ends.push((from, Lsn(u64::MAX)));
        self.raw(&record, record.len());
        let to = self.at().next_multiple_of(8);
        self.bytes.resize(usize::try_from(to - self.start).unwrap(), 0);
        self.ends.last_mut().unwrap().1 = Lsn(to);
    }

    fn commit(&mut self, micros: i64) {
        let body = [&[255, 8][..], &micros.to_le_bytes()].concat();
        self.record(XACT, 0, &body);
    }
}

const IS_LONG: u16 = 2;

fn read(bytes: &[u8], start: u64, cut: usize) -> SourceResult<(Vec<Event>, bool)> {
    let mut records = Records::new(Segments::of_size(SIZE).unwrap(), Lsn(start));
    let mut events = Vec::new();
    for piece in bytes.chunks(cut) {
        records.push(piece, |event| events.push(event))?;
    }
    Ok((events, records.ended()))
}

#[test]
fn commits_and_restore_points_are_noted() {
    let mut log = Writer::new(SIZE);
    log.commit(5);
    log.record(
        XLOG,
        RESTORE_POINT,
        &[&[255, 72][..], &7i64.to_le_bytes(), b"here", &[0; 60]].concat(),
    );
    // COMMIT PREPARED of transaction 99, with a database.
    let body =
        [&5i64.to_le_bytes()[..], &17u32.to_le_bytes(), &[0; 8], &99u32.to_le_bytes()].concat();
    log.record(XACT, 0xb0, &[&[255, 24][..], &body].concat());
    log.record(XLOG, SWITCH, &[]);
    let mut bytes = log.bytes.clone();
    bytes.resize(usize::try_from(SIZE).unwrap(), 0);
    let mut next = Writer::new(2 * SIZE);
    next.last = log.last;
    next.commit(9);
    bytes.extend(next.bytes);
    let (events, ended) = read(&bytes, SIZE, 1000).unwrap();
    let moments: Vec<_> = events.iter().map(|event| event.moment.clone()).collect();
    let time = |micros| server_time(micros).unwrap();
    let ended_at = |transaction, micros| Some(Moment::Ended { transaction, time: time(micros) });
    let point = Some(Moment::RestorePoint { name: "here".to_owned(), time: time(7) });
    assert_eq!(moments, [ended_at(77, 5), point, ended_at(99, 5), None, ended_at(77, 9)]);
    assert_eq!((events[3].to, ended), (Lsn(2 * SIZE), false));
    assert_eq!(time(0).to_string(), "2000-01-01T00:00:00Z");
}

#[test]
fn zeros_end_the_log_and_damage_is_found() {
    let mut log = Writer::new(SIZE);
    log.commit(1);
    log.record(10, 0, &[1; 20_000]);
    let mut bytes = log.bytes;
    let whole = bytes.len();
    bytes.extend([0; 100]);
    let (events, ended) = read(&bytes, SIZE, 333).unwrap();
    assert!(events.len() == 2 && ended);
    bytes[whole - 50] ^= 1;
    assert_eq!(read(&bytes, SIZE, 333).unwrap_err().kind(), SourceErrorKind::Unavailable);
}

#[test]
fn records_of_another_history_are_refused() {
    let (mut log, mut other) = (Writer::new(SIZE), Writer::new(SIZE));
    for writer in [&mut log, &mut other] {
        writer.commit(1);
    }
    // As long as two.
    other.record(10, 0, &[7; 56]);
    log.commit(2);
    log.commit(3);
    assert!(read(&log.bytes, SIZE, 100).is_ok() && read(&other.bytes, SIZE, 100).is_ok());
    let at = other.bytes.len();
    assert_eq!(at, log.bytes.len());
    log.commit(4);
    other.bytes.extend(&log.bytes[at..]);
    let error = read(&other.bytes, SIZE, 100).unwrap_err();
    assert!(error.to_string().contains("another history") && error.hint().is_some(), "{error}");
}

proptest! {
    #[test]
    fn records_are_the_same_wherever_they_are_cut(
        sizes in proptest::collection::vec(0usize..30_000, 1..12),
        cut in 1usize..9000,
        skipped in 0usize..3,
    ) {
        let mut log = Writer::new(3 * SIZE - 4 * PAGE);
        for (number, size) in sizes.iter().enumerate() {
            if number % 2 == 0 {
                log.commit(i64::try_from(number).unwrap());
            } else {
                log.record(10, 0, &vec![7; *size]);
            }
        }
        let (events, _) = read(&log.bytes, log.start, cut).unwrap();
        let found: Vec<_> = events.iter().map(|event| (event.from, event.to)).collect();
        prop_assert_eq!(&found, &log.ends);
        // From a later page on: what began there.
        let skip = (skipped * usize::try_from(PAGE).unwrap()).min(log.bytes.len());
        let start = log.start + skip as u64;
        let (events, _) = read(&log.bytes[skip..], start, cut).unwrap();
        let found: Vec<_> = events.iter().map(|event| (event.from, event.to)).collect();
        let expected: Vec<_> = log.ends.iter().copied().filter(|(from, _)| from.0 >= start).collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn noise_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..20_000), cut in 1usize..9000) {
        let mut log = Writer::new(SIZE);
        log.commit(1);
        log.bytes.extend(bytes);
        // An error, the end, or records by chance.
        if let Ok((events, _)) = read(&log.bytes, SIZE, cut) {
            prop_assert!(!events.is_empty());
        }
    }
}
