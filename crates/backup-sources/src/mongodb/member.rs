//! The member that is read, and another one in its place when it stops answering.
//!
//! Data of the next member is never older than data of the last one: the next member must first
//! have every write that the primary had at the time of the move. A primary has all writes that a
//! majority has, and nothing else is read.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ::mongodb::options::{SelectionCriteria, ServerAddress};
use ::mongodb::{Client, ServerType};
use bson::{Document, doc};
use tokio::sync::watch;

use super::members::Members;
use super::position::Position;
use super::server::{common_time, last_write};

/// Longest wait for the reply of one member.
const REPLY: Duration = Duration::from_secs(5);
/// Longest wait for the next member to have everything.
const CATCH_UP: Duration = Duration::from_secs(10);
/// Longest search for another member: an election may take some seconds.
const SEARCH: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(200);

/// A chosen member.
#[derive(Debug, Clone)]
pub(super) struct Choice {
    /// `host:port`. Empty if the driver chooses.
    pub(super) host: String,
    pub(super) criteria: SelectionCriteria,
    /// Number of moves before.
    number: u64,
}

impl Choice {
    /// A member of the set by its address.
    fn at(address: ServerAddress, number: u64) -> Self {
        let host = address.to_string();
        Self { host, criteria: only(address), number }
    }
}

/// Selects one member.
fn only(address: ServerAddress) -> SelectionCriteria {
    SelectionCriteria::Predicate(Arc::new(move |server| *server.address() == address))
}

/// The search for another member.
#[derive(Debug, Clone)]
pub(super) struct Moves {
    pub(super) client: Client,
    pub(super) members: Members,
    /// The preference for members, as before the first choice.
    pub(super) wanted: SelectionCriteria,
}

/// The member that is read. Clones share the choice.
#[derive(Clone)]
pub(super) struct Member {
    current: Arc<watch::Sender<Choice>>,
    /// One task at a time looks for another member.
    turn: Arc<tokio::sync::Mutex<()>>,
    moves: Option<Moves>,
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member").field("host", &self.choice().host).finish_non_exhaustive()
    }
}

impl Member {
    /// A member that is never replaced.
    pub(super) fn fixed(host: String, criteria: SelectionCriteria) -> Self {
        let choice = Choice { host, criteria, number: 0 };
        Self { current: Arc::new(watch::Sender::new(choice)), turn: Arc::default(), moves: None }
    }

    /// The member at an address, replaced by another one if `moves` finds one.
    pub(super) fn at(address: ServerAddress, moves: Option<Moves>) -> Self {
        let current = Arc::new(watch::Sender::new(Choice::at(address, 0)));
        Self { current, turn: Arc::default(), moves }
    }

    /// The member that is read now.
    pub(super) fn choice(&self) -> Choice {
        self.current.borrow().clone()
    }

    /// Returns `true` if another member may take the place of this one.
    pub(super) fn may_move(&self) -> bool {
        self.moves.is_some()
    }

    /// Ends once another member has taken the place of `choice`.
    pub(super) async fn left(&self, choice: &Choice) {
        let mut changes = self.current.subscribe();
        // The sender is this member itself.
        changes.wait_for(|current| current.number != choice.number).await.ok();
    }

    /// Looks for a member in place of `lost`; returns its address, or `None` if there is none. A
    /// move that another task has made counts.
    pub(super) async fn move_from(&self, lost: &Choice) -> Option<String> {
        let moves = self.moves.as_ref()?;
        let _turn = self.turn.lock().await;
        let current = self.choice();
        if current.number != lost.number {
            return Some(current.host);
        }
        let address: ServerAddress = lost.host.parse().ok()?;
        let found = tokio::time::timeout(SEARCH, moves.find(&address)).await.ok()?;
        let next = Choice::at(found, lost.number + 1);
        let host = next.host.clone();
        self.current.send_replace(next);
        Some(host)
    }
}

impl Moves {
    async fn find(&self, lost: &ServerAddress) -> ServerAddress {
        loop {
            if let Some(newest) = self.newest(lost).await {
                for other in self.members.others(lost, &self.wanted) {
                    if self.has(&other, newest).await {
                        return other;
                    }
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// The last write of the primary, if `lost` is not the primary.
    async fn newest(&self, lost: &ServerAddress) -> Option<Position> {
        let lost = lost.clone();
        let primary = SelectionCriteria::Predicate(Arc::new(move |server| {
            server.server_type() == ServerType::RsPrimary && *server.address() != lost
        }));
        last_write(&self.hello(primary).await?)
    }

    /// Returns `true` once a member has everything up to `newest` and a majority as well.
    async fn has(&self, member: &ServerAddress, newest: Position) -> bool {
        let catching_up = async {
            loop {
                let hello = self.hello(only(member.clone())).await?;
                if common_time(&hello)? >= newest {
                    return Some(());
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        matches!(tokio::time::timeout(CATCH_UP, catching_up).await, Ok(Some(())))
    }

    async fn hello(&self, criteria: SelectionCriteria) -> Option<Document> {
        let admin = self.client.database("admin");
        let asking = async {
            admin.run_command(doc! { "isMaster": 1 }).selection_criteria(criteria).await.ok()
        };
        tokio::time::timeout(REPLY, asking).await.ok().flatten()
    }
}

#[cfg(test)]
mod tests {
    use ::mongodb::options::ReadPreference;

    use super::*;

    #[tokio::test]
    async fn fixed_member_has_no_successor() {
        let nearest = SelectionCriteria::ReadPreference(ReadPreference::Primary);
        let member = Member::fixed("a:1".to_owned(), nearest);
        let choice = member.choice();
        assert_eq!(member.move_from(&choice).await, None);
        assert!(!member.may_move());
        let left = member.left(&choice);
        tokio::time::timeout(Duration::from_millis(10), left).await.unwrap_err();
    }
}
