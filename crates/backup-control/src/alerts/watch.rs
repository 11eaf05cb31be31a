//! Looking once: every rule is held against the facts, what is to be told goes into the outbox, and
//! the outbox is delivered.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::Duration;

use backup_core::context::Context;
use jiff::{SignedDuration, Timestamp};

use super::{About, Alert, Facts, Ledger, Phase, Scope, Suppression, observe, tell};
use crate::alive::Alive;
use crate::config::{Broken, Config, LastGood, LoadedConfig};
use crate::environment::Environment;
use crate::error::{Error, Result};
use crate::machine::Machine;
use crate::notify::{Channels, Delivered, Message, Outbox, Put};
use crate::schedule;

/// At the end of a command, events count from this long ago: they are those of the command.
const RECENT: SignedDuration = SignedDuration::from_mins(10);

/// What came of looking.
#[derive(Debug, Default)]
pub struct Looked {
    /// Whether rules were evaluated: the state directory was usable.
    pub is_evaluated: bool,
    /// Alerts of the configuration that fire and that no silence covers.
    pub firing: Vec<Alert>,
    /// What is told to somebody from now on.
    pub told: Vec<Message>,
    /// Messages that no channel wants.
    pub unheard: usize,
    /// What came of sending.
    pub delivered: Delivered,
    /// What is wrong with the state directory.
    pub trouble: Vec<String>,
}

/// Holds the rules of a configuration against `facts`, and tells who is to be told. `dir` is the
/// state directory; sending may take as long as `within`.
///
/// # Errors
/// The configuration makes no sense, which is found when it is loaded.
pub async fn look(
    config: &LoadedConfig,
    env: &Environment,
    machine: &Machine,
    dir: &Path,
    mut facts: Facts,
    within: Duration,
    cx: &Context,
) -> Result<Looked> {
    let (scope, config) = (Scope::of(config), &config.config);
    let channels = Channels::new(config, env)?;
    let (host, now, state) = (machine.host.clone(), cx.clock.now(), dir.to_path_buf());
    let mut looked = Looked::default();
    let own = scope.clone();
    let opening = tokio::task::spawn_blocking(move || {
        let daemon = daemon(&state, Path::new(&own.file));
        (daemon, schedule::paused(&state), Ledger::open(&state, own, now))
    });
    let (daemon, paused, opened) =
        opening.await.map_err(|error| Error::invalid(error.to_string()))?;
    match daemon {
        Ok((alive, note)) => (facts.daemon, facts.configuration) = (Some(alive), note),
        Err(error) => {
            looked.trouble.push(format!("cannot read the beacon of the daemon: {error}"));
        }
    }
    let mut ledger = match opened {
        Ok(ledger) => ledger,
        Err(error) => {
            looked.trouble.push(crate::words::chain(&error));
            return Ok(looked);
        }
    };
    looked.trouble.extend(ledger.put_aside().map(lost));
    facts.suppressions = suppressions(&ledger, paused, now, &mut looked);
    ledger.remember(&mut facts, &config.alerts, now);
    let before = ledger.memory();
    let mut messages = messages(config, &channels, &facts, &mut ledger, &host, now)?;
    let gone = ledger.retain(|alert| is_watched(config, &scope, alert), &host, now);
    (looked.firing, looked.is_evaluated) = (firing(&ledger, now), true);
    // Channels may have gone with the rule.
    let named = |named: Vec<String>| {
        named.into_iter().filter(|name| config.notify.contains_key(name)).collect::<Vec<_>>()
    };
    messages.extend(
        gone.into_iter()
            .map(|(names, message)| (route(&channels, &message, &named(names)), message)),
    );
    if !messages.is_empty()
        && let Err(error) = ledger.save_begun(&before)
    {
        looked.trouble.push(crate::words::chain(&error));
        return Ok(looked);
    }
    let outbox = Outbox::open(dir);
    match outbox.and_then(|outbox| put(&outbox, messages, &mut looked).map(|()| outbox)) {
        Ok(outbox) => {
            // Not before what is told lies in the outbox.
            if let Err(error) = ledger.save() {
                looked.trouble.push(crate::words::chain(&error));
            }
            looked.delivered = outbox.deliver(&channels, cx, within).await;
        }
        Err(error) => looked.trouble.push(format!("cannot use the outbox: {error}")),
    }
    Ok(looked)
}

/// The beacon of the daemon, and its note on the configuration `file`, which only counts while the
/// daemon runs. Blocks.
fn daemon(state: &Path, file: &Path) -> io::Result<(Option<Alive>, Option<Option<Broken>>)> {
    let alive = Alive::read(state)?;
    let note = alive.as_ref().and_then(|_| LastGood::in_state(state).broken(file).ok());
    Ok((alive, note))
}

fn lost(aside: &Path) -> String {
    format!("the unreadable alert state was moved to {}; its silences are lost", aside.display())
}

/// Silences and pauses in force; none if the pauses cannot be read.
fn suppressions(
    ledger: &Ledger,
    paused: io::Result<BTreeMap<String, Option<Timestamp>>>,
    now: Timestamp,
    looked: &mut Looked,
) -> Option<Vec<Suppression>> {
    let paused = match paused {
        Ok(paused) => paused,
        Err(error) => {
            looked.trouble.push(format!("cannot read the paused tasks: {error}"));
            return None;
        }
    };
    let silences = ledger.silences(now).into_iter().map(Suppression::silence);
    let pauses =
        paused.iter().filter_map(|(task, since)| Some(Suppression::pause(task, (*since)?)));
    Some(silences.chain(pauses).collect())
}

/// The messages of all rules, each with the channels that carry it.
fn messages(
    config: &Config,
    channels: &Channels,
    facts: &Facts,
    ledger: &mut Ledger,
    host: &str,
    now: Timestamp,
) -> Result<Vec<(Vec<String>, Message)>> {
    let recent = now.checked_sub(RECENT).unwrap_or(now);
    let mut messages = Vec::new();
    for (name, rule) in &config.alerts {
        let observed = observe(name, rule, facts, now)?;
        let is_heard = |message: &Message| !route(channels, message, &rule.notify).is_empty();
        let mut of_rule = ledger.observe(name, rule, &observed, host, is_heard, now);
        let since = |address: &str| match facts.is_whole {
            true => ledger.events_since(name, address, now),
            false => recent,
        };
        let events = tell(name, rule, facts, since, host)?.into_iter();
        let is_silenced = |message: &Message| {
            message.job.as_ref().is_some_and(|job| ledger.is_silenced(name, job, None, now))
        };
        of_rule.extend(events.filter(|message| !is_silenced(message)));
        let routed =
            of_rule.into_iter().map(|message| (route(channels, &message, &rule.notify), message));
        messages.extend(routed);
    }
    if facts.is_whole {
        let events = config.alerts.iter().filter(|(_, rule)| rule.condition.is_event());
        ledger.note_events(events.map(|(name, _)| name), now);
    }
    Ok(messages)
}

/// Alerts of the configuration that fire and that no silence covers.
fn firing(ledger: &Ledger, now: Timestamp) -> Vec<Alert> {
    let fires = |alert: &&Alert| alert.phase == Phase::Firing && !ledger.silences_alert(alert, now);
    ledger.own_alerts().filter(fires).cloned().collect()
}

/// The channels that carry a message of a rule with these channels.
fn route(channels: &Channels, message: &Message, named: &[String]) -> Vec<String> {
    channels.route(named, message.severity, message.job.as_deref())
}

fn put(
    outbox: &Outbox,
    messages: Vec<(Vec<String>, Message)>,
    looked: &mut Looked,
) -> io::Result<()> {
    for (channels, message) in messages {
        looked.unheard += usize::from(channels.is_empty());
        let mut is_new = false;
        for channel in &channels {
            let put = outbox.put(channel, &message)?;
            is_new |= put.is_new();
            if let Put::Waits { given_up } = put
                && !given_up.is_empty()
            {
                let count =
                    crate::words::count(given_up.len() as u64, "message was", "messages were");
                looked
                    .trouble
                    .push(format!("the queue of channel {channel} is full: {count} given up"));
            }
        }
        if is_new {
            looked.told.push(message);
        }
    }
    Ok(())
}

/// Whether a rule of the configuration is about the subject of an alert.
fn is_watched(config: &Config, scope: &Scope, alert: &Alert) -> bool {
    let Some(rule) = config.alerts.get(&alert.rule) else { return false };
    let is_meant =
        || crate::notify::patterns(&rule.only).is_ok_and(|only| only.is_match(&alert.subject));
    if alert.about == About::Daemon && rule.condition.counts_configuration() {
        return true;
    }
    scope.covers(alert.about, &alert.subject, alert.repository.as_deref())
        && rule.condition.about() == alert.about
        && (rule.only.is_empty() || is_meant())
}
