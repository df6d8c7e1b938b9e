//! A gRPC server that knows `grpc.health.v1.Health/Check`, with TLS or without, on a loopback port.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Response};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;

/// What the service `up` says; `down` does not serve, others are not known. `odd` answers what is
/// no message, `html` as a web server does, `hangs` not at all.
pub async fn health_server(tls: Option<Arc<rustls::ServerConfig>>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("its address").port();
    let acceptor = tls.map(|config| {
        let mut config = (*config).clone();
        config.alpn_protocols = vec![b"h2".to_vec()];
        tokio_rustls::TlsAcceptor::from(Arc::new(config))
    });
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                match acceptor {
                    None => serve(stream).await,
                    Some(acceptor) => {
                        if let Ok(stream) = acceptor.accept(stream).await
                            && stream.get_ref().1.alpn_protocol() == Some(b"h2")
                        {
                            serve(stream).await;
                        }
                    }
                }
            });
        }
    });
    port
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin) {
    let Ok(mut connection) = h2::server::handshake(stream).await else {
        return;
    };
    while let Some(Ok((request, mut answer))) = connection.accept().await {
        let (head, mut body) = request.into_parts();
        tokio::spawn(async move {
            let mut message = Vec::new();
            while let Some(Ok(part)) = body.data().await {
                let _closed = body.flow_control().release_capacity(part.len());
                message.extend_from_slice(&part);
            }
            let is_check = head.uri.path() == "/grpc.health.v1.Health/Check"
                && head.headers["content-type"] == "application/grpc";
            let service = message
                .get(7..)
                .map(|name| String::from_utf8_lossy(name).into_owned())
                .unwrap_or_default();
            if service == "hangs" {
                return std::future::pending::<()>().await;
            }
            if service == "html" {
                drop(answer.send_response(
                    Response::builder().status(503).body(()).expect("an answer"),
                    true,
                ));
                return;
            }
            let plain = || {
                Response::builder()
                    .status(200)
                    .header("content-type", "application/grpc")
            };
            let said: &[u8] = match (is_check, service.as_str()) {
                (true, "" | "up") => b"\0\0\0\0\x02\x08\x01",
                (true, "down") => b"\0\0\0\0\x02\x08\x02",
                (true, "odd") => b"\0\0\0\0\x09nonsense",
                (known, _) => {
                    let code = if known { "5" } else { "12" };
                    drop(
                        answer.send_response(
                            plain()
                                .header("grpc-status", code)
                                .body(())
                                .expect("an answer"),
                            true,
                        ),
                    );
                    return;
                }
            };
            let Ok(mut stream) = answer.send_response(plain().body(()).expect("an answer"), false)
            else {
                return;
            };
            drop(stream.send_data(Bytes::from_static(said), false));
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", "0".parse().expect("a value"));
            drop(stream.send_trailers(trailers));
        });
    }
}
