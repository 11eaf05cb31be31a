//! A program that says what a test wants to hear.

use std::sync::Mutex;

use async_trait::async_trait;

use crate::api::{Program, Spoken, Unheard};

/// A program that remembers how it was called.
#[derive(Debug, Default)]
pub(crate) struct ScriptedProgram {
    calls: Mutex<Vec<(Vec<String>, String)>>,
}

impl ScriptedProgram {
    /// The number of requested anchors.
    pub(crate) fn anchors(&self) -> usize {
        let calls = self.calls.lock().unwrap();
        calls.iter().filter(|(words, _)| words[..] == ["audit", "anchor", "--json"]).count()
    }

    /// Its calls by requests: the words, and on whose behalf.
    pub(crate) fn calls(&self) -> Vec<(String, String)> {
        let calls = self.calls.lock().unwrap();
        let shown = |(words, by): &(Vec<String>, String)| (words.join(" "), by.clone());
        let is_request = |(_, by): &&(Vec<String>, String)| by != "metrics" && by != "schedule";
        calls.iter().filter(is_request).map(shown).collect()
    }
}

#[async_trait]
impl Program for ScriptedProgram {
    async fn ask(&self, words: &[String], by: &str) -> Result<Spoken, Unheard> {
        self.calls.lock().unwrap().push((words.to_vec(), by.to_owned()));
        let minute_ago = super::now() - jiff::SignedDuration::from_mins(1);
        let out = match words[0].as_str() {
            "list" => r#"{"schema_version":1,"snapshots":[]}"#.to_owned(),
            "show" if words.last().is_some_and(|word| word == "gone") => {
                let out = r#"{"event":"error","kind":"not_found","message":"there is no snapshot gone","causes":[]}"#;
                return Ok(Spoken { code: Some(1), out: out.into(), err: String::new() });
            }
            "show" => r#"{"schema_version":1,"snapshot":{"id":"1a2b"}}"#.to_owned(),
            "timeline" => r#"{"schema_version":1,"ranges":[],"gaps":[]}"#.to_owned(),
            "restore" => "{\"event\":\"stage_started\",\"stage\":\"plan\"}\n{\"event\":\"summary\",\"files\":3}".to_owned(),
            "audit" => r#"{"schema_version":1,"sound":true}"#.to_owned(),
            "report" if words.iter().any(|word| word == "--format=html") => "<!doctype html><p>fine".to_owned(),
            "report" if words.iter().any(|word| word == "--format=md") => "# Report".to_owned(),
            "report" => r#"{"schema_version":1,"jobs":[]}"#.to_owned(),
            "storage" => {
                r#"{"total":{"objects":7,"bytes":1073741824},"room_bytes":9663676416,"quota_bytes":10737418240,"days_left":90}"#
                    .to_owned()
            }
            "status" => format!(
                r#"{{"jobs":[{{"job":"docs","last_success":{{"time":"{minute_ago}"}},"recovery_point":"{minute_ago}"}}]}}"#
            ),
            other => panic!("nobody asks for {other}"),
        };
        Ok(Spoken { code: Some(0), out: out.into_bytes(), err: String::new() })
    }
}
