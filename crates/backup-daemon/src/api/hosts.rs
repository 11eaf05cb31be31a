//! The `Host` of a request: exactly one, and over TCP only a name of this daemon. A web page of
//! another site can make a browser send requests to a name that it lets resolve to this machine.

use std::net::{Ipv4Addr, Ipv6Addr};

use axum::extract::Request;
use axum::http::{StatusCode, header};

use super::peer::Peer;
use super::problem::{Answer, Problem};

/// Refuses a request without a valid `Host`. `listed` has the names of `[api] hosts`.
pub(super) fn check(request: &Request, listed: &[String]) -> Answer<()> {
    let mut given = request.headers().get_all(header::HOST).iter();
    let (Some(host), None) = (given.next(), given.next()) else {
        return Err(Problem::wrong("the request must have one `Host` header"));
    };
    let host = host.to_str().unwrap_or_default();
    let Some(name) = name(host) else {
        return Err(Problem::wrong("the `Host` header is not a host name or address"));
    };
    let differs =
        |authority: &axum::http::uri::Authority| !authority.as_str().eq_ignore_ascii_case(host);
    if request.uri().authority().is_some_and(differs) {
        return Err(Problem::wrong("the address of the request and `Host` differ"));
    }
    // Browsers do not reach the socket.
    let is_socket = matches!(request.extensions().get::<Peer>(), Some(Peer::Socket { .. }));
    if is_socket || is_of_machine(name) || listed.iter().any(|known| is_same(known, name)) {
        return Ok(());
    }
    Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, "this daemon is not known by this `Host`")
        .hint("add the name to `hosts` in `[api]`, or use an address"))
}

/// The host without its port; none if it is invalid.
fn name(host: &str) -> Option<&str> {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            address.parse::<Ipv6Addr>().ok()?;
            (address, port)
        }
        None => host.find(':').map_or((host, ""), |at| host.split_at(at)),
    };
    let is_port = |port: &str| port.is_empty() || port.parse::<u16>().is_ok();
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | ':');
    let has_port = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
    (has_port && !name.is_empty() && name.chars().all(fits)).then_some(name)
}

fn is_of_machine(name: &str) -> bool {
    let is_address = name.parse::<Ipv4Addr>().is_ok() || name.parse::<Ipv6Addr>().is_ok();
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    is_address || name == "localhost" || name.ends_with(".localhost")
}

fn is_same(known: &str, name: &str) -> bool {
    name.strip_suffix('.').unwrap_or(name).eq_ignore_ascii_case(known)
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn status(uri: &str, hosts: &[&str], peer: Peer) -> u16 {
        let mut request = Request::builder().uri(uri);
        for host in hosts {
            request = request.header("host", *host);
        }
        let mut request = request.body(Body::empty()).unwrap();
        request.extensions_mut().insert(peer);
        let listed = ["backup1.example.com".to_owned()];
        check(&request, &listed).map_or_else(|problem| problem.status.as_u16(), |()| 200)
    }

    #[test]
    fn hosts_are_addresses_loopback_or_listed() {
        let network = || Peer::Network { address: Ipv4Addr::LOCALHOST.into() };
        for host in [
            "127.0.0.1:8321",
            "192.0.2.7",
            "[::1]:8321",
            "[2001:db8::1]",
            "localhost",
            "LOCALHOST.:1",
            "a.localhost:80",
            "backup1.example.com:8321",
            "Backup1.Example.com.",
        ] {
            assert_eq!(status("/", &[host], network()), 200, "{host}");
        }
        for host in ["evil.example", "backup1", "127.0.0.1.evil.example", "notlocalhost", "1.2.3"] {
            assert_eq!(status("/", &[host], network()), 421, "{host}");
            assert_eq!(status("/", &[host], Peer::of_user(0)), 200, "{host}: a socket has no name");
        }
        for host in ["", ":80", "a b", "[::1", "[x]", "localhost:x", "me@localhost", "a/b"] {
            assert_eq!(status("/", &[host], network()), 400, "{host}");
            assert_eq!(status("/", &[host], Peer::of_user(0)), 400, "{host}");
        }
        for hosts in [&[][..], &["localhost", "localhost"], &["localhost", "evil.example"]] {
            assert_eq!(status("/", hosts, network()), 400, "{hosts:?}");
        }
        assert_eq!(status("http://evil.example/", &["localhost"], network()), 400);
        assert_eq!(status("http://localhost/", &["localhost"], network()), 200);
    }
}
