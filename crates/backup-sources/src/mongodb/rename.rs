//! Restoring under other names: `shop.*=shop_test.*`.

use std::collections::BTreeSet;

use backup_core::source::{SourceError, SourceErrorKind, SourceResult};

use super::namespace::{BUCKETS, Namespace};
use crate::renaming::{escaped, sides, unmatched, with_parts_of};

/// Rules from names in the snapshot to names at the target. The first that matches a name wins;
/// what none matches keeps its name. They apply to the names at the moment that is restored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Renames {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    /// As it was given.
    text: String,
    /// Parts between the stars.
    from: Vec<String>,
    to: Vec<String>,
}

impl Renames {
    /// Rules of the form `from=to`: names `database.collection` with as many `*` on either side;
    /// what a `*` on the left stands for replaces the one at its place on the right. Two names
    /// without a dot are databases: `a=b` is `a.*=b.*`. `\=` stands for an `=` in a name.
    ///
    /// # Errors
    /// [`SourceErrorKind::Invalid`] names the first rule that makes no sense.
    pub fn new<S: AsRef<str>>(rules: impl IntoIterator<Item = S>) -> SourceResult<Self> {
        let rules = rules
            .into_iter()
            .map(|rule| Rule::parse(rule.as_ref()))
            .collect::<SourceResult<_>>()?;
        Ok(Self { rules })
    }

    /// The rule that restores one database as another one.
    pub(super) fn of_database(from: &str, to: &str) -> Self {
        let side = |database: &str| vec![format!("{database}."), String::new()];
        let rule = Rule { text: format!("{from}={to}"), from: side(from), to: side(to) };
        Self { rules: vec![rule] }
    }

    /// Whether every name stays.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Refuses rules that match none of `namespaces`, the objects that are restored, by their
    /// names in the snapshot.
    ///
    /// # Errors
    /// [`SourceErrorKind::NotFound`] names the first such rule and the names that exist.
    pub(super) fn refuse_unmatched<'a>(
        &self,
        namespaces: impl IntoIterator<Item = &'a Namespace>,
    ) -> SourceResult<()> {
        if self.rules.is_empty() {
            return Ok(());
        }
        let names: BTreeSet<String> =
            namespaces.into_iter().map(|namespace| namespace.visible().to_string()).collect();
        let matches = |rule: &Rule| names.iter().any(|name| rule.apply(name).is_some());
        match self.rules.iter().find(|rule| !matches(rule)) {
            None => Ok(()),
            Some(rule) => {
                let names: Vec<String> = names.into_iter().collect();
                Err(unmatched(&rule.text, &rule.similar(&names), &names))
            }
        }
    }

    pub(super) fn apply(&self, namespace: &Namespace) -> SourceResult<Namespace> {
        let visible = namespace.visible();
        let full = visible.to_string();
        let Some(renamed) = self.rules.iter().find_map(|rule| rule.apply(&full)) else {
            return Ok(namespace.clone());
        };
        let mut target = Namespace::parse(&renamed).ok_or_else(|| {
            SourceError::new(
                SourceErrorKind::Invalid,
                format!("cannot rename {full} to {renamed:?}: invalid name"),
            )
        })?;
        refuse_of_the_server(&visible, &target)?;
        if namespace.is_buckets() {
            target.name.insert_str(0, BUCKETS);
        }
        Ok(target)
    }
}

/// Refuses names of collections that belong to the server.
fn refuse_of_the_server(from: &Namespace, to: &Namespace) -> SourceResult<()> {
    let is_of_the_server = to.is_internal()
        || to.is_restored_by_the_server()
        || to.is_authorization()
        || to.is_buckets();
    if !is_of_the_server || from == to {
        return Ok(());
    }
    let text = format!("cannot rename {from} to {to}: this name belongs to the server");
    Err(SourceError::new(SourceErrorKind::Invalid, text)
        .with_hint("choose a name outside of the databases local and config and of `system.`"))
}

impl Rule {
    fn parse(text: &str) -> SourceResult<Self> {
        let invalid = || {
            SourceError::new(SourceErrorKind::Invalid, format!("{text:?} is not a renaming rule"))
                .with_hint(
                    "write from=to with the same number of `*` on both sides, for instance \
                     'shop.*=shop_test.*', or two databases",
                )
        };
        let (mut from, mut to) = sides(text).ok_or_else(invalid)?;
        let is_database = |side: &str| !side.is_empty() && !side.contains(['.', '*']);
        if is_database(&from) && is_database(&to) {
            from.push_str(".*");
            to.push_str(".*");
        }
        let parts = |side: &str| side.split('*').map(str::to_owned).collect::<Vec<_>>();
        let rule = Self { text: text.to_owned(), from: parts(&from), to: parts(&to) };
        let sound = rule.from.len() == rule.to.len() && from.contains('.') && to.contains('.');
        if sound { Ok(rule) } else { Err(invalid()) }
    }

    /// Left sides of rules of the same form that match some of `names`.
    fn similar(&self, names: &[String]) -> Vec<String> {
        let (from, to) = sides(&self.text).unwrap_or_default();
        let side = |name: &String| {
            let (database, collection) = name.split_once('.')?;
            match from.split_once('.') {
                None => Some(database.to_owned()),
                Some((left, right)) => with_parts_of(&[left, right], &[database, collection]),
            }
        };
        let sides: BTreeSet<String> = names.iter().filter_map(side).collect();
        let is_valid = |side: &String| {
            Self::parse(&format!("{}={}", escaped(side), escaped(&to)))
                .is_ok_and(|rule| names.iter().any(|name| rule.apply(name).is_some()))
        };
        sides.into_iter().filter(is_valid).collect()
    }

    fn apply(&self, name: &str) -> Option<String> {
        let (first, rest) = self.from.split_first()?;
        let mut left = name.strip_prefix(&**first)?;
        let mut out = self.to.first()?.clone();
        for (at, part) in rest.iter().enumerate() {
            // The last star takes all there is; one before a dot never crosses it.
            let end = if at + 1 == rest.len() {
                left.len()
                    .checked_sub(part.len())
                    .filter(|end| left.is_char_boundary(*end) && left.ends_with(&**part))?
            } else {
                left.find(&**part)?
            };
            out.push_str(&left[..end]);
            out.push_str(self.to.get(at + 1)?);
            left = &left[end + part.len()..];
        }
        left.is_empty().then_some(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_server_are_refused() {
        let from = Namespace::new("shop", "orders");
        for to in ["local", "config"] {
            let rule = Renames::new([format!("shop={to}")]).unwrap();
            assert!(rule.apply(&from).unwrap_err().to_string().contains("belongs to the server"));
        }
        for to in ["admin.system.version", "admin.system.users", "x.system.y", "x.system.buckets.y"]
        {
            let rule = Renames::new([format!("shop.orders={to}")]).unwrap();
            assert!(rule.apply(&from).is_err(), "{to}");
        }
        let rule = Renames::new(["shop=admin"]).unwrap();
        assert_eq!(rule.apply(&from).unwrap(), Namespace::new("admin", "orders"));
    }

    fn renamed(rules: &[&str], name: &str) -> String {
        Renames::new(rules).unwrap().apply(&Namespace::parse(name).unwrap()).unwrap().to_string()
    }

    #[test]
    fn equals_signs_can_be_escaped() {
        assert_eq!(renamed(&[r"shop.a\=b=shop.c\=d"], "shop.a=b"), "shop.c=d");
        assert_eq!(renamed(&[r"s\=1=s\=2"], "s=1.a"), "s=2.a");
    }

    #[test]
    fn stars_stand_for_the_same() {
        assert_eq!(renamed(&["shop.*=shop_test.*"], "shop.a.b"), "shop_test.a.b");
        assert_eq!(renamed(&["shop.*=shop_test.*"], "shop2.a"), "shop2.a");
        assert_eq!(renamed(&["shop=shop_test"], "shop.a.b"), "shop_test.a.b");
        assert_eq!(renamed(&["shop=shop_test"], "shop2.a"), "shop2.a");
        assert_eq!(renamed(&["*.log_*=logs.*_*"], "x.log_1"), "logs.x_1");
        assert_eq!(renamed(&["*.*=old_*.*"], "x.y.z"), "old_x.y.z");
        assert_eq!(renamed(&["a.b=c.d", "a.*=e.*"], "a.b"), "c.d");
        assert_eq!(renamed(&["a.b=c.d", "a.*=e.*"], "a.bb"), "e.bb");
        assert_eq!(renamed(&["a.*=e.*"], "a.system.buckets.t"), "e.system.buckets.t");
    }

    #[test]
    fn rule_that_matches_no_restored_object_is_refused() {
        let namespaces = ["shop.orders", "shop.system.buckets.weather", "crm.people"]
            .map(|name| Namespace::parse(name).unwrap());
        let refused = |rules: &[&str]| {
            let refused = Renames::new(rules).unwrap().refuse_unmatched(&namespaces);
            refused.err().map(|error| error.to_string())
        };
        for good in ["shop.orders=a.b", "shop.w*=a.*", "shop=test", "*.people=x.*"] {
            assert_eq!(refused(&[good]), None, "{good}");
        }
        // A rule behind one that matches the same still matches.
        assert_eq!(refused(&["shop.*=a.*", "shop.orders=b.c"]), None);
        for bad in ["shop.order=a.b", "shops=test", "shop.orders.*=a.*"] {
            let text = format!("the renaming rule {bad:?} matches nothing that is restored");
            assert_eq!(refused(&["crm=x", bad]), Some(text));
        }
        for (bad, good) in [
            ("shop.order=a.b", "shop.orders=a.b"),
            ("shops=test", "shop=test"),
            ("shp.*=test.*", "shop.*=test.*"),
        ] {
            let error = Renames::new([bad]).unwrap().refuse_unmatched(&namespaces).unwrap_err();
            let hint = error.hint().unwrap();
            assert!(hint.starts_with(&format!("did you mean --rename '{good}'?")), "{bad}: {hint}");
            assert_eq!(refused(&[good]), None, "{good}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for bad in ["a.b", "a.*=b.c", "a=b.c", "a.*=b", "a=*", "=a.b", "a.b=", "=a", "a=", "="] {
            assert!(Renames::new([bad]).is_err(), "{bad}");
        }
        let rules = Renames::new(["a.*=*.b"]).unwrap();
        assert!(rules.apply(&Namespace::new("a", "")).is_err());
    }
}
