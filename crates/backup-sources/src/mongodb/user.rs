//! The user that a connection is authenticated as.

use std::fmt;

use ::mongodb::error::Result;
use backup_core::source::SourceError;
use bson::{Bson, Document};

/// A user of a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) db: String,
}

/// The place in a hint for the beginning of the statement that grants roles to the connected user.
pub(super) const GRANT: &str = "<grantRolesToUser>";

impl User {
    /// Out of the server's reply to `connectionStatus`.
    pub(super) fn of(status: Result<Document>) -> Option<Self> {
        let status = status.ok()?;
        let users = status.get_document("authInfo").ok()?.get_array("authenticatedUsers").ok()?;
        let user = users.first().and_then(Bson::as_document)?;
        let text = |field| Some(user.get_str(field).ok()?.to_owned());
        Some(Self { name: text("user")?, db: text("db")? })
    }
}

/// The beginning of the statement, as the server's shell reads it; a name is data.
impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        write!(f, "db.getSiblingDB({}).grantRolesToUser({}", quoted(&self.db), quoted(&self.name))
    }
}

/// Names the connected user in the hint of a denied command.
pub(super) fn named(error: SourceError, user: Option<&User>) -> SourceError {
    let Some(hint) = error.hint().filter(|hint| hint.contains(GRANT)) else { return error };
    let hint = match user {
        Some(user) => hint.replace(GRANT, &user.to_string()),
        None => format!(
            "write the address with a user, mongodb://USER@HOST/, and {}",
            hint.split(": ").next().unwrap_or_default()
        ),
    };
    error.with_hint(hint)
}

#[cfg(test)]
mod tests {
    use backup_core::source::SourceErrorKind;
    use bson::doc;

    use super::*;

    #[test]
    fn hint_names_the_connected_user_as_the_shell_reads_it() {
        let status =
            doc! { "authInfo": { "authenticatedUsers": [{ "user": "o\"x", "db": "$external" }] } };
        let user = User::of(Ok(status)).unwrap();
        let error = || {
            let hint = format!("grant the role `x`: {GRANT}, [\"x\"])");
            SourceError::new(SourceErrorKind::Invalid, "denied").with_hint(hint)
        };
        assert_eq!(
            named(error(), Some(&user)).hint(),
            Some(
                r#"grant the role `x`: db.getSiblingDB("$external").grantRolesToUser("o\"x", ["x"])"#
            )
        );
        assert_eq!(
            named(error(), None).hint(),
            Some("write the address with a user, mongodb://USER@HOST/, and grant the role `x`")
        );
        assert_eq!(User::of(Ok(doc! { "authInfo": { "authenticatedUsers": [] } })), None);
    }
}
