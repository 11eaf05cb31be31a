//! Where to, and what becomes of what is there.

use std::path::Path;

use backup_control::address::ServerAddress;
use backup_control::config::{Config, SourceKind};

use super::Asking;
use super::what::Chosen;
use crate::command_error::{CommandError, CommandResult};
use crate::human;

/// A place that can be chosen.
enum Place {
    /// Where the data came from.
    Origin,
    /// A source of the configuration.
    Named(String),
    /// A server whose address is asked for.
    Server,
    /// A directory whose name is asked for.
    Directory,
}

/// What of it matters where something is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum There {
    /// Nothing is.
    Nothing,
    /// It is not known, or something is.
    Perhaps,
}

impl Asking<'_> {
    /// Asks where to, unless that was said, and what is needed there.
    pub(super) async fn place(
        &mut self,
        chosen: &Chosen,
        is_part: bool,
        config: Option<&Config>,
    ) -> CommandResult<()> {
        let there = match (&self.args.target[..], self.args.in_place) {
            ([], false) => self.target(chosen, is_part, config).await?,
            ([target], false)
                if is_directory_of_postgres(chosen, is_part) && target.contains('/') =>
            {
                require_new(target)?;
                There::Nothing
            }
            ([target], false) if !chosen.kind().starts_with("postgres") && target.contains('/') => {
                there(Path::new(target))
            }
            _ => There::Perhaps,
        };
        if !is_directory_of_postgres(chosen, is_part) {
            if there == There::Perhaps {
                self.policy().await?;
            }
            if config.is_some_and(|config| config.jobs.contains_key(chosen.job())) {
                self.safety(chosen.job()).await?;
            }
            self.verification().await?;
        }
        Ok(())
    }

    async fn target(
        &mut self,
        chosen: &Chosen,
        is_part: bool,
        config: Option<&Config>,
    ) -> CommandResult<There> {
        let (mut places, mut lines) = (Vec::new(), Vec::new());
        let mut add = |place, line: String| {
            places.push(place);
            lines.push(line);
        };
        let job = config.and_then(|config| config.jobs.get(chosen.job()));
        match chosen.kind() {
            "files" => {
                add(Place::Directory, "below a directory".to_owned());
                let paths = chosen.info.snapshot.paths.join(", ");
                add(
                    Place::Origin,
                    format!("to the original location: {}", human::text(paths.as_bytes())),
                );
            }
            "postgres" if is_part => add(Place::Server, "into a server".to_owned()),
            "postgres" => add(Place::Directory, "as a new data directory".to_owned()),
            kind => {
                let kind = kind_of(kind)?;
                let sources = config.into_iter().flat_map(|config| &config.sources);
                let of_kind: Vec<_> = sources.filter(|(_, source)| source.kind == kind).collect();
                let is_origin = |name: &str| job.is_some_and(|job| job.source == name);
                let line = |source: &backup_control::config::SourceConfig| {
                    source
                        .url
                        .as_ref()
                        .map_or_else(String::new, |url| human::text(url.to_string().as_bytes()))
                };
                for (name, source) in of_kind.iter().filter(|(name, _)| !is_origin(name)) {
                    let shown = human::text(name.as_bytes());
                    add(
                        Place::Named((*name).clone()),
                        format!("into the server {shown}: {}", line(source)),
                    );
                }
                add(Place::Server, "into another server".to_owned());
                if kind == SourceKind::Redis && !is_part {
                    add(Place::Directory, "as files to start a server with".to_owned());
                }
                if let Some((_, source)) = of_kind.iter().find(|(name, _)| is_origin(name)) {
                    add(Place::Origin, format!("to the original location: {}", line(source)));
                }
            }
        }
        let at = match places.len() {
            1 => 0,
            _ => self.session.prompts().choose("Where to?", lines, 0).await?,
        };
        match places.swap_remove(at) {
            Place::Origin => {
                self.words.switch("--in-place");
                Ok(There::Perhaps)
            }
            Place::Named(name) => {
                self.words.flag("--target", &name);
                Ok(There::Perhaps)
            }
            Place::Server => self.server(chosen.kind()).await,
            Place::Directory => self.directory(chosen).await,
        }
    }

    async fn server(&mut self, kind: &str) -> CommandResult<There> {
        let kind = kind_of(kind)?;
        let (question, example) = match kind {
            SourceKind::Mongodb => ("Which server?", "mongodb://USER@HOST/"),
            SourceKind::Redis => ("Which server?", "redis://USER@HOST:PORT"),
            SourceKind::Postgres | SourceKind::Files => ("Which server?", "postgres://USER@HOST/"),
        };
        let check = move |text: &str| {
            let address = ServerAddress::new(text);
            let fits = match kind {
                SourceKind::Mongodb => address.is_mongodb(),
                SourceKind::Redis => address.is_redis(),
                SourceKind::Postgres | SourceKind::Files => address.is_postgres(),
            };
            if fits { Ok(()) } else { Err(format!("write {example}")) }
        };
        let question =
            format!("{question} ({example}; set its password in BACKUP_TARGET_PASSWORD)");
        let address = self.session.prompts().text(&question, None, check).await?;
        self.words.flag("--target", &address);
        Ok(There::Perhaps)
    }

    async fn directory(&mut self, chosen: &Chosen) -> CommandResult<There> {
        let must_be_new = chosen.kind() != "files";
        let check = move |text: &str| match there(Path::new(&path(text))) {
            _ if text.is_empty() => Err("name a directory".to_owned()),
            _ if text.starts_with('~') => {
                Err("write the full path: ~ is not expanded here".to_owned())
            }
            There::Perhaps if must_be_new => {
                Err("name a new or empty directory; this path is neither".to_owned())
            }
            _ => Ok(()),
        };
        let default = format!("./restored-{}", chosen.info.id.short());
        let directory =
            self.session.prompts().text("Which directory?", Some(default), check).await?;
        let directory = path(&directory);
        self.words.flag("--target", &directory);
        Ok(there(Path::new(&directory)))
    }

    /// Asks what becomes of what is there, unless that was said.
    pub(super) async fn policy(&mut self) -> CommandResult<()> {
        if self.args.if_exists.is_some() {
            return Ok(());
        }
        let lines = [
            "fail, and write nothing",
            "replace differing objects, keep objects that the snapshot lacks",
            "replace the objects of the snapshot (Redis: also remove others)",
        ];
        let lines = lines.map(str::to_owned).to_vec();
        match self.session.prompts().choose("If data exists at the target?", lines, 0).await? {
            1 => self.words.flag("--if-exists", "merge"),
            2 => self.words.flag("--if-exists", "replace"),
            _ => {}
        }
        Ok(())
    }
}

/// Whether it becomes a data directory, which is always a new one, and whose server checks it.
fn is_directory_of_postgres(chosen: &Chosen, is_part: bool) -> bool {
    chosen.kind() == "postgres" && !is_part
}

/// A directory as flags take it: what has no slash could be the name of a source.
fn path(text: &str) -> String {
    let is_plain = !text.contains('/') && !text.starts_with('.');
    if is_plain { format!("./{text}") } else { text.to_owned() }
}

/// Refuses a target of a data directory that holds something, before more is asked.
fn require_new(target: &str) -> CommandResult<()> {
    if there(Path::new(target)) == There::Nothing {
        return Ok(());
    }
    let target = human::text(target.as_bytes());
    let error = CommandError::refused(format!("{target} is not a new or empty directory"));
    Err(error.with_hint("name a new or empty directory with --target"))
}

fn there(directory: &Path) -> There {
    match std::fs::read_dir(directory).map(|mut entries| entries.next().is_none()) {
        Ok(true) => There::Nothing,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => There::Nothing,
        Ok(false) | Err(_) => There::Perhaps,
    }
}

fn kind_of(kind: &str) -> CommandResult<SourceKind> {
    match kind {
        "mongodb" => Ok(SourceKind::Mongodb),
        "redis" => Ok(SourceKind::Redis),
        "postgres" | "postgres-logical" => Ok(SourceKind::Postgres),
        other => {
            let error = CommandError::usage(format!(
                "this program cannot restore snapshots of `{}`",
                human::text(other.as_bytes())
            ));
            Err(error.with_hint(
                "use the version that made the snapshot, or `restic restore` and the notes in \
                 .backup/RESTORE.md",
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_no_names_of_sources() {
        assert_eq!(path("out"), "./out");
        for same in ["./out", "../out", "/srv/out", "a/b", "~/x"] {
            assert_eq!(path(same), same);
        }
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(there(dir.path()), There::Nothing);
        assert_eq!(there(&dir.path().join("new")), There::Nothing);
        std::fs::write(dir.path().join("x"), "x").unwrap();
        assert_eq!(there(dir.path()), There::Perhaps);
        assert_eq!(there(&dir.path().join("x")), There::Perhaps);
        assert!(require_new(dir.path().to_str().unwrap()).is_err());
        assert!(require_new(dir.path().join("new").to_str().unwrap()).is_ok());
    }
}
