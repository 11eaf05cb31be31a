//! Results for monitoring systems, in the form of Nagios plugins: an exit code, and one line with
//! performance data. The codes are those of plugins, and differ from [`exit_code`](crate::exit_code).

use std::fmt;

use crate::command_error::Outcome;
use crate::human;

/// Exit code of a plugin that cannot determine the state.
pub(crate) const UNKNOWN: u8 = 3;
/// Problems that a line names.
const MAX_PROBLEMS: usize = 10;

/// The state that a plugin reports. Of several, the greatest counts: a result that lacks something
/// is unknown, whatever the rest of it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// Exit code 0.
    Good,
    /// Exit code 1.
    Warning,
    /// Exit code 2.
    Critical,
    /// Exit code 3.
    Unknown,
}

impl Level {
    /// The outcome with its exit code.
    pub(crate) fn outcome(self) -> Outcome {
        match self {
            Self::Good => Outcome::Success,
            Self::Warning => Outcome::Failed(1),
            Self::Critical => Outcome::Failed(2),
            Self::Unknown => Outcome::Failed(UNKNOWN),
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Good => "OK",
            Self::Warning => "WARNING",
            Self::Critical => "CRITICAL",
            Self::Unknown => "UNKNOWN",
        }
    }
}

/// A value of the performance data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Figure {
    label: String,
    value: u64,
    /// `s`, `B`, or nothing for a count.
    unit: &'static str,
    /// The value above which the state is critical.
    critical: Option<u64>,
}

impl Figure {
    /// A value in a unit: `s`, `B`, or nothing for a count.
    pub(crate) fn new(label: impl Into<String>, value: u64, unit: &'static str) -> Self {
        Self { label: label.into(), value, unit, critical: None }
    }

    /// With the value above which the state is critical.
    pub(crate) fn critical_above(self, critical: Option<u64>) -> Self {
        Self { critical, ..self }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Within a label, a quote is doubled, and there is no equals sign.
        let label = plain(&self.label).replace('\'', "''").replace('=', "_");
        let Self { value, unit, .. } = self;
        let critical = self.critical.map(|critical| critical.to_string()).unwrap_or_default();
        write!(f, "'{label}'={value}{unit};;{critical};0")
    }
}

/// The line of a plugin.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Report {
    /// The summary if there is no problem.
    pub(crate) summary: String,
    /// Problems, and how much each matters.
    pub(crate) problems: Vec<(Level, String)>,
    /// Performance data.
    pub(crate) figures: Vec<Figure>,
}

impl Report {
    /// A result that could not be determined.
    pub(crate) fn unknown(why: String) -> Self {
        Self { problems: vec![(Level::Unknown, why)], ..Self::default() }
    }

    /// The state: that of the greatest problem.
    pub(crate) fn level(&self) -> Level {
        self.problems.iter().map(|(level, _)| *level).max().unwrap_or(Level::Good)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut problems: Vec<&(Level, String)> = self.problems.iter().collect();
        problems.sort_by_key(|(level, _)| std::cmp::Reverse(*level));
        let named = problems.iter().take(MAX_PROBLEMS).map(|(_, text)| plain(text));
        let mut texts: Vec<String> = named.collect();
        if let Some(more) = problems.len().checked_sub(MAX_PROBLEMS).filter(|more| *more > 0) {
            texts.push(format!("and {more} more"));
        }
        if texts.is_empty() {
            texts.push(plain(&self.summary));
        }
        write!(f, "BACKUP {} - {}", self.level().word(), texts.join("; "))?;
        for (number, figure) in self.figures.iter().enumerate() {
            write!(f, "{}{figure}", if number == 0 { " | " } else { " " })?;
        }
        Ok(())
    }
}

/// Text without the character that begins performance data, in one line.
fn plain(text: &str) -> String {
    human::text(text.replace(['\n', '\r'], " ").as_bytes()).replace('|', "/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_is_one_line_of_a_plugin() {
        let report = Report {
            summary: "2 jobs".into(),
            problems: vec![
                (Level::Warning, "docs: incomplete".into()),
                (Level::Critical, "shop: failed: a | b\nc".into()),
            ],
            figures: vec![
                Figure::new("jobs", 2, ""),
                Figure::new("it's a=b age", 3600, "s").critical_above(Some(900)),
            ],
        };
        assert_eq!(
            report.to_string(),
            "BACKUP CRITICAL - shop: failed: a / b c; docs: incomplete | 'jobs'=2;;;0 'it''s a_b \
             age'=3600s;;900;0"
        );
        assert_eq!(report.level().outcome().exit_code(), 2);
    }

    #[test]
    fn report_without_problems_shows_the_summary() {
        let report = Report { summary: "2 jobs".into(), ..Report::default() };
        assert_eq!(report.to_string(), "BACKUP OK - 2 jobs");
        assert_eq!(report.level().outcome().exit_code(), 0);
    }

    #[test]
    fn unknown_outweighs_critical() {
        let mut report = Report::unknown("repository main cannot be read".into());
        report.problems.push((Level::Critical, "docs: failed".into()));
        assert_eq!(
            report.to_string(),
            "BACKUP UNKNOWN - repository main cannot be read; docs: failed"
        );
        assert_eq!(report.level().outcome().exit_code(), 3);
        report.problems = vec![(Level::Warning, "x".into()); 12];
        assert!(report.to_string().ends_with("; x; and 2 more"), "{report}");
        assert_eq!(report.level().outcome().exit_code(), 1);
    }
}
