//! Where the catalog is.
//!
//! | | first that is given |
//! |---|---|
//! | 1 | `[catalog] url` of the configuration |
//! | 2 | the variable `BACKUP_CATALOG` |
//! | 3 | a file in the state directory |

use std::path::{Path, PathBuf};

use crate::address::ServerAddress;
use crate::config::Config;
use crate::environment::Environment;
use crate::error::{Error, Result};

#[cfg(feature = "postgres")]
use super::postgres::Server;

/// The variable with its address.
const VARIABLE: &str = "BACKUP_CATALOG";

/// Where the catalog is.
#[derive(Debug, Clone)]
pub enum Home {
    /// In a file of this directory.
    Directory(PathBuf),
    /// In a database that other machines may use, too.
    #[cfg(feature = "postgres")]
    Server(Server),
}

impl Home {
    /// Where the catalog of a configuration is, or of none; `state` is the state directory.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an address that makes no sense. No password is in it.
    pub fn of(config: Option<&Config>, env: &Environment, state: &Path) -> Result<Self> {
        let section = config.map(|config| &config.catalog);
        let by_variable = || env.text(VARIABLE).map(ServerAddress::new);
        match section.and_then(|section| section.url.clone()).or_else(by_variable) {
            None => Ok(Self::Directory(state.to_path_buf())),
            Some(url) if !url.is_postgres() => {
                Err(Error::invalid(format!("{url} is not an address of a PostgreSQL database"))
                    .with_hint(
                        "write postgres://USER@HOST/DATABASE in `[catalog] url` or BACKUP_CATALOG",
                    ))
            }
            Some(url) => server(&url, section, env),
        }
    }
}

/// Fails if an address of a catalog is invalid.
///
/// # Errors
/// [`Error::Invalid`] or an error of the source's options.
pub(crate) fn check(url: &ServerAddress) -> Result<()> {
    server(url, None, &Environment::default()).map(drop)
}

#[cfg(feature = "postgres")]
fn server(
    url: &ServerAddress,
    section: Option<&crate::config::CatalogConfig>,
    env: &Environment,
) -> Result<Home> {
    Server::new(url, section, env).map(Home::Server)
}

#[cfg(not(feature = "postgres"))]
fn server(
    _: &ServerAddress,
    _: Option<&crate::config::CatalogConfig>,
    _: &Environment,
) -> Result<Home> {
    Err(Error::invalid(
        "this program was built without PostgreSQL: it cannot use a catalog in PostgreSQL",
    ))
}

#[cfg(all(test, feature = "postgres"))]
mod tests {
    use super::*;

    #[test]
    fn configuration_before_variable_before_directory() {
        let state = Path::new("/state");
        let env: Environment = [(VARIABLE, "postgres://me:hush@two/")].into_iter().collect();
        let mut config = Config::default();
        let of = |config: &Config, env: &Environment| {
            format!("{:?}", Home::of(Some(config), env, state).unwrap())
        };
        assert!(of(&config, &Environment::default()).contains("Directory(\"/state\")"));
        let shown = of(&config, &env);
        assert!(shown.contains("two") && !shown.contains("hush"), "{shown}");
        config.catalog.url = Some(ServerAddress::new("postgres://me:hush@one/"));
        let shown = of(&config, &env);
        assert!(shown.contains("one") && !shown.contains("hush"), "{shown}");
        for wrong in ["mysql://me:hush@h/", "postgres://me:hush@h:x/", "/a/directory"] {
            let env: Environment = [(VARIABLE, wrong)].into_iter().collect();
            let error = Home::of(None, &env, state).unwrap_err();
            assert!(error.hint().is_some() || wrong.contains(":x"), "{error:?}");
            assert!(!format!("{error} {error:?}").contains("hush"), "{error:?}");
        }
    }
}
