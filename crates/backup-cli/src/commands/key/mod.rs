//! `backup key`.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | the verbs; listing and removing |
//! | `add.rs` | `add` and `generate`; where a new pass phrase comes from |
//! | `rotate.rs` | a new pass phrase in the place of the old one |
//! | `master.rs` | a new key for the data itself, in a new repository |
//! | `bundle.rs` | `export` and `import` |

mod add;
mod bundle;
mod master;
mod rotate;

use backup_core::error::{Error as CoreError, ErrorKind};
use backup_core::id::KeyId;
use backup_core::repository::{KeyInfo, Repository};
use serde::Serialize;

use crate::command_error::{CommandError, CommandResult, Outcome};
use crate::human;
use crate::reporter::Detail;
use crate::session::Session;
use crate::style::{self, paint};
use crate::table::{Align, Table};
use crate::ui::SCHEMA_VERSION;

/// Manage the keys that open a repository
///
/// A repository has one master key, and any number of key files. Each key file holds the master key
/// under its own pass phrase. Any of the pass phrases gives access to all data; without them the
/// backups are lost.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

const EXAMPLES: &str = "\
Examples:
  backup key list
  backup key add --label laptop";

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// List the keys, without their secrets
    List,
    Generate(add::GenerateArgs),
    Add(add::Args),
    Remove(RemoveArgs),
    Rotate(rotate::Args),
    Export(bundle::ExportArgs),
    Import(bundle::ImportArgs),
}

/// Remove a key, so that its pass phrase no longer opens the repository
///
/// A person who opened the repository with the pass phrase may have kept the master key;
/// `backup key rotate --master` replaces it. Neither the key that opened the repository for this
/// command nor the last working one is removed. Give the pass phrase of another key, which proves
/// that it opens the repository.
#[derive(Debug, clap::Args)]
struct RemoveArgs {
    /// Key: the beginning of its identifier
    #[arg(value_name = "KEY")]
    key: String,
}

impl Args {
    /// Name of the operation in the audit log.
    pub(crate) fn operation(&self) -> Option<&'static str> {
        match self.verb {
            Verb::List => None,
            Verb::Generate(_) => Some("key generate"),
            Verb::Add(_) => Some("key add"),
            Verb::Remove(_) => Some("key remove"),
            Verb::Rotate(_) => Some("key rotate"),
            Verb::Export(_) => Some("key export"),
            Verb::Import(_) => Some("key import"),
        }
    }

    /// Only making a new repository is long work.
    pub(crate) fn detail(&self) -> Detail {
        match &self.verb {
            Verb::Rotate(args) if args.is_master() => Detail::All,
            _ => Detail::OneObject,
        }
    }
}

pub(crate) async fn run(session: &Session, args: &Args) -> CommandResult {
    match &args.verb {
        Verb::List => list(session).await,
        Verb::Generate(args) => add::generate(session, args).await,
        Verb::Add(args) => add::add(session, args).await,
        Verb::Remove(args) => remove(session, args).await,
        Verb::Rotate(args) => rotate::run(session, args).await,
        Verb::Export(args) => bundle::export(session, args).await,
        Verb::Import(args) => bundle::import(session, args).await,
    }
}

/// What was done with one key, in JSON.
#[derive(Serialize)]
struct KeyJson<'a> {
    schema_version: u32,
    repository: String,
    key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_file: Option<&'a std::path::Path>,
    /// A generated pass phrase, shown this once.
    #[serde(skip_serializing_if = "Option::is_none")]
    passphrase: Option<&'a str>,
}

impl<'a> KeyJson<'a> {
    fn new(repository: String, key: &KeyId) -> Self {
        let schema_version = SCHEMA_VERSION;
        Self {
            schema_version,
            repository,
            key: key.to_hex(),
            label: None,
            key_file: None,
            passphrase: None,
        }
    }
}

#[derive(Serialize)]
struct DamagedKeyJson {
    id: String,
    message: String,
}

#[derive(Serialize)]
struct ListJson {
    schema_version: u32,
    repository: String,
    keys: Vec<KeyInfo>,
    damaged: Vec<DamagedKeyJson>,
}

async fn list(session: &Session) -> CommandResult {
    let spec = session.repository()?;
    let (mut keys, mut damaged) = (Vec::new(), Vec::new());
    for (id, info) in session.open(&spec).await?.keys().await? {
        match info {
            Ok(info) => keys.push(info),
            Err(error) => damaged.push(DamagedKeyJson { id: id.to_hex(), message: error.chain() }),
        }
    }
    keys.sort_by_key(|info| (info.created, info.id));
    let outcome = if damaged.is_empty() { Outcome::Success } else { Outcome::Damage };
    let ui = &session.ui;
    if ui.is_json() {
        let json = ListJson {
            schema_version: SCHEMA_VERSION,
            repository: spec.to_string(),
            keys,
            damaged,
        };
        ui.json(&json)?;
        return Ok(outcome);
    }
    ui.print(table(session, &keys).lines().join("\n"))?;
    for key in &damaged {
        ui.warning(format_args!("key file {} is damaged: {}", &key.id[..8], key.message));
    }
    Ok(outcome)
}

fn table(session: &Session, keys: &[KeyInfo]) -> Table {
    let columns =
        [("ID", Align::Left), ("Created", Align::Left), ("Label", Align::Left), ("", Align::Left)];
    let mut table = Table::new(columns);
    for key in keys {
        table.row([
            key.id.short(),
            key.created.map(|created| human::time(created, session.zone())).unwrap_or_default(),
            human::text(key.label.as_deref().unwrap_or_default().as_bytes()),
            if key.current { "in use here".to_owned() } else { String::new() },
        ]);
    }
    table
}

/// There is no plan that `--dry-run` could show.
fn require_confirmable(session: &Session) -> CommandResult<()> {
    session.require_confirmable().map_err(|error| error.with_hint("add --yes to confirm"))
}

/// The key called `name`: the beginning of its identifier. Damaged key files have names too.
async fn find(repository: &Repository, name: &str) -> CommandResult<(KeyId, Option<KeyInfo>)> {
    let name = name.to_ascii_lowercase();
    let mut keys = repository.keys().await?;
    keys.retain(|(id, _)| !name.is_empty() && id.to_hex().starts_with(&name));
    let error = match keys.len() {
        1 => {
            let (id, info) = keys.remove(0);
            return Ok((id, info.ok()));
        }
        0 => CoreError::new(ErrorKind::NotFound, format!("there is no key {name:?}"))
            .with_hint("list the keys with `backup key list`"),
        _ => CoreError::new(ErrorKind::Ambiguous, format!("several keys begin with {name}"))
            .with_hint("give more digits"),
    };
    Err(error.into())
}

async fn remove(session: &Session, args: &RemoveArgs) -> CommandResult {
    let spec = session.repository()?;
    let repository = session.open(&spec).await?;
    require_confirmable(session)?;
    let (id, info) = find(&repository, &args.key).await?;
    let label = info.as_ref().and_then(|info| info.label.as_deref());
    let ui = &session.ui;
    let named = match label {
        Some(label) => format!("key {} ({})", id.short(), human::text(label.as_bytes())),
        None => format!("key {}", id.short()),
    };
    session
        .confirm(&format!(
            "Remove {named} of {spec}? Its pass phrase then no longer opens the repository."
        ))
        .await?;
    session.trail.note("key", id.short());
    repository
        .remove_key(&id)
        .await
        .map_err(|error| CommandError::from(error).invalid_is_refused())?;
    if ui.is_json() {
        ui.json(&KeyJson::new(spec.to_string(), &id))?;
    }
    ui.status(format_args!("{} {named}", paint(style::GOOD, "Removed")));
    Ok(Outcome::Success)
}
