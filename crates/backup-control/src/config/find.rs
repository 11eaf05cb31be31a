//! Where the configuration is looked for.

use std::path::{Path, PathBuf};

use crate::environment::Environment;
use crate::error::{ConfigError, Error, Result};

/// Name of the file in the current directory.
const LOCAL: &str = "./backup.toml";
/// The machine's own configuration.
const SYSTEM: &str = "/etc/backup/backup.toml";

/// The places that are looked at, in this order, if neither a flag nor `BACKUP_CONFIG` names a
/// file.
#[must_use]
pub fn search_path(env: &Environment) -> Vec<PathBuf> {
    let user = match (env.get("XDG_CONFIG_HOME"), env.get("HOME")) {
        (Some(dir), _) => Some(PathBuf::from(dir)),
        (None, Some(home)) => Some(Path::new(home).join(".config")),
        (None, None) => None,
    };
    let user = user.map(|dir| dir.join("backup/backup.toml"));
    [Some(PathBuf::from(LOCAL)), user, Some(PathBuf::from(SYSTEM))].into_iter().flatten().collect()
}

/// The configuration file: `flag`, else `BACKUP_CONFIG`, else the first of [`search_path`] that
/// exists; `None` if there is none, which is fine: flags and addresses are enough.
///
/// # Errors
/// If a file that was named does not exist.
pub fn find(flag: Option<&Path>, env: &Environment) -> Result<Option<PathBuf>> {
    let named = match (flag, env.get("BACKUP_CONFIG")) {
        (Some(path), _) => Some((path.to_path_buf(), "--config")),
        (None, Some(path)) => Some((PathBuf::from(path), "BACKUP_CONFIG")),
        (None, None) => None,
    };
    match named {
        None => Ok(search_path(env).into_iter().find(|path| path.is_file())),
        Some((path, _)) if path.exists() => Ok(Some(path)),
        Some((path, by)) => Err(Error::Config(
            ConfigError::new(&path, format!("the configuration file named by {by} does not exist"))
                .with_hint(Some("print an example with `backup config example`")),
        )),
    }
}

/// The error for when a configuration is needed and there is none.
#[must_use]
pub fn not_found(env: &Environment) -> Error {
    let places: Vec<_> = search_path(env).iter().map(|path| path.display().to_string()).collect();
    Error::invalid("there is no configuration file").with_hint(format!(
        "name one with --config or BACKUP_CONFIG, or create {}; `backup config example` prints an \
         example",
        places.join(" or ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flag_before_variable_before_the_usual_places() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a.toml"), dir.path().join("b.toml"));
        std::fs::write(&a, "").unwrap();
        std::fs::write(&b, "").unwrap();
        let env: Environment = [("BACKUP_CONFIG", &b)].into_iter().collect();
        assert_eq!(find(Some(&a), &env).unwrap(), Some(a));
        assert_eq!(find(None, &env).unwrap(), Some(b));
        let error = find(Some(&dir.path().join("none")), &env).unwrap_err();
        assert!(error.to_string().contains("--config") && error.hint().is_some());

        let home = dir.path().join(".config/backup");
        std::fs::create_dir_all(&home).unwrap();
        std::fs::write(home.join("backup.toml"), "").unwrap();
        let env: Environment = [("HOME", dir.path())].into_iter().collect();
        assert_eq!(find(None, &env).unwrap(), Some(home.join("backup.toml")));
    }

    #[test]
    fn xdg_wins_over_home() {
        let env: Environment = [("XDG_CONFIG_HOME", "/x"), ("HOME", "/h")].into_iter().collect();
        assert_eq!(search_path(&env)[1], Path::new("/x/backup/backup.toml"));
        assert_eq!(search_path(&Environment::default()).len(), 2);
    }
}
