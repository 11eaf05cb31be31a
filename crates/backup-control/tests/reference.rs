//! `docs/config.md` is what the types say. `UPDATE_DOCS=1` in the environment writes it anew.

use std::path::Path;

use backup_control::config;

/// What stands before the reference.
const HEAD: &str = "\
# The configuration

One TOML file: that of `--config`, else of `BACKUP_CONFIG`, else the first of `./backup.toml`, `~/.config/backup/backup.toml` and
`/etc/backup/backup.toml` that is there. Without any, flags and addresses are enough: `backup run -r DIR --source DIR`.

- `${NAME}` in a value is the environment variable, `${NAME:-default}` one that may be missing, `$${` the two characters themselves.
  Commands are left alone: the shell that runs them expands variables.
- Relative paths start at the directory of the file.
- Secrets never stand in it: `…_file`, `…_env` and `…_command` say where they are.
- Whatever is not known is an error, with its line and what may have been meant.

`backup config check` looks for mistakes and says what the jobs would do; `show` prints what is understood, and where each value comes
from; `schema` prints a JSON schema for editors; `example NAME` prints one of `examples/`; `from-env` makes a configuration from the
variables of home-made scripts.

Sizes are written `500MiB`, `10GB` or `4096`; shares `5%`; times `90min`, `24h`, `7d`; ages, which follow the calendar, `36h`, `90d`,
`6mo`, `2y`.

The keys of `[repositories.NAME.store]` are in [storage.md](storage.md). This page is made from the types of the program.
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
