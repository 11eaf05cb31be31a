//! The password file of libpq: lines of `host:port:database:user:password`, of which the first one
//! that fits counts.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::Host;

/// Longest file.
const LONGEST: u64 = 1 << 20;

/// Returns `true` for a file that libpq does not use either: others may read it.
pub(super) fn is_exposed(file: &Path) -> bool {
    std::fs::metadata(file)
        .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o077 != 0)
}

/// The password for a database of a host; `None` if the file has none, or is not used.
pub(super) async fn password(
    file: &Path,
    host: &Host,
    database: &str,
    user: &str,
) -> Option<String> {
    let found = tokio::fs::metadata(file).await.ok()?;
    if !found.is_file() || found.len() > LONGEST || is_exposed(file) {
        return None;
    }
    let text = tokio::fs::read_to_string(file).await.ok()?;
    // A socket of a usual directory is that of `localhost`.
    let is_usual = ["/var/run/postgresql", "/run/postgresql"].contains(&&*host.name);
    let name = if is_usual { "localhost" } else { &host.name };
    let port = host.port.to_string();
    text.lines().find_map(|line| password_in(line, [name, &port, database, user]))
}

fn password_in(line: &str, wanted: [&str; 4]) -> Option<String> {
    if line.starts_with('#') {
        return None;
    }
    let mut rest = line;
    for wanted in wanted {
        let (field, behind) = field(rest)?;
        if field != "*" && unescaped(field) != wanted {
            return None;
        }
        rest = behind;
    }
    Some(unescaped(rest)).filter(|password| !password.is_empty())
}

/// Up to the first colon without a backslash, and from there on.
fn field(text: &str) -> Option<(&str, &str)> {
    let mut is_escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            ':' if !is_escaped => return Some((&text[..at], &text[at + 1..])),
            '\\' => is_escaped = !is_escaped,
            _ => is_escaped = false,
        }
    }
    None
}

fn unescaped(text: &str) -> String {
    let (mut out, mut chars) = (String::new(), text.chars());
    while let Some(c) = chars.next() {
        out.push(if c == '\\' { chars.next().unwrap_or(c) } else { c });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_that_fits_counts() {
        let file = ["#*:*:*:*:no", "db:5433:*:me:one", "db:*:a\\:b:*:t\\\\w\\:o", "*:*:*:*:three"];
        let found = |wanted: [&str; 4]| file.iter().find_map(|line| password_in(line, wanted));
        assert_eq!(found(["db", "5433", "x", "me"]).as_deref(), Some("one"));
        assert_eq!(found(["db", "1", "a:b", "you"]).as_deref(), Some("t\\w:o"));
        assert_eq!(found(["other", "1", "x", "me"]).as_deref(), Some("three"));
        assert_eq!(password_in("db:1:x:me", ["db", "1", "x", "me"]), None);
    }
}
