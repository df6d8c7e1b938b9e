//! `nightbell health`: asks a running nightbell how everything is, for people, scripts and containers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use url::Url;

use super::server::{authorize, send};
use crate::app::{self, Options};
use crate::cli::terminal::{complain, say};
use crate::http::Request;
use crate::model::text::visible;

/// Whom to ask.
#[derive(Args)]
pub struct HealthArgs {
    /// The running nightbell [default: web.listen of --config, else http://127.0.0.1:9908]
    #[arg(long, env = "NIGHTBELL_URL")]
    url: Option<Url>,
    /// Its configuration file, which says where it listens
    #[arg(long, short, value_name = "FILE", env = "NIGHTBELL_CONFIG")]
    config: Option<PathBuf>,
    /// Where it listens, as the flag of the same name says
    #[arg(long, value_name = "ADDR", env = "NIGHTBELL_LISTEN", hide = true)]
    listen: Option<SocketAddr>,
    /// The token of web.admin_token, to see each check
    #[arg(long, env = "NIGHTBELL_ADMIN_TOKEN", hide_env_values = true)]
    admin_token: Option<String>,
}

/// Prints the health; exit status 1 when it is unhealthy or nobody answers.
pub async fn health(args: &HealthArgs, env_files: &[PathBuf]) -> ExitCode {
    let mut url = match address(args, env_files) {
        Ok(url) => url,
        Err(error) => {
            complain!("nightbell: {error}");
            return ExitCode::from(2);
        }
    };
    url.set_path(if args.admin_token.is_some() { "/health/detailed" } else { "/health" });
    let mut request = Request::get(url, Duration::from_secs(10));
    if let Err(error) = authorize(&mut request, args.admin_token.as_deref()) {
        complain!("nightbell: {error}");
        return ExitCode::from(2);
    }
    let response = match send(request).await {
        Ok(response) => response,
        Err(error) => {
            complain!("nightbell: {error}");
            return ExitCode::FAILURE;
        }
    };
    let json: serde_json::Value = serde_json::from_slice(&response.body).unwrap_or_default();
    let Some(status) = json["status"].as_str() else {
        complain!("nightbell: status {}: {}", response.status, visible(response.text().trim()));
        return ExitCode::FAILURE;
    };
    say!("{status}: {} of {} checks failed", json["checks_failed"], json["checks_total"]);
    for check in json["checks"].as_array().into_iter().flatten() {
        let word = |key: &str| visible(check[key].as_str().unwrap_or("")).into_owned();
        let mark = if word("status") == "healthy" { "ok  " } else { "FAIL" };
        say!(
            "  {mark} {:<14} {:<30} {:>8.1} ms  {}",
            word("kind"),
            word("name"),
            check["response_time_ms"].as_f64().unwrap_or(0.0),
            word("error")
        );
    }
    if status == "unhealthy" { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Where to ask: what the flag says, else where the configuration listens, on this machine.
fn address(args: &HealthArgs, env_files: &[PathBuf]) -> Result<Url, String> {
    if let Some(url) = &args.url {
        return Ok(url.clone());
    }
    let mut listen: SocketAddr = app::LISTEN.parse().map_err(|error| format!("{}: {error}", app::LISTEN))?;
    let mut scheme = "http";
    if let Some(file) = &args.config {
        let options = Options { config: Some(file.clone()), env_files: env_files.to_vec(), ..Options::default() };
        let config = app::load_alone(&options).map_err(|error| error.to_string())?;
        if let Some(written) = &config.web.listen {
            listen = written.parse().map_err(|_| format!("web.listen: {written:?} is not an address and port"))?;
        }
        if config.web.config_file.is_some() {
            scheme = "https";
        }
    }
    listen = args.listen.unwrap_or(listen);
    match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => listen.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => listen.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    Url::parse(&format!("{scheme}://{listen}")).map_err(|error| error.to_string())
}
