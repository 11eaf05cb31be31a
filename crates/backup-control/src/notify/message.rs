//! Messages, and their words: what happened, where, why, and what to do next.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Severity of a message.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// For information.
    Info,
    /// Needs attention at some time.
    Warning,
    /// Needs attention today.
    High,
    /// Needs attention now.
    Critical,
}

impl Severity {
    /// As in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a message does to its incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It has begun, or goes on.
    Firing,
    /// It is over.
    Resolved,
    /// There is none that could be over: a success, a report, a test.
    Notice,
}

impl Kind {
    /// As in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Resolved => "resolved",
            Self::Notice => "notice",
        }
    }
}

/// Something that people are told. It holds no secrets: it is stored as it is, and sent to others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The same message has the same: it goes through a channel once.
    pub id: String,
    /// What it is about, the same for all messages about it, from its beginning to its end.
    pub incident: String,
    /// What it does to its incident.
    pub kind: Kind,
    /// How much it matters.
    pub severity: Severity,
    /// What happened, in one line.
    pub title: String,
    /// Where: the job, the repository, the host.
    pub place: String,
    /// Why, as far as that is known.
    pub cause: String,
    /// What to do next.
    pub next: String,
    /// The job that it is about, if it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// When it happened.
    pub time: Timestamp,
    /// What else there is to know, by its name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub details: BTreeMap<String, String>,
    /// A whole report, for channels that can show one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub html: Option<String>,
}

/// What templates may name, besides `details.NAME`.
pub(super) const FIELDS: [&str; 12] = [
    "id", "incident", "kind", "severity", "title", "subject", "place", "cause", "next", "job",
    "time", "text",
];

impl Message {
    /// A message that says that a channel works. No two of them are the same.
    #[must_use]
    pub fn test(channel: &str, severity: Severity, user: &str, host: &str, now: Timestamp) -> Self {
        Self {
            id: format!("test/{}/{now}/{:08x}", one_line(host), rand::random::<u32>()),
            incident: "test".to_owned(),
            kind: Kind::Notice,
            severity,
            title: format!("Test of the channel {channel}"),
            place: format!("host {host}"),
            cause: format!("{user} ran `backup notify test`"),
            next: "none: notifications of this channel reach you".to_owned(),
            job: None,
            time: now,
            details: BTreeMap::new(),
            html: None,
        }
    }

    /// What happened and how much it matters, in one line.
    #[must_use]
    pub fn subject(&self) -> String {
        let title = one_line(&self.title);
        match (self.kind, self.severity) {
            (Kind::Resolved, _) => format!("[resolved] {title}"),
            (Kind::Notice, Severity::Info) => title,
            (_, severity) => format!("[{severity}] {title}"),
        }
    }

    /// All of it for people, in lines; without `html`.
    #[must_use]
    pub fn text(&self, zone: &TimeZone) -> String {
        let mut text = format!("{}\n\n", self.subject());
        for (name, value) in self.facts(zone) {
            text.push_str(&format!(
                "{:<7}{}\n",
                format!("{name}:"),
                value.replace('\n', "\n       ")
            ));
        }
        if !self.details.is_empty() {
            text.push_str("\nDetails:\n");
        }
        for (name, value) in &self.details {
            text.push_str(&format!("  {name}: {}\n", value.trim().replace('\n', "\n    ")));
        }
        text
    }

    /// Where, why, what next and when: what there is to say of these, with its heading.
    pub(super) fn facts(&self, zone: &TimeZone) -> Vec<(&'static str, String)> {
        let facts = [
            ("Where", self.place.trim().to_owned()),
            ("Why", self.cause.trim().to_owned()),
            ("Next", self.next.trim().to_owned()),
            ("When", crate::zone::second(self.time, zone)),
        ];
        facts.into_iter().filter(|(_, value)| !value.is_empty()).collect()
    }

    /// The most important of it in at most so many letters.
    #[must_use]
    pub fn short(&self, letters: usize) -> String {
        let mut text = self.subject();
        for (before, more) in [(" @ ", &self.place), (": ", &self.cause), (" -> ", &self.next)] {
            if !more.trim().is_empty() {
                text.push_str(before);
                text.push_str(&one_line(more));
            }
        }
        cut(&text, letters)
    }

    /// What a template calls `name`; empty if it has nothing of that name.
    pub(super) fn field(&self, name: &str, zone: &TimeZone) -> String {
        match name {
            "id" => self.id.clone(),
            "incident" => self.incident.clone(),
            "kind" => self.kind.as_str().to_owned(),
            "severity" => self.severity.to_string(),
            "title" => one_line(&self.title),
            "subject" => self.subject(),
            "place" => self.place.clone(),
            "cause" => self.cause.clone(),
            "next" => self.next.clone(),
            "job" => self.job.clone().unwrap_or_default(),
            "time" => self.time.to_string(),
            "text" => self.text(zone),
            _ => name
                .strip_prefix("details.")
                .and_then(|name| self.details.get(name))
                .cloned()
                .unwrap_or_default(),
        }
    }
}

/// Text without line breaks, and with single spaces.
pub(super) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The beginning of a text, so that it has at most so many letters.
pub(super) fn cut(text: &str, letters: usize) -> String {
    if text.chars().count() <= letters {
        return text.to_owned();
    }
    let kept: String = text.chars().take(letters.saturating_sub(3)).collect();
    format!("{}...", kept.trim_end())
}

/// A short name for texts that may be long or hold any letter: of the same texts the same.
pub(super) fn digest(texts: &[&str]) -> String {
    let mut hasher = Sha256::new();
    for text in texts {
        // With its length, so that no two lists look the same.
        hasher.update((text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    }
    hasher.finalize()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A text as a name that services take: itself if it is short and of plain letters, else a digest
/// of it.
pub(super) fn name_for_services(text: &str, longest: usize) -> String {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic());
    if is_plain && (1..=longest).contains(&text.len()) { text.to_owned() } else { digest(&[text]) }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// One of every thing that a message can have.
    pub(in crate::notify) fn message() -> Message {
        Message {
            id: "shop/failure/20261123-080000-abc123".into(),
            incident: "shop/failure".into(),
            kind: Kind::Firing,
            severity: Severity::Critical,
            title: "The backup of shop failed".into(),
            place: "job shop, repository main, host db1".into(),
            cause: "cannot connect to \"db1\":\nconnection refused <5432>".into(),
            next: "start the server, then `backup retry latest`".into(),
            job: Some("shop".into()),
            time: "2026-11-23T08:00:00Z".parse().unwrap(),
            details: [("run".to_owned(), "20261123-080000-abc123".to_owned())].into(),
            html: None,
        }
    }

    #[test]
    fn says_what_where_why_and_what_next() {
        insta::assert_snapshot!(message().text(&TimeZone::UTC), @r#"
        [critical] The backup of shop failed

        Where: job shop, repository main, host db1
        Why:   cannot connect to "db1":
               connection refused <5432>
        Next:  start the server, then `backup retry latest`
        When:  2026-11-23 08:00:00 UTC

        Details:
          run: 20261123-080000-abc123
        "#);
        let over = Message {
            kind: Kind::Resolved,
            details: BTreeMap::new(),
            cause: String::new(),
            ..message()
        };
        let text = over.text(&crate::zone::named("Europe/Berlin").unwrap());
        assert!(text.starts_with("[resolved] The backup of shop failed\n\nWhere:"), "{text}");
        assert!(
            text.contains("09:00:00 CET") && !text.contains("Why") && !text.contains("Details"),
            "{text}"
        );
        let notice = Message { kind: Kind::Notice, severity: Severity::Info, ..message() };
        assert_eq!(notice.subject(), "The backup of shop failed");
        let split = Message { title: "a\r\nBcc: everybody".into(), ..notice };
        assert_eq!(split.subject(), "a Bcc: everybody");
    }

    #[test]
    fn the_short_form_is_short() {
        let text = message().short(160);
        assert!(
            text.starts_with("[critical] The backup of shop failed @ job shop, repository main"),
            "{text}"
        );
        assert!(text.ends_with("...") && text.chars().count() <= 160, "{text}");
        assert_eq!(cut("höhe", 4), "höhe");
        assert_eq!(cut("höhen", 4), "h...");
    }

    #[test]
    fn names_for_services() {
        assert_eq!(name_for_services("shop/failure", 255), "shop/failure");
        for other in ["", "two words", "höhe", "abcd", "a\nb"] {
            assert_eq!(name_for_services(other, 3).len(), 32, "{other}");
        }
        assert_ne!(digest(&["a", "b"]), digest(&["ab", ""]));
    }

    #[test]
    fn every_field_has_a_value() {
        for name in FIELDS {
            assert!(!message().field(name, &TimeZone::UTC).is_empty(), "{name}");
        }
        assert_eq!(message().field("details.run", &TimeZone::UTC), "20261123-080000-abc123");
        assert_eq!(message().field("details.none", &TimeZone::UTC), "");
    }
}
