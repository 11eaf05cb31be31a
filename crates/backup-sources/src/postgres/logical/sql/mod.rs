//! What `pg_dump` writes, as text: no grammar of SQL, only what is needed to tell its parts from
//! each other.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | names as SQL has them |
//! | `token.rs` | [`Token`]: where names, literals and comments begin and end |
//! | `script.rs` | [`Script`]: the statements of a dump by the objects that they make |
//! | `about.rs` | which relation a statement is about |
//! | `names.rs` | [`NewNames`]: the same statements for other names |

mod about;
mod names;
mod script;
mod token;

pub(super) use super::super::identifier::quoted;
pub(super) use about::{RELATION_KINDS, Relation};
pub(super) use names::NewNames;
pub(super) use script::{Entry, Script, grantor};
pub(super) use token::{Kind, Token, tokens};

/// `schema.name`, quoted.
pub(super) fn qualified(schema: &str, name: &str) -> String {
    format!("{}.{}", quoted(schema), quoted(name))
}

/// A string constant on one line, whatever the string and the settings are.
pub(super) fn literal(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 4);
    out.push_str(if text.contains(['\\', '\n', '\r']) { "E'" } else { "'" });
    for c in text.chars() {
        match c {
            '\'' => out.push_str("''"),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            c => out.push(c),
        }
    }
    out.push('\'');
    out
}
