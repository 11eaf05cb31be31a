//! Who is at the other end of a connection.

use std::net::{IpAddr, Ipv6Addr};

use nix::unistd::{Uid, User};

/// Who is at the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Peer {
    /// A user of this machine, through the Unix socket.
    Socket {
        /// Their name, or number.
        user: String,
    },
    /// Somebody at an address.
    Network {
        /// Theirs.
        address: IpAddr,
    },
}

impl Peer {
    /// A user of this machine.
    pub(super) fn of_user(uid: u32) -> Self {
        let name = User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.name);
        Self::Socket { user: name.unwrap_or_else(|| uid.to_string()) }
    }

    /// What limits count by. Whoever has one address of the sixth version has very many: their
    /// network counts.
    pub(super) fn key(&self) -> String {
        match self {
            Self::Socket { user } => format!("user {user}"),
            Self::Network { address } => format!("address {}", network(*address)),
        }
    }
}

/// The network that somebody can choose addresses of.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_counted() {
        let key = |text: &str| Peer::Network { address: text.parse().unwrap() }.key();
        assert_eq!(key("::ffff:192.0.2.1"), "address 192.0.2.1");
        assert_eq!(key("2001:db8::1:2:3:4"), key("2001:db8::ffff"));
        assert_ne!(key("2001:db8:0:1::1"), key("2001:db8:0:2::1"));
        assert_eq!(Peer::of_user(0), Peer::Socket { user: "root".into() });
    }
}
