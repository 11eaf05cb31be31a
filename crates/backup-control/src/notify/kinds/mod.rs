//! One file per kind of channel: from a message to what goes onto the wire, and from the answer to
//! what came of it.
//!
//! | file | what is in it |
//! |---|---|
//! | `mod.rs` | [`Task`]: what a kind is given; [`Failure`]: what it may fail with; [`Reached`]: who has the message already |
//! | `http.rs` | sending a request, and what an answer means |
//! | `smtp.rs`, `smtp_lines.rs`, `mail.rs` | mail: talking to a server, line by line; the mail itself |
//! | `resend.rs`, `slack.rs`, `webhook.rs`, `pagerduty.rs`, `sms.rs` | services |
//! | `command.rs` | shell commands |

pub(super) mod command;
pub(super) mod http;
mod mail;
pub(super) mod pagerduty;
pub(super) mod resend;
pub(super) mod slack;
pub(super) mod sms;
pub(super) mod smtp;
mod smtp_lines;
pub(super) mod webhook;

use std::io;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::message::Message;
use super::secret::Secret;
use crate::config::NotifyConfig;
use crate::environment::Environment;

/// A message on its way through a channel.
pub(super) struct Task<'a> {
    /// The channel's name.
    pub(super) channel: &'a str,
    pub(super) config: &'a NotifyConfig,
    pub(super) message: &'a Message,
    pub(super) secret: Secret,
    /// For services.
    pub(super) client: &'a http::Client,
    /// In which people are shown times.
    pub(super) zone: &'a TimeZone,
    /// The name of this machine.
    pub(super) host: &'a str,
    pub(super) env: &'a Environment,
    /// Variables that the configuration uses for secrets; commands do not get them.
    pub(super) secrets: &'a [String],
    pub(super) now: Timestamp,
}

impl Task<'_> {
    /// The secret of a channel that must have one.
    pub(super) fn secret(&self) -> Result<&str, Failure> {
        self.secret.reveal().ok_or_else(|| Failure::later("the channel has no secret"))
    }

    /// The body for people.
    pub(super) fn text(&self) -> String {
        self.message.text(self.zone)
    }
}

/// Why a message did not go out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// Not now: it is tried again, not before the time that the other side asks for.
    Later { why: String, after: Option<Duration> },
    /// Not like this, however often it is tried.
    Refused { why: String },
}

impl Failure {
    pub(super) fn later(why: impl Into<String>) -> Self {
        Self::Later { why: why.into(), after: None }
    }

    pub(super) fn refused(why: impl Into<String>) -> Self {
        Self::Refused { why: why.into() }
    }

    /// In words.
    pub(super) fn why(&self) -> &str {
        match self {
            Self::Later { why, .. } | Self::Refused { why } => why,
        }
    }

    /// With other words.
    pub(super) fn reworded(self, words: impl FnOnce(&str) -> String) -> Self {
        match self {
            Self::Later { why, after } => Self::Later { why: words(&why), after },
            Self::Refused { why } => Self::Refused { why: words(&why) },
        }
    }

    /// Of several failures, the one that decides: what may pass is tried again.
    pub(super) fn worst(failures: &[Self]) -> Option<Self> {
        let why = failures.iter().map(Self::why).collect::<Vec<_>>().join("; ");
        let again = failures.iter().find(|failure| matches!(failure, Self::Later { .. }));
        again.or_else(|| failures.first()).cloned().map(|failure| failure.reworded(|_| why))
    }
}

/// Who of several recipients has a message already.
pub(super) struct Reached<'a> {
    known: Vec<String>,
    record: Box<Record<'a>>,
}

/// Remembers all who have it.
type Record<'a> = dyn FnMut(&[String]) -> io::Result<()> + Send + 'a;

impl<'a> Reached<'a> {
    /// With those that are known, and what remembers all of them.
    pub(super) fn new(
        known: Vec<String>,
        record: impl FnMut(&[String]) -> io::Result<()> + Send + 'a,
    ) -> Self {
        Self { known, record: Box::new(record) }
    }

    /// Those of `all` who do not have it.
    pub(super) fn left<'t>(&self, all: &'t [String]) -> Vec<&'t String> {
        all.iter().filter(|who| !self.known.contains(who)).collect()
    }

    /// They have it now.
    pub(super) fn add<'t>(
        &mut self,
        who: impl IntoIterator<Item = &'t String>,
    ) -> Result<(), Failure> {
        self.known.extend(who.into_iter().cloned());
        (self.record)(&self.known).map_err(|error| {
            Failure::later(format!("the message was sent, but cannot be recorded as sent: {error}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_decides() {
        let after = Some(Duration::from_secs(5));
        let all = [
            Failure::refused("a"),
            Failure::Later { why: "b".into(), after },
            Failure::refused("c"),
        ];
        assert_eq!(Failure::worst(&all), Some(Failure::Later { why: "a; b; c".into(), after }));
        assert_eq!(Failure::worst(&[Failure::refused("a")]), Some(Failure::refused("a")));
        assert_eq!(Failure::worst(&[]), None);
    }
}
