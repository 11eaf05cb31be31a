//! A group of the configuration: which moment, and where each member goes.

use backup_control::config::Config;
use backup_control::groups;

use super::Asking;
use crate::command_error::{CommandError, CommandResult};
use crate::human;

impl Asking<'_> {
    pub(super) async fn ask_of_group(
        &mut self,
        name: &str,
        config: Option<&Config>,
    ) -> CommandResult<()> {
        let Some(group) = config.and_then(|config| config.groups.get(name)) else {
            return Err(CommandError::usage(format!(
                "there is no group {}",
                human::text(name.as_bytes())
            )));
        };
        let session = self.session.clone();
        let (time, zone) = (session.cx.clock.now(), session.zone().clone());
        let check = move |text: &str| {
            let now = backup_control::snapshots::Now { time, zone: &zone };
            if text == "latest" {
                Ok(())
            } else {
                groups::moment(text, &now).map(|_| ()).map_err(|error| error.to_string())
            }
        };
        let question = "Which moment? (`latest` of all members, or a time such as `2026-11-21 \
                        14:30` or `2h ago`)";
        let moment = session.prompts().text(question, Some("latest".to_owned()), check).await?;
        if moment != "latest" {
            self.words.flag("--at", &moment);
        }
        if !self.args.in_place && self.args.target.is_empty() {
            self.targets(name, &group.jobs, |job| group.targets.get(job).map(ToString::to_string))
                .await?;
        }
        self.policy().await?;
        self.safety(name).await?;
        self.verification().await?;
        self.words.name = Some(name.to_owned());
        Ok(())
    }

    async fn targets(
        &mut self,
        name: &str,
        jobs: &[String],
        configured: impl Fn(&str) -> Option<String>,
    ) -> CommandResult<()> {
        let shown = human::text(name.as_bytes());
        let lines = vec![
            format!("to a target for each job ([groups.{shown}.targets], or a prompt)"),
            "to the original locations".to_owned(),
        ];
        let session = self.session.clone();
        if session.prompts().choose("Where to?", lines, 0).await? == 1 {
            self.words.switch("--in-place");
            return Ok(());
        }
        for job in jobs {
            let shown = human::text(job.as_bytes());
            if let Some(target) = configured(job) {
                session
                    .ui
                    .status(format_args!("Target for {shown}: {}", human::text(target.as_bytes())));
                continue;
            }
            let check = |text: &str| {
                if text.is_empty() {
                    Err("name a directory or a server".to_owned())
                } else {
                    Ok(())
                }
            };
            let question =
                format!("Target for {shown}? (a directory with a / in its path, or a server)");
            let target = session.prompts().text(&question, None, check).await?;
            self.words.flag("--target", &format!("{job}={target}"));
        }
        Ok(())
    }
}
