//! How many of what, for how long.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::calendar::Period;

/// How many snapshots, or periods, are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Keep {
    /// None.
    #[default]
    None,
    /// So many.
    Count(u32),
    /// All there are.
    All,
}

impl Keep {
    pub(super) fn allows(self, already: usize) -> bool {
        match self {
            Self::None => false,
            Self::Count(count) => already < count as usize,
            Self::All => true,
        }
    }
}

impl Serialize for Keep {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::None => serializer.serialize_u32(0),
            Self::Count(count) => serializer.serialize_u32(*count),
            Self::All => serializer.serialize_str("all"),
        }
    }
}

impl<'de> Deserialize<'de> for Keep {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Count(u32),
            Word(String),
        }
        match Form::deserialize(deserializer)? {
            Form::Count(0) => Ok(Self::None),
            Form::Count(count) => Ok(Self::Count(count)),
            Form::Word(word) if word == "all" => Ok(Self::All),
            Form::Word(word) => {
                Err(serde::de::Error::custom(format!("{word:?} is neither a number nor \"all\"")))
            }
        }
    }
}

/// A policy that would do something nobody can have meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PolicyError(String);

/// A rule for the snapshots of one tier or type.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rule {
    /// How many of the newest.
    pub last: Keep,
    /// All that are younger.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within: Option<Span>,
}

/// What is kept. Spans are those of the calendar: a month back from 31 March is 28 or 29 February.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// How many of the newest.
    pub last: Keep,
    /// The newest of how many hours that have one.
    pub hourly: Keep,
    /// The newest of how many days that have one.
    pub daily: Keep,
    /// The newest of how many ISO weeks that have one.
    pub weekly: Keep,
    /// The newest of how many months that have one.
    pub monthly: Keep,
    /// The newest of how many years that have one.
    pub yearly: Keep,
    /// All that are younger.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within: Option<Span>,
    /// All that have one of these tags.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Rules by tier.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tiers: BTreeMap<String, Rule>,
    /// Rules by type.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub types: BTreeMap<String, Rule>,
    /// For how long every moment can be restored: all snapshots and logs of that time, and what
    /// they begin with. Older points are kept by the other rules, each with the logs that it needs
    /// itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub point_in_time: Option<Span>,
    /// How many of the newest stay in any case; at least 1.
    pub min_copies: u32,
    /// Nothing younger is dropped by anybody; no command shortens it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compliance: Option<Span>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            last: Keep::None,
            hourly: Keep::None,
            daily: Keep::None,
            weekly: Keep::None,
            monthly: Keep::None,
            yearly: Keep::None,
            within: None,
            tags: Vec::new(),
            tiers: BTreeMap::new(),
            types: BTreeMap::new(),
            point_in_time: None,
            min_copies: 1,
            compliance: None,
        }
    }
}

impl Policy {
    /// Refuses what would drop nearly everything by mistake, and spans that make no sense.
    ///
    /// # Errors
    /// [`PolicyError`] says what is wrong.
    pub fn check(&self) -> Result<(), PolicyError> {
        let counts = [self.last, self.hourly, self.daily, self.weekly, self.monthly, self.yearly];
        let keeps = counts.iter().any(|keep| *keep != Keep::None)
            || self.within.is_some()
            || self.point_in_time.is_some()
            || !self.tiers.is_empty()
            || !self.types.is_empty();
        if !keeps {
            return Err(PolicyError(
                "the policy keeps nothing: set which snapshots it keeps".to_owned(),
            ));
        }
        if self.min_copies == 0 {
            return Err(PolicyError(
                "min_copies must be at least 1: the last snapshot is never forgotten".to_owned(),
            ));
        }
        let rules = self.tiers.values().chain(self.types.values()).map(|rule| rule.within);
        let spans = rules.chain([self.within, self.point_in_time, self.compliance]);
        for span in spans.flatten() {
            if span.is_negative() || span.is_zero() {
                return Err(PolicyError(format!(
                    "{span:#} is not a valid retention period: it must be above zero"
                )));
            }
        }
        Ok(())
    }

    pub(super) fn of(&self, period: Period) -> Keep {
        match period {
            Period::Hour => self.hourly,
            Period::Day => self.daily,
            Period::Week => self.weekly,
            Period::Month => self.monthly,
            Period::Year => self.yearly,
        }
    }
}

/// The moment that is `span` before `now` by the calendar; the beginning of time if there is none.
pub(crate) fn before(now: Timestamp, span: Span, zone: &TimeZone) -> Timestamp {
    now.to_zoned(zone.clone()).checked_sub(span).map_or(Timestamp::MIN, |then| then.timestamp())
}
