//! Renaming rules `from=to`: their two sides, and those that match nothing. The latter are refused,
//! because their objects would replace the originals.

use backup_core::source::{SourceError, SourceErrorKind};
use backup_core::words;

/// Names that a hint lists.
const NAMED: usize = 10;
/// Similarity from which a name is suggested, 0 to 1.
const SIMILAR: f64 = 0.8;

/// The two sides of a rule: split at the first `=` that has no backslash in front. `\=` stands for
/// an `=` in a name.
pub(crate) fn sides(rule: &str) -> Option<(String, String)> {
    let mut ends = rule.match_indices('=').map(|(at, _)| at);
    let at = ends.find(|at| !rule[..*at].ends_with('\\'))?;
    let plain = |side: &str| side.replace("\\=", "=");
    Some((plain(&rule[..at]), plain(&rule[at + 1..])))
}

/// A name as a side of a rule.
pub(crate) fn escaped(side: &str) -> String {
    side.replace('=', "\\=")
}

/// The error for a rule that matches none of `names`, the objects that are restored. `rule` has the
/// form `from=to`; `sides` are left sides that match some of them.
pub(crate) fn unmatched(rule: &str, sides: &[String], names: &[String]) -> SourceError {
    let text = format!("the renaming rule {rule:?} matches nothing that is restored");
    let (from, to) = self::sides(rule).unwrap_or_else(|| (rule.to_owned(), String::new()));
    let hint = match closest(&from, sides) {
        Some(close) => format!(
            "did you mean --rename '{}={}'? Restored without the rule: {}",
            escaped(close),
            escaped(&to),
            list(names)
        ),
        None => format!("correct the rule; restored without it: {}", list(names)),
    };
    SourceError::new(SourceErrorKind::NotFound, text).with_hint(hint)
}

fn closest<'a>(from: &str, sides: &'a [String]) -> Option<&'a str> {
    // Quotes would need escapes for the shell.
    let quotable = sides.iter().filter(|side| !side.contains('\''));
    let rated = quotable.map(|side| (strsim::jaro_winkler(from, side), &**side));
    let (likeness, side) = rated.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (likeness > SIMILAR).then_some(side)
}

/// The left side `from` with the parts of `name` in place of the parts without a star; `None` if
/// they differ in number.
pub(crate) fn with_parts_of(from: &[&str], name: &[&str]) -> Option<String> {
    let part = |(from, name): (&&str, &&str)| {
        if from.contains('*') { (*from).to_owned() } else { (*name).to_owned() }
    };
    let parts: Vec<String> = from.iter().zip(name).map(part).collect();
    (from.len() == name.len()).then(|| parts.join("."))
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "nothing".to_owned() } else { words::few(names, NAMED) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_is_split_at_the_first_plain_equals_sign() {
        let both = |from: &str, to: &str| Some((from.to_owned(), to.to_owned()));
        assert_eq!(sides("a.b=c.d"), both("a.b", "c.d"));
        assert_eq!(sides(r"a.x\=y=b.x\=z"), both("a.x=y", "b.x=z"));
        assert_eq!(sides("a.b=c.d=e"), both("a.b", "c.d=e"));
        assert_eq!(sides(r"a.b\=c"), None);
        assert_eq!(sides(&format!("{}=z", escaped("x=y"))), both("x=y", "z"));
    }

    #[test]
    fn unmatched_rule_suggests_the_closest_name() {
        let names = ["shop.orders", "shop.people"].map(str::to_owned);
        let error = unmatched("shop.order=x.y", &names, &names);
        assert_eq!(error.kind(), SourceErrorKind::NotFound);
        let hint = error.hint().unwrap();
        assert!(hint.starts_with("did you mean --rename 'shop.orders=x.y'?"), "{hint}");
        assert!(hint.ends_with("shop.orders, shop.people"), "{hint}");
        let many: Vec<String> = (0..12).map(|n| format!("a.c{n}")).collect();
        let error = unmatched("zzz=y", &many, &many);
        assert!(error.hint().unwrap().ends_with("a.c9 and 2 more"), "{:?}", error.hint());
    }
}
