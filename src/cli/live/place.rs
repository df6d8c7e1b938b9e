//! Where the nightbell runs that a command is about: at a URL, or where its configuration says that
//! it listens.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use clap::Args;
use url::Url;

use crate::app::{self, Options};

/// Whom to ask.
#[derive(Args)]
pub struct PlaceArgs {
    /// The running nightbell [default: web.listen of --config, else http://127.0.0.1:9908]
    #[arg(long, env = "NIGHTBELL_URL")]
    pub url: Option<Url>,
    /// Its configuration file, which says where it listens
    #[arg(long, short, value_name = "FILE", env = "NIGHTBELL_CONFIG")]
    pub config: Option<PathBuf>,
    /// Where it listens, as the flag of the same name says
    #[arg(long, value_name = "ADDR", env = "NIGHTBELL_LISTEN", hide = true)]
    pub listen: Option<SocketAddr>,
    /// The token of web.admin_token, to see each check
    #[arg(long, env = "NIGHTBELL_ADMIN_TOKEN", hide_env_values = true)]
    pub admin_token: Option<String>,
}

impl PlaceArgs {
    /// Where to ask: what the flag says, else where the configuration listens, on this machine.
    ///
    /// # Errors
    ///
    /// The configuration cannot be read, or what it listens on is no address.
    pub fn url(&self, env_files: &[PathBuf]) -> Result<Url, String> {
        if let Some(url) = &self.url {
            return Ok(url.clone());
        }
        let mut listen: SocketAddr = app::LISTEN
            .parse()
            .map_err(|error| format!("{}: {error}", app::LISTEN))?;
        let mut scheme = "http";
        if let Some(file) = &self.config {
            let options = Options {
                config: Some(file.clone()),
                env_files: env_files.to_vec(),
                ..Options::default()
            };
            let config = app::load_alone(&options).map_err(|error| error.to_string())?;
            if let Some(written) = &config.web.listen {
                listen = written
                    .parse()
                    .map_err(|_| format!("web.listen: {written:?} is not an address and port"))?;
            }
            if config.web.config_file.is_some() {
                scheme = "https";
            }
        }
        listen = self.listen.unwrap_or(listen);
        match listen.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => listen.set_ip(Ipv4Addr::LOCALHOST.into()),
            IpAddr::V6(ip) if ip.is_unspecified() => listen.set_ip(Ipv6Addr::LOCALHOST.into()),
            _ => {}
        }
        Url::parse(&format!("{scheme}://{listen}")).map_err(|error| error.to_string())
    }
}
