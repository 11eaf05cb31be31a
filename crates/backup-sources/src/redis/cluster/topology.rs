//! What a node says of the cluster: the answer to CLUSTER NODES.

use backup_core::source::SourceResult;

use super::super::error::malformed;
use super::slots::Slots;

/// A node, as one of them knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    /// Its name in the cluster.
    pub(super) id: String,
    /// Where clients reach it; empty if it does not know that of itself.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) is_master: bool,
    /// Whether it is the one that answers.
    pub(super) is_self: bool,
    /// Whether it is taken for dead, or not yet known.
    pub(super) is_failing: bool,
    pub(super) is_linked: bool,
    /// The master that it is a replica of.
    pub(super) master: Option<String>,
    /// Grows whenever slots change hands.
    pub(super) epoch: u64,
    pub(super) slots: Slots,
    /// Slots that it hands over or takes over, as it says; only of itself.
    pub(super) moving: Vec<String>,
}

impl Node {
    /// As it is shown.
    pub(super) fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// Nodes, one a line: `id host:port@bus[,name…] flags master ping pong epoch link slot…`.
pub(super) fn parse(text: &str) -> SourceResult<Vec<Node>> {
    let nodes: Option<Vec<Node>> = text.lines().filter(|line| !line.is_empty()).map(node).collect();
    let nodes = nodes.filter(|nodes| nodes.iter().filter(|node| node.is_self).count() == 1);
    nodes.ok_or_else(|| malformed("reply to CLUSTER NODES"))
}

fn node(line: &str) -> Option<Node> {
    let mut words = line.split(' ');
    let id = words.next().filter(|id| is_id(id))?.to_owned();
    let (host, port) = address(words.next()?)?;
    let flags: Vec<&str> = words.next()?.split(',').collect();
    let master = words.next().filter(|master| is_id(master)).map(str::to_owned);
    let epoch = words.nth(2)?.parse().ok()?;
    let is_linked = words.next()? == "connected";
    let (mut slots, mut moving) = (Slots::default(), Vec::new());
    for word in words.filter(|word| !word.is_empty()) {
        if let Some(slot) = word.strip_prefix('[') {
            moving.push(slot.split('-').next()?.to_owned());
            continue;
        }
        let (first, last) = word.split_once('-').unwrap_or((word, word));
        if !slots.add(first.parse().ok()?, last.parse().ok()?) {
            return None;
        }
    }
    let has = |flag: &str| flags.contains(&flag);
    Some(Node {
        id,
        host,
        port,
        is_master: has("master"),
        is_self: has("myself"),
        is_failing: ["fail", "fail?", "handshake", "noaddr"].into_iter().any(has),
        is_linked,
        master,
        epoch,
        slots,
        moving,
    })
}

/// Of `host:port@bus,name,…`: the name is what certificates are made for.
fn address(text: &str) -> Option<(String, u16)> {
    let mut parts = text.split(',');
    let place = parts.next()?.split('@').next()?;
    let (host, port) = place.rsplit_once(':')?;
    let name = parts.next().filter(|name| !name.is_empty() && !name.contains('=')).unwrap_or(host);
    let is_plain = |c: char| c.is_ascii_alphanumeric() || ".-_:%".contains(c);
    // A node whose address is not known has the port 0, and flags that say so.
    name.chars().all(is_plain).then_some((name.to_owned(), port.parse().ok()?))
}

fn is_id(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}
