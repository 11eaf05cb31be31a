//! Counted nouns in messages.

/// A number and its noun, for instance `1 pack` and `2 packs`.
#[must_use]
pub fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_singular_and_everything_else_plural() {
        let packs = |number| count(number, "pack is", "packs are");
        assert_eq!(
            [0, 1, 2, 11].map(packs),
            ["0 packs are", "1 pack is", "2 packs are", "11 packs are"]
        );
    }
}
