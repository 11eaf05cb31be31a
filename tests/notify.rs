//! Notifications: with a mail server, with services that the tests play themselves, and with
//! processes that die.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests: what must not happen fails them"
)]

mod support {
    #[expect(dead_code, reason = "other tests use more of it")]
    pub(crate) mod cli;
    #[expect(dead_code, reason = "other tests use more of it")]
    pub(crate) mod http;
    pub(crate) mod mail_server;
    pub(crate) mod process;
    pub(crate) mod receiver;
    pub(crate) mod servers {
        #[expect(dead_code, reason = "other tests use more of it")]
        pub(crate) mod process;
    }
    pub(crate) mod tls;
}

mod scenarios {
    mod notify;
}
