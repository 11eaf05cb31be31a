//! Where names, literals and comments begin and end. By the lexical rules of PostgreSQL's
//! documentation, section “Lexical Structure”, with `standard_conforming_strings` on, as `pg_dump`
//! sets it.

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Kind {
    Space,
    /// `--` to the end of the line, `/* */`, and psql's commands that begin with a backslash.
    Comment,
    /// A name or a keyword.
    Word,
    /// A name in double quotes.
    Quoted,
    /// In quotes or between dollars.
    Text,
    /// One character of anything else.
    Other,
}

/// A piece of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Token<'a> {
    pub(in super::super) kind: Kind,
    pub(in super::super) text: &'a str,
}

impl Token<'_> {
    /// Whether it is this keyword, given in capitals.
    pub(in super::super) fn is(&self, keyword: &str) -> bool {
        self.kind == Kind::Word && self.text.eq_ignore_ascii_case(keyword)
    }

    pub(in super::super) fn is_sign(&self, sign: &str) -> bool {
        self.kind == Kind::Other && self.text == sign
    }

    /// The name that it stands for. What `pg_dump` leaves without quotes is in lower case already.
    pub(in super::super) fn name(&self) -> Option<String> {
        match self.kind {
            Kind::Word => Some(self.text.to_owned()),
            Kind::Quoted => {
                self.text.get(1..self.text.len().max(2) - 1).map(|name| name.replace("\"\"", "\""))
            }
            _ => None,
        }
    }

    pub(in super::super) fn is_blank(&self) -> bool {
        matches!(self.kind, Kind::Space | Kind::Comment)
    }
}

/// All tokens of `text`; together they are `text` again.
pub(in super::super) fn tokens(text: &str) -> Tokens<'_> {
    Tokens { rest: text, at_line_start: true, after_word: false, escapes: false }
}

#[derive(Debug, Clone)]
pub(in super::super) struct Tokens<'a> {
    rest: &'a str,
    at_line_start: bool,
    /// A dollar behind a word belongs to it.
    after_word: bool,
    /// Behind `E`: a backslash is one in the next string.
    escapes: bool,
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        let first = self.rest.chars().next()?;
        let (kind, len) = match first {
            c if c.is_ascii_whitespace() => {
                (Kind::Space, until(self.rest, |c| !c.is_ascii_whitespace()))
            }
            '-' if self.rest.starts_with("--") => (Kind::Comment, until(self.rest, |c| c == '\n')),
            '\\' if self.at_line_start => (Kind::Comment, until(self.rest, |c| c == '\n')),
            '/' if self.rest.starts_with("/*") => (Kind::Comment, comment(self.rest)),
            '\'' => (Kind::Text, string(self.rest, '\'', self.escapes)),
            '"' => (Kind::Quoted, string(self.rest, '"', false)),
            '$' if !self.after_word => match dollars(self.rest) {
                Some(len) => (Kind::Text, len),
                None => (Kind::Other, 1),
            },
            c if c.is_alphabetic() || c == '_' || !c.is_ascii() => {
                (Kind::Word, until(self.rest, |c| !is_word(c)))
            }
            c if c.is_ascii_digit() => (Kind::Other, until(self.rest, |c| !c.is_ascii_digit())),
            c => (Kind::Other, c.len_utf8()),
        };
        let (text, rest) = self.rest.split_at(len.min(self.rest.len()));
        self.rest = rest;
        self.at_line_start = text.ends_with('\n') || (self.at_line_start && kind == Kind::Space);
        self.after_word = kind == Kind::Word;
        self.escapes = kind == Kind::Word && matches!(text, "E" | "e");
        Some(Token { kind, text })
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '$') || !c.is_ascii()
}

fn until(text: &str, end: impl Fn(char) -> bool) -> usize {
    text.find(end).unwrap_or(text.len())
}

/// Comments nest.
fn comment(text: &str) -> usize {
    let (bytes, mut at, mut depth) = (text.as_bytes(), 0, 0);
    while at < bytes.len() {
        match bytes.get(at..at + 2) {
            Some(b"/*") => (depth, at) = (depth + 1, at + 2),
            Some(b"*/") if depth == 1 => return at + 2,
            Some(b"*/") => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    bytes.len()
}

/// Two quotes stand for one.
fn string(text: &str, quote: char, escapes: bool) -> usize {
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if escapes && c == '\\' {
            chars.next();
        } else if c == quote && chars.next_if(|(_, next)| *next == quote).is_none() {
            return at + 1;
        }
    }
    text.len()
}

/// `$tag$ … $tag$`.
fn dollars(text: &str) -> Option<usize> {
    let tag = text[1..].find('$')? + 2;
    let (name, is_tag) =
        (&text[1..tag - 1], |name: &str| name.chars().all(|c| is_word(c) && c != '$'));
    if name.starts_with(|c: char| c.is_ascii_digit()) || !is_tag(name) {
        return None;
    }
    let end = text[tag..].find(&text[..tag])?;
    Some(tag + end + tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kind: Kind, text: &str) -> Vec<&str> {
        tokens(text).filter(|token| token.kind == kind).map(|token| token.text).collect()
    }

    #[test]
    fn what_looks_like_an_end_is_none() {
        let text = "SELECT 'a;''b', E'c\\'d', $$e;$x$f$$, $x$g$$;$x$ /* h /* i */ ; */, \
                    \"j;\"\"k\" -- l;\n, a$b$c, $1;";
        assert_eq!(of(Kind::Text, text), ["'a;''b'", "'c\\'d'", "$$e;$x$f$$", "$x$g$$;$x$"]);
        assert_eq!(of(Kind::Quoted, text), ["\"j;\"\"k\""]);
        assert_eq!(of(Kind::Comment, text), ["/* h /* i */ ; */", "-- l;"]);
        assert_eq!(of(Kind::Word, text), ["SELECT", "E", "a$b$c"]);
        assert_eq!(tokens(text).map(|token| token.text).collect::<String>(), text);
    }

    #[test]
    fn what_is_broken_has_an_end_all_the_same() {
        for text in ["'a", "\"b", "$x$c", "/* d", "E'e\\", "$", "-", "\\restrict x", "é$é$ü"] {
            assert_eq!(tokens(text).map(|token| token.text).collect::<String>(), text);
        }
    }

    #[test]
    fn names_lose_their_quotes() {
        let names = |text| tokens(text).filter_map(|token| token.name()).collect::<Vec<_>>();
        assert_eq!(names("\"a\"\"b\".c.\"\"\"d\"\"\""), ["a\"b", "c", "\"d\""]);
    }
}
