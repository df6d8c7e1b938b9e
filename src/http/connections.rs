//! The HTTP library's clients for one configuration. They are made anew when a file of its TLS has
//! changed, so that a renewed authority or client certificate works without a reload.

use std::sync::Arc;

use parking_lot::Mutex;
use tracing::{info, warn};

use super::client::build;
use super::config::{HttpConfig, TlsConfig};
use super::error::HttpError;
use crate::config::{SecretError, Stamp};

/// Unused connections that are kept for each host.
const IDLE: usize = 2;

/// Follows the files of a TLS block.
pub struct Followed {
    tls: TlsConfig,
    seen: Vec<Stamp>,
}

impl Followed {
    /// The settings as they were read.
    pub fn new(tls: TlsConfig) -> Self {
        Followed {
            seen: tls.stamps(),
            tls,
        }
    }

    /// Whether there are files to follow.
    pub fn has_files(&self) -> bool {
        !self.seen.is_empty()
    }

    /// What `make` makes of the settings, where a file has changed since the last look and they can
    /// be used: else the former ones are. Reads files, so it may take its time.
    pub fn look<T>(&mut self, make: impl FnOnce(&TlsConfig) -> Result<T, HttpError>) -> Option<T> {
        let stamps = self.tls.stamps_now();
        if stamps == self.seen {
            return None;
        }
        self.seen = stamps;
        let renewed = self.tls.read_again().map_err(RenewalError::from);
        match renewed.and_then(|tls| Ok((make(&tls)?, tls))) {
            Ok((made, tls)) => {
                info!(
                    files = self.tls.shown_files(),
                    "TLS files were read again: one has changed."
                );
                self.tls = tls;
                Some(made)
            }
            Err(error) => {
                warn!(
                    files = self.tls.shown_files(),
                    %error, "Changed TLS files cannot be used; the former ones are."
                );
                None
            }
        }
    }
}

/// Why changed TLS files cannot be used.
#[derive(Debug, thiserror::Error)]
enum RenewalError {
    #[error(transparent)]
    Unreadable(#[from] SecretError),
    #[error(transparent)]
    Unusable(#[from] HttpError),
}

/// The clients of a configuration.
pub(super) struct Connections {
    config: HttpConfig,
    keeps_body: bool,
    clients: Mutex<Clients>,
    /// `None` where there is nothing to follow. One look at a time: a folder that hangs holds one
    /// thread, not one for each request.
    followed: Option<Arc<tokio::sync::Mutex<Followed>>>,
}

struct Clients {
    kept: reqwest::Client,
    /// Without kept connections; built when it is needed first.
    fresh: Option<reqwest::Client>,
}

impl Connections {
    /// With `keeps_body`, a redirect that would lose the body is not followed.
    pub(super) fn build(config: &HttpConfig, keeps_body: bool) -> Result<Self, HttpError> {
        let kept = build(config, IDLE, keeps_body)?;
        let followed = Followed::new(config.tls.clone());
        let followed = followed
            .has_files()
            .then(|| Arc::new(tokio::sync::Mutex::new(followed)));
        Ok(Connections {
            config: config.clone(),
            keeps_body,
            clients: Mutex::new(Clients { kept, fresh: None }),
            followed,
        })
    }

    /// Looks whether the files have changed.
    pub(super) async fn follow(self: &Arc<Self>) {
        let Some(followed) = &self.followed else {
            return;
        };
        let (mut followed, this) = (Arc::clone(followed).lock_owned().await, Arc::clone(self));
        let look = move || {
            let make = |tls: &TlsConfig| {
                let config = HttpConfig {
                    tls: tls.clone(),
                    ..this.config.clone()
                };
                build(&config, IDLE, this.keeps_body).map(|kept| (kept, config))
            };
            if let Some((kept, config)) = followed.look(make) {
                let fresh = build(&config, 0, this.keeps_body).ok();
                *this.clients.lock() = Clients { kept, fresh };
            }
        };
        // One that panics changes nothing.
        let _ = tokio::task::spawn_blocking(look).await;
    }

    /// The client that keeps connections.
    pub(super) fn kept(&self) -> reqwest::Client {
        self.clients.lock().kept.clone()
    }

    /// One whose connections are new.
    pub(super) fn fresh(&self) -> Result<reqwest::Client, HttpError> {
        let mut clients = self.clients.lock();
        if clients.fresh.is_none() {
            clients.fresh = Some(build(&self.config, 0, self.keeps_body)?);
        }
        Ok(clients
            .fresh
            .clone()
            .unwrap_or_else(|| clients.kept.clone()))
    }
}
