//! Real clusters of Redis and Valkey.

use std::time::{Duration, Instant};

use super::redis::{Answer, Client, Redis, Version};

/// Slots that there are.
const SLOTS: usize = 16_384;

/// Masters that know each other, with the slots shared evenly among them.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Redis>,
    clients: Vec<Client>,
}

impl Cluster {
    pub(crate) fn start(version: Version, masters: usize) -> Self {
        let nodes: Vec<_> = (0..masters).map(|_| Self::node(version)).collect();
        for (at, node) in nodes.iter().enumerate() {
            node.run(&["CLUSTER", "SET-CONFIG-EPOCH", &(at + 1).to_string()]);
            let [first, behind] = [at, at + 1].map(|at| SLOTS * at / masters);
            node.run(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &(behind - 1).to_string()]);
        }
        let clients = nodes.iter().map(Redis::client).collect();
        let mut cluster = Self { nodes, clients };
        cluster.nodes[1..].iter().for_each(|node| meet(&cluster.nodes[0], node));
        cluster.agree();
        cluster.clients = cluster.nodes.iter().map(Redis::client).collect();
        cluster
    }

    fn node(version: Version) -> Redis {
        Redis::with(version, &["--cluster-enabled", "yes", "--cluster-node-timeout", "60000"])
    }

    /// Another node, which is a replica of the first one.
    pub(crate) fn add_replica(&mut self) {
        let replica = Self::node(self.nodes[0].version);
        meet(&self.nodes[0], &replica);
        let id = self.id(0);
        let started = Instant::now();
        while replica.client().run(&["CLUSTER", "REPLICATE", &id]).is_err() {
            wait(started, "it does not know its master");
        }
        while replica.info("master_link_status") != "up" {
            wait(started, "it is no replica yet");
        }
        self.nodes.push(replica);
        self.agree();
    }

    /// Moves the slot of a key, with all that is in it, from its master to the next one.
    pub(crate) fn move_slot_of(&mut self, key: &str) {
        let from = self.owner(key);
        let to = (from + 1) % 3;
        let slot = self.nodes[0].run(&["CLUSTER", "KEYSLOT", key]).text();
        let (source, target) = (self.id(from), self.id(to));
        self.nodes[to].run(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &source]);
        self.nodes[from].run(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &target]);
        let keys = self.nodes[from].run(&["CLUSTER", "GETKEYSINSLOT", &slot, "1000"]);
        for key in keys.list() {
            let port = self.nodes[to].port().to_string();
            self.nodes[from].run(&["MIGRATE", "127.0.0.1", &port, &key.text(), "0", "5000"]);
        }
        for at in [to, from] {
            self.nodes[at].run(&["CLUSTER", "SETSLOT", &slot, "NODE", &target]);
        }
        let started = Instant::now();
        let knows = |node: &Redis| {
            let nodes = node.run(&["CLUSTER", "NODES"]).text();
            let owner = nodes.lines().find(|line| line.starts_with(&target));
            owner.is_some_and(|line| line.split(' ').any(|word| word == slot))
        };
        while !self.nodes.iter().all(knows) {
            wait(started, "the nodes do not know where the slot is");
        }
    }

    /// The first master is gone at once, and its replica, which is the last node, takes its place
    /// here as well.
    pub(crate) fn fail_over_to_replica(&mut self) {
        let Some(replica) = self.nodes.pop() else { return };
        let started = Instant::now();
        while replica.info("master_repl_offset") != self.nodes[0].info("master_repl_offset") {
            wait(started, "the replica does not keep up");
        }
        drop(self.take_over(replica, None));
    }

    /// The first master hears of no other node any more, though all reach it. Its replica, which is
    /// the last node, takes its place; who does not know that, and goes on to count up `key`, is
    /// handed back.
    pub(crate) fn cut_off_first(&mut self, key: &str) -> Option<Redis> {
        let replica = self.nodes.pop()?;
        let mut first = self.nodes[0].client();
        if self.nodes[0].version.is_valkey() {
            first.ok(&["DEBUG", "DROP-CLUSTER-PACKET-FILTER", "-2"]);
        } else {
            // Redis drops packets of one kind only. All are forgotten at once: who is still known
            // is told whom to forget.
            first.ok(&["CONFIG", "SET", "cluster-require-full-coverage", "no"]);
            first.ok(&["MULTI"]);
            for other in self.nodes[1..].iter().chain([&replica]) {
                let id = other.run(&["CLUSTER", "MYID"]).text();
                first.ok(&["CLUSTER", "FORGET", &id]);
            }
            let forgotten = first.ok(&["EXEC"]);
            assert!(forgotten.list().iter().all(|answer| answer.text() == "OK"), "{forgotten:?}");
        }
        Some(self.take_over(replica, Some(key)))
    }

    /// The first master still counts up a key, before anybody else can know of it.
    fn take_over(&mut self, replica: Redis, counted: Option<&str>) -> Redis {
        let started = Instant::now();
        self.clients[0] = replica.client();
        let first = std::mem::replace(&mut self.nodes[0], replica);
        self.nodes[0].run(&["CLUSTER", "FAILOVER", "TAKEOVER"]);
        if let Some(key) = counted {
            first.run(&["INCR", key]);
        }
        let id = self.id(0);
        let knows = |node: &Redis| {
            let nodes = node.run(&["CLUSTER", "NODES"]).text();
            let line = nodes.lines().find(|line| line.starts_with(&id));
            line.is_some_and(|line| line.contains("master") && line.contains(" 0-"))
        };
        while !self.nodes.iter().all(knows) {
            wait(started, "the nodes do not know who took over");
        }
        first
    }

    /// Waits until every node knows all others, and which slots they have.
    fn agree(&self) {
        let started = Instant::now();
        let knows_all = |node: &Redis| {
            let all = node.run(&["CLUSTER", "NODES"]).text();
            let info = node.run(&["CLUSTER", "INFO"]).text();
            let linked = all
                .lines()
                .filter(|line| line.contains(" connected") && !line.contains("handshake"))
                .count();
            linked == self.nodes.len()
                && info.contains("cluster_state:ok")
                && all.lines().all(|line| line.contains("slave") || line.contains(" connected "))
        };
        while !self.nodes.iter().all(knows_all) {
            wait(started, "the nodes do not agree");
        }
    }

    /// The name of a node.
    pub(crate) fn id(&self, at: usize) -> String {
        self.nodes[at].run(&["CLUSTER", "MYID"]).text()
    }

    /// The node that has a key.
    pub(crate) fn owner(&self, key: &str) -> usize {
        let slot = self.nodes[0].run(&["CLUSTER", "KEYSLOT", key]).number();
        let masters = self.nodes.iter().filter(|node| node.info("role") == "master").count();
        (0..masters).find(|at| usize::try_from(slot).unwrap() < SLOTS * (at + 1) / masters).unwrap()
    }

    /// Runs a command wherever its key is.
    pub(crate) fn run(&mut self, words: &[&str]) -> Answer {
        let mut at = 0;
        loop {
            match self.clients[at].run(words) {
                Ok(answer) => return answer,
                Err(error) => {
                    let port = error
                        .strip_prefix("MOVED ")
                        .and_then(|place| place.rsplit_once(':')?.1.parse().ok());
                    let moved = |port: u16| self.nodes.iter().position(|node| node.port() == port);
                    at = port.and_then(moved).unwrap_or_else(|| panic!("{words:?}: {error}"));
                }
            }
        }
    }

    /// How many keys each master has.
    pub(crate) fn sizes(&self) -> Vec<i64> {
        self.nodes.iter().map(|node| node.run(&["DBSIZE"]).number()).collect()
    }
}

fn meet(one: &Redis, other: &Redis) {
    one.run(&[
        "CLUSTER",
        "MEET",
        "127.0.0.1",
        &other.port().to_string(),
        &other.bus_port().to_string(),
    ]);
}

fn wait(started: Instant, what: &str) {
    assert!(started.elapsed() < Duration::from_secs(90), "{what}");
    std::thread::sleep(Duration::from_millis(50));
}
