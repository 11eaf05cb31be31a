//! Scenarios with object stores: servers that are started here, doubles, and faults on the way to them.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests: what must not happen fails them")]

mod support {
    pub(crate) mod http;
    pub(crate) mod servers;
    pub(crate) mod tls;
    pub(crate) mod tools;
}

mod scenarios {
    mod stores {
        mod servers;
    }
}
