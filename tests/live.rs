//! Scenarios with other programs: the `backup` binary, stock restic, rustic, object stores (and
//! their doubles).
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests: what must not happen fails them"
)]

mod support {
    pub(crate) mod cli;
    pub(crate) mod compare;
    pub(crate) mod corpus;
    pub(crate) mod counting;
    pub(crate) mod crafted;
    pub(crate) mod crafted_nodes;
    #[expect(dead_code, reason = "other tests use more of it")]
    pub(crate) mod damage;
    pub(crate) mod false_server;
    pub(crate) mod false_store;
    pub(crate) mod fault_proxy;
    pub(crate) mod frozen;
    pub(crate) mod gate;
    pub(crate) mod gcs_double;
    pub(crate) mod history;
    pub(crate) mod http;
    #[expect(dead_code, reason = "other tests use more of it")]
    pub(crate) mod killing;
    pub(crate) mod logs;
    pub(crate) mod long;
    pub(crate) mod measured;
    pub(crate) mod noise;
    pub(crate) mod plain;
    pub(crate) mod process;
    pub(crate) mod repo;
    pub(crate) mod restic;
    #[expect(dead_code, reason = "other tests use more of it")]
    pub(crate) mod samples;
    pub(crate) mod script;
    pub(crate) mod servers;
    pub(crate) mod store;
    pub(crate) mod tls;
    pub(crate) mod tree;
}

mod scenarios {
    mod bombs;
    mod catalogs;
    mod clocks;
    mod corpus;
    mod crash;
    mod false_servers;
    mod frozen_files;
    mod histories_with_restic;
    mod hostile;
    mod hostile_objects;
    mod interop;
    mod limits;
    mod logs_with_restic;
    mod missing_paths;
    mod mounts;
    mod processes;
    mod pruning;
    mod quarantine;
    mod repair_matrix;
    mod requests;
    mod shadows;
    mod stores {
        mod cold;
        mod conformance;
        mod copies;
        mod encryption;
        mod errors;
        mod failures;
        mod fault_proxy;
        mod gcs_double;
        mod identity;
        mod large;
        mod leases;
        mod locks;
        mod logs;
        mod pace;
        mod proxy;
        mod restic;
        mod roles;
        mod servers;
        mod writers;
    }
    mod verify_levels;
}
