//! Files of the server's configuration on their way to the snapshot: those outside of the data
//! directory, and links in it, which a base backup leaves out.

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use backup_core::context::Context;
use backup_core::event::{Warning, WarningKind};
use backup_core::source::{Chunking, Item, Metadata, SourceError, SourceResult};
use backup_core::words::few;
use bytes::Bytes;
use tokio_postgres::Row;

use super::super::conf::{DEEPEST, Kind, LARGEST, MOST, Syntax, includes, is_included, normal};
use super::super::error::{ServerError, code, invalid, of_sql};
use super::super::identifier::readable;
use super::super::layout::Layout;
use super::super::options::PostgresOptions;
use super::super::wire::Sql;
use super::describe::{ConfigurationFile, Main};
use super::feed::Feed;

/// Names that a note lists.
const NAMED: usize = 5;

/// The configuration of a server.
#[derive(Debug, Default)]
pub(super) struct Configuration {
    /// The directory of its data.
    pub(super) data_directory: String,
    files: Vec<ConfigFile>,
    /// Files and directories that it names and that could not be read.
    unread: Vec<String>,
}

/// A file of it.
#[derive(Debug)]
struct ConfigFile {
    path: PathBuf,
    main: Option<Main>,
    content: Bytes,
    /// Its path in the data directory, if it lies there.
    inside: Option<String>,
}

/// Rights of the session.
#[derive(Debug, Clone, Copy)]
struct Rights {
    binary: bool,
    text: bool,
}

const DOING: &str = "cannot read the configuration";

fn failed(error: &tokio_postgres::Error) -> SourceError {
    of_sql(error, DOING)
}

impl Configuration {
    /// Reads the files, as far as the user may.
    pub(super) async fn read(sql: &Sql) -> SourceResult<Self> {
        const RIGHTS: &str = "SELECT pg_has_role(current_user, 'pg_read_all_settings', 'USAGE'), \
                              has_function_privilege('pg_read_binary_file(text)', 'EXECUTE'), \
                              has_function_privilege('pg_read_file(text)', 'EXECUTE')";
        const MAIN: &str = "SELECT name, setting FROM pg_settings WHERE name IN ('data_directory', \
                            'config_file', 'hba_file', 'ident_file') AND setting <> ''";
        const SOURCES: &str = "SELECT DISTINCT sourcefile FROM pg_settings WHERE sourcefile <> ''";
        let row = sql.client.query_one(RIGHTS, &[]).await.map_err(|error| failed(&error))?;
        let has = |at: usize| row.try_get::<_, bool>(at).map_err(|error| failed(&error));
        // Without the right to, these settings are not listed at all.
        if !has(0)? {
            return Err(invalid("the user is not a member of pg_read_all_settings"));
        }
        let rights = Rights { binary: has(1)?, text: has(2)? };
        let mut found = Self::default();
        let mut mains = Vec::new();
        for row in sql.client.query(MAIN, &[]).await.map_err(|error| failed(&error))? {
            let (name, path) = (text(&row, 0)?, text(&row, 1)?);
            match &*name {
                "config_file" => mains.push((Main::Settings, path)),
                "hba_file" => mains.push((Main::Rules, path)),
                "ident_file" => mains.push((Main::Users, path)),
                _ => found.data_directory = path,
            }
        }
        let sources = sql.client.query(SOURCES, &[]).await.map_err(|error| failed(&error))?;
        let sources = sources.iter().map(|row| text(row, 0)).collect::<SourceResult<Vec<_>>>()?;
        let known = mains.iter().map(|(_, path)| path).chain(&sources);
        let mut outside = known.filter(|path| found.inside(Path::new(path)).is_none());
        let can_read = rights.binary || rights.text;
        if let Some(path) = outside.next().filter(|_| !can_read) {
            return Err(invalid(format!("the user may not read {path}")));
        }
        if can_read {
            found.collect(sql, rights, mains, sources).await?;
        }
        Ok(found)
    }

    /// The path in the data directory of a file there.
    fn inside(&self, path: &Path) -> Option<String> {
        let rest = path.strip_prefix(&self.data_directory).ok()?;
        Some(rest.to_string_lossy().into_owned())
    }

    /// Reads these files and all that they include.
    async fn collect(
        &mut self,
        sql: &Sql,
        rights: Rights,
        mains: Vec<(Main, String)>,
        sources: Vec<String>,
    ) -> SourceResult<()> {
        let main = |(main, path): (Main, String)| (PathBuf::from(path), Some(main), main.syntax());
        let source = |path: String| (PathBuf::from(path), None, Syntax::Settings);
        let mut waiting: Vec<_> = mains.into_iter().map(main).collect();
        waiting.extend(sources.into_iter().map(source));
        waiting.extend(self.named_by_views(sql).await);
        let mut seen = HashSet::new();
        for _ in 0..=DEEPEST {
            let mut next = Vec::new();
            for (path, main, syntax) in waiting {
                if seen.len() >= MOST || !seen.insert((path.clone(), syntax)) {
                    continue;
                }
                let shown = path.to_string_lossy().into_owned();
                let content = match content(sql, rights, &shown).await {
                    Ok(Some(content)) if content.len() as u64 <= LARGEST => content,
                    // It need not exist if it is included.
                    Ok(None) => continue,
                    Ok(Some(_)) | Err(_) => {
                        self.unread.push(shown);
                        continue;
                    }
                };
                let here = path.parent().unwrap_or(Path::new("/"));
                for include in includes(syntax, &String::from_utf8_lossy(&content)) {
                    let path = normal(&here.join(&include.path));
                    if include.kind == Kind::Directory {
                        let listed = self.list(sql, &path).await?;
                        next.extend(listed.into_iter().map(|path| (path, None, syntax)));
                    } else {
                        next.push((path, None, syntax));
                    }
                }
                let inside = self.inside(&path);
                self.files.push(ConfigFile { path, main, content, inside });
            }
            waiting = next;
        }
        self.unread.sort_unstable();
        self.unread.dedup();
        Ok(())
    }

    /// The files of a directory that `include_dir` names.
    async fn list(&mut self, sql: &Sql, dir: &Path) -> SourceResult<Vec<PathBuf>> {
        let shown = dir.to_string_lossy().into_owned();
        let rows = sql.client.query("SELECT pg_ls_dir($1)", &[&shown]).await;
        let rows = match rows {
            Ok(rows) => rows,
            Err(error) => {
                let error = ServerError::of_sql(&error).ok_or_else(|| failed(&error))?;
                if error.code != code::UNDEFINED_FILE {
                    self.unread.push(shown);
                }
                return Ok(Vec::new());
            }
        };
        let mut files = Vec::new();
        for row in rows {
            let name = text(&row, 0)?;
            files.extend(is_included(&name).then(|| dir.join(name)));
        }
        Ok(files)
    }

    /// Files that views of the server name, if the user has the right to read them.
    async fn named_by_views(&self, sql: &Sql) -> Vec<(PathBuf, Option<Main>, Syntax)> {
        // The views of client rules name files from version 16 on. Views that the role has no right
        // to are left out: each refusal would be an error in the log of the server.
        const VIEWS: &str = "SELECT name FROM unnest(ARRAY['pg_file_settings', \
                             'pg_hba_file_rules', 'pg_ident_file_mappings']) name WHERE \
                             has_table_privilege(to_regclass(name), 'SELECT') AND (name = \
                             'pg_file_settings' OR current_setting('server_version_num')::int >= \
                             160000)";
        let mut named = Vec::new();
        let views = sql.client.query(VIEWS, &[]).await.unwrap_or_default();
        for view in views.iter().filter_map(|row| row.try_get::<_, String>(0).ok()) {
            let (column, syntax) = match &*view {
                "pg_file_settings" => ("sourcefile", Syntax::Settings),
                _ => ("file_name", Syntax::Rules),
            };
            let asking = format!("SELECT DISTINCT {column} FROM {view}");
            let rows = sql.client.query(&asking, &[]).await.unwrap_or_default();
            let paths = rows.iter().filter_map(|row| row.try_get::<_, Option<String>>(0).ok()?);
            named.extend(paths.map(|path| (PathBuf::from(path), None, syntax)));
        }
        named
    }

    /// Emits a note with the names of unreadable files.
    pub(super) fn note(&self, cx: &Context, options: &PostgresOptions) {
        if !self.unread.is_empty() {
            let names = few(&self.unread, NAMED);
            note_unread(cx, options, &invalid(format!("the user may not read {names}")));
        }
    }

    /// Hands the files outside of the data directory on, and those in it that the server `skipped`
    /// because they are links. Warns of all other files that it skipped.
    pub(super) async fn hand_on(
        self,
        cx: &Context,
        feed: &Feed,
        layout: &Layout,
        skipped: &[String],
    ) -> SourceResult<Vec<ConfigurationFile>> {
        let (mut handed_on, mut names) = (Vec::new(), BTreeSet::new());
        let mut paths = HashSet::new();
        for file in self.files {
            let is_meant = file.inside.as_ref().is_none_or(|inside| skipped.contains(inside));
            let path = file.inside.unwrap_or_else(|| file.path.to_string_lossy().into_owned());
            if !is_meant || !paths.insert(path.clone()) {
                continue;
            }
            let name = free_name(&path, &names);
            let metadata = Metadata::stream(cx.clock.now());
            let at = layout.config().join(name.as_bytes());
            feed.whole(at, metadata, Chunking::default(), file.content).await?;
            names.insert(name.clone());
            handed_on.push(ConfigurationFile { path, name, main: file.main });
        }
        for path in skipped.iter().filter(|path| !paths.contains(*path)) {
            let message = "the server skipped this link or special file: it is not in the snapshot";
            let message = message.to_owned();
            let warning = Warning { kind: WarningKind::Unreadable, path: path.clone(), message };
            feed.item(Item::Warning(warning)).await?;
        }
        Ok(handed_on)
    }
}

fn text(row: &Row, at: usize) -> SourceResult<String> {
    row.try_get(at).map_err(|error| failed(&error))
}

/// The content of a file; `None` if it does not exist.
async fn content(sql: &Sql, rights: Rights, path: &str) -> SourceResult<Option<Bytes>> {
    let read = if rights.binary {
        let row = sql.client.query_one("SELECT pg_read_binary_file($1)", &[&path]).await;
        row.and_then(|row| row.try_get::<_, Vec<u8>>(0)).map(Bytes::from)
    } else {
        let row = sql.client.query_one("SELECT pg_read_file($1)", &[&path]).await;
        row.and_then(|row| row.try_get::<_, String>(0)).map(Bytes::from)
    };
    match read {
        Ok(content) => Ok(Some(content)),
        Err(error) => match ServerError::of_sql(&error) {
            Some(error) if error.code == code::UNDEFINED_FILE => Ok(None),
            _ => Err(failed(&error)),
        },
    }
}

/// The last part of a path, behind a number if another file has that name.
fn free_name(path: &str, taken: &BTreeSet<String>) -> String {
    let last = path.rsplit('/').next().unwrap_or_default();
    let mut names = (1_u32..).map(|number| match number {
        1 => last.to_owned(),
        number => format!("{number}-{last}"),
    });
    names.find(|name| !taken.contains(name)).unwrap_or_default()
}

/// Notes why files are missing in the snapshot, and the rights by which they can be read.
pub(super) fn note_unread(cx: &Context, options: &PostgresOptions, error: &SourceError) {
    let (user, database) = (readable(&options.user), readable(&options.database));
    let text = format!(
        "configuration files that are links or lie outside of the data directory, if any, are not \
         in the snapshot: {}. To include them: GRANT pg_read_all_settings, pg_read_server_files TO \
         {user}; GRANT EXECUTE ON FUNCTION pg_read_file(text), pg_ls_dir(text) TO {user}; and in \
         pg_hba.conf: hostssl {database} {user} ADDRESS scram-sha-256",
        error.chain()
    );
    cx.events.note(text);
}
