//! The keys of `[servers.NAME]`.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::validate::Mistake;
use crate::remote::Address;

/// `[servers.NAME]`: a daemon elsewhere, which `backup --server NAME` drives.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerConfig {
    /// Where it answers: `https://host:port`, or `unix:///path` of its socket.
    pub url: String,
    /// File that holds the token for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// File with the authorities (PEM) that may vouch for it, besides those of the system.
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
