//! Settings: which value one has in the end. By the documentation of the server, “Setting
//! Parameters”: one setting a line, `name = value` or `name value`, names in
//! any case, values in quotes or without, `#` before comments; files are included where they are
//! named, and the last value counts.

use std::path::Path;

use super::{DEEPEST, LARGEST, MOST, files_of};

/// The setting in a line: its name in lower case and its value.
pub(in super::super) fn setting(line: &str) -> Option<(String, String)> {
    let line = line.trim_start();
    let end = line.find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '.')));
    let (name, rest) = line.split_at(end.unwrap_or(line.len()));
    if name.is_empty() {
        return None;
    }
    let rest = rest.trim_start();
    let rest = rest.strip_prefix('=').map_or(rest, str::trim_start);
    Some((name.to_ascii_lowercase(), value(rest)))
}

fn value(text: &str) -> String {
    let Some(inner) = text.strip_prefix('\'') else {
        let end = text.find(|c: char| c.is_whitespace() || c == '#').unwrap_or(text.len());
        return text[..end].to_owned();
    };
    let (mut out, mut chars) = (String::new(), inner.chars().peekable());
    while let Some(c) = chars.next() {
        match c {
            '\'' if chars.next_if_eq(&'\'').is_none() => break,
            '\\' => out.extend(chars.next()),
            c => out.push(c),
        }
    }
    out
}

/// A value as it is written.
pub(in super::super) fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "''"))
}

/// The last value of `name` in `file` and the files that it includes, as the server finds it;
/// files that cannot be read are passed over.
pub(in super::super) fn last_value(file: &Path, name: &str) -> Option<String> {
    let mut search = Search { name, found: None, left: MOST };
    search.look(file, 0);
    search.found
}

struct Search<'a> {
    name: &'a str,
    found: Option<String>,
    /// Files that may still be read.
    left: usize,
}

impl Search<'_> {
    fn look(&mut self, file: &Path, depth: usize) {
        let is_read =
            std::fs::metadata(file).is_ok_and(|found| found.is_file() && found.len() <= LARGEST);
        if depth > DEEPEST || self.left == 0 || !is_read {
            return;
        }
        self.left -= 1;
        // It may be written in any encoding.
        let Ok(bytes) = std::fs::read(file) else { return };
        let here = file.parent().unwrap_or_else(|| Path::new("."));
        for (key, value) in String::from_utf8_lossy(&bytes).lines().filter_map(setting) {
            match &*key {
                "include" | "include_if_exists" => self.look(&here.join(value), depth + 1),
                "include_dir" => {
                    for file in files_of(&here.join(value)) {
                        self.look(&file, depth + 1);
                    }
                }
                key if key == self.name => self.found = Some(value),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_found_in_lines() {
        let cases = [
            ("  Port = 5432 # five", Some(("port", "5432"))),
            ("search_path '$user, ''a'' \\'b'", Some(("search_path", "$user, 'a' 'b"))),
            ("pg_stat.x='y'", Some(("pg_stat.x", "y"))),
            ("work_mem=4MB#x", Some(("work_mem", "4MB"))),
            ("archive_command = ''", Some(("archive_command", ""))),
            ("# port = 1", None),
            ("", None),
        ];
        for (line, expected) in cases {
            let found = setting(line);
            let found = found.as_ref().map(|(name, value)| (&**name, &**value));
            assert_eq!(found, expected, "{line}");
        }
    }

    #[test]
    fn the_last_value_counts() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("postgresql.conf", "a = 1\nINCLUDE 'more.conf'\ninclude_dir = 'd'\nb = 2\n");
        write("more.conf", "a = 3\nb = 4\ninclude_if_exists 'no.conf'\ninclude 'postgresql.conf'");
        write("d/1.conf", "a = 5");
        write("d/2.conf", "a = 6");
        write("d/.3.conf", "a = 7");
        write("d/4.txt", "a = 8");
        let file = dir.path().join("postgresql.conf");
        let found = ["a", "b", "c"].map(|name| last_value(&file, name));
        assert_eq!(found, [Some("6".to_owned()), Some("2".to_owned()), None]);
    }
}
