//! Whether an answer to a bulk deletion is about what was to be deleted.
//!
//! `object_store` 0.14 panics at a name that it did not ask for, so that this is looked at before.

use std::collections::HashSet;

use serde::Deserialize;
use serde::de::IgnoredAny;
use url::form_urlencoded;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Asked {
    #[serde(default)]
    object: Vec<Name>,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default, rename = "$value")]
    content: Vec<Entry>,
}

#[derive(Deserialize)]
enum Entry {
    Deleted(IgnoredAny),
    Error(Name),
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Name {
    key: String,
}

/// Whether a query is that of a bulk deletion.
pub(super) fn is_deletion(query: &str) -> bool {
    form_urlencoded::parse(query.as_bytes()).any(|(key, _)| key == "delete")
}

/// Checks an answer; the error says what is wrong with it.
pub(super) fn check(asked: &[u8], answer: &[u8]) -> Result<(), String> {
    let asked: Asked = quick_xml::de::from_reader(asked)
        .map_err(|error| format!("cannot parse the request: {error}"))?;
    let asked: HashSet<&str> = asked.object.iter().map(|object| &*object.key).collect();
    let answer: Answer = quick_xml::de::from_reader(answer).map_err(|error| error.to_string())?;
    let stranger = answer.content.iter().any(|entry| match entry {
        Entry::Error(name) => !asked.contains(&*name.key),
        Entry::Deleted(_) | Entry::Other => false,
    });
    if stranger {
        Err("it names an object that the request did not contain".to_owned())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_about_what_was_asked() {
        assert!(is_deletion("delete") && is_deletion("delete=") && !is_deletion("restore="));
        let asked = b"<Delete xmlns=\"x\"><Object><Key>a</Key></Object><Object><Key>b&amp;c</Key></Object></Delete>";
        let error = |key: &str| {
            format!("<Error><Key>{key}</Key><Code>AccessDenied</Code><Message>no</Message></Error>")
        };
        let deleted = "<Deleted><Key>a</Key></Deleted>";
        let check = |entries: String| {
            check(asked, format!("<DeleteResult>{entries}</DeleteResult>").as_bytes())
        };
        check(String::new()).unwrap();
        check(format!("{deleted}{}<New>1</New>{deleted}{}", error("a"), error("b&amp;c"))).unwrap();
        for stranger in ["z", "", "A"] {
            check(format!("{deleted}{}", error(stranger))).unwrap_err();
        }
        check("<Error><Code>AccessDenied</Code></Error>".to_owned()).unwrap_err();
        check("<Error>".to_owned()).unwrap_err();
    }
}
