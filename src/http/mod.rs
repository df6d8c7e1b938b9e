//! The one door to the outgoing HTTP client: settings, deadlines, bounded bodies, errors without
//! secrets.

mod chain;
mod client;
mod config;
mod connections;
mod error;
mod gunzip;
mod login;
mod oauth2;
mod relay;
mod socket;
mod tls;

pub use chain::Anchors;
pub use client::{Client, Incoming, Request, Response, within};
pub use config::{HttpConfig, TlsConfig, TlsFiles, TlsVersions};
pub use connections::Followed;
pub use error::{HttpError, HttpErrorKind};
pub use gunzip::{Gunzip, gunzipped};
pub use login::{Login, Said};
pub use oauth2::OAuth2;
pub use relay::{Relay, RelayedBody};
pub use reqwest::Method;
pub use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
pub use socket::{SocketError, get_by_socket, send_by_socket};
pub use tls::{anchors, client_config};
