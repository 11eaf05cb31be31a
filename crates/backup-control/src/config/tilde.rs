//! Values that begin with `~/`: a shell would expand them, and as a path they would mean a directory
//! called `~`.

use std::borrow::Cow;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::interpolate::{Refused, is_command};

/// Refuses the values of `table` that are `~` or begin with `~/`, but for commands.
pub(super) fn refuse(table: &DeTable<'_>) -> Vec<Refused> {
    let is_meant = |(key, value): &(&Spanned<Cow<'_, str>>, &Spanned<DeValue<'_>>)| {
        !(matches!(value.get_ref(), DeValue::String(_)) && is_command(key.get_ref()))
    };
    table.iter().filter(is_meant).flat_map(|(_, value)| value_of(value)).collect()
}

fn value_of(value: &Spanned<DeValue<'_>>) -> Vec<Refused> {
    match value.get_ref() {
        DeValue::String(text) if &**text == "~" || text.starts_with("~/") => vec![Refused {
            span: value.span(),
            message: format!("`{text}`: `~` is not expanded in the configuration"),
            hint: format!("write `${{HOME}}{}`, or the whole path", &text[1..]),
        }],
        DeValue::Array(items) => items.iter().flat_map(value_of).collect(),
        DeValue::Table(inner) => refuse(inner),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> Option<(String, String)> {
        let table = DeTable::parse(text).unwrap();
        let refused = refuse(table.get_ref()).into_iter().next();
        refused.map(|refused| (refused.message, refused.hint))
    }

    #[test]
    fn home_directories_are_refused_and_other_tildes_are_not() {
        let (message, hint) = refused("[sources.a]\npaths = [\"/x\", \"~/docs\"]").unwrap();
        assert_eq!(message, "`~/docs`: `~` is not expanded in the configuration");
        assert_eq!(hint, "write `${HOME}/docs`, or the whole path");
        assert!(refused("a = { b = \"~\" }").is_some());
        let accepted = "command = \"~/notify.sh\"\nexclude = [\"~$*\", \"*~\"]\nname = \"~me\"";
        assert_eq!(refused(accepted), None);
    }
}
