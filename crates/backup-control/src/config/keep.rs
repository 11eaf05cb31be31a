//! The keys that say what stays: `[jobs.NAME.keep]`, `[defaults.keep]`,
//! `[repositories.NAME.prune]`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use backup_core::retention::{Keep, Policy, PolicyError, Rule};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::age::Age;
use crate::units::{Size, Text, Time, UnusedLimit, text_or_number};

/// How many stay: a number, or `"all"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count(pub Keep);

impl FromStr for Count {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            "all" => Ok(Self(Keep::All)),
            "0" => Ok(Self(Keep::None)),
            number => match number.parse() {
                Ok(count) => Ok(Self(Keep::Count(count))),
                Err(_) => Err(format!("{text:?} is not a count; write a number, or \"all\"")),
            },
        }
    }
}

impl Serialize for Count {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Text::new("a number, or \"all\""))
    }
}

text_or_number!(Count);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Keep::None => f.write_str("none"),
            Keep::Count(count) => count.fmt(f),
            Keep::All => f.write_str("all"),
        }
    }
}

/// Rules for the snapshots of one tier or type.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RuleConfig {
    /// Keep this number of the newest snapshots.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<Count>,
    /// Keep all younger snapshots.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub within: Option<Age>,
}

/// `[jobs.NAME.keep]` and `[defaults.keep]`: retention policy of `backup cleanup`. A snapshot stays
/// if any of these keys keeps it. The section of a job replaces the default one completely.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KeepConfig {
    /// Keep this number of the newest snapshots.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<Count>,
    /// Keep the newest snapshot of each hour, for this number of hours with a snapshot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hourly: Option<Count>,
    /// Keep the newest snapshot of each day, for this number of days with a snapshot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub daily: Option<Count>,
    /// Keep the newest snapshot of each week (Monday to Sunday), for this number of weeks with a
    /// snapshot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weekly: Option<Count>,
    /// Keep the newest snapshot of each month, for this number of months with a snapshot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub monthly: Option<Count>,
    /// Keep the newest snapshot of each year, for this number of years with a snapshot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub yearly: Option<Count>,
    /// Keep all younger snapshots.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub within: Option<Age>,
    /// Keep all snapshots with one of these tags.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Keep every moment of this period restorable: all snapshots and logs of the period, and the
    /// snapshots that they require.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub point_in_time: Option<Age>,
    /// Keep at least this number of the newest snapshots, regardless of the other keys. Default: 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_copies: Option<u32>,
    /// Minimum retention: no command removes a younger snapshot. `backup run` writes this time into
    /// the repository, where it can only be lengthened.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub compliance: Option<Age>,
    /// `[….keep.tiers.NAME]`: rules for the snapshots of one tier.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tiers: BTreeMap<String, RuleConfig>,
    /// `[….keep.types.NAME]`: rules for the snapshots of one type.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub types: BTreeMap<String, RuleConfig>,
}

impl KeepConfig {
    /// As the data plane wants it.
    ///
    /// # Errors
    /// [`PolicyError`] for what would drop nearly everything by mistake.
    pub fn policy(&self) -> Result<Policy, PolicyError> {
        let count = |count: Option<Count>| count.map_or(Keep::None, |count| count.0);
        let rules = |rules: &BTreeMap<String, RuleConfig>| -> BTreeMap<String, Rule> {
            let rule = |rule: &RuleConfig| Rule {
                last: count(rule.last),
                within: rule.within.as_ref().map(Age::span),
            };
            rules.iter().map(|(name, config)| (name.clone(), rule(config))).collect()
        };
        let policy = Policy {
            last: count(self.last),
            hourly: count(self.hourly),
            daily: count(self.daily),
            weekly: count(self.weekly),
            monthly: count(self.monthly),
            yearly: count(self.yearly),
            within: self.within.as_ref().map(Age::span),
            tags: self.tags.clone(),
            tiers: rules(&self.tiers),
            types: rules(&self.types),
            point_in_time: self.point_in_time.as_ref().map(Age::span),
            min_copies: self.min_copies.unwrap_or(Policy::default().min_copies),
            compliance: self.compliance.as_ref().map(Age::span),
        };
        policy.check()?;
        Ok(policy)
    }
}

impl fmt::Display for KeepConfig {
    /// In a few words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words: Vec<String> = Vec::new();
        for (count, name) in [
            (self.last, "last"),
            (self.hourly, "hourly"),
            (self.daily, "daily"),
            (self.weekly, "weekly"),
            (self.monthly, "monthly"),
            (self.yearly, "yearly"),
        ] {
            words.extend(count.map(|count| format!("{count} {name}")));
        }
        let ages = [
            (&self.within, "all of"),
            (&self.point_in_time, "every point in time of"),
            (&self.compliance, "at least"),
        ];
        words.extend(
            ages.iter().filter_map(|(age, what)| Some(format!("{what} {}", age.as_ref()?))),
        );
        words.extend(self.tags.iter().map(|tag| format!("tag {tag}")));
        words.extend(self.tiers.keys().map(|tier| format!("rules for tier {tier}")));
        words.extend(self.types.keys().map(|kind| format!("rules for type {kind}")));
        f.write_str(&words.join(", "))
    }
}

/// `[repositories.NAME.prune]`: removal of unreferenced data.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PruneConfig {
    /// Time that an unreferenced pack stays, in which a forgotten snapshot can be recovered.
    /// Default: 24h.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grace: Option<Time>,
    /// Maximum of unused data in packs that are still referenced: a share, a size or `"unlimited"`.
    /// Packs beyond it are rewritten. Default: 5%.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_unused: Option<UnusedLimit>,
    /// Maximum size of the data that one run rewrites. Default: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_repack: Option<Size>,
    /// Maximum duration of one run; the next one continues. Default: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_time: Option<Time>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn becomes_a_policy() {
        let text = r#"
            last = 3
            daily = 7
            yearly = "all"
            within = "36h"
            point_in_time = "7d"
            compliance = "7y"
            tags = ["audit"]
            tiers.manual.last = "all"
            types.log.within = "7d"
        "#;
        let config: KeepConfig = toml::from_str(text).unwrap();
        let policy = config.policy().unwrap();
        assert_eq!(
            (policy.last, policy.daily, policy.yearly),
            (Keep::Count(3), Keep::Count(7), Keep::All)
        );
        assert_eq!(policy.weekly, Keep::None);
        assert_eq!(policy.min_copies, 1);
        assert_eq!(policy.tiers["manual"].last, Keep::All);
        let spans =
            [policy.within, policy.point_in_time, policy.compliance, policy.types["log"].within];
        assert_eq!(spans.map(|span| format!("{:#}", span.unwrap())), ["36h", "7d", "7y", "7d"]);
        assert_eq!(
            toml::from_str::<KeepConfig>(&toml::to_string(&config).unwrap()).unwrap(),
            config
        );
        insta::assert_snapshot!(config, @"3 last, 7 daily, all yearly, all of 36h, every point in time of 7d, at least 7y, tag audit, rules for tier manual, rules for type log");
    }

    #[test]
    fn nothing_is_no_policy() {
        assert!(KeepConfig::default().policy().is_err());
        assert!(
            KeepConfig {
                min_copies: Some(0),
                last: Some(Count(Keep::All)),
                ..KeepConfig::default()
            }
            .policy()
            .is_err()
        );
    }
}
