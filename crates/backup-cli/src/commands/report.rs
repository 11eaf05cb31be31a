//! `backup report`.

mod collect;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use backup_control::age::Age;
use backup_control::catalog::RunFilter;
use backup_control::config::Config;
use backup_control::notify::{Channels, Kind as MessageKind, Message, Outbox, Put, Severity};
use backup_control::report::{Given, Report, html, markdown};
use clap::ValueEnum;
use jiff::Timestamp;

use crate::command_error::{CommandError, CommandResult, Kind, Outcome};
use crate::human;
use crate::records::{self, Records};
use crate::session::Session;

/// How long sending may take: what is not sent waits in the outbox.
const SENDING: Duration = Duration::from_secs(60);

/// Report results, storage, costs and compliance evidence
///
/// Figures of runs come from this machine's catalog of runs. See docs/compliance.md for the
/// evidence that each demand needs.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    /// Period of the report, up to now
    #[arg(long, value_name = "AGE", default_value = "7d")]
    since: Age,
    /// Output format
    #[arg(long, value_name = "FORMAT", default_value = "md")]
    format: FormatArg,
    /// Write the report to this file, which is replaced [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Send the report through this channel of the configuration; repeat for several
    #[arg(long, value_name = "CHANNEL")]
    send: Vec<String>,
}

const EXAMPLES: &str = "\
Examples:
  backup report
  backup report --since 30d --format html --output report.html
  backup report --since 7d --send ops-mail";

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FormatArg {
    /// Markdown
    Md,
    /// Self-contained web page
    Html,
    /// JSON
    Json,
}

pub(crate) async fn run(session: &Session, args: &Args) -> CommandResult {
    let loaded = session.require_config()?;
    let config = &loaded.config;
    let channels = Channels::new(config, &session.env)?;
    args.send.iter().try_for_each(|name| channels.check(name))?;
    let records = Records::require(session).await?;
    let (report, mut outcome) = make(session, args, &channels, config, &records).await?;
    let text = match args.format {
        FormatArg::Json => as_json(&report)?,
        FormatArg::Html => html(&report),
        FormatArg::Md if session.ui.is_json() => as_json(&report)?,
        FormatArg::Md => markdown(&report),
    };
    match &args.output {
        Some(file) => {
            std::fs::write(file, &text).map_err(|error| {
                CommandError::io(format!("cannot write {}", file.display()), &error)
            })?;
            session.ui.status(format_args!("Report written to {}", file.display()));
        }
        // Somebody who only sends it does not want to read it here.
        None if args.send.is_empty() => session.ui.print(text.trim_end())?,
        None => {}
    }
    if !args.send.is_empty() {
        outcome = outcome.max(send(session, args, &channels, &records, &report).await?);
    }
    Ok(outcome)
}

fn as_json(report: &Report) -> CommandResult<String> {
    serde_json::to_string_pretty(report)
        .map_err(|error| CommandError::new(Kind::Io, error.to_string()))
}

async fn make(
    session: &Session,
    args: &Args,
    channels: &Channels,
    config: &Config,
    records: &Records,
) -> CommandResult<(Report, Outcome)> {
    let to = session.cx.clock.now();
    let from = args.since.before(to, session.zone())?;
    let mut outcome = Outcome::Success;
    let mut repositories = BTreeMap::new();
    for name in config.repositories.keys() {
        let known = match collect::of_repository(session, config, name).await {
            Ok(known) => known,
            Err(error) if error.is_cancelled() => return Err(error),
            Err(error) => {
                records::warn(session, &format!("cannot read repository {name}"), &error);
                outcome = Outcome::Warnings;
                collect::unread(session, config, name)?
            }
        };
        repositories.insert(name.clone(), known);
    }
    // A repository that could not be read may hold anchors of records that are gone.
    let all_read = outcome == Outcome::Success;
    let anchors = repositories.values().flat_map(|known| known.anchors.clone()).collect();
    let (records_found, audit) = collect::audit(session, records, anchors, from, all_read).await?;
    let within = RunFilter { within: Some(from..to), ..RunFilter::default() };
    let given = Given {
        config,
        channels,
        from,
        to,
        zone: session.zone().clone(),
        host: session.machine.host.clone(),
        runs: records.catalog.runs(&within).await?.runs,
        before: before(config, records, from).await?,
        records: records_found,
        audit,
        repositories,
    };
    Ok((Report::of(&given), outcome))
}

/// When the last success before a moment began, by job.
async fn before(
    config: &Config,
    records: &Records,
    from: Timestamp,
) -> CommandResult<BTreeMap<String, Timestamp>> {
    let mut found = BTreeMap::new();
    for name in config.jobs.keys() {
        let filter = RunFilter {
            job: Some(name.clone()),
            within: Some(Timestamp::UNIX_EPOCH..from),
            successful: true,
            backups: true,
            whole: true,
            limit: Some(1),
            ..RunFilter::default()
        };
        if let Some(run) = records.catalog.runs(&filter).await?.runs.first() {
            found.insert(name.clone(), run.started);
        }
    }
    Ok(found)
}

async fn send(
    session: &Session,
    args: &Args,
    channels: &Channels,
    records: &Records,
    report: &Report,
) -> CommandResult {
    let (ui, host) = (&session.ui, &report.host);
    let failed = |error: &std::io::Error| CommandError::io("cannot use the outbox", error);
    let outbox = Outbox::open(&records.dir).map_err(|error| failed(&error))?;
    let text = markdown(report);
    let message = Message {
        id: format!("report/{host}/{}", report.to),
        incident: format!("report/{host}"),
        kind: MessageKind::Notice,
        severity: Severity::Info,
        title: format!("Backup report of {host}"),
        place: format!("host {host}"),
        // The headings and the line behind them.
        cause: text.lines().nth(4).unwrap_or_default().to_owned(),
        next: "read the report, and the unmet items of its checklist".to_owned(),
        job: None,
        time: report.to,
        details: [("report".to_owned(), text)].into(),
        html: Some(html(report)),
    };
    let mut outcome = Outcome::Success;
    for channel in &args.send {
        if let Put::Waits { given_up } =
            outbox.put(channel, &message).map_err(|error| failed(&error))?
            && !given_up.is_empty()
        {
            let count = human::count(given_up.len() as u64, "message was", "messages were");
            ui.warning(human::text(
                format!("channel {channel}: too many messages are waiting; {count} abandoned")
                    .as_bytes(),
            ));
            outcome = Outcome::Warnings;
        }
    }
    let delivered = outbox.deliver(channels, &session.cx, SENDING).await;
    for sent in delivered.sent.iter().filter(|sent| args.send.contains(&sent.channel)) {
        ui.status(format_args!("Sent through {}", sent.channel));
    }
    for (channel, waiting) in &delivered.waiting {
        let why = waiting.error.as_deref().unwrap_or("not tried yet");
        ui.warning(human::text(format!("channel {channel}: not sent yet: {why}").as_bytes()));
        outcome = Outcome::Warnings;
    }
    for given_up in &delivered.given_up {
        ui.warning(human::text(
            format!("channel {}: refused: {}", given_up.channel, given_up.why).as_bytes(),
        ));
        outcome = Outcome::Warnings;
    }
    Ok(outcome)
}
