//! Templates of bodies: text with `{{title}}` and the like in it.

use jiff::tz::TimeZone;

use super::message::{FIELDS, Message};
use crate::error::{Error, Result};
use crate::suggest;

/// A body whose placeholders are filled from a message.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    parts: Vec<Part>,
    is_json: bool,
}

#[derive(Debug, Clone)]
enum Part {
    Text(String),
    Field(String),
}

impl Template {
    /// Understands a template. One that is JSON stays JSON, whatever a message says.
    ///
    /// # Errors
    /// [`Error::Invalid`]: a placeholder is not closed, means nothing, or would have to stand in
    /// quotes.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once("{{") {
            let (name, behind) = behind.split_once("}}").ok_or_else(|| {
                Error::invalid("a `{{` is not closed")
                    .with_hint("write placeholders like `{{title}}`")
            })?;
            let name = name.trim();
            let is_detail = name.strip_prefix("details.").is_some_and(|detail| !detail.is_empty());
            if !is_detail && !FIELDS.contains(&name) {
                let hint = suggest::hint(name, FIELDS).unwrap_or_default();
                return Err(Error::invalid(format!("there is no placeholder `{{{{{name}}}}}`"))
                    .with_hint(hint));
            }
            parts.extend([Part::Text(before.to_owned()), Part::Field(name.to_owned())]);
            rest = behind;
        }
        parts.push(Part::Text(rest.to_owned()));
        let template = Self { parts, is_json: false };
        let is_json_with = |word: &str| {
            serde_json::from_str::<serde_json::Value>(&template.filled(|_| word.to_owned())).is_ok()
        };
        // A word can only stand in quotes, a number also without.
        match (is_json_with("x"), is_json_with("0")) {
            (false, true) => Err(Error::invalid("a placeholder in this JSON has no quotes")
                .with_hint("write it like \"{{title}}\": all values are strings")),
            (is_json, _) => Ok(Self { is_json, ..template }),
        }
    }

    /// Whether what comes of it is JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.is_json
    }

    /// The body for a message.
    pub(crate) fn render(&self, message: &Message, zone: &TimeZone) -> String {
        self.filled(|name| {
            let value = message.field(name, zone);
            if self.is_json { escaped(&value) } else { value }
        })
    }

    fn filled(&self, value: impl Fn(&str) -> String) -> String {
        let part = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Field(name) => value(name),
        };
        self.parts.iter().map(part).collect()
    }
}

/// A text as it stands between the quotes of JSON.
fn escaped(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted.get(1..quoted.len() - 1).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::message::tests::message;
    use super::*;

    #[test]
    fn json_stays_json() {
        let template =
            Template::parse(r#"{"text": "{{subject}}: {{ cause }}", "run": "{{details.run}}"}"#)
                .unwrap();
        assert!(template.is_json());
        let body: serde_json::Value =
            serde_json::from_str(&template.render(&message(), &TimeZone::UTC)).unwrap();
        let text = "[critical] The backup of shop failed: cannot connect to \"db1\":\nconnection \
                    refused <5432>";
        assert_eq!(body["text"], text);
        assert_eq!(body["run"], "20261123-080000-abc123");
    }

    #[test]
    fn other_texts_are_filled_as_they_are() {
        let template = Template::parse("{{severity}} {{kind}} {{job}} {x} }}").unwrap();
        assert!(!template.is_json());
        assert_eq!(template.render(&message(), &TimeZone::UTC), "critical firing shop {x} }}");
    }

    #[test]
    fn mistakes_are_named() {
        for (text, word) in [
            ("{{titel}}", "did you mean `title`"),
            ("{{title", "write placeholders"),
            ("{{details.}}", "choose from"),
            (r#"{"n": {{title}}}"#, "write it like"),
        ] {
            let error = Template::parse(text).unwrap_err();
            assert!(
                error.hint().is_some_and(|hint| hint.contains(word)),
                "{text}: {error} {:?}",
                error.hint()
            );
        }
    }
}
