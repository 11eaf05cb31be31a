//! Which repository, which job, which snapshot or moment of it, and what of that.

use std::collections::BTreeMap;

use backup_control::config::Config;
use backup_control::snapshots::Choice;
use backup_core::repository::SnapshotInfo;
use backup_core::source::Selection;

use super::Asking;
use crate::args;
use crate::command_error::{CommandError, CommandResult};
use crate::commands::restore::at;
use crate::commands::view;
use crate::human;
use crate::opened::Opened;
use crate::table::{Align, Table};

/// Objects that are shown in a list; of more, some are chosen by globs.
const MAX_LISTED: usize = 2_000;

/// What somebody wants back.
pub(super) enum Subject {
    /// A group of the configuration.
    Group(String),
    /// A snapshot, or a moment of its log.
    Snapshot(Box<Chosen>),
}

/// A snapshot that was chosen.
pub(super) struct Chosen {
    pub(super) opened: Opened,
    pub(super) info: SnapshotInfo,
}

impl Chosen {
    pub(super) fn job(&self) -> &str {
        self.info.snapshot.tag("job").unwrap_or_default()
    }

    /// The kind of its source.
    pub(super) fn kind(&self) -> &str {
        self.info.snapshot.tag("source").unwrap_or("files")
    }
}

/// The snapshots of one job.
struct JobLine<'a> {
    newest: &'a SnapshotInfo,
    snapshots: u64,
}

impl Asking<'_> {
    pub(super) async fn subject(&mut self, config: Option<&Config>) -> CommandResult<Subject> {
        let mut groups: Vec<String> =
            config.into_iter().flat_map(|config| config.groups.keys()).cloned().collect();
        if !self.args.filter.is_empty()
            || !self.args.only.is_empty()
            || !self.args.exclude.is_empty()
        {
            // None of that is for groups.
            groups.clear();
        }
        if let Some(group) = self.repository(config, &mut groups).await? {
            return Ok(Subject::Group(group));
        }
        let opened = self.session.open_indexed().await?;
        view::warn_of_damaged(&self.session.ui, &opened.snapshots);
        let choice = self.args.filter.choice(&self.session)?;
        let jobs = jobs(&opened, &choice);
        if jobs.is_empty() && groups.is_empty() {
            return Err(CommandError::new(
                crate::command_error::Kind::Core(backup_core::error::ErrorKind::NotFound),
                "there is no snapshot to restore",
            )
            .with_hint(
                "create a snapshot with `backup run`; `backup list` shows the existing ones",
            ));
        }
        let job = self.job(&jobs, &groups, config).await?;
        let Some(line) = jobs.get(job) else {
            return Ok(Subject::Group(groups.swap_remove(job - jobs.len())));
        };
        let info = self.moment(&opened, &choice, line.newest).await?;
        Ok(Subject::Snapshot(Box::new(Chosen { opened, info })))
    }

    /// Which repository, if the configuration has several and none is named; or a group, whose
    /// members may be in several.
    async fn repository(
        &mut self,
        config: Option<&Config>,
        groups: &mut Vec<String>,
    ) -> CommandResult<Option<String>> {
        let is_named = self.session.named_repository()?.is_some()
            || self.session.env.text("BACKUP_REPO").is_some();
        let Some(config) = config.filter(|config| !is_named && config.repositories.len() > 1)
        else {
            return Ok(None);
        };
        let mut lines = Table::new([("", Align::Left), ("", Align::Left)]);
        for name in config.repositories.keys() {
            let place = self.session.resolve(name)?.place();
            lines.row([human::text(name.as_bytes()), human::text(place.as_bytes())]);
        }
        groups.iter().for_each(|group| lines.row(group_line(group, config)));
        let chosen =
            self.session.prompts().choose("From which repository?", rows(&lines), 0).await?;
        if let Some(name) = config.repositories.keys().nth(chosen) {
            self.words.flag("-r", name);
            self.session.global.repo = Some(name.clone());
            groups.clear();
            return Ok(None);
        }
        Ok(Some(groups.swap_remove(chosen - config.repositories.len())))
    }

    /// Which job or, behind them, which group.
    async fn job(
        &self,
        jobs: &[JobLine<'_>],
        groups: &[String],
        config: Option<&Config>,
    ) -> CommandResult<usize> {
        let now = self.session.cx.clock.now();
        let mut lines = Table::new([("", Align::Left), ("", Align::Left), ("", Align::Left)]);
        for JobLine { newest, snapshots } in jobs {
            let tag =
                |name: &str| human::text(newest.snapshot.tag(name).unwrap_or_default().as_bytes());
            let name = match tag("job") {
                name if name.is_empty() => {
                    format!("(no job, host {})", human::text(newest.snapshot.hostname.as_bytes()))
                }
                name => name,
            };
            let count = human::count(*snapshots, "snapshot", "snapshots");
            lines.row([
                name,
                tag("source"),
                format!("{count}, the newest {}", human::age(newest.time(), now)),
            ]);
        }
        if let Some(config) = config {
            groups.iter().for_each(|group| lines.row(group_line(group, config)));
        }
        let lines = rows(&lines);
        if let [only] = &lines[..] {
            self.session.ui.status(format_args!("Restoring {only}"));
            return Ok(0);
        }
        self.session.prompts().choose("What do you want to restore?", lines, 0).await
    }

    /// Which snapshot of the job, or which moment of its log.
    async fn moment(
        &mut self,
        opened: &Opened,
        choice: &Choice,
        newest: &SnapshotInfo,
    ) -> CommandResult<SnapshotInfo> {
        let of_job = |info: &&SnapshotInfo| choice.matches(info) && key(info) == key(newest);
        let snapshots: Vec<&SnapshotInfo> =
            opened.snapshots.snapshots.iter().rev().filter(of_job).collect();
        let mut table = Table::new([("", Align::Left); 7]);
        for info in &snapshots {
            let mut row = view::snapshot_row(&self.session, info);
            // The job is known.
            row.remove(3);
            row[2] = format!("({})", row[2]);
            row.push(view::states(info).join(", "));
            table.row(row);
        }
        let mut lines = rows(&table);
        let has_log = newest.snapshot.x_log.is_some();
        if has_log {
            lines.insert(0, "any moment of the log: the latest, or a time".to_owned());
        }
        let chosen = self
            .session
            .prompts()
            .choose("Which snapshot or moment?", lines, usize::from(has_log))
            .await?;
        match chosen.checked_sub(usize::from(has_log)) {
            Some(chosen) => {
                let info = snapshots[chosen];
                self.words.name = Some(name_of(opened, info));
                Ok(info.clone())
            }
            None => self.moment_of_log(opened, newest).await,
        }
    }

    /// A moment that can be restored.
    async fn moment_of_log(
        &mut self,
        opened: &Opened,
        newest: &SnapshotInfo,
    ) -> CommandResult<SnapshotInfo> {
        let name = name_of(opened, newest);
        loop {
            let question =
                "Which moment? (`latest`, a time such as `2026-11-21 14:30` or `2h ago`)";
            let text = self
                .session
                .prompts()
                .text(question, Some("latest".to_owned()), |_| Ok(()))
                .await?;
            let filter = &self.args.filter;
            let asked = at::Asked { snapshot: Some(&name), at: Some(&text), before: None, filter };
            match at::choose(&self.session, opened, asked).await {
                Ok(found) => {
                    self.words.flag("--at", &text);
                    self.words.name = Some(name);
                    return Ok(found.info);
                }
                Err(error) if error.is_cancelled() => return Err(error),
                Err(error) => self.session.ui.error(&error),
            }
        }
    }

    /// Asks what of it is wanted, unless that was said; says whether it is a part.
    pub(super) async fn part(&mut self, chosen: &Chosen) -> CommandResult<bool> {
        if !self.args.only.is_empty() || !self.args.exclude.is_empty() {
            return Ok(true);
        }
        let part = match chosen.kind() {
            "files" => "a part: files and directories",
            "mongodb" => "a part: databases, collections",
            "redis" => "a part: keys (into a server)",
            "postgres" => "a part: databases, schemas, tables (into a server)",
            _ => "a part: databases, schemas, tables",
        };
        let lines = vec!["everything".to_owned(), part.to_owned()];
        if self.session.prompts().choose("All or a part?", lines, 0).await? == 0 {
            return Ok(false);
        }
        let manifest = chosen.opened.indexed.snapshot(&chosen.info).manifest().await?;
        let objects: Vec<String> =
            manifest.map(|manifest| manifest.objects.into_keys().collect()).unwrap_or_default();
        let globs = match chosen.kind() {
            "mongodb" | "postgres-logical"
                if !objects.is_empty() && objects.len() <= MAX_LISTED =>
            {
                let lines = objects.iter().map(|name| human::text(name.as_bytes())).collect();
                let some = self
                    .session
                    .prompts()
                    .choose_some("Which? (space selects, typing filters)", lines)
                    .await?;
                some.into_iter().map(|at| Selection::literal(&objects[at])).collect()
            }
            _ => self.globs(chosen).await?,
        };
        globs.iter().for_each(|glob| self.words.flag("--only", glob));
        Ok(true)
    }

    /// Globs that something matches, as far as that can be known before a restore.
    async fn globs(&self, chosen: &Chosen) -> CommandResult<Vec<String>> {
        let example = match chosen.kind() {
            "files" => "a path or a glob, for instance '*.odt' or /home/me/letters",
            "mongodb" => "a glob of database.collection",
            "redis" => "a glob of /database/key, for instance /0/session:*",
            _ => "a glob of database.schema.table",
        };
        let mut globs: Vec<String> = Vec::new();
        loop {
            let question = match globs.is_empty() {
                true => format!("Which? ({example})"),
                false => "Another one? (leave empty to finish)".to_owned(),
            };
            let is_first = globs.is_empty();
            let check = move |text: &str| match text {
                "" if is_first => Err("name at least one; `**` matches everything".to_owned()),
                "" => Ok(()),
                glob => Selection::new(vec![glob.to_owned()], Vec::new())
                    .map(|_| ())
                    .map_err(|error| error.to_string()),
            };
            let glob = self.session.prompts().text(&question, None, check).await?;
            if glob.is_empty() {
                return Ok(globs);
            }
            if chosen.kind() == "files" && !self.matches(chosen, &glob).await? {
                self.session.ui.warning(format_args!(
                    "nothing in the snapshot matches {}",
                    human::text(glob.as_bytes())
                ));
                continue;
            }
            globs.push(glob);
        }
    }

    async fn matches(&self, chosen: &Chosen, glob: &str) -> CommandResult<bool> {
        let selection = args::selection(&[glob.to_owned()], &[])?;
        let snapshot = chosen.opened.indexed.snapshot(&chosen.info);
        let mut walk = snapshot.walk().with_faults();
        while let Some((path, _)) = walk.next().await? {
            self.session.cx.check_cancelled()?;
            if selection.covers(&path) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Snapshots of one job and one kind of source belong together.
fn key(info: &SnapshotInfo) -> (Option<&str>, Option<&str>) {
    (info.snapshot.tag("job"), info.snapshot.tag("source"))
}

/// The jobs that have snapshots, the one with the newest first.
fn jobs<'a>(opened: &'a Opened, choice: &Choice) -> Vec<JobLine<'a>> {
    let mut jobs: BTreeMap<_, JobLine<'a>> = BTreeMap::new();
    // The oldest is first.
    for info in opened.snapshots.snapshots.iter().filter(|info| choice.matches(info)) {
        let job = jobs.entry(key(info)).or_insert(JobLine { newest: info, snapshots: 0 });
        job.newest = info;
        job.snapshots += 1;
    }
    let mut jobs: Vec<JobLine<'a>> = jobs.into_values().collect();
    jobs.sort_by_key(|job| std::cmp::Reverse(job.newest.time()));
    jobs
}

fn group_line(name: &str, config: &Config) -> Vec<String> {
    let members = config.groups.get(name).map(|group| group.jobs.join(", ")).unwrap_or_default();
    vec![
        human::text(name.as_bytes()),
        "group".to_owned(),
        format!("{} to one moment", human::text(members.as_bytes())),
    ]
}

/// The lines of a table without headings.
fn rows(table: &Table) -> Vec<String> {
    table.lines().into_iter().skip(1).map(|line| line.trim_end().to_owned()).collect()
}

/// The shortest name of a snapshot that is none of another one.
fn name_of(opened: &Opened, info: &SnapshotInfo) -> String {
    let short = info.id.short();
    let same = |other: &&SnapshotInfo| other.id.to_hex().starts_with(&short);
    if opened.snapshots.snapshots.iter().filter(same).count() > 1 {
        info.id.to_hex()
    } else {
        short
    }
}

#[cfg(test)]
mod tests {
    use backup_core::source::EntryPath;

    use super::*;

    #[test]
    fn names_are_no_globs() {
        for name in ["shop.orders", "shop.a*b", "shop.[x]{y}", r"shop.a\b", "shop.!a?"] {
            let selection = Selection::new(vec![Selection::literal(name)], Vec::new()).unwrap();
            let covers =
                |name: &str| selection.covers(&EntryPath::new(format!("/{name}")).unwrap());
            assert!(covers(name), "{name}");
            assert!(!covers("shop.aXXb") && !covers("shop.x"), "{name}");
        }
    }
}
