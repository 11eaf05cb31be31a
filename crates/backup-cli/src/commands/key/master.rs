//! `backup key rotate --master`: a new key for the data itself, in a new repository.

use backup_control::environment::Environment;
use backup_control::passphrase::{PassphraseFlags, PassphraseOrigin};
use backup_control::repositories::RepositorySpec;
use backup_core::copy::CopiedSnapshot;
use backup_core::repository::{InitOptions, Likeness, Repository};

use super::rotate::Args;
use crate::command_error::{CommandResult, Outcome};
use crate::commands::copy::{self, Target};
use crate::commands::init::KeyFile;
use crate::commands::view;
use crate::human;
use crate::session::{Session, name_origin};
use crate::style::{self, paint};

pub(super) async fn run(session: &Session, args: &Args, to: &str) -> CommandResult {
    let from = session.repository()?;
    let opened = session.open_indexed_at(&from).await?;
    view::warn_of_damaged(&session.ui, &opened.snapshots);
    let spec = session.resolve(to)?;
    let repository = target(session, args, &spec, opened.indexed.repository()).await?;
    let target = Target { spec, repository };
    let snapshots = &opened.snapshots.snapshots;
    let report =
        copy::copy_to(session, &opened.indexed, snapshots, &target, false, "rotate").await?;
    // What is held or promised here is held and promised there.
    let copies: Vec<CopiedSnapshot> =
        report.copied.iter().chain(&report.present).copied().collect();
    target.repository.take_over_protection(opened.indexed.repository(), &copies).await?;
    let unreadable =
        opened.snapshots.damaged.iter().map(|(id, _)| format!("snapshot {}", id.short()));
    let left_out: Vec<String> =
        unreadable.chain(report.problems.into_iter().map(|problem| problem.object)).collect();
    explain(session, &from, &target.spec, &left_out);
    Ok(Outcome::with_warnings(left_out.len() as u64))
}

/// The new repository: made, or found as an interrupted attempt left it.
async fn target(
    session: &Session,
    args: &Args,
    to: &RepositorySpec,
    from: &Repository,
) -> CommandResult<Repository> {
    let env = &session.env;
    // Not the variables that hold the pass phrase of the old one.
    let configured = PassphraseOrigin::choose(
        &PassphraseFlags::default(),
        to.config.as_ref(),
        &Environment::default(),
    );
    let origin = args.new.origin(session).or(configured);
    if to.exists(env).await? {
        session.ui.status(format_args!("Continuing with {to}"));
        return match args.key_file.clone().map(PassphraseOrigin::File).or(origin) {
            Some(origin) => {
                let passphrase = session.fetch(&origin).await?;
                let opened = to.open(&passphrase, env).await;
                opened.map_err(|error| name_origin(error, Some(&origin), &passphrase))
            }
            None => session.open_with(to, &PassphraseFlags::default()).await,
        };
    }
    let (passphrase, file) = match origin.filter(|_| args.key_file.is_none()) {
        Some(origin) => (session.fetch(&origin).await?, None),
        None => args.passphrase(session).await?,
    };
    let likeness = Likeness { repository: from.clone(), share_key: false };
    let options = InitOptions { recovery: None, like: Some(likeness) };
    let created = to.init(&passphrase, &options, env, &session.cx).await?;
    session.ui.status(format_args!(
        "{} at {to}, with a new master key",
        paint(style::GOOD, "Repository created")
    ));
    if let Some(path) = file.map(KeyFile::keep) {
        session.ui.status(format_args!(
            "The pass phrase is in {}. Keep a copy elsewhere: without the pass phrase, the backups \
             are lost.",
            path.display()
        ));
    }
    Ok(created)
}

/// Lists the steps that remain for a person. `left_out` names the snapshots that are not in the new
/// repository because they are damaged.
fn explain(session: &Session, from: &RepositorySpec, to: &RepositorySpec, left_out: &[String]) {
    let ui = &session.ui;
    if left_out.is_empty() {
        ui.status("All snapshots are in both repositories. To switch:");
    } else {
        let count =
            human::count(left_out.len() as u64, "damaged snapshot is", "damaged snapshots are");
        ui.warning(format_args!("{count} not in {to}: {}", left_out.join(", ")));
        ui.status("All other snapshots are in both repositories. To switch:");
    }
    ui.status(format_args!("  1. {} check -r {} --read-data", session.program, called(to)));
    let place = match &from.name {
        Some(name) => format!("[repositories.{name}] in the configuration"),
        None => "BACKUP_REPO, or every place that holds the old address".to_owned(),
    };
    ui.status(format_args!(
        "  2. put the new address and the origin of its pass phrase into {place}"
    ));
    let (old, new) = (called(from), called(to));
    let again = format!("{} key rotate --master -r {old} --to {new}", session.program);
    ui.status(format_args!("  3. {again}, again, to copy snapshots created since"));
    ui.status(format_args!(
        "  4. {} key generate -r {new}, for a new recovery key",
        session.program
    ));
    let delete = format!("delete {from}: the old master key opens its data for ever");
    if left_out.is_empty() {
        ui.status(format_args!("  5. {delete}"));
    } else {
        let repair = format!("{} repair -r {old}", session.program);
        ui.status(format_args!("  5. {repair}, then step 3, to copy snapshots that it mends"));
        ui.status(format_args!("  6. {delete}, and the left-out snapshots are lost with it"));
    }
}

/// How a repository is named on a command line.
fn called(spec: &RepositorySpec) -> String {
    human::shell(&spec.name.clone().unwrap_or_else(|| spec.to_string()))
}
