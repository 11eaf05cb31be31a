//! `backupd token`.

use std::fmt;
use std::io::{self, Write};
use std::path::Path;
use std::str::FromStr;

use backup_control::age::Age;
use backup_control::audit::{Audit, Class, Record, Status};
use backup_control::config::ApiConfig;
use backup_control::environment::Environment;
use backup_control::machine::Machine;
use backup_control::zone;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{Entry, Error, FILE, Role, Secret, Tokens};

/// Create, list, replace and revoke tokens for the API
///
/// A token is shown only once; the token file stores its hash. The Unix socket of the daemon
/// requires no token.
#[derive(Debug, clap::Args)]
pub struct TokenArgs {
    #[command(subcommand)]
    verb: Verb,
}

impl TokenArgs {
    /// True if the command changes tokens, which is recorded in the audit log.
    #[must_use]
    pub fn is_change(&self) -> bool {
        !matches!(self.verb, Verb::List { .. })
    }
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Create a token and print it to standard output
    Create {
        /// Name of the token; the audit log records it as the user
        #[arg(value_name = "NAME")]
        name: String,
        /// Role of the token
        #[arg(long, value_name = "ROLE")]
        role: Role,
        /// Lifetime of the token, for instance 30d or 1y, or `never`
        #[arg(long, value_name = "AGE", default_value = "90d")]
        expires: Lifetime,
    },
    /// List the tokens
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Revoke a token at once
    Revoke {
        /// Name of the token
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Replace a token with a new one of the same name and role, and print the new one
    Rotate {
        /// Name of the token
        #[arg(value_name = "NAME")]
        name: String,
        /// Lifetime of the new token, or `never`
        #[arg(long, value_name = "AGE", default_value = "90d")]
        expires: Lifetime,
        /// Time that the old token stays valid, for instance 1h [default: revoked at once]
        #[arg(long, value_name = "AGE")]
        overlap: Option<Age>,
    },
}

/// How long a token is good.
#[derive(Debug, Clone)]
struct Lifetime(Option<Age>);

impl FromStr for Lifetime {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "never" => Ok(Self(None)),
            age => age.parse().map(|age| Self(Some(age))),
        }
    }
}

/// Where tokens are, and what is known about whoever changes them.
#[derive(Debug)]
pub struct Place<'a> {
    /// The tokens.
    pub tokens: Tokens,
    /// The log that is told of changes.
    pub audit: Audit,
    /// The machine.
    pub machine: &'a Machine,
    /// The environment.
    pub env: &'a Environment,
    /// The time.
    pub now: Timestamp,
    /// The zone in which times are shown.
    pub zone: &'a TimeZone,
}

impl<'a> Place<'a> {
    /// As the configuration has it, with `state` as the state directory.
    #[must_use]
    pub fn of(
        config: &ApiConfig,
        state: &Path,
        machine: &'a Machine,
        env: &'a Environment,
        now: Timestamp,
    ) -> Self {
        let tokens = Tokens::at(config.tokens_file.clone().unwrap_or_else(|| state.join(FILE)));
        Self {
            tokens,
            audit: Audit::in_state(state).shipped(env),
            machine,
            env,
            now,
            zone: &machine.zone.rules,
        }
    }
}

/// The messages of a command for the standard error.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Messages {
    /// The messages, in order.
    pub lines: Vec<String>,
    /// A change was made and is missing in the audit log.
    pub lacks_record: bool,
}

impl Messages {
    fn new(line: String, recorded: Recorded) -> Self {
        let lines = [line].into_iter().chain(recorded.warning).collect();
        Self { lines, lacks_record: recorded.is_missing }
    }
}

/// The audit record of a change.
struct Recorded {
    warning: Option<String>,
    is_missing: bool,
}

/// Does what was asked for. Returns the messages for the standard error.
///
/// # Errors
/// [`Error`]
pub fn run(args: &TokenArgs, place: &Place<'_>, out: &mut dyn Write) -> Result<Messages, Error> {
    let printed = |error: io::Error| Error::Place("standard output".into(), error);
    let until = |age: &Option<Age>| {
        age.as_ref()
            .map(|age| age.after(place.now, place.zone))
            .transpose()
            .map_err(|_| Error::Over)
    };
    match &args.verb {
        Verb::List { json } => {
            let text = if *json { as_json(place) } else { table(place) }?;
            out.write_all(text.as_bytes()).map_err(printed)?;
            Ok(Messages::default())
        }
        Verb::Create { name, role, expires } => {
            let expires = until(&expires.0)?;
            let secret = place.tokens.create(name, *role, expires, place.now)?;
            let said = told(place, "token create", name, Some((*role, expires)));
            show(&secret, out).map_err(printed)?;
            let line = format!(
                "Token of {name}, {role}, {}. The token is not shown again.",
                Ends(expires, place.zone)
            );
            Ok(Messages::new(line, said))
        }
        Verb::Rotate { name, expires, overlap } => {
            let expires = until(&expires.0)?;
            let (secret, role) = place.tokens.rotate(name, expires, until(overlap)?, place.now)?;
            let said = told(place, "token rotate", name, Some((role, expires)));
            show(&secret, out).map_err(printed)?;
            let line = format!(
                "New token of {name}, {role}, {}. The token is not shown again.",
                Ends(expires, place.zone)
            );
            Ok(Messages::new(line, said))
        }
        Verb::Revoke { name } => {
            place.tokens.revoke(name)?;
            let said = told(place, "token revoke", name, None);
            Ok(Messages::new(format!("The token of {name} is revoked."), said))
        }
    }
}

/// The one place that gives a token out.
fn show(secret: &Secret, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{}", secret.reveal())?;
    out.flush()
}

/// Records a change. That it cannot be is said.
fn told(
    place: &Place<'_>,
    operation: &str,
    name: &str,
    given: Option<(Role, Option<Timestamp>)>,
) -> Recorded {
    let mut record =
        Record::new(operation, Class::Compliance, Status::Success, place.machine, place.now)
            .on_behalf(place.env)
            .with("token", name)
            .with("sudo_user", place.env.text("SUDO_USER").unwrap_or_default());
    if let Some((role, expires)) = given {
        let expires = expires.map_or_else(|| "never".to_owned(), |expires| format!("{expires:.0}"));
        record = record.with("role", role.as_str()).with("expires", expires);
    }
    match place.audit.append(record, place.machine) {
        Ok(appended) => {
            let warning = appended.not_shipped.map(|(socket, error)| {
                format!("Warning: cannot send the audit record to {}: {error}", socket.display())
            });
            Recorded { warning, is_missing: false }
        }
        Err(error) => {
            let warning = format!(
                "Warning: cannot record the change in the audit log: {}",
                backup_control::words::chain(&error)
            );
            Recorded { warning: Some(warning), is_missing: true }
        }
    }
}

fn as_json(place: &Place<'_>) -> Result<String, Error> {
    let shown = |token: &Entry| {
        serde_json::json!({
            "name": token.name, "role": token.role, "created": token.created, "expires": token.expires,
            "last_used": token.last_used, "over": token.is_over(place.now),
        })
    };
    let tokens: Vec<_> = place.tokens.list()?.iter().map(shown).collect();
    Ok(format!("{}\n", serde_json::json!({ "schema_version": 1, "tokens": tokens })))
}

fn table(place: &Place<'_>) -> Result<String, Error> {
    let time = |time: Timestamp| zone::minute(time, place.zone);
    let mut rows = vec![["Name", "Role", "Created", "Expires", "Last used"].map(str::to_owned)];
    for token in place.tokens.list()? {
        let ends = match token.expires {
            Some(_) if token.is_over(place.now) => "expired".to_owned(),
            Some(expires) => time(expires),
            None => "never".to_owned(),
        };
        let used = token.last_used.map_or_else(|| "never".to_owned(), time);
        rows.push([token.name, token.role.to_string(), time(token.created), ends, used]);
    }
    if rows.len() == 1 {
        return Ok("No tokens.\n".to_owned());
    }
    let width =
        |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 5] = std::array::from_fn(width);
    let line = |row: &[String; 5]| {
        let cells: Vec<String> =
            row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    Ok(rows.iter().map(line).collect())
}

struct Ends<'a>(Option<Timestamp>, &'a TimeZone);

impl fmt::Display for Ends<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(time) => write!(f, "valid until {}", zone::minute(time, self.1)),
            None => f.write_str("without expiry"),
        }
    }
}

#[cfg(test)]
mod tests {
    use backup_control::audit::Filter;
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        token: TokenArgs,
    }

    #[test]
    fn shows_a_token_once_and_records_what_was_done() {
        let dir = tempfile::tempdir().unwrap();
        let machine =
            Machine { host: "h".into(), user: "me".into(), zone: backup_control::zone::Zone::UTC };
        let env = Environment::default();
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let place = Place::of(&ApiConfig::default(), dir.path(), &machine, &env, now);
        let token = |words: &str| {
            let mut out = Vec::new();
            let cli = Cli::try_parse_from(["backupd"].into_iter().chain(words.split(' '))).unwrap();
            let said = run(&cli.token, &place, &mut out)
                .map(|messages| {
                    assert!(!messages.lacks_record);
                    messages.lines
                })
                .map_err(|error| format!("{error}; {}", error.hint()));
            (String::from_utf8(out).unwrap(), said)
        };
        let (shown, said) = token("create anna --role operator --expires 30d");
        assert!(shown.starts_with("bkpd_") && shown.lines().count() == 1, "{shown}");
        assert_eq!(
            said.unwrap(),
            ["Token of anna, operator, valid until 2027-02-14 08:00. The token is not shown \
              again."]
        );
        let (other, _) = token("rotate anna --expires never --overlap 1h");
        assert_ne!(shown, other);
        let (list, _) = token("list");
        insta::assert_snapshot!(list, @r"
        Name  Role      Created           Expires  Last used
        anna  operator  2027-01-15 08:00  never    never
        ");
        let (json, _) = token("list --json");
        assert!(json.contains("\"name\":\"anna\"") && !json.contains("sha256"), "{json}");
        assert_eq!(token("revoke anna").1.unwrap(), ["The token of anna is revoked."]);
        insta::assert_snapshot!(token("revoke anna").1.unwrap_err(), @"there is no token `anna`; list the tokens with `backupd token list`");
        let records = place
            .audit
            .read(&Filter { operation: Some("token".into()), ..Filter::default() })
            .unwrap()
            .records;
        let operations: Vec<&str> =
            records.iter().map(|record| record.operation.as_str()).collect();
        assert_eq!(operations, ["token create", "token rotate", "token revoke"]);
        let log = std::fs::read_to_string(place.audit.path()).unwrap();
        assert!(!log.contains(shown.trim()) && !log.contains(other.trim()));
    }
}
