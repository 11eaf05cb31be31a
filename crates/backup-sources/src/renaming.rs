//! Renaming rules that match nothing: refused, because their objects would replace the originals.

use backup_core::source::{SourceError, SourceErrorKind};

/// Names that a hint lists.
const NAMED: usize = 10;
/// Similarity from which a name is suggested, 0 to 1.
const SIMILAR: f64 = 0.8;

/// The error for a rule that matches none of `names`, the objects that are restored; `from` is its
/// left side.
pub(crate) fn unmatched(rule: &str, from: &str, names: &[String]) -> SourceError {
    let text = format!("the renaming rule {rule:?} matches nothing that is restored");
    let hint = match closest(from, names) {
        Some(close) => format!("did you mean {close}? Restored without the rule: {}", list(names)),
        None => format!("correct the rule; restored without it: {}", list(names)),
    };
    SourceError::new(SourceErrorKind::NotFound, text).with_hint(hint)
}

fn closest<'a>(from: &str, names: &'a [String]) -> Option<&'a str> {
    let rated = names.iter().map(|name| (strsim::jaro_winkler(from, name), &**name));
    let (likeness, name) = rated.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (likeness > SIMILAR).then_some(name)
}

fn list(names: &[String]) -> String {
    let shown = names.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMED) {
        0 if names.is_empty() => "nothing".to_owned(),
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unmatched_rule_suggests_the_closest_name() {
        let names = ["shop.orders", "shop.people"].map(str::to_owned);
        let error = unmatched("shop.order=x.y", "shop.order", &names);
        assert_eq!(error.kind(), SourceErrorKind::NotFound);
        let hint = error.hint().unwrap();
        assert!(hint.starts_with("did you mean shop.orders?"), "{hint}");
        assert!(hint.ends_with("shop.orders, shop.people"), "{hint}");
        let many: Vec<String> = (0..12).map(|n| format!("a.c{n}")).collect();
        let error = unmatched("zzz=y", "zzz", &many);
        assert!(error.hint().unwrap().ends_with("a.c9 and 2 more"), "{:?}", error.hint());
    }
}
