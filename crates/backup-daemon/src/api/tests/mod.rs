//! Tests of the API as it is asked: with a scripted engine and program.
//!
//! | file | what is in it |
//! |---|---|
//! | `roles.rs` | every route, every role, no token |
//! | `routes.rs` | what routes answer, and what they ask for |
//! | `abuse.rs` | malformed, huge, slow and many requests |
//! | `connections.rs` | the socket, TLS, events, the end |
//! | `needs_schemathesis.rs` | everything that the document allows, and more |

mod abuse;
mod connections;
mod needs_schemathesis;
mod roles;
mod routes;
