//! The keys of `[servers.NAME]`.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::validate::Mistake;
use crate::remote::Address;

/// `[servers.NAME]`: a remote daemon, for `backup --server NAME`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerConfig {
    /// Address of its API: `https://host:port`, or `unix:///path` of its socket.
    pub url: String,
    /// File with the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// File with CA certificates (PEM) that are trusted in addition to those of the system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
}

impl ServerConfig {
    /// Its paths, for making them absolute.
    pub(super) fn paths(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        [&mut self.token_file, &mut self.ca_file].into_iter().flatten()
    }

    /// The first mistake.
    pub(super) fn mistake(&self, name: &str) -> Option<Mistake> {
        Address::parse(&self.url)
            .err()
            .map(|error| Mistake::from_error(["servers", name, "url"], &error))
    }
}
