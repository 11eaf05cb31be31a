//! The words of a command line that does the same again.

use std::path::Path;

use backup_control::address::ServerAddress;
use backup_control::jobs::Job;
use clap::ValueEnum;

use super::Args;
use crate::records;
use crate::session::Session;

/// The words that run `job`, which is one of those of `args`, again from anywhere; none if they
/// would hold a secret, or what is no text. Commands that print pass phrases may hold secrets: they
/// are not among the words.
pub(in crate::commands) fn words(session: &Session, args: &Args, job: &Job) -> Option<Vec<String>> {
    let repository = job.repository.name.clone().unwrap_or_else(|| records::place(&job.repository));
    of_name(session, args, vec![repository], &job.options.job)
}

/// The words that run the group `name` again; none if they would hold a secret.
pub(super) fn of_group(session: &Session, args: &Args, name: &str) -> Option<Vec<String>> {
    // Every member has a repository of its own, unless a flag replaces them.
    let given = session.named_repository().ok()?;
    let repository = given.map(|spec| spec.name.clone().unwrap_or_else(|| records::place(&spec)));
    of_name(session, args, repository.into_iter().collect(), name)
}

fn of_name(
    session: &Session,
    args: &Args,
    repository: Vec<String>,
    what: &str,
) -> Option<Vec<String>> {
    // A mistake in a configuration is nothing to somebody who backs up without it.
    let config = session.config().ok().flatten().map(|loaded| loaded.file.clone());
    let sources: Option<Vec<String>> = args.source.iter().map(|source| shown(source)).collect();
    let paths = |paths: &[std::path::PathBuf]| {
        paths.iter().map(|path| absolute(path)).collect::<Option<Vec<String>>>()
    };
    // Whatever is left out when an address is shown may be a secret.
    if repository.iter().any(|place| place.contains('…')) {
        return None;
    }
    let one = |value: Option<String>| Vec::from_iter(value);
    let name = |value: Option<clap::builder::PossibleValue>| {
        one(value.map(|value| value.get_name().to_owned()))
    };
    let flags = [
        ("config", paths(config.as_slice())?),
        ("repo", repository),
        ("password-file", paths(session.global.password_file.as_slice())?),
        ("source", sources?),
        ("job", one(args.job.clone())),
        ("type", name(args.kind.and_then(|kind| kind.to_possible_value()))),
        ("tier", one(args.tier.clone())),
        ("host", one(args.host.clone())),
        ("tag", args.tags.clone()),
        ("include", args.include.clone()),
        ("exclude", args.exclude.clone()),
        ("exclude-file", paths(&args.exclude_file)?),
        ("exclude-if-present", args.exclude_if_present.clone()),
        ("max-file-size", one(args.max_file_size.map(|size| size.to_string()))),
        ("max-size", one(args.max_size.map(|size| size.to_string()))),
        ("method", name(args.method.and_then(|method| method.to_possible_value()))),
        ("compression", one(args.compression.map(|compression| compression.to_string()))),
        ("verify-sample", one(args.verify_sample.map(|share| share.to_string()))),
    ];
    let mut words = vec!["run".to_owned()];
    for (flag, values) in flags {
        words.extend(values.into_iter().map(|value| format!("--{flag}={value}")));
    }
    for (flag, given) in [("--one-file-system", args.one_file_system), ("--force", args.force)] {
        words.extend(given.then(|| flag.to_owned()));
    }
    if args.source.is_empty() {
        words.extend(["--".to_owned(), what.to_owned()]);
    }
    Some(words)
}

/// The words that make a full backup of a job of the configuration.
pub(in crate::commands) fn of_full(session: &Session, job: &Job) -> Option<Vec<String>> {
    let config = session.config().ok().flatten()?.file.clone();
    let repository = job.repository.name.clone().unwrap_or_else(|| records::place(&job.repository));
    let words = [
        "run".to_owned(),
        format!("--config={}", absolute(&config)?),
        format!("--repo={repository}"),
        "--type=full".to_owned(),
        "--outside-window".to_owned(),
        "--".to_owned(),
        job.options.job.clone(),
    ];
    (!repository.contains('…')).then(|| words.to_vec())
}

/// A source as it means the same from everywhere; none if it holds what may be a secret.
fn shown(source: &str) -> Option<String> {
    if source.contains("://") {
        return (ServerAddress::new(source).to_string() == source).then(|| source.to_owned());
    }
    absolute(Path::new(source))
}

fn absolute(path: &Path) -> Option<String> {
    std::path::absolute(path).ok()?.into_os_string().into_string().ok()
}
