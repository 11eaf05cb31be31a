//! "Did you mean …?"

/// The candidate that looks most like `word`, if one looks enough like it.
pub(crate) fn closest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(word, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// The hint for a name that is not there: the closest one, or all of them.
pub(crate) fn hint<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str> + Clone,
) -> Option<String> {
    if let Some(close) = closest(word, candidates.clone()) {
        return Some(format!("did you mean `{close}`?"));
    }
    let all: Vec<String> = candidates.into_iter().map(|name| format!("`{name}`")).collect();
    (!all.is_empty()).then(|| format!("choose from {}", all.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggests_what_is_close_and_lists_otherwise() {
        let names = ["exclude", "exclude_files", "paths"];
        assert_eq!(closest("exlude", names), Some("exclude"));
        assert_eq!(closest("path", names), Some("paths"));
        assert_eq!(closest("zebra", names), None);
        assert_eq!(hint("zebra", ["a", "b"]), Some("choose from `a`, `b`".to_owned()));
        assert_eq!(hint("zebra", []), None);
    }
}
