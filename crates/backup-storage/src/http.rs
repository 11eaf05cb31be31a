//! An HTTP client like that of the stores, for whoever sends something that is no object: the same
//! authorities, the same proxy, no redirection followed.

use std::path::Path;
use std::time::Duration;

use crate::settings::Environment;
use crate::wire::{ClientSettings, build_client, build_clients};

/// How long making a connection may take, and how long the other side may leave what was sent
/// without an acknowledgement.
const CONNECT: Duration = Duration::from_secs(15);

/// Builds a client that trusts the authorities in the PEM file `ca_file` besides the system's, and
/// uses the proxy that the environment names (`HTTPS_PROXY`, `NO_PROXY`).
///
/// # Errors
/// What is wrong with the file or the proxy's address, without secrets.
pub fn client(
    ca_file: Option<&Path>,
    environment: &Environment,
) -> Result<reqwest::Client, String> {
    let settings = ClientSettings {
        proxy: environment.first(&["HTTPS_PROXY", "https_proxy"]).map(str::to_owned),
        no_proxy: environment.first(&["NO_PROXY", "no_proxy"]).map(str::to_owned),
        ..without_proxy(ca_file)
    };
    Ok(build_clients(&settings)?.network)
}

/// The same for a server of this machine, which is no proxy's business; at the Unix socket
/// `socket`, if one is named.
///
/// # Errors
/// What is wrong with the file.
pub fn client_of_machine(
    ca_file: Option<&Path>,
    socket: Option<&Path>,
) -> Result<reqwest::Client, String> {
    build_client(&without_proxy(ca_file), socket)
}

fn without_proxy(ca_file: Option<&Path>) -> ClientSettings {
    let ca_file = ca_file.map(Path::to_path_buf);
    ClientSettings {
        ca_file,
        proxy: None,
        no_proxy: None,
        connect_timeout: CONNECT,
        stall: CONNECT,
    }
}
