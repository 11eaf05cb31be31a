//! Counted nouns and lists in messages.

/// A number and its noun, for instance `1 pack` and `2 packs`.
#[must_use]
pub fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// At most `most` of `names`, and how many more there are: `a, b and 3 more`.
#[must_use]
pub fn few<T: AsRef<str>>(names: &[T], most: usize) -> String {
    let shown = names.iter().take(most).map(AsRef::as_ref).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(most) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_end_with_a_number() {
        assert_eq!(few(&["a", "b"], 2), "a, b");
        assert_eq!(few(&["a", "b", "c"], 2), "a, b and 1 more");
    }

    #[test]
    fn one_is_singular_and_everything_else_plural() {
        let packs = |number| count(number, "pack is", "packs are");
        assert_eq!(
            [0, 1, 2, 11].map(packs),
            ["0 packs are", "1 pack is", "2 packs are", "11 packs are"]
        );
    }
}
