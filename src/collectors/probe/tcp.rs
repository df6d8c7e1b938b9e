//! The TCP and TLS prober: whether something accepts a connection, and with TLS what certificate it shows.

use super::connection::Connector;
use super::report::{Failure, Report};

/// What to connect to.
pub struct TcpProbe {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Whether to speak TLS (`tls://`).
    pub encrypted: bool,
}

impl TcpProbe {
    /// Opens the connection and closes it.
    pub async fn run(&self, connector: &Connector, report: &mut Report) -> Result<(), Failure> {
        connector.open(&self.host, self.port, self.encrypted, report).await.map(drop)
    }
}
