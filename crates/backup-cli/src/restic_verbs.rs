//! Verbs of stock restic that have another name here.

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Verbs of restic, and the commands that do the same.
const VERBS: [(&str, &str); 13] = [
    ("backup", "backup run --source PATH"),
    ("snapshots", "backup list"),
    ("dump", "backup export"),
    ("mount", "backup ls and backup restore --only"),
    ("recover", "backup repair"),
    ("rebuild-index", "backup repair"),
    ("repair-index", "backup repair"),
    ("passwd", "backup key rotate"),
    ("unlock", "backup doctor: no command leaves a lock behind"),
    ("tag", "`tags` of a job in the configuration"),
    ("rewrite", "no command, and restic's own is refused here"),
    ("cat", "restic cat"),
    ("cache", "restic cache"),
];

/// The hint for a policy of restic's `forget`.
const POLICY: &str = "policies are in the configuration (`keep = { daily = 7 }` of a job): `backup \
                      cleanup` removes snapshots by them, `backup prune` frees their space";

/// The hint for a command line whose verb is one of restic's.
pub(crate) fn hint(error: &clap::Error) -> Option<String> {
    if let (ErrorKind::UnknownArgument, Some(ContextValue::String(argument))) =
        (error.kind(), error.get(ContextKind::InvalidArg))
    {
        let is_policy = argument.starts_with("--keep-") || argument == "--prune";
        return is_policy.then(|| POLICY.to_owned());
    }
    if error.kind() != ErrorKind::InvalidSubcommand {
        return None;
    }
    let Some(ContextValue::String(verb)) = error.get(ContextKind::InvalidSubcommand) else {
        return None;
    };
    let (verb, command) = VERBS.iter().find(|(known, _)| known == verb)?;
    Some(format!("restic's `{verb}` is here: {command}"))
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn verbs_are_restics_and_not_ours() {
        let command = Cli::command();
        for (verb, here) in VERBS {
            assert!(command.find_subcommand(verb).is_none(), "{verb}");
            let error = Cli::try_parse_from(["backup", verb]).unwrap_err();
            assert!(hint(&error).unwrap().contains(here), "{verb}");
            if let Some(ours) = here.strip_prefix("backup ") {
                let ours = ours.split([' ', ':']).next().unwrap();
                assert!(command.find_subcommand(ours).is_some(), "{ours}");
            }
        }
        for policy in ["--keep-daily=7", "--prune"] {
            let error = Cli::try_parse_from(["backup", "forget", policy]).unwrap_err();
            assert!(hint(&error).unwrap().contains("backup cleanup"), "{policy}");
        }
        assert!(hint(&Cli::try_parse_from(["backup", "lst"]).unwrap_err()).is_none());
    }
}
