//! The way to a provider, step by step: its name, the connection, TLS. A connection of its own, over
//! which nothing is sent, since the client keeps the ones that it has.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use url::Url;

use crate::net;

/// Durations by phase, as far as they went.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Phases(pub Vec<(&'static str, Duration)>);

/// Goes the way once, within the time.
pub async fn measure(url: &Url, tls: Option<&Arc<ClientConfig>>, timeout: Duration) -> Phases {
    let mut phases = Phases::default();
    // What was reached in time counts; why the rest was not, the probe itself says.
    let _late = tokio::time::timeout(timeout, go(url, tls, &mut phases)).await;
    phases
}

async fn go(url: &Url, tls: Option<&Arc<ClientConfig>>, phases: &mut Phases) -> Option<()> {
    let (host, port) = (url.host_str()?, url.port_or_known_default()?);
    let host = host.trim_matches(['[', ']']);
    let started = Instant::now();
    let addresses = net::resolve(host).await.ok()?;
    phases.0.push(("dns", started.elapsed()));
    let started = Instant::now();
    let stream = TcpStream::connect((*addresses.first()?, port)).await.ok()?;
    phases.0.push(("connect", started.elapsed()));
    if let (Some(tls), "https") = (tls, url.scheme()) {
        let name = ServerName::try_from(host.to_owned()).ok()?;
        let started = Instant::now();
        TlsConnector::from(Arc::clone(tls))
            .connect(name, stream)
            .await
            .ok()?;
        phases.0.push(("tls", started.elapsed()));
    }
    Some(())
}
