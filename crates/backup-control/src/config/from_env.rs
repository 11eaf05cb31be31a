//! A configuration from the environment variables that home-made backup scripts know. Addresses and
//! secrets stay in the environment: the configuration refers to them.

use std::fmt::Write;
use std::path::Path;

use super::parse;
use crate::address::ServerAddress;
use crate::environment::Environment;
use crate::error::{Error, Result};
use crate::units::Size;

/// Variables that name a bucket, of which one is enough.
const BUCKETS: [&str; 2] = ["BACKUP_S3_BUCKET", "AWS_S3_BACKUP_BUCKET"];
/// Variables with the time of backups in cron's notation: for which source, and of which tier. The
/// first one is for all sources.
const SCHEDULES: [(&str, Option<&str>, &str); 5] = [
    ("BACKUP_SCHEDULE", None, "daily"),
    ("BACKUP_SCHEDULE_DAILY", Some("mongodb"), "daily"),
    ("BACKUP_SCHEDULE_WEEKLY", Some("mongodb"), "weekly"),
    ("BACKUP_SCHEDULE_MONTHLY", Some("mongodb"), "monthly"),
    ("BACKUP_SCHEDULE_REDIS", Some("redis"), "daily"),
];
/// Variables that nothing here stands for, and what does the same.
const WITHOUT: [(&str, &str); 5] = [
    ("BACKUP_ENABLED", "scheduled jobs run whenever the daemon runs"),
    ("BACKUP_NOTIFICATION_ENABLED", "a channel in [notify.NAME] reports the results of backups"),
    ("BACKUP_NOTIFICATION_EMAIL", "write it into `to` of a channel in [notify.NAME]"),
    (
        "RESEND_API_KEY",
        "add [notify.NAME] with `kind = \"resend\"` and `secret_env = \"RESEND_API_KEY\"`",
    ),
    ("ALERT_EMAIL", "write it into `to` of a channel in [notify.NAME]"),
];

/// A configuration that was made from variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FromEnv {
    /// Its text.
    pub text: String,
    /// Variables that are set and that nothing in it stands for, and what to do instead.
    pub without: Vec<(&'static str, &'static str)>,
}

/// Writes a configuration from the variables that are set.
///
/// # Errors
/// [`Error::Invalid`] if they name nothing to back up or no place for it, or a value makes no
/// sense; [`Error::Config`] if what they say cannot be used.
pub fn from_env(env: &Environment) -> Result<FromEnv> {
    let sources: Vec<(&str, &str)> = [("mongodb", "MONGODB_URI"), ("redis", "REDIS_URL")]
        .into_iter()
        .filter(|(_, name)| env.get(name).is_some())
        .collect();
    if sources.is_empty() {
        return Err(Error::invalid(
            "neither MONGODB_URI nor REDIS_URL is set: there is nothing to \
             back up",
        )
        .with_hint(
            "export the variables of your scripts first, for instance by `set -a; . \
             ./.env; set +a`",
        ));
    }
    let mut text = String::from(
        "# Made by `backup config from-env`. Each ${NAME} is read from the environment when it is \
         used, and so are\n# the credentials of the store. Next: `backup config check`, and \
         `backup init --generate-key -r NAME` for each repository.\n",
    );
    let home = repositories(&mut text, env)?;
    let keep = keep(env)?;
    let max_size = match env.text("BACKUP_MAX_FILE_SIZE") {
        Some(size) => {
            Some(size.parse::<Size>().map_err(|error| invalid("BACKUP_MAX_FILE_SIZE", &error))?)
        }
        None => None,
    };
    for (kind, variable) in &sources {
        put(
            &mut text,
            format_args!("\n[sources.{kind}]\nkind = \"{kind}\"\nurl = \"${{{variable}}}\"\n"),
        );
        let address = env.text(variable).map(ServerAddress::new);
        if let Some(database) = address.and_then(|address| address.mongodb_database()) {
            put(&mut text, format_args!("database = {}\n", quoted(&database)));
        }
        put(
            &mut text,
            format_args!(
                "\n[jobs.{kind}]\nsource = \"{kind}\"\nrepository = \"{home}\"\ntier = \"daily\"\n"
            ),
        );
        if let Some(size) = max_size {
            put(&mut text, format_args!("max_size = \"{size}\"\n"));
        }
        if let Some(keep) = &keep {
            put(&mut text, format_args!("keep = {{ {keep} }}\n"));
        }
        if env.get("ALERT_WEBHOOK_URL").is_some() {
            let line = r#"curl -fsS -H 'Content-Type: application/json' -d "{\"text\": \"backup $BACKUP_HOOK_JOB failed\"}" "$ALERT_WEBHOOK_URL""#;
            put(&mut text, format_args!("hooks.on_failure = '''{line}'''\n"));
        }
    }
    let scheduled = schedules(&mut text, env, &sources);
    if scheduled {
        text.push_str("\n[schedule]\ncleanup = \"30 5 * * *\"\n");
    }
    let without = WITHOUT.into_iter().filter(|(name, _)| env.get(name).is_some()).collect();
    parse(&text, Path::new("backup.toml"), env)?;
    Ok(FromEnv { text, without })
}

/// Writes the places for backups; returns the one that jobs use.
fn repositories(text: &mut String, env: &Environment) -> Result<&'static str> {
    let bucket = BUCKETS.into_iter().find(|name| env.get(name).is_some());
    let local = env.get("MONGODB_BACKUP_PATH").is_some();
    if local {
        let url = "url = \"${MONGODB_BACKUP_PATH}\"\npassphrase_file = \"local.key\"";
        put(text, format_args!("\n[repositories.local]\n{url}\n"));
    }
    if let Some(bucket) = bucket {
        if local {
            put(
                text,
                format_args!(
                    "\n# Filled by `backup copy -r local --all --to offsite`.\n# Create it with \
                     `backup init -r offsite --like local --generate-key`."
                ),
            );
        }
        let name = if local { "offsite" } else { "main" };
        put(
            text,
            format_args!(
                "\n[repositories.{name}]\nurl = \"s3://${{{bucket}}}\"\npassphrase_file = \
                 \"{name}.key\"\n"
            ),
        );
        let mut store = String::new();
        if env.get("AWS_REGION").is_some() {
            store.push_str("region = \"${AWS_REGION}\"\n");
        }
        if let Some(sse) = env.text("S3_SSE_ALGORITHM") {
            put(&mut store, format_args!("sse = {}\n", quoted(sse)));
        }
        if env.get("S3_KMS_KEY_ID").is_some() {
            store.push_str("kms_key_id = \"${S3_KMS_KEY_ID}\"\n");
        }
        if !store.is_empty() {
            put(text, format_args!("\n[repositories.{name}.store]\n{store}"));
        }
    }
    match (local, bucket) {
        (true, _) => Ok("local"),
        (false, Some(_)) => Ok("main"),
        (false, None) => Err(Error::invalid("no location for backups is set")
            .with_hint("set MONGODB_BACKUP_PATH, BACKUP_S3_BUCKET or AWS_S3_BACKUP_BUCKET")),
    }
}

/// Which snapshots stay. Where only days are said, everything younger stays; with weeks and months,
/// so many of each.
fn keep(env: &Environment) -> Result<Option<String>> {
    let number = |name: &str| match env.text(name) {
        Some(text) => {
            text.trim().parse::<u32>().map(Some).map_err(|_| invalid(name, "not a number"))
        }
        None => Ok(None),
    };
    let days = number("BACKUP_RETENTION_DAYS")?;
    let (weeks, months) = (number("BACKUP_RETENTION_WEEKS")?, number("BACKUP_RETENTION_MONTHS")?);
    if weeks.is_none() && months.is_none() {
        return Ok(days.map(|days| format!("within = \"{days}d\"")));
    }
    let rules = [("daily", days), ("weekly", weeks), ("monthly", months)];
    let rules = rules
        .into_iter()
        .filter_map(|(rule, count)| count.map(|count| format!("{rule} = {count}")));
    Ok(Some(rules.collect::<Vec<_>>().join(", ")))
}

/// Times stay in the environment too; whether there are any.
fn schedules(text: &mut String, env: &Environment, sources: &[(&str, &str)]) -> bool {
    let mut any = false;
    for (kind, _) in sources {
        let of_source = SCHEDULES
            .into_iter()
            .filter(|(_, source, _)| source.is_none_or(|source| source == *kind));
        for (name, _, tier) in of_source.filter(|(name, ..)| env.get(name).is_some()) {
            put(
                text,
                format_args!(
                    "\n[[jobs.{kind}.schedule]]\nat = \"${{{name}}}\"\ntier = \"{tier}\"\n"
                ),
            );
            any = true;
        }
    }
    any
}

fn invalid(name: &str, why: &str) -> Error {
    Error::invalid(format!("invalid environment variable {name}: {why}"))
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// Writing into memory does not fail.
fn put(text: &mut String, words: std::fmt::Arguments<'_>) {
    _ = text.write_fmt(words);
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: [(&str, &str); 3] = [
        ("AWS_ACCESS_KEY_ID", "hush-id"),
        ("AWS_SECRET_ACCESS_KEY", "hush"),
        ("AWS_REGION", "me-south-1"),
    ];

    fn of(more: &[(&str, &str)]) -> Result<FromEnv> {
        from_env(&KEYS.iter().chain(more).copied().collect())
    }

    #[test]
    fn two_databases_in_a_bucket() {
        let made = of(&[
            ("MONGODB_URI", "mongodb://me:hush@localhost:27017/legal?authSource=admin"),
            ("REDIS_URL", "redis://localhost:6379"),
            ("BACKUP_S3_BUCKET", "legal-backups"),
            ("BACKUP_RETENTION_DAYS", "7"),
            ("BACKUP_RETENTION_WEEKS", "4"),
            ("BACKUP_RETENTION_MONTHS", "12"),
            ("BACKUP_SCHEDULE_DAILY", "30 3 * * *"),
            ("BACKUP_SCHEDULE_REDIS", "0 */6 * * *"),
            ("BACKUP_MAX_FILE_SIZE", "1073741824"),
            ("S3_SSE_ALGORITHM", "aws:kms"),
            ("S3_KMS_KEY_ID", "arn:aws:kms:region:account:key/id"),
            ("BACKUP_NOTIFICATION_EMAIL", "admin@example.org"),
            ("RESEND_API_KEY", "hush"),
        ]);
        let made = made.unwrap();
        assert!(!made.text.contains("hush"), "{}", made.text);
        insta::assert_snapshot!(made.text);
        assert_eq!(
            made.without.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
            ["BACKUP_NOTIFICATION_EMAIL", "RESEND_API_KEY"]
        );
    }

    #[test]
    fn one_database_on_disk_and_offsite() {
        let made = of(&[
            ("MONGODB_URI", "mongodb://localhost:27017"),
            ("MONGODB_BACKUP_PATH", "/backups"),
            ("AWS_S3_BACKUP_BUCKET", "trading-backups"),
            ("BACKUP_ENABLED", "true"),
            ("BACKUP_SCHEDULE", "0 2 * * *"),
            ("BACKUP_RETENTION_DAYS", "30"),
            ("ALERT_WEBHOOK_URL", "https://hooks.example.org/hush"),
        ]);
        let made = made.unwrap();
        assert!(!made.text.contains("hush"), "{}", made.text);
        insta::assert_snapshot!(made.text);
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let uri = ("MONGODB_URI", "mongodb://h");
        let bucket = ("BACKUP_S3_BUCKET", "b");
        for (more, word) in [
            (&[][..], "MONGODB_URI"),
            (&[uri][..], "no location"),
            (&[uri, bucket, ("BACKUP_RETENTION_DAYS", "many")][..], "BACKUP_RETENTION_DAYS"),
            (&[uri, bucket, ("BACKUP_MAX_FILE_SIZE", "much")][..], "BACKUP_MAX_FILE_SIZE"),
            (&[uri, bucket, ("S3_SSE_ALGORITHM", "rot13")][..], "rot13"),
            (&[uri, bucket, ("BACKUP_SCHEDULE", "nightly")][..], "nightly"),
            (&[bucket, ("MONGODB_URI", "http://me:hush@h")][..], "not an address"),
        ] {
            let error = of(more).unwrap_err();
            assert!(
                error.to_string().contains(word) && !error.to_string().contains("hush"),
                "{word}: {error}"
            );
        }
    }
}
