//! `docs/config.md` is what the types say. `UPDATE_DOCS=1` in the environment writes it anew.

use std::path::Path;

use backup_control::config;

/// What stands before the reference.
const HEAD: &str = "\
# The configuration

The configuration is one TOML file: the file named by `--config`, else by `BACKUP_CONFIG`, else the first existing file
of `./backup.toml`, `~/.config/backup/backup.toml` and `/etc/backup/backup.toml`. Without a file, flags and addresses
are enough: `backup run -r DIR --source DIR`.

- `${NAME}` in a value is replaced by the environment variable. `${NAME:-default}` has a default, and `$${` is a literal
  `${`. Commands are not changed: the shell that runs them expands variables.
- Relative paths start at the directory of the file. `~` is not expanded, and refused: write `${HOME}/docs`.
- The file contains no secrets: the keys `…_file`, `…_env` and `…_command` name their sources.
- An unknown key is an error. The message has the line and, if possible, a suggestion.

| command | effect |
|---|---|
| `backup config check` | check the file, and show the effect of each job |
| `backup config show` | print the configuration, with the origin of each value |
| `backup config schema` | print a JSON schema for editors |
| `backup config example NAME` | print an example of `examples/` |
| `backup config from-env` | convert the environment variables of custom backup scripts |

| value | examples |
|---|---|
| size | `500MiB`, `10GB`, `4096` |
| share | `5%` |
| duration | `90min`, `24h`, `7d` |
| age, by the calendar | `36h`, `90d`, `6mo`, `2y` |

The keys of `[repositories.NAME.store]` are in [storage.md](storage.md). This page is generated from the types of the
program.
";

#[test]
fn the_reference_is_what_the_types_say() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/config.md");
    let text = format!("{HEAD}{}", config::reference());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&file, &text).unwrap();
    }
    assert!(
        std::fs::read_to_string(&file).unwrap_or_default() == text,
        "{} is old: set UPDATE_DOCS=1",
        file.display()
    );
}
