//! Values that begin with `~/`: a shell would expand them, and as a path they would mean a directory
//! called `~`.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::interpolate::{Refused, is_command};

/// Refuses the first value of `table` that is `~` or begins with `~/`, but for commands.
pub(super) fn refuse(table: &DeTable<'_>) -> Result<(), Refused> {
    table.iter().try_for_each(|(key, value)| {
        let is_text = matches!(value.get_ref(), DeValue::String(_));
        if is_text && is_command(key.get_ref()) { Ok(()) } else { value_of(value) }
    })
}

fn value_of(value: &Spanned<DeValue<'_>>) -> Result<(), Refused> {
    match value.get_ref() {
        DeValue::String(text) if &**text == "~" || text.starts_with("~/") => Err(Refused {
            span: value.span(),
            message: format!("`{text}`: `~` is not expanded in the configuration"),
            hint: format!("write `${{HOME}}{}`, or the whole path", &text[1..]),
        }),
        DeValue::Array(items) => items.iter().try_for_each(value_of),
        DeValue::Table(inner) => refuse(inner),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> Option<(String, String)> {
        let table = DeTable::parse(text).unwrap();
        refuse(table.get_ref()).err().map(|refused| (refused.message, refused.hint))
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
