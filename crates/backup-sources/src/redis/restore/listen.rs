//! Where a target connects to us: an address that it reaches, TLS if it wants that. Nobody else is
//! let in.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use backup_core::source::{SourceError, SourceErrorKind, SourceResult};
use tokio::net::{TcpListener, TcpStream, UdpSocket, lookup_host};
use tokio_rustls::TlsAcceptor;

use super::super::error::WireError;
use super::super::options::{RedisOptions, Way};
use super::super::wire::Duplex;
use super::replica::DOING;

/// Longest that the target may take to reach us.
const REACHING: Duration = Duration::from_secs(60);

/// An open port.
pub(super) struct Listener {
    tcp: TcpListener,
    /// What the target is told.
    pub(super) host: String,
    pub(super) port: u16,
    tls: Option<TlsAcceptor>,
    allowed: BTreeSet<IpAddr>,
    /// Who else has come.
    strangers: Mutex<BTreeSet<IpAddr>>,
    /// Why the last one that was let in was left again.
    trouble: Mutex<Option<String>>,
    /// So long the target may take to reach us.
    reaching: Duration,
}

impl Listener {
    /// Opens a port for the target `server`.
    pub(super) async fn open(
        server: &RedisOptions,
        way: &Way,
        tls: Option<TlsAcceptor>,
    ) -> SourceResult<Self> {
        let failed = |error| {
            SourceError::new(SourceErrorKind::Target, "cannot listen for the target")
                .with_source(error)
        };
        let reached =
            addresses(server).await.map_err(|error| WireError::Io(error).into_source(DOING))?;
        let tcp = match &way.listen {
            Some(listen) => TcpListener::bind(listen).await,
            None => bind_towards(&reached, server.port).await,
        };
        let tcp = tcp.map_err(failed)?;
        let own = tcp.local_addr().map_err(failed)?;
        if own.ip().is_unspecified() && way.announce.is_none() {
            let error = SourceError::new(
                SourceErrorKind::Invalid,
                "the target needs an address of this machine to connect to",
            );
            return Err(error.with_hint(
                "listen on one address (--replica=ADDRESS:PORT), or announce one (--announce)",
            ));
        }
        let host = way.announce.clone().unwrap_or_else(|| own.ip().to_string());
        let allowed = reached.iter().chain(&way.from).map(IpAddr::to_canonical).collect();
        let (strangers, trouble) = (Mutex::default(), Mutex::default());
        let reaching = REACHING.min(server.waits.timeout());
        Ok(Self { tcp, host, port: own.port(), tls, allowed, strangers, trouble, reaching })
    }

    /// How long the target may take to reach us.
    pub(super) fn reaching(&self) -> Duration {
        self.reaching
    }

    /// What is said over a connection.
    pub(super) async fn open_up(&self, stream: TcpStream) -> SourceResult<Box<dyn Duplex>> {
        let Some(tls) = &self.tls else { return Ok(Box::new(stream)) };
        let stream = tls
            .accept(stream)
            .await
            .map_err(|error| WireError::Io(error).into_source("TLS failed"))?;
        Ok(Box::new(stream))
    }

    /// Notes why somebody who was let in was left again.
    pub(super) fn note(&self, trouble: &SourceError) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(trouble.chain());
    }

    /// The target, and nobody else: whoever connects gets all data.
    pub(super) async fn accept(&self) -> SourceResult<TcpStream> {
        loop {
            let (stream, peer) =
                self.tcp.accept().await.map_err(|error| WireError::Io(error).into_source(DOING))?;
            let peer = peer.ip().to_canonical();
            if self.allowed.contains(&peer) {
                return Ok(stream);
            }
            let mut strangers = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
            if strangers.len() < 10 {
                strangers.insert(peer);
            }
        }
    }

    /// Why nobody came.
    pub(super) fn nobody(&self) -> SourceError {
        let mut text =
            format!("the target has not connected within {} seconds", self.reaching.as_secs());
        if let Some(trouble) = &*self.trouble.lock().unwrap_or_else(PoisonError::into_inner) {
            text += &format!("; a connection was accepted, but failed: {trouble}");
        }
        let strangers = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(first) = strangers.first() else {
            return SourceError::new(SourceErrorKind::Target, text).with_hint(format!(
                "permit the target to reach {}, port {} (firewalls), or announce another name",
                self.host, self.port
            ));
        };
        let all: Vec<_> = strangers.iter().map(ToString::to_string).collect();
        text += &format!(
            "; refused connections from addresses other than the target's: {}",
            all.join(", ")
        );
        SourceError::new(SourceErrorKind::Target, text).with_hint(format!(
            "add --replica-from {first} if this is the translated address of the target"
        ))
    }
}

/// Where the target is, and so who may connect to us.
async fn addresses(server: &RedisOptions) -> std::io::Result<Vec<IpAddr>> {
    if server.socket.is_some() {
        return Ok(vec![Ipv4Addr::LOCALHOST.into()]);
    }
    Ok(lookup_host((&*server.host, server.port)).await?.map(|address| address.ip()).collect())
}

/// A free port of the address by which the target is reached; nothing is sent to find it.
async fn bind_towards(target: &[IpAddr], port: u16) -> std::io::Result<TcpListener> {
    let mut last = std::io::ErrorKind::AddrNotAvailable.into();
    for ip in target {
        let any: IpAddr =
            if ip.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let trying = async {
            let socket = UdpSocket::bind((any, 0)).await?;
            socket.connect((*ip, port)).await?;
            TcpListener::bind((socket.local_addr()?.ip(), 0)).await
        };
        match trying.await {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(last)
}
