//! `${NAME}` and `${NAME:-default}` in string values; `$${` stands for `${`.
//!
//! Commands are left alone: the shell that runs them expands variables itself, and so no secret
//! from the environment ends up in a configuration that is shown.

use std::borrow::Cow;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::environment::Environment;
use crate::hooks::Hook;

/// Keys whose values are run by a shell, beside those of [`Hook`].
const COMMANDS: [&str; 4] = ["passphrase_command", "password_command", "secret_command", "command"];

pub(super) fn is_command(key: &str) -> bool {
    COMMANDS.contains(&key) || Hook::ALL.iter().any(|hook| hook.as_str() == key)
}

/// Why a value is refused, and where it stands: a reference that cannot be resolved, for instance.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) span: Range<usize>,
    pub(super) message: String,
    pub(super) hint: String,
}

/// Resolves the references in all string values of `table`; returns the ones that cannot be
/// resolved.
pub(super) fn table(table: &mut DeTable<'_>, env: &Environment) -> Vec<Refused> {
    let mut refused = Vec::new();
    resolve_table(table, env, &mut refused);
    refused
}

fn resolve_table(table: &mut DeTable<'_>, env: &Environment, refused: &mut Vec<Refused>) {
    for (key, value) in table.iter_mut() {
        let is_text = matches!(value.get_ref(), DeValue::String(_));
        if !(is_text && is_command(key.get_ref())) {
            resolve(value, env, refused);
        }
    }
}

fn resolve(value: &mut Spanned<DeValue<'_>>, env: &Environment, refused: &mut Vec<Refused>) {
    let span = value.span();
    match value.get_mut() {
        DeValue::String(string) => match text(string, env) {
            Ok(Some(resolved)) => *string = Cow::Owned(resolved),
            Ok(None) => {}
            Err((message, hint)) => refused.push(Refused { span, message, hint }),
        },
        DeValue::Array(items) => items.iter_mut().for_each(|item| resolve(item, env, refused)),
        DeValue::Table(inner) => resolve_table(inner, env, refused),
        _ => {}
    }
}

/// `text` with its references resolved; `None` if it has none. The error is a message and a hint.
fn text(text: &str, env: &Environment) -> Result<Option<String>, (String, String)> {
    if !text.contains("${") {
        return Ok(None);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            out.push_str(&rest[..at - 1]);
            out.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        out.push_str(&rest[..at]);
        let inner = &rest[at + 2..];
        let end = inner.find('}').ok_or_else(|| {
            (
                "a `${` is not closed".to_owned(),
                "write `${NAME}`, or `$${` for a literal `${`".to_owned(),
            )
        })?;
        out.push_str(&lookup(&inner[..end], env)?);
        rest = &inner[end + 1..];
    }
    out.push_str(rest);
    Ok(Some(out))
}

fn lookup(reference: &str, env: &Environment) -> Result<String, (String, String)> {
    let (name, default) = match reference.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (reference, None),
    };
    let letter = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty()
        || name.starts_with(|c: char| c.is_ascii_digit())
        || !name.chars().all(letter)
    {
        return Err((
            format!("`${{{reference}}}` does not name an environment variable"),
            "write `${NAME}` or `${NAME:-default}`".to_owned(),
        ));
    }
    match (env.get(name), default) {
        (Some(value), _) => value.to_str().map(str::to_owned).ok_or_else(|| {
            (
                format!("the environment variable {name} is not UTF-8"),
                "set it to a UTF-8 value".to_owned(),
            )
        }),
        (None, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err((
            format!("the environment variable {name} is not set"),
            format!("set it, or give a default: `${{{name}:-default}}`"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hooks_keep_references_for_the_shell() {
        let hooks = ["before", "after", "on_failure", "before_restore", "after_restore"];
        for hook in hooks {
            let source = format!("{hook} = \"echo ${{TOKEN}}\"\nother = \"${{TOKEN}}\"");
            let mut parsed = DeTable::parse(&source).unwrap().into_inner();
            let env: Environment = [("TOKEN", "hush")].into_iter().collect();
            assert!(table(&mut parsed, &env).is_empty());
            let value = |key: &str| match parsed[key].get_ref() {
                DeValue::String(text) => text.to_string(),
                other => panic!("{other:?}"),
            };
            assert_eq!(
                (value(hook), value("other")),
                ("echo ${TOKEN}".to_owned(), "hush".to_owned())
            );
        }
    }

    #[test]
    fn resolves() {
        let env: Environment = [("A", "x"), ("EMPTY", "")].into_iter().collect();
        for (from, to) in [
            ("${A}/${A}", "x/x"),
            ("${B:-d e}", "d e"),
            ("${EMPTY:-d}", "d"),
            ("${A:-d}", "x"),
            ("${B:-}", ""),
            ("$${A} and $5", "${A} and $5"),
            ("a$${b}${A}", "a${b}x"),
        ] {
            assert_eq!(text(from, &env).unwrap().as_deref(), Some(to), "{from}");
        }
        assert_eq!(text("$A {x}", &env).unwrap(), None);
        for bad in ["${B}", "${A", "${}", "${1A}", "${A-B}"] {
            assert!(text(bad, &env).is_err(), "{bad}");
        }
    }
}
