//! Whose token it is. The file is read again when it is another one: what is revoked is worthless
//! at the next request.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use subtle::{Choice, ConstantTimeEq};

use super::secret::{can_be, hash};
use super::store::{Error, Stamp};
use super::{Entry, Role, Tokens};

/// How often it is noted that a token was used.
const NOTED_EVERY: SignedDuration = SignedDuration::from_mins(1);

/// Whose token it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The name of the token.
    pub name: String,
    /// What it is good for.
    pub role: Role,
}

/// What was read of the file, and what it was known by then.
type Read = (Option<Stamp>, Arc<Vec<Entry>>);

/// Tells whose a token is.
#[derive(Debug)]
pub struct Checker {
    tokens: Tokens,
    read: Mutex<Option<Read>>,
    /// Uses that are not noted yet, and when that was done last. No more names than there are
    /// tokens.
    used: Mutex<(BTreeMap<String, Timestamp>, Option<Timestamp>)>,
}

impl Checker {
    /// For these tokens.
    #[must_use]
    pub fn new(tokens: Tokens) -> Self {
        Self { tokens, read: Mutex::default(), used: Mutex::default() }
    }

    /// The tokens as they are in the file now. Blocks, but for the moment that it takes to look at
    /// the file when it is the same.
    ///
    /// # Errors
    /// Those of the file.
    pub fn entries(&self) -> Result<Arc<Vec<Entry>>, Error> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        // Before it is read: what is changed meanwhile is read again.
        let stamp = self.tokens.stamp();
        if let Some((known, entries)) = &*read
            && *known == stamp
        {
            return Ok(Arc::clone(entries));
        }
        let entries = Arc::new(self.tokens.list()?);
        *read = Some((stamp, Arc::clone(&entries)));
        Ok(entries)
    }

    /// Whose token it is; none if it is nobody's, or its time is over. How long that takes does not
    /// tell how much of it is right.
    ///
    /// # Errors
    /// Those of the file.
    pub fn check(&self, token: &str, now: Timestamp) -> Result<Option<Known>, Error> {
        if !can_be(token) {
            return Ok(None);
        }
        let given = hex::encode(hash(token));
        let mut found = None;
        for entry in self.entries()?.iter() {
            let is = |sha256: &str| sha256.as_bytes().ct_eq(given.as_bytes());
            let before = entry.before.as_ref().map_or(Choice::from(0), |before| {
                is(&before.sha256) & Choice::from(u8::from(before.until > now))
            });
            let current = is(&entry.sha256) & Choice::from(u8::from(!entry.is_over(now)));
            if bool::from(current | before) {
                found = Some(Known { name: entry.name.clone(), role: entry.role });
            }
        }
        if let Some(known) = &found {
            self.used
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .0
                .insert(known.name.clone(), now);
        }
        Ok(found)
    }

    /// Writes down which tokens were used, if it is time or `at_once`. Blocks.
    ///
    /// # Errors
    /// Those of the file.
    pub fn note(&self, now: Timestamp, at_once: bool) -> Result<(), Error> {
        let used: Vec<(String, Timestamp)> = {
            let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
            let is_due = used.1.is_none_or(|noted| now.duration_since(noted) >= NOTED_EVERY);
            if used.0.is_empty() || !(is_due || at_once) {
                return Ok(());
            }
            used.1 = Some(now);
            std::mem::take(&mut used.0).into_iter().collect()
        };
        self.tokens.note_used(&used)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    #[test]
    fn good_until_it_ends_is_replaced_or_revoked() {
        let dir = tempfile::tempdir().unwrap();
        let tokens = Tokens::at(dir.path().join("state/tokens.json"));
        let checker = Checker::new(tokens.clone());
        assert_eq!(checker.entries().unwrap().len(), 0);
        let anna = tokens.create("anna", Role::Operator, Some(at(100)), at(0)).unwrap();
        let bob = tokens.create("bob", Role::Auditor, None, at(0)).unwrap();
        let who = |token: &str, now| {
            checker.check(token, now).unwrap().map(|known| (known.name, known.role))
        };
        assert_eq!(who(anna.reveal(), at(99)), Some(("anna".into(), Role::Operator)));
        assert_eq!(who(anna.reveal(), at(100)), None, "it ends");
        assert_eq!(who(bob.reveal(), at(1000)), Some(("bob".into(), Role::Auditor)));
        assert_eq!(
            who(&hex::encode(hash(bob.reveal())), at(0)),
            None,
            "what is in the file is no token"
        );
        let (new, role) = tokens.rotate("bob", None, Some(at(2000)), at(1000)).unwrap();
        assert_eq!(role, Role::Auditor);
        assert!(
            who(new.reveal(), at(1999)).is_some() && who(bob.reveal(), at(1999)).is_some(),
            "both, for a while"
        );
        assert!(who(new.reveal(), at(2000)).is_some() && who(bob.reveal(), at(2000)).is_none());
        tokens.revoke("bob").unwrap();
        assert_eq!(who(new.reveal(), at(1999)), None);
        let text = std::fs::read_to_string(tokens.path()).unwrap();
        assert!(!text.contains(anna.reveal()) && !text.contains(&anna.reveal()[5..]));
        let mode = std::fs::metadata(tokens.path()).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
    }

    #[test]
    fn when_it_was_used_is_noted() {
        let dir = tempfile::tempdir().unwrap();
        let tokens = Tokens::at(dir.path().join("tokens.json"));
        let checker = Checker::new(tokens.clone());
        let anna = tokens.create("anna", Role::Admin, None, at(0)).unwrap();
        let last = || tokens.list().unwrap()[0].last_used;
        assert!(checker.check(anna.reveal(), at(5)).unwrap().is_some());
        checker.note(at(6), false).unwrap();
        assert_eq!(last(), Some(at(5)));
        assert!(checker.check(anna.reveal(), at(10)).unwrap().is_some());
        checker.note(at(11), false).unwrap();
        assert_eq!(last(), Some(at(5)), "once a minute is enough");
        checker.note(at(12), true).unwrap();
        assert_eq!(last(), Some(at(10)));
    }

    #[test]
    fn mistakes_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let tokens = Tokens::at(dir.path().join("tokens.json"));
        tokens.create("anna", Role::Admin, None, at(0)).unwrap();
        assert!(matches!(tokens.create("anna", Role::Admin, None, at(0)), Err(Error::Exists(_))));
        assert!(matches!(tokens.create("bob", Role::Admin, Some(at(0)), at(0)), Err(Error::Over)));
        assert!(matches!(tokens.revoke("bob"), Err(Error::Unknown(_))));
        for name in ["", "a b", "schedule", "--role", "a/b"] {
            assert!(
                matches!(tokens.create(name, Role::Admin, None, at(0)), Err(Error::Name(_))),
                "{name}"
            );
        }
        std::fs::set_permissions(tokens.path(), std::fs::Permissions::from_mode(0o620)).unwrap();
        assert!(matches!(Checker::new(tokens.clone()).entries(), Err(Error::Open(_))));
        std::fs::remove_file(tokens.path()).unwrap();
        std::fs::write(tokens.path(), "{}").unwrap();
        assert!(matches!(tokens.list(), Err(Error::Damaged(..))));
        std::fs::write(tokens.path(), r#"{"version":2,"tokens":{"anna":{}}}"#).unwrap();
        let Err(Error::Newer(_, error)) = tokens.list() else { panic!("it is newer") };
        assert!(error.to_string().contains("by format 2, this program reads up to 1"), "{error}");
    }
}
