//! A connection to a server, and what kind of deployment it is.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use ::mongodb::options::{ReadPreference, ReadPreferenceOptions, SelectionCriteria};
use ::mongodb::{Client, Database};
use backup_core::context::Context;
use backup_core::source::{SourceError, SourceErrorKind, SourceResult};
use bson::oid::ObjectId;
use bson::{Bson, Document, doc};
use tokio::time::Instant;

use super::client::{Connecting, SELECTION, client_of, members_of, settle_for, without_password};
use super::error::{Explain as _, is_denied, malformed};
use super::lineage;
use super::member::{Member, Moves};
use super::members::Members;
use super::options::MongoOptions;
use super::position::Position;
use super::user::{User, named};
use crate::waits::Waits;

/// How long a secondary is looked for before the primary is taken, and how long one may take to
/// hear of the majority.
pub(super) const SETTLING: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(100);

/// Most that a secondary may lag behind, unless the address says something else (at least 90
/// seconds, by the driver's rules).
const STALENESS: Duration = Duration::from_secs(120);

/// What the address leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Topology {
    /// A member of a replica set.
    ReplicaSet {
        /// The set's name.
        name: String,
    },
    /// One server without a replica set, and without an oplog.
    Standalone,
    /// A router of a sharded cluster.
    Sharded,
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The member that the address prefers, or a secondary.
    Reading,
    /// The primary.
    Writing,
}

/// A process that takes writes, and the election that made it do so: another one of either may lack
/// what was acknowledged before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Primary {
    process: Option<ObjectId>,
    election: Option<ObjectId>,
}

/// A connected client that reads from one chosen member.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) client: Client,
    pub(super) topology: Topology,
    /// The branch of captured logs (`lineage.rs`). Empty without a replica set, if the user may not
    /// list the collections of `admin`, and for writing.
    pub(super) branch: String,
    /// `[major, minor, patch]`.
    pub(super) version: [i32; 3],
    /// `host:port` of the member that was chosen first.
    pub(super) host: String,
    /// The user of the connection, if there is authentication.
    pub(super) user: Option<User>,
    /// The database that the user of the connection belongs to, if there is authentication.
    pub(super) auth_source: Option<String>,
    /// Limits of waits.
    pub(super) waits: Waits,
    /// Silence after which another member is read.
    pub(super) member_timeout: Duration,
    /// The member of every read: natural order, cursors and record ids are its own.
    pub(super) member: Member,
    /// All members.
    pub(super) members: Members,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("host", &self.address())
            .field("topology", &self.topology)
            .finish_non_exhaustive()
    }
}

/// Gives up waiting when the caller cancels.
pub(super) async fn unless_cancelled<T>(
    cx: &Context,
    future: impl Future<Output = SourceResult<T>>,
) -> SourceResult<T> {
    tokio::select! {
        biased;
        () = cx.cancel.cancelled() => Err(SourceError::cancelled()),
        result = future => result,
    }
}

impl Server {
    /// Connects, finds out what is there and chooses the member that is read.
    pub(super) async fn connect(options: &MongoOptions, purpose: Purpose) -> SourceResult<Self> {
        let connecting = Box::pin(Self::connect_unlimited(options, purpose));
        // The driver reports why it finds no member: its limits come first.
        let waits = options.waits.at_least(SELECTION * 2 + SETTLING);
        match waits.limit(&options.label(), None, connecting).await {
            Ok(connected) => connected,
            Err(stalled) => Err(SourceError::from(stalled).context("cannot connect to the server")),
        }
    }

    async fn connect_unlimited(options: &MongoOptions, purpose: Purpose) -> SourceResult<Self> {
        let connecting = client_of(options).await?;
        let preferred = preferred(purpose, connecting.preference.clone());
        let known = connecting.greet(&preferred).await?;
        let Connecting { client, members, first, is_direct, auth_source, .. } = connecting;
        let wanted = settle_for(&client, preferred.clone(), &known).await;
        let admin = client.database("admin");
        let hello = admin.run_command(doc! { "isMaster": 1 }).selection_criteria(wanted.clone());
        let hello = match hello.await {
            Ok(hello) => hello,
            Err(error) => {
                let error = members.explained(error).await;
                return Err(error).reading("cannot connect to the server");
            }
        };
        let build =
            admin.run_command(doc! { "buildInfo": 1 }).selection_criteria(wanted.clone()).await;
        let version = version_of(&build.reading("cannot read the server's version")?)?;
        let topology = topology_of(&hello);
        let user = user_of(&admin, &wanted).await?;
        // Servers without a replica set do not say how they are called: then the address does.
        let host = match hello.get_str("me") {
            Ok(me) => me.to_owned(),
            Err(_) => first,
        };
        let may_move = purpose == Purpose::Reading && !is_direct && members_of(&hello) > 1;
        let moves = may_move.then(|| Moves {
            client: client.clone(),
            members: members.clone(),
            wanted: preferred,
        });
        let member = match host.parse() {
            Ok(address) => Member::at(address, moves),
            Err(_) => Member::fixed(host.clone(), wanted),
        };
        let (waits, member_timeout) = (options.waits.clone(), options.member_timeout);
        let branch = String::new();
        let mut server = Self {
            client,
            topology,
            branch,
            version,
            host,
            user,
            auth_source,
            waits,
            member_timeout,
            member,
            members,
        };
        if !may_move && !server.answers().await {
            // Known by another name here than in the set's configuration: a direct connection.
            // There is one server only.
            let nearest = ReadPreference::Nearest { options: None };
            server.member =
                Member::fixed(server.host.clone(), SelectionCriteria::ReadPreference(nearest));
        }
        if purpose == Purpose::Reading && server.is_replica_set() {
            server.branch = lineage::branch_of(&server).await?;
        }
        Ok(server)
    }

    /// The same server, whose waits are reported to the events of `cx`.
    pub(super) fn reporting_to(&self, cx: &Context) -> Self {
        Self { waits: self.waits.reporting_to(&cx.events), ..self.clone() }
    }

    /// Names the connected user in the hint of a denied command.
    pub(super) fn named<T>(&self, result: SourceResult<T>) -> SourceResult<T> {
        result.map_err(|error| named(error, self.user.as_ref()))
    }

    /// Whether the chosen member is among those that the driver knows.
    async fn answers(&self) -> bool {
        let ping = self.run("admin", doc! { "ping": 1 });
        matches!(tokio::time::timeout(Duration::from_secs(2), ping).await, Ok(Ok(_)))
    }

    /// Who takes writes.
    pub(super) async fn primary(&self) -> SourceResult<Primary> {
        let hello = self
            .write("admin", doc! { "isMaster": 1 })
            .await
            .writing("cannot determine the primary")?;
        let process = hello
            .get_document("topologyVersion")
            .and_then(|version| version.get_object_id("processId"))
            .ok();
        Ok(Primary { process, election: hello.get_object_id("electionId").ok() })
    }

    /// The moment up to which the set's majority and this member have everything. A member that has
    /// just started hears of the majority a little later.
    pub(super) async fn majority_time(&self) -> SourceResult<Position> {
        let begun = Instant::now();
        loop {
            let hello = self
                .run("admin", doc! { "isMaster": 1 })
                .await
                .reading("cannot read the position of the last write")?;
            match common_time(&hello) {
                Some(time) => return Ok(time),
                None if begun.elapsed() > SETTLING => {
                    let text = "the member does not report yet which entries a majority has";
                    return Err(SourceError::new(SourceErrorKind::Unavailable, text)
                        .with_hint("try again in a moment: the member may have just started"));
                }
                None => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    pub(super) fn is_replica_set(&self) -> bool {
        matches!(self.topology, Topology::ReplicaSet { .. })
    }

    /// The name of the replica set; nothing without one.
    pub(super) fn set_name(&self) -> &str {
        match &self.topology {
            Topology::ReplicaSet { name } => name,
            Topology::Standalone | Topology::Sharded => "",
        }
    }

    pub(super) fn at_least(&self, major: i32, minor: i32) -> bool {
        self.version >= [major, minor, 0]
    }

    /// The level at which reads never see what a failover may undo.
    pub(super) fn read_concern(&self) -> &'static str {
        if self.is_replica_set() { "majority" } else { "local" }
    }

    /// `host:port` of the member that is read, as far as the server says it.
    pub(super) fn address(&self) -> String {
        let host = self.member.choice().host;
        if host.is_empty() { "mongodb".to_owned() } else { host }
    }

    /// The version for people.
    pub(super) fn version_text(&self) -> String {
        let [major, minor, patch] = self.version;
        format!("{major}.{minor}.{patch}")
    }

    /// Refuses to read an oplog where there is none.
    pub(super) fn refuse_without_oplog(&self) -> SourceResult<()> {
        self.refuse_sharded()?;
        if self.is_replica_set() {
            return Ok(());
        }
        Err(SourceError::new(SourceErrorKind::Unsupported, "a standalone server has no oplog")
            .with_hint(
                "make it a replica set of one member: start it with --replSet NAME, then run \
                 rs.initiate()",
            ))
    }

    /// Refuses what cannot be backed up or restored as a whole yet.
    pub(super) fn refuse_sharded(&self) -> SourceResult<()> {
        if self.topology != Topology::Sharded {
            return Ok(());
        }
        Err(SourceError::new(SourceErrorKind::Unsupported, "this is a router of a sharded cluster")
            .with_hint(
                "back up each shard as a replica set, without a common moment: this version cannot \
             bring shards and config servers to one moment, keep chunks in place, or resolve \
             transactions across shards",
            ))
    }
}

/// The preference for members: of the address, or secondaries.
fn preferred(purpose: Purpose, of_address: Option<SelectionCriteria>) -> SelectionCriteria {
    match (purpose, of_address) {
        // Written data is read back where it was written.
        (Purpose::Writing, _) => SelectionCriteria::ReadPreference(ReadPreference::Primary),
        (Purpose::Reading, Some(preference)) => preference,
        (Purpose::Reading, None) => {
            let options = ReadPreferenceOptions::builder().max_staleness(STALENESS).build();
            let options = Some(options);
            SelectionCriteria::ReadPreference(ReadPreference::SecondaryPreferred { options })
        }
    }
}

/// The user of the connection; an error if the server requires one and the address has none.
async fn user_of(admin: &Database, member: &SelectionCriteria) -> SourceResult<Option<User>> {
    let status = admin.run_command(doc! { "connectionStatus": 1 });
    let user = User::of(status.selection_criteria(member.clone()).await);
    if user.is_none() {
        // The commands before need no user, also if the server requires one.
        let listing = admin.run_command(doc! { "listDatabases": 1, "nameOnly": true });
        if let Err(error) = listing.selection_criteria(member.clone()).await
            && is_denied(&error)
        {
            let text = "cannot connect to the server: it requires a user and a password";
            return Err(without_password(text));
        }
    }
    Ok(user)
}

fn version_of(build: &Document) -> SourceResult<[i32; 3]> {
    let numbers: Vec<i32> = build
        .get_array("versionArray")
        .map(|numbers| numbers.iter().filter_map(Bson::as_i32).collect())
        .unwrap_or_default();
    match numbers[..] {
        [major, minor, patch, ..] => Ok([major, minor, patch]),
        _ => Err(malformed("server version")),
    }
}

/// A secondary may know that the majority has what it has not applied itself yet: what it shows is
/// not of that moment.
pub(super) fn common_time(hello: &Document) -> Option<Position> {
    let last = hello.get_document("lastWrite").ok()?;
    let time =
        |of: &str| Some(Position::from(last.get_document(of).ok()?.get_timestamp("ts").ok()?));
    Some(time("majorityOpTime")?.min(time("opTime")?))
}

/// The last write of a member.
pub(super) fn last_write(hello: &Document) -> Option<Position> {
    let last = hello.get_document("lastWrite").ok()?;
    Some(last.get_document("opTime").ok()?.get_timestamp("ts").ok()?.into())
}

fn topology_of(hello: &Document) -> Topology {
    if hello.get_str("msg").ok() == Some("isdbgrid") {
        return Topology::Sharded;
    }
    match hello.get_str("setName") {
        Ok(name) => Topology::ReplicaSet { name: name.to_owned() },
        Err(_) => Topology::Standalone,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routers_sets_and_lone_servers_are_told_apart() {
        assert_eq!(topology_of(&doc! { "msg": "isdbgrid", "ok": 1 }), Topology::Sharded);
        assert_eq!(topology_of(&doc! { "ok": 1 }), Topology::Standalone);
        let set = Topology::ReplicaSet { name: "rs".to_owned() };
        assert_eq!(topology_of(&doc! { "setName": "rs" }), set);
        assert_eq!(version_of(&doc! { "versionArray": [6, 0, 5, 0] }).unwrap(), [6, 0, 5]);
        assert!(version_of(&doc! {}).is_err());
    }

    #[test]
    fn a_secondary_that_lags_is_not_believed_what_it_knows_of_others() {
        let at = |time| doc! { "ts": bson::Timestamp { time, increment: 1 }, "t": 1_i64 };
        let hello = |own, majority| doc! { "lastWrite": { "opTime": at(own), "majorityOpTime": at(majority) } };
        let seconds = |hello| common_time(&hello).map(|at| at.seconds);
        assert_eq!((seconds(hello(5, 9)), seconds(hello(9, 5))), (Some(5), Some(5)));
        assert_eq!(seconds(doc! {}), None);
    }
}
