//! The way to a server: its address, and whether what listens there is PostgreSQL.

use std::io;
use std::time::Duration;

use rustls::pki_types::ServerName;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use crate::http::{TlsConfig, client_config};
use crate::net;

use super::config::socket_folder;

/// How long a server may take to end a connection over which nothing was asked.
const FAREWELL: Duration = Duration::from_millis(500);

/// The options with the address that answers instead of the server's name, so that the client
/// library need not resolve it nor wait for an address that is silent. With TLS the name stays,
/// which the certificate or a proxy may ask for; the library then looks up what was just found.
pub async fn reach(options: PgConnectOptions, known: bool) -> io::Result<PgConnectOptions> {
    if let Some(folder) = socket_folder(&options) {
        if !known {
            let path = folder.join(format!(".s.PGSQL.{}", options.get_port()));
            knock(UnixStream::connect(path).await?).await?;
        }
        return Ok(options);
    }
    let plain = matches!(options.get_ssl_mode(), PgSslMode::Disable);
    if !known {
        let stream = net::connect(options.get_host(), options.get_port()).await?;
        let address = stream.peer_addr()?.ip();
        knock(stream).await?;
        return Ok(if plain {
            options.host(&address.to_string())
        } else {
            options
        });
    }
    let found = net::resolve(options.get_host())
        .await
        .map_err(io::Error::other)?;
    match found.as_ref() {
        [address] if plain => Ok(options.host(&address.to_string())),
        [_, _, ..] if plain => {
            // A connection that says nothing is no entry in the server's log.
            let stream: TcpStream = net::connect(options.get_host(), options.get_port()).await?;
            let address = stream.peer_addr()?.ip();
            Ok(options.host(&address.to_string()))
        }
        _ => Ok(options),
    }
}

/// Asks whether the server speaks TLS, which PostgreSQL answers with exactly one byte. The client
/// library believes any length that a server announces and would buffer gigabytes of whatever else
/// listens there. A server that does speak it has begun a handshake then, and one that is not
/// completed would be an error in its log.
///
/// <https://www.postgresql.org/docs/current/protocol-message-formats.html>, SSLRequest; `E` is an
/// error message instead.
async fn knock(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
    stream.write_all(&SSL_REQUEST).await?;
    let mut answer = [0; 16];
    match stream.read(&mut answer).await? {
        0 => Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the server closed the connection",
        )),
        1 if answer[0] == b'S' => {
            complete(stream).await;
            Ok(())
        }
        1 if answer[0] == b'N' => Ok(()),
        _ if answer[0] == b'E' => Ok(()),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "not a PostgreSQL server",
        )),
    }
}

/// A handshake without a look at the certificate, and a goodbye: nothing is sent over this
/// connection. What goes wrong here goes wrong again, with a reason, when the client library
/// connects.
async fn complete(stream: impl AsyncRead + AsyncWrite + Unpin) {
    let Ok(config) = client_config(&TlsConfig {
        insecure_skip_verify: true,
        ..TlsConfig::default()
    }) else {
        return;
    };
    let Ok(name) = ServerName::try_from("postgres.invalid") else {
        return;
    };
    if let Ok(mut secured) = TlsConnector::from(std::sync::Arc::new(config))
        .connect(name, stream)
        .await
    {
        // Until the server has hung up too: it may still be sending what belongs to the handshake.
        let farewell = async {
            secured.shutdown().await?;
            secured.read(&mut [0; 16]).await
        };
        let _best_effort = tokio::time::timeout(FAREWELL, farewell).await;
    }
}
