//! The members of a deployment, as the monitors of the driver see them.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ::mongodb::error::{Error, ErrorKind};
use ::mongodb::event::EventHandler;
use ::mongodb::event::sdam::{SdamEvent, TopologyDescription};
use ::mongodb::options::{
    ClientOptions, ReadPreference, ReadPreferenceOptions, SelectionCriteria, ServerAddress, TagSet,
    Tls,
};
use ::mongodb::{ServerInfo, ServerType};
use bson::Document;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::unreachable::{Cause, ClientTls, Finding, Unreachable};

/// Longest examination of one member.
const EXAMINATION: Duration = Duration::from_secs(1);

/// `hello` as a message without TLS (OP_MSG): length, number, reply to, kind, flags, section.
const HELLO: [u8; 55] = *b"\x37\0\0\0\x01\0\0\0\0\0\0\0\xdd\x07\0\0\0\0\0\0\0\
    \x22\0\0\0\x10isMaster\0\x01\0\0\0\x02$db\0\x06\0\0\0admin\0\0";

/// The last heartbeat of a member.
#[derive(Debug, Clone)]
enum Heartbeat {
    Failed(Cause),
    Answered { set: Option<String>, role: &'static str },
}

#[derive(Default)]
struct Seen {
    heartbeats: BTreeMap<String, Heartbeat>,
    topology: Option<TopologyDescription>,
}

/// Members with their last heartbeats. Clones share them.
#[derive(Clone)]
pub(super) struct Members {
    seen: Arc<Mutex<Seen>>,
    /// Hosts of the address.
    seeds: Vec<String>,
    /// The replica set of the address.
    set: Option<String>,
    tls: Option<ClientTls>,
}

impl fmt::Debug for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Members").field("seeds", &self.seeds).finish_non_exhaustive()
    }
}

impl Members {
    /// Makes a client with these options report its heartbeats.
    pub(super) fn watch(options: &mut ClientOptions) -> Self {
        let members = Self {
            seen: Arc::default(),
            seeds: options.hosts.iter().map(ToString::to_string).collect(),
            set: options.repl_set_name.clone(),
            tls: match &options.tls {
                Some(Tls::Enabled(tls)) => {
                    Some(ClientTls { has_certificate: tls.cert_key_file_path.is_some() })
                }
                _ => None,
            },
        };
        let noting = members.clone();
        options.sdam_event_handler = Some(EventHandler::callback(move |event| noting.note(event)));
        members
    }

    fn note(&self, event: SdamEvent) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            SdamEvent::ServerHeartbeatFailed(event) => {
                let cause = Cause::of(&event.failure, self.tls);
                let host = event.server_address.to_string();
                seen.heartbeats.insert(host, Heartbeat::Failed(cause));
            }
            SdamEvent::ServerHeartbeatSucceeded(event) => {
                let set = event.reply.get_str("setName").ok().map(str::to_owned);
                let answered = Heartbeat::Answered { set, role: role_of(&event.reply) };
                seen.heartbeats.insert(event.server_address.to_string(), answered);
            }
            SdamEvent::TopologyDescriptionChanged(event) => {
                seen.topology = Some(event.new_description);
            }
            _ => {}
        }
    }

    /// Returns `true` if a member that may be used answers.
    pub(super) fn any_answers(&self) -> bool {
        self.findings().iter().any(|(.., finding)| matches!(finding, Finding::Answers(_)))
    }

    fn finding(&self, beat: &Heartbeat) -> Finding {
        match (beat, &self.set) {
            (Heartbeat::Failed(cause), _) => Finding::Failed(cause.clone()),
            (Heartbeat::Answered { set, .. }, Some(wanted)) if set.as_ref() != Some(wanted) => {
                Finding::Failed(Cause::OtherSet { found: set.clone(), wanted: wanted.clone() })
            }
            (Heartbeat::Answered { role, .. }, _) => Finding::Answers(role),
        }
    }

    /// The error for a deployment of which no member can be used.
    pub(super) async fn unreachable(&self) -> Unreachable {
        let mut found = self.findings();
        for (host, _, finding) in &mut found {
            match finding {
                Finding::Failed(cause @ Cause::Silent) if !resolves(host).await => {
                    *cause = Cause::Unresolved;
                }
                Finding::Failed(cause @ Cause::ClosedInTls { .. })
                    if speaks_plainly(host).await =>
                {
                    *cause = Cause::NotTls;
                }
                _ => {}
            }
        }
        Unreachable::of(&found)
    }

    /// Members of the address and others of the set; whether the address names them.
    fn findings(&self) -> Vec<(String, bool, Finding)> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let known: Option<Vec<String>> = seen
            .topology
            .as_ref()
            .map(|topology| topology.servers().into_keys().map(ToString::to_string).collect());
        let mut hosts: Vec<&String> =
            known.iter().flatten().chain(seen.heartbeats.keys()).chain(&self.seeds).collect();
        hosts.sort_unstable();
        hosts.dedup();
        let found = hosts.into_iter().filter_map(|host| {
            let beat = seen.heartbeats.get(host);
            let finding = beat.map_or(Finding::Failed(Cause::Silent), |beat| self.finding(beat));
            // The driver does not use a member by a name that the set does not have.
            let is_left = known.as_ref().is_some_and(|known| !known.contains(host));
            let is_used = !is_left || matches!(finding, Finding::Failed(Cause::OtherSet { .. }));
            is_used.then(|| (host.clone(), self.seeds.contains(host), finding))
        });
        found.collect()
    }

    /// Replaces the driver's error for a deployment without a usable member by one that names the
    /// members and the causes.
    pub(super) async fn explained(&self, error: Error) -> Error {
        match error.kind.as_ref() {
            ErrorKind::ServerSelection { .. } => Error::custom(self.unreachable().await),
            _ => error,
        }
    }

    /// Members that may be read in place of `lost`, the preferred ones first.
    pub(super) fn others(
        &self,
        lost: &ServerAddress,
        wanted: &SelectionCriteria,
    ) -> Vec<ServerAddress> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(topology) = &seen.topology else { return Vec::new() };
        let mut servers = topology.servers();
        servers.remove(lost);
        let of = |kind, options| fitting(&servers, kind, options);
        let primary = |options| of(ServerType::RsPrimary, options);
        let secondaries = |options| of(ServerType::RsSecondary, options);
        let SelectionCriteria::ReadPreference(preference) = wanted else {
            return [secondaries(None), primary(None)].concat();
        };
        match preference {
            ReadPreference::Primary => primary(None),
            ReadPreference::Secondary { options } => secondaries(options.as_ref()),
            ReadPreference::PrimaryPreferred { options } => {
                [primary(None), secondaries(options.as_ref())].concat()
            }
            ReadPreference::Nearest { options } => {
                [secondaries(options.as_ref()), primary(options.as_ref())].concat()
            }
            ReadPreference::SecondaryPreferred { options } => {
                [secondaries(options.as_ref()), primary(None)].concat()
            }
            _ => [secondaries(None), primary(None)].concat(),
        }
    }
}

/// Members of a kind with the tags of a read preference.
fn fitting(
    servers: &HashMap<&ServerAddress, ServerInfo<'_>>,
    kind: ServerType,
    options: Option<&ReadPreferenceOptions>,
) -> Vec<ServerAddress> {
    let with = |tags: &TagSet| -> Vec<ServerAddress> {
        let has = |server: &ServerInfo<'_>| {
            let own = server.tags();
            tags.iter().all(|(tag, value)| own.and_then(|own| own.get(tag)) == Some(value))
        };
        let found = servers.iter().filter(|(_, server)| server.server_type() == kind);
        found.filter(|(_, server)| has(server)).map(|(address, _)| (*address).clone()).collect()
    };
    match options.and_then(|options| options.tag_sets.as_ref()) {
        // The first set of tags that any member has counts.
        Some(sets) if !sets.is_empty() => {
            sets.iter().map(with).find(|found| !found.is_empty()).unwrap_or_default()
        }
        _ => with(&TagSet::new()),
    }
}

/// The role of a member, from its reply to `hello`.
fn role_of(hello: &Document) -> &'static str {
    let is = |key: &str| hello.get_bool(key).unwrap_or(false);
    if is("isWritablePrimary") || is("ismaster") {
        "a primary"
    } else if is("secondary") {
        "a secondary"
    } else if is("arbiterOnly") {
        "an arbiter"
    } else {
        "neither a primary nor a secondary"
    }
}

/// Returns `true` if a host has an address.
async fn resolves(host: &str) -> bool {
    let looked_up = tokio::time::timeout(EXAMINATION, tokio::net::lookup_host(host)).await;
    looked_up.ok().and_then(Result::ok).is_some_and(|found| found.count() > 0)
}

/// Returns `true` if a server answers without TLS.
async fn speaks_plainly(host: &str) -> bool {
    let speaking = async {
        let mut connection = TcpStream::connect(host).await?;
        connection.write_all(&HELLO).await?;
        connection.read_exact(&mut [0; 16]).await
    };
    matches!(tokio::time::timeout(EXAMINATION, speaking).await, Ok(Ok(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hello_is_a_valid_message() {
        let number = |at: usize| i32::from_le_bytes(HELLO[at..at + 4].try_into().unwrap());
        assert_eq!((number(0), number(12)), (55, 2013));
        let document = Document::from_reader(&HELLO[21..]).unwrap();
        assert_eq!(document, bson::doc! { "isMaster": 1, "$db": "admin" });
    }
}
