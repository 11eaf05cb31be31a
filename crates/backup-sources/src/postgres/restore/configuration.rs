//! The configuration of the original, put in force in the data directory: its files get places
//! there, and where they name each other, these places.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use backup_core::source::SourceResult;
use backup_core::words::few;

use super::super::backup::{ConfigurationFile, Main, content};
use super::super::conf::{
    Adapted, Include, Kind, LARGEST, MOST, Syntax, adapted, files_of, normal,
};
use super::super::error::{invalid, malformed};
use super::Job;
use super::target::{Target, failed};

/// Directory of files whose place has nothing to do with that of `postgresql.conf`.
const INCLUDED: &str = "included";
/// Names that a note lists.
const NAMED: usize = 10;

/// Writes the files of the configuration that were outside of the data directory, or links in it.
/// They are in force, unless the data directory is to have a `minimal` configuration: then they
/// stand beside, as `….original`.
pub(super) async fn put(job: &Job<'_>, target: &Target, minimal: bool) -> SourceResult<()> {
    let files = files(job).await?;
    let places = Places::of(job, target, &files);
    let mut put = Vec::new();
    for file in &files {
        let path = job.layout.config().join(file.name.as_bytes());
        let Some(node) = job.snapshot.find(&path).await?.filter(|node| node.is_file()) else {
            continue;
        };
        if node.metadata.size > LARGEST {
            let size = node.metadata.size;
            return Err(malformed(format!("{path}: a configuration file of {size} bytes")));
        }
        let mut place = places.of_file(file);
        if minimal || file.main.is_none() && !is_known(file) {
            place.as_mut_os_string().push(".original");
        } else if file.main.is_some() && target.root.join(&place).exists() {
            set_aside(target, &place, "unused")?;
        }
        make_parents(target, &place)?;
        target.write(&place.to_string_lossy(), &content(job.snapshot, &node).await?)?;
        put.push(place.display().to_string());
    }
    if minimal {
        for main in Main::ALL {
            let place = Path::new(main.name());
            if !target.root.join(place).exists() {
                continue;
            }
            if files.iter().any(|file| file.main == Some(main)) {
                // It was not in force: that one is among `files`.
                set_aside(target, place, "unused")?;
            } else {
                set_aside(target, place, "original")?;
                put.push(format!("{}.original", main.name()));
            }
        }
        let names = few(&put, NAMED);
        job.cx.events.note(format!("the configuration of the original is not in force: {names}"));
        return Ok(());
    }
    let left_out = Adapting::new(target, &places).all(&files)?;
    if !put.is_empty() {
        job.cx.events.note(format!(
            "in force from outside of the data directory of the original: {}",
            few(&put, NAMED)
        ));
    }
    if !left_out.is_empty() {
        job.cx.events.note(format!(
            "not in force, because the snapshot lacks them: {}",
            few(&left_out, NAMED)
        ));
    }
    Ok(())
}

/// The files that the snapshot has in `config/`. Older ones have only
/// names: of links in the data directory, and of main files.
async fn files(job: &Job<'_>) -> SourceResult<Vec<ConfigurationFile>> {
    let description = &job.description;
    if !description.configuration.is_empty() {
        return Ok(description.configuration.clone());
    }
    let Some(node) = job.snapshot.find(&job.layout.config()).await? else { return Ok(Vec::new()) };
    let Some(subtree) = node.subtree else { return Ok(Vec::new()) };
    let tree = job.snapshot.tree(&subtree).await?;
    let names = tree.nodes.iter().filter(|node| node.is_file());
    let names = names.map(|node| String::from_utf8_lossy(&node.name).into_owned());
    let file = |name: String| ConfigurationFile {
        path: if description.linked.contains(&name) { name.clone() } else { format!("/{name}") },
        main: Main::ALL.into_iter().find(|main| main.name() == name),
        name,
    };
    Ok(names.map(file).collect())
}

/// Returns `true` if the place of a file is known: older snapshots have only names.
fn is_known(file: &ConfigurationFile) -> bool {
    Path::new(&file.path).parent() != Some(Path::new("/"))
}

/// Gives a file in the data directory another name.
fn set_aside(target: &Target, place: &Path, suffix: &str) -> SourceResult<()> {
    let from = target.root.join(place);
    let mut to = from.clone();
    to.as_mut_os_string().push(format!(".{suffix}"));
    if to.symlink_metadata().is_ok() {
        return Err(invalid(format!("{} exists already", to.display())));
    }
    fs::rename(&from, &to).map_err(|error| failed(&to, error))
}

/// Makes the directories above a place in the data directory.
fn make_parents(target: &Target, place: &Path) -> SourceResult<()> {
    let mut dir = target.root.clone();
    for part in place.parent().into_iter().flat_map(Path::components) {
        dir.push(part);
        make(target, &dir)?;
    }
    Ok(())
}

fn make(target: &Target, dir: &Path) -> SourceResult<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    match dir.symlink_metadata() {
        Ok(found) if found.is_dir() => return Ok(()),
        // A crafted snapshot may have a link there, which leads anywhere.
        Ok(_) => return Err(invalid(format!("{} is not a directory", dir.display()))),
        Err(_) => {}
    }
    fs::DirBuilder::new().mode(0o700).create(dir).map_err(|error| failed(dir, error))?;
    target.own_like_root(dir)
}

/// Returns `true` for a file in the data directory that no link leads to.
fn is_plain_file(target: &Target, place: &Path) -> bool {
    let mut path = target.root.clone();
    let leads_elsewhere = place.components().any(|part| {
        path.push(part);
        path.symlink_metadata().is_ok_and(|found| found.is_symlink())
    });
    !leads_elsewhere && path.is_file()
}

/// Where files of the original get their places in the data directory.
#[derive(Debug)]
struct Places {
    /// The data directory of the original, if that is known.
    data: Option<PathBuf>,
    /// The directory of its `postgresql.conf`, if that was outside.
    main: Option<PathBuf>,
    /// Names in the data directory that come from there.
    taken: HashSet<PathBuf>,
}

impl Places {
    fn of(job: &Job<'_>, target: &Target, files: &[ConfigurationFile]) -> Self {
        let settings = files.iter().find(|file| file.main == Some(Main::Settings));
        let settings = settings.map(|file| PathBuf::from(&file.path));
        let main = settings.filter(|path| path.is_absolute());
        let entries = fs::read_dir(&target.root).into_iter().flatten().flatten();
        Self {
            data: job.description.data_directory.as_ref().map(PathBuf::from),
            main: main.and_then(|path| Some(path.parent()?.to_owned())),
            taken: entries.map(|entry| PathBuf::from(entry.file_name())).collect(),
        }
    }

    fn of_file(&self, file: &ConfigurationFile) -> PathBuf {
        file.main.map_or_else(|| self.place(Path::new(&file.path)), |main| main.name().into())
    }

    /// The place, relative to the data directory, of a file or directory of the original.
    fn place(&self, path: &Path) -> PathBuf {
        if path.is_relative() {
            return only_names(path);
        }
        let within = |dir: &Option<PathBuf>| path.strip_prefix(dir.as_ref()?).ok();
        if let Some(rest) = within(&self.data) {
            return only_names(rest);
        }
        let rest = within(&self.main).map(only_names);
        let is_free = |rest: &PathBuf| {
            rest.iter().next().is_some_and(|first| !self.taken.contains(Path::new(first)))
        };
        rest.filter(is_free).unwrap_or_else(|| Path::new(INCLUDED).join(only_names(path)))
    }

    /// Where a file of the data directory was.
    fn origin(&self, place: &Path) -> PathBuf {
        self.data.as_ref().map_or_else(|| place.to_owned(), |data| data.join(place))
    }
}

/// A path without anything that leads out of a directory: the snapshot may be crafted.
fn only_names(path: &Path) -> PathBuf {
    path.components().filter(|part| matches!(part, Component::Normal(_))).collect()
}

/// Files that are brought in line with their places.
struct Adapting<'a> {
    target: &'a Target,
    places: &'a Places,
    /// Files still to read: their places, origins and syntax.
    waiting: Vec<(PathBuf, PathBuf, Syntax)>,
    /// Includes that became comments.
    left_out: Vec<String>,
}

impl<'a> Adapting<'a> {
    fn new(target: &'a Target, places: &'a Places) -> Self {
        Self { target, places, waiting: Vec::new(), left_out: Vec::new() }
    }

    /// Adapts all files that the server will read. Returns the includes that it will not.
    fn all(mut self, files: &[ConfigurationFile]) -> SourceResult<Vec<String>> {
        let origins: HashMap<Main, PathBuf> = files
            .iter()
            .filter_map(|file| Some((file.main?, self.places.origin(Path::new(&file.path)))))
            .collect();
        for main in Main::ALL {
            let place = PathBuf::from(main.name());
            let origin = origins.get(&main).cloned();
            let origin = origin.unwrap_or_else(|| self.places.origin(&place));
            self.waiting.push((place, origin, main.syntax()));
        }
        let mut seen = HashSet::new();
        while let Some((place, origin, syntax)) = self.waiting.pop() {
            if seen.len() < MOST && seen.insert((place.clone(), syntax)) {
                self.one(&place, &origin, syntax)?;
            }
        }
        Ok(self.left_out)
    }

    fn one(&mut self, place: &Path, origin: &Path, syntax: Syntax) -> SourceResult<()> {
        let path = self.target.root.join(place);
        let is_small = fs::metadata(&path).is_ok_and(|found| found.len() <= LARGEST);
        if !is_small || !is_plain_file(self.target, place) {
            return Ok(());
        }
        let before = fs::read(&path).map_err(|error| failed(&path, error))?;
        let mut failure = None;
        let after = adapted(syntax, &before, |include| {
            let adapted = self.include(include, place, origin, syntax);
            adapted.unwrap_or_else(|error| {
                failure = Some(error);
                Adapted::Same
            })
        });
        failure.map_or(Ok(()), Err)?;
        after.map_or(Ok(()), |after| self.target.replace(&place.to_string_lossy(), &after))
    }

    fn include(
        &mut self,
        include: &Include,
        place: &Path,
        origin: &Path,
        syntax: Syntax,
    ) -> SourceResult<Adapted> {
        let root = Path::new("/");
        let meant = normal(&origin.parent().unwrap_or(root).join(&include.path));
        let new = self.places.place(&meant);
        let path = self.target.root.join(&new);
        match include.kind {
            Kind::Directory => {
                make_parents(self.target, &new.join("file"))?;
                for file in files_of(&path) {
                    let Some(name) = file.file_name() else { continue };
                    self.waiting.push((new.join(name), meant.join(name), syntax));
                }
            }
            _ if is_plain_file(self.target, &new) => {
                self.waiting.push((new, meant, syntax));
            }
            // Files of the original that happen to be on this machine are not the copy's.
            kind => {
                if kind != Kind::IfExists {
                    let text = format!("{} (of {})", include.path, place.display());
                    self.left_out.push(text);
                }
                return Ok(Adapted::Comment);
            }
        }
        let here = self.target.root.join(place);
        let is_same = normal(&here.parent().unwrap_or(root).join(&include.path)) == path;
        Ok(if is_same { Adapted::Same } else { Adapted::Path(path.to_string_lossy().into_owned()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_get_places_in_the_data_directory() {
        let places = Places {
            data: Some("/srv/data".into()),
            main: Some("/etc/pg/18/main".into()),
            taken: [PathBuf::from("base")].into(),
        };
        for (path, place) in [
            ("/srv/data/extra.conf", "extra.conf"),
            ("/etc/pg/18/main/conf.d/1.conf", "conf.d/1.conf"),
            ("/etc/pg/18/main/base/1.conf", "included/etc/pg/18/main/base/1.conf"),
            ("/etc/pg/shared.conf", "included/etc/pg/shared.conf"),
            ("/srv/data/../x", "x"),
            ("../../etc/passwd", "etc/passwd"),
            ("linked.conf", "linked.conf"),
        ] {
            assert_eq!(places.place(Path::new(path)), Path::new(place), "{path}");
        }
    }

    #[test]
    fn links_in_the_data_directory_are_not_followed() {
        let room = tempfile::tempdir().unwrap();
        let (root, outside) = (room.path().join("data"), room.path().join("outside"));
        for dir in [&root, &outside] {
            fs::create_dir(dir).unwrap();
        }
        fs::write(outside.join("real.conf"), "port = 1").unwrap();
        std::os::unix::fs::symlink(&outside, root.join("conf.d")).unwrap();
        std::os::unix::fs::symlink(outside.join("real.conf"), root.join("linked.conf")).unwrap();
        let target = Target::of(root);
        for place in ["conf.d/new.conf", "conf.d/below/new.conf"] {
            make_parents(&target, Path::new(place)).unwrap_err();
        }
        for place in ["conf.d/real.conf", "linked.conf"] {
            assert!(!is_plain_file(&target, Path::new(place)), "{place}");
        }
        target.write("linked.conf", b"port = 2").unwrap();
        assert!(is_plain_file(&target, Path::new("linked.conf")));
        assert_eq!(fs::read_to_string(outside.join("real.conf")).unwrap(), "port = 1");
        assert_eq!(fs::read_dir(outside).unwrap().count(), 1);
    }
}
