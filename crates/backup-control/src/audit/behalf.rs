//! On whose behalf something is done. A daemon does what somebody asked it for, with the rights of
//! its own user: its log should name who asked.

use super::Record;
use crate::environment::Environment;

/// The variable by which a daemon tells the programs that it starts on whose behalf they work. It
/// grants nothing: whoever may write the log may write anything into it, and whose process it was
/// is recorded beside.
pub const USER_VARIABLE: &str = "BACKUP_AUDIT_USER";

/// Bytes of a name, at most.
const MAX_NAME: usize = 64;

/// Whether somebody can be called so.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !name.is_empty()
        && name.len() <= MAX_NAME
        && name.chars().all(fits)
        && !name.starts_with(['-', '.'])
}

impl Record {
    /// By the one on whose behalf this process works; whose process it is becomes a detail. Without
    /// one, or with a name that cannot be one, it stays as it is.
    #[must_use]
    pub fn on_behalf(mut self, env: &Environment) -> Self {
        match env.text(USER_VARIABLE).filter(|name| is_name(name) && *name != self.user) {
            Some(name) => {
                let process = std::mem::replace(&mut self.user, name.to_owned());
                self.with("process_user", process)
            }
            None => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::super::{Class, Status};
    use super::*;
    use crate::machine::Machine;

    #[test]
    fn who_asked_is_named_and_whose_process_it_was() {
        let machine =
            Machine { host: "h".into(), user: "backup".into(), zone: crate::zone::Zone::UTC };
        let by = |name: &str| {
            let env: Environment = [(USER_VARIABLE, name)].into_iter().collect();
            let record = Record::new(
                "backup",
                Class::Operation,
                Status::Success,
                &machine,
                Timestamp::UNIX_EPOCH,
            );
            let record = record.on_behalf(&env);
            (record.user.clone(), record.details.get("process_user").cloned())
        };
        assert_eq!(by("anna"), ("anna".into(), Some("backup".into())));
        for same in ["backup", "", "an na", "-x", "\u{1b}[2J", &"x".repeat(65)] {
            assert_eq!(by(same), ("backup".into(), None), "{same:?}");
        }
    }
}
