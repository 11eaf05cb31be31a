//! Where a configuration file names others: `include` and its like, and `@file` in client rules.

use super::Syntax;
use super::settings::{quoted, setting};

/// A file or directory that a line names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Include {
    pub(in super::super) kind: Kind,
    /// Relative to the directory of the file that names it.
    pub(in super::super) path: String,
}

/// Kind of an include.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Kind {
    File,
    IfExists,
    Directory,
    /// A list of databases or users.
    List,
}

impl Kind {
    fn of(word: &str) -> Option<Self> {
        match word {
            "include" => Some(Self::File),
            "include_if_exists" => Some(Self::IfExists),
            "include_dir" => Some(Self::Directory),
            _ => None,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::File | Self::List => "include",
            Self::IfExists => "include_if_exists",
            Self::Directory => "include_dir",
        }
    }
}

/// Change of an include.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum Adapted {
    Same,
    /// Its path is replaced by this one.
    Path(String),
    /// Its line is replaced by a comment.
    Comment,
}

/// All that a file includes.
pub(in super::super) fn includes(syntax: Syntax, text: &str) -> Vec<Include> {
    text.lines().flat_map(|line| in_line(syntax, line)).map(|(include, _)| include).collect()
}

/// The same file with other includes, or `None` if all of them stay. It may be written in any
/// encoding.
pub(in super::super) fn adapted(
    syntax: Syntax,
    content: &[u8],
    mut adapt: impl FnMut(&Include) -> Adapted,
) -> Option<Vec<u8>> {
    let (mut out, mut is_changed) = (Vec::with_capacity(content.len()), false);
    for bytes in content.split_inclusive(|byte| *byte == b'\n') {
        let line = String::from_utf8_lossy(bytes);
        let mut new = String::new();
        let mut at = 0;
        let mut is_comment = false;
        for (include, span) in in_line(syntax, &line) {
            let path = match adapt(&include) {
                Adapted::Same => continue,
                Adapted::Comment => {
                    is_comment = true;
                    continue;
                }
                Adapted::Path(path) => path,
            };
            new.push_str(&line[at..span.start]);
            at = span.end;
            new.push_str(&match (include.kind, syntax) {
                (Kind::List, _) => format!("@\"{path}\""),
                (kind, Syntax::Settings) => format!("{} = {}", kind.word(), quoted(&path)),
                (kind, Syntax::Rules) => format!("{} \"{path}\"", kind.word()),
            });
        }
        if is_comment {
            out.extend_from_slice(b"# From the restore: not in the snapshot: ");
            out.extend_from_slice(bytes);
        } else if at > 0 {
            new.push_str(&line[at..]);
            out.extend_from_slice(new.as_bytes());
        } else {
            out.extend_from_slice(bytes);
            continue;
        }
        is_changed = true;
    }
    is_changed.then_some(out)
}

/// The includes of a line, with the bytes that stand for each.
fn in_line(syntax: Syntax, line: &str) -> Vec<(Include, std::ops::Range<usize>)> {
    match syntax {
        Syntax::Settings => {
            let found = setting(line);
            let found = found.and_then(|(name, path)| Some((Kind::of(&name)?, path)));
            let end = line.trim_end_matches(['\r', '\n']).len();
            found.map(|(kind, path)| (Include { kind, path }, 0..end)).into_iter().collect()
        }
        Syntax::Rules => {
            let tokens = tokens(line);
            if let [first, path, ..] = &tokens[..]
                && let Some(kind) = Kind::of(&first.text)
            {
                let include = Include { kind, path: path.text.clone() };
                return vec![(include, first.span.start..path.span.end)];
            }
            let lists = tokens.into_iter().filter(|token| !token.is_quoted);
            let lists = lists.filter_map(|token| {
                let path = token.text.strip_prefix('@').filter(|path| !path.is_empty())?;
                Some((Include { kind: Kind::List, path: path.to_owned() }, token.span))
            });
            lists.collect()
        }
    }
}

/// A word of a line of rules.
struct Word {
    text: String,
    /// True if the word begins with a quote: then `@` has no meaning.
    is_quoted: bool,
    span: std::ops::Range<usize>,
}

/// Words between blanks and commas, up to a comment.
fn tokens(line: &str) -> Vec<Word> {
    let (mut words, mut word, mut in_quotes) = (Vec::new(), None::<Word>, false);
    for (at, c) in line.char_indices() {
        match c {
            '#' if !in_quotes => break,
            c if !in_quotes && (c.is_whitespace() || c == ',') => {
                words.extend(word.take());
                continue;
            }
            _ => {}
        }
        let new = || Word { text: String::new(), is_quoted: c == '"', span: at..at };
        let word = word.get_or_insert_with(new);
        word.span.end = at + c.len_utf8();
        match c {
            '"' => in_quotes = !in_quotes,
            c => word.text.push(c),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn includes_are_found() {
        let found = |syntax, text: &str| -> Vec<String> {
            let show = |one: Include| format!("{:?} {}", one.kind, one.path);
            includes(syntax, text).into_iter().map(show).collect()
        };
        let settings = "a = 1\nINCLUDE_DIR 'conf.d' # all\n#include 'x'\ninclude_if_exists = \
                        '/etc/o''n'\ninclude more.conf";
        assert_eq!(
            found(Syntax::Settings, settings),
            ["Directory conf.d", "IfExists /etc/o'n", "File more.conf"]
        );
        let rules = "host @dbs,\"@not\" @\"a b\",+x all md5 # @no\ninclude_dir \"hba d\"\nlocal all all \
                     ldap ldapbinddn=a@b";
        assert_eq!(found(Syntax::Rules, rules), ["List dbs", "List a b", "Directory hba d"]);
    }

    #[test]
    fn includes_are_adapted() {
        let adapt = |include: &Include| match &*include.path {
            "same" => Adapted::Same,
            "gone" => Adapted::Comment,
            path => Adapted::Path(format!("/new/{path}")),
        };
        let settings = b"\xff = 1\ninclude 'same'\n include 'o''n' # x\r\ninclude gone\nb = 2";
        assert_eq!(
            adapted(Syntax::Settings, settings, adapt).unwrap(),
            b"\xff = 1\ninclude 'same'\ninclude = '/new/o''n'\r\n# From the restore: not in the \
              snapshot: include gone\nb = 2"
        );
        let rules = b"host @dbs,b @same,@us all md5 # @x\ninclude \"a b\" # y\n";
        assert_eq!(
            adapted(Syntax::Rules, rules, adapt).unwrap(),
            b"host @\"/new/dbs\",b @same,@\"/new/us\" all md5 # @x\ninclude \"/new/a b\" # y\n"
        );
        assert_eq!(adapted(Syntax::Rules, b"host all all md5", adapt), None);
    }
}
