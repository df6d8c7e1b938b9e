//! Opening a connection: TCP, TLS or a socket file, then login. The caller sets the deadline.
//!
//! The stream is opened here and not by the crate `redis`, because there it could not be metered,
//! and TLS not be given a `server_name`.

use std::io;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::UnixStream;
use tokio_rustls::TlsConnector;

use crate::net::connect;

use super::client::{Connection, Reply, Stream};
use super::config::{Address, Config};

/// What the collector's connection is called in the server's list of clients.
pub const CLIENT_NAME: &str = "nightbell";

/// Connects and logs in.
pub async fn open(config: &Config, tls: Option<&Arc<ClientConfig>>) -> io::Result<Connection> {
    let stream: Box<dyn Stream> = match (&config.address, tls) {
        (Address::Unix(path), _) => Box::new(UnixStream::connect(path).await?),
        (Address::Tcp(host, port), None) => Box::new(connect(host, *port).await?),
        (Address::Tcp(host, port), Some(tls)) => {
            let name = config
                .tls
                .as_ref()
                .and_then(|t| t.server_name.clone())
                .unwrap_or_else(|| host.clone());
            let name = ServerName::try_from(name)
                .map_err(|_| other("the host is no valid server name"))?;
            Box::new(
                TlsConnector::from(Arc::clone(tls))
                    .connect(name, connect(host, *port).await?)
                    .await?,
            )
        }
    };
    let mut connection = Connection::new(stream).await?;
    // A user without a password may log in with an empty one (`nopass`), as redis-py does.
    if !config.password.is_empty() || config.user.is_some() {
        let password = config.password.expose();
        let login: &[&str] = match &config.user {
            Some(user) => &["AUTH", user, password],
            None => &["AUTH", password],
        };
        if let [Reply::Error(error), ..] = connection.call(&[login]).await?.as_slice() {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                config.password.redact(error),
            ));
        }
    }
    // A server that knows no names, or does not let us have one, is watched as well.
    match connection
        .call(&[&["CLIENT", "SETNAME", CLIENT_NAME]])
        .await?
        .first()
    {
        // Not an answer, but what the server said unasked before it closed: the connection is over.
        Some(Reply::Error(error))
            if error.starts_with("DENIED") || error.contains("max number of clients") =>
        {
            Err(io::Error::new(
                io::ErrorKind::ConnectionRefused,
                error.clone(),
            ))
        }
        _ => Ok(connection),
    }
}

fn other(problem: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, problem.to_owned())
}
