//! Names as SQL writes them.

/// A name in double quotes.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A name for a statement that people read: in double quotes only if it needs them. Keywords that
/// are lower-case words stay without.
pub(super) fn readable(name: &str) -> String {
    let is_word =
        |name: &str| name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'));
    let is_plain = is_word(name) && name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
    if is_plain { name.to_owned() } else { quoted(name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readable_quotes_only_odd_names() {
        for (name, expected) in [
            ("backup_2", "backup_2"),
            ("Backup", "\"Backup\""),
            ("2fast", "\"2fast\""),
            ("o\"neill", "\"o\"\"neill\""),
            ("", "\"\""),
        ] {
            assert_eq!(readable(name), expected);
        }
    }
}
