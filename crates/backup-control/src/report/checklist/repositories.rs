//! Demands on repositories and the audit log.

use super::{Check, Evidence, Met};
use crate::report::{Given, KeyGiven, RepositoryGiven};
use crate::words;

const NO_REPOSITORIES: &str = "the configuration has no repository";

fn of_each(
    demand: &'static str,
    given: &Given<'_>,
    of: impl Fn(&str, &RepositoryGiven) -> Evidence,
) -> Check {
    let subjects =
        given.config.repositories.keys().map(|name| match given.repositories.get(name) {
            Some(known) => of(name, known),
            None => Evidence::not_known(name, "it could not be read"),
        });
    Check::of_each(demand, NO_REPOSITORIES, subjects.collect())
}

pub(super) fn keys(given: &Given<'_>) -> Check {
    of_each("Keys are kept apart", given, |name, known| match &known.key {
        KeyGiven::Unnamed => {
            Evidence::no(name, "the configuration names no origin of the pass phrase")
        }
        KeyGiven::File(path, medium) => {
            let path = path.display();
            match medium.shares_disk(&known.medium) {
                Some(false) => {
                    Evidence::yes(name, format!("{path} is not on the disk of the repository"))
                }
                Some(true) => {
                    Evidence::no(name, format!("{path} is on the disk of the repository"))
                }
                None => Evidence::not_known(name, format!("the disk of {path}")),
            }
        }
        KeyGiven::Variable(variable) => {
            Evidence::not_known(name, format!("the origin of the variable {variable}"))
        }
        KeyGiven::Command => {
            Evidence::not_known(name, "the place from which the command takes the pass phrase")
        }
    })
}

pub(super) fn encrypted(given: &Given<'_>) -> Check {
    of_each("Backups are encrypted", given, |name, known| match &known.id {
        Some(id) => {
            let id = super::short(id);
            let text = format!("repository {id} opened with its key: AES-256-CTR, Poly1305");
            Evidence::yes(name, text)
        }
        None => Evidence::not_known(name, "it could not be opened"),
    })
}

pub(super) fn audit(given: &Given<'_>) -> Check {
    let (audit, count) = (&given.audit, given.records.len() as u64);
    let records = words::count(count, "record", "records");
    let (met, what) = match (audit.is_whole, audit.since, audit.confirmed) {
        (Some(false), ..) => {
            (Met::No, "the chain is NOT intact: run `backup audit verify`".to_owned())
        }
        _ if count == 0 => (Met::No, "nothing is recorded".to_owned()),
        (None, ..) => (
            Met::NotKnown,
            "the chain could not be verified: a repository could not be read".to_owned(),
        ),
        (Some(true), Some(since), _) if since > given.from => {
            (Met::NotKnown, format!("the log has no complete records from before {since:.0}"))
        }
        (Some(true), _, None) => {
            (Met::NotKnown, "the chain is intact, but no repository confirms its end".to_owned())
        }
        (Some(true), _, Some(confirmed)) => {
            let text = format!("the chain is intact, confirmed up to record {confirmed}");
            (Met::Yes, text)
        }
    };
    Check {
        demand: "Access is logged",
        met,
        evidence: format!("{records} of this machine; {what}"),
        subjects: Vec::new(),
    }
}
