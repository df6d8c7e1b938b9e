//! One SMTP conversation: connect, TLS, login, recipients one by one, message.

use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use lettre::Address;
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::AsyncSmtpConnection;
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::{ClientId, Extension, MailParameter};
use tokio::net::TcpStream;

use crate::config::{Secret, Section};
use crate::http::TlsConfig;
use crate::model::text::hex;
use crate::net;
use crate::notify::error::{NotifyError, Reason};

use super::greeting::Older;
use super::tls;

/// The port that speaks TLS from the first byte.
const SUBMISSIONS: u16 = 465;
/// Longest part of a server's own words that is shown, in characters.
const MAX_WORDS: usize = 120;

/// The deadlines of RFC 5321, 4.5.3.2: a slow server has taken the mail, and would get it twice.
const CONNECT: Duration = Duration::from_secs(60);
const COMMAND: Duration = Duration::from_secs(300);
const DATA: Duration = Duration::from_secs(120);
const MESSAGE: Duration = Duration::from_secs(600);
const FAREWELL: Duration = Duration::from_secs(5);

/// How a server answers to EHLO that does not know it.
const NO_EHLO: [u16; 5] = [500, 501, 502, 504, 550];

/// What rustls says of a certificate that signs itself and says that it is an authority.
const ITSELF: &str = "CaUsedAsEndEntity";

/// One step within its deadline.
async fn step<T>(
    name: &str,
    limit: Duration,
    work: impl Future<Output = Result<T, NotifyError>>,
) -> Result<T, NotifyError> {
    let late = |_| {
        Err(NotifyError::retryable(
            Reason::Timeout,
            format!("smtp: {name}: timed out"),
        ))
    };
    tokio::time::timeout(limit, work).await.unwrap_or_else(late)
}

/// How to reach the SMTP server.
pub(super) struct Server {
    host: String,
    port: u16,
    hello: ClientId,
    implicit_tls: bool,
    require_tls: bool,
    tls: TlsConfig,
    username: String,
    identity: String,
    password: Option<Secret>,
    /// The secret of CRAM-MD5.
    secret: Option<Secret>,
}

/// A recipient the server did not take.
pub(super) struct Refused {
    pub address: Address,
    pub reason: String,
    /// Whether no later attempt can help (5xx).
    pub for_good: bool,
}

impl Server {
    /// Reads the connection's keys, the integration's or the global ones.
    pub(super) fn read(section: &Section<'_>, global: Option<&Section<'_>>) -> Self {
        let text = |key: &str, inherited: &str| {
            let inherited = global.and_then(|g| g.get::<String>(inherited));
            section.get::<String>(key).or(inherited)
        };
        let secret = |key: &str, inherited: &str| {
            let inherited = global.and_then(|g| g.secret(inherited));
            section.secret(key).or(inherited).filter(|s| !s.is_empty())
        };
        let flag = |key: &str, inherited: &str| {
            let inherited = global.and_then(|g| g.get::<bool>(inherited));
            section.get::<bool>(key).or(inherited)
        };
        let tls = section
            .section("tls_config")
            .or_else(|| global.and_then(|g| g.section("smtp_tls_config")));
        let tls = tls.map(|s| TlsConfig::read(&s)).unwrap_or_default();
        let (host, port) = match text("smarthost", "smtp_smarthost") {
            Some(smarthost) => host_and_port(section, &smarthost),
            None => {
                section.error(
                    "",
                    "has no SMTP server",
                    "add smarthost: host:587, or set global.smtp_smarthost",
                );
                (String::new(), 0)
            }
        };
        // Without files of its own nothing can be wrong, and the system's certificates are large.
        let own = tls.ca.is_some() || tls.cert.is_some();
        if own && let Err(problem) = tls::parameters(&tls, &host, false) {
            section.error("tls_config", problem, "check the files of tls_config");
        }
        Server {
            implicit_tls: flag("force_implicit_tls", "smtp_force_implicit_tls")
                .unwrap_or(port == SUBMISSIONS),
            require_tls: flag("require_tls", "smtp_require_tls").unwrap_or(true),
            hello: ClientId::Domain(
                text("hello", "smtp_hello")
                    .filter(|name| !name.is_empty())
                    .unwrap_or_else(own_name),
            ),
            username: text("auth_username", "smtp_auth_username").unwrap_or_default(),
            identity: text("auth_identity", "smtp_auth_identity").unwrap_or_default(),
            password: secret("auth_password", "smtp_auth_password"),
            secret: secret("auth_secret", "smtp_auth_secret"),
            host,
            port,
            tls,
        }
    }

    /// Brings `mail` to all recipients; gives those that the server refused, which may be all. Each
    /// step has the deadline of RFC 5321.
    pub(super) async fn send(
        &self,
        from: &Address,
        to: &[Address],
        mail: &[u8],
    ) -> Result<Vec<Refused>, NotifyError> {
        let mut connection = match step("connect", CONNECT, self.connect(false)).await {
            // A certificate that signs itself is no authority's; it is trusted where the file names
            // the very one.
            Err(error) if self.tls.ca.is_some() && error.message.contains(ITSELF) => {
                let connection = step("connect", CONNECT, self.connect(true)).await?;
                let certificate = connection.peer_certificate().unwrap_or_default();
                if !tls::is_trusted_itself(&self.tls, &certificate) {
                    return Err(error);
                }
                connection
            }
            connected => connected?,
        };
        let outcome = self.converse(&mut connection, from, to, mail).await;
        let usable = outcome.as_ref().map_or_else(
            |e| !matches!(e.reason, Reason::Unreachable | Reason::Timeout),
            |_| true,
        );
        if usable {
            // Whether the server has taken the mail or not: how the farewell goes changes nothing.
            drop(tokio::time::timeout(FAREWELL, connection.quit()).await);
        }
        outcome
    }

    async fn converse(
        &self,
        connection: &mut AsyncSmtpConnection,
        from: &Address,
        to: &[Address],
        mail: &[u8],
    ) -> Result<Vec<Refused>, NotifyError> {
        step("AUTH", COMMAND, self.login(connection)).await?;
        let offered = connection
            .server_info()
            .supports_feature(Extension::SmtpUtfEight);
        let is_foreign = |address: &Address| !address.user().is_ascii();
        if is_foreign(from) && !offered {
            return Err(NotifyError::permanent(Reason::Rejected, foreign(from)));
        }
        let mail_from = async {
            let foreign = std::iter::once(from).chain(to).any(is_foreign);
            let parameters = if foreign && offered {
                vec![MailParameter::SmtpUtfEight]
            } else {
                Vec::new()
            };
            let sent = connection
                .command(Mail::new(Some(from.clone()), parameters))
                .await;
            sent.map(drop).map_err(|e| self.refusal("MAIL", &e))
        };
        step("MAIL", COMMAND, mail_from).await?;
        let mut refused = Vec::new();
        for address in to {
            if is_foreign(address) && !offered {
                refused.push(Refused {
                    address: address.clone(),
                    reason: foreign(address),
                    for_good: true,
                });
                continue;
            }
            let command = connection.command(Rcpt::new(address.clone(), Vec::new()));
            let sent = step("RCPT", COMMAND, async {
                command
                    .await
                    .map(drop)
                    .map_err(|e| self.refusal("RCPT", &e))
            })
            .await;
            let Err(error) = sent else { continue };
            if !matches!(error.reason, Reason::Rejected) {
                return Err(error);
            }
            refused.push(Refused {
                address: address.clone(),
                reason: error.message.clone(),
                for_good: !error.retryable,
            });
        }
        if refused.len() == to.len() {
            return Ok(refused);
        }
        let data = async {
            connection
                .command(Data)
                .await
                .map(drop)
                .map_err(|e| self.refusal("DATA", &e))
        };
        step("DATA", DATA, data).await?;
        let message = async {
            connection
                .message(mail)
                .await
                .map(drop)
                .map_err(|e| self.refusal("message", &e))
        };
        step("message", MESSAGE, message).await?;
        Ok(refused)
    }

    /// An answer about a sender, a recipient or a mail: 5xx is final, 4xx may pass; both are about
    /// this mail alone.
    fn refusal(&self, step: &str, error: &Error) -> NotifyError {
        let refusal = self.error(step, error);
        match error.status().map(u16::from) {
            Some(450..=452 | 454..=499) => NotifyError {
                reason: Reason::Rejected,
                ..refusal
            },
            Some(500..) if refusal.reason == Reason::Rejected => NotifyError {
                retryable: false,
                ..refusal
            },
            _ => refusal,
        }
    }

    async fn connect(&self, pinned: bool) -> Result<AsyncSmtpConnection, NotifyError> {
        let parameters = || {
            tls::parameters(&self.tls, &self.host, pinned)
                .map_err(|problem| NotifyError::permanent(Reason::Rejected, problem))
        };
        let at_once = if self.implicit_tls {
            Some(parameters()?)
        } else {
            None
        };
        let found = net::resolve(&self.host).await;
        let found = found.map_err(|e| {
            NotifyError::retryable(
                Reason::Unreachable,
                format!("smtp: connect: {:?}: {e}", self.host),
            )
        })?;
        let addresses: Vec<SocketAddr> = found
            .iter()
            .map(|ip| SocketAddr::new(*ip, self.port))
            .collect();
        let greeted = AsyncSmtpConnection::connect_tokio1(
            addresses.as_slice(),
            None,
            &self.hello,
            at_once,
            None,
        )
        .await;
        let mut connection = match greeted {
            Err(error)
                if !self.implicit_tls
                    && error
                        .status()
                        .is_some_and(|code| NO_EHLO.contains(&u16::from(code))) =>
            {
                let unreachable = |e: std::io::Error| {
                    NotifyError::retryable(Reason::Unreachable, format!("smtp: connect: {e}"))
                };
                let stream = TcpStream::connect(addresses.as_slice())
                    .await
                    .map_err(unreachable)?;
                AsyncSmtpConnection::connect_with_transport(
                    Box::new(Older::new(stream)),
                    &self.hello,
                )
                .await
            }
            greeted => greeted,
        }
        .map_err(|e| self.error("connect", &e))?;
        if !self.implicit_tls && self.require_tls {
            if !connection.can_starttls() {
                drop(tokio::time::timeout(FAREWELL, connection.quit()).await);
                return Err(NotifyError::retryable(
                    Reason::Unreachable,
                    "smtp: STARTTLS is required (require_tls) but not offered",
                ));
            }
            connection
                .starttls(parameters()?, &self.hello)
                .await
                .map_err(|e| self.error("STARTTLS", &e))?;
        }
        Ok(connection)
    }

    /// Logs in where a user name is set. A server that offers no login is used without: if it wants
    /// one, it will refuse.
    async fn login(&self, connection: &mut AsyncSmtpConnection) -> Result<(), NotifyError> {
        if self.username.is_empty() {
            return Ok(());
        }
        let offers = |mechanism| connection.server_info().supports_auth_mechanism(mechanism);
        let (plain, login) = (offers(Mechanism::Plain), offers(Mechanism::Login));
        let safe = connection.is_encrypted() || self.is_local();
        let outcome = match (&self.secret, &self.password) {
            (Some(secret), None) => self.cram_md5(connection, secret).await,
            (_, Some(_)) if plain && !safe && !login => {
                return Err(NotifyError::permanent(
                    Reason::Auth,
                    "smtp: the password is not sent without TLS",
                ));
            }
            (_, Some(password)) if plain && safe => {
                let answer = STANDARD.encode(format!(
                    "{}\0{}\0{}",
                    self.identity,
                    self.username,
                    password.expose()
                ));
                connection
                    .command(format!("AUTH PLAIN {answer}\r\n"))
                    .await
                    .map(drop)
            }
            (_, Some(password)) if login => {
                let credentials =
                    Credentials::new(self.username.clone(), password.expose().to_owned());
                connection
                    .auth(&[Mechanism::Login], &credentials)
                    .await
                    .map(drop)
            }
            _ => return Ok(()),
        };
        outcome.map_err(|error| {
            let error = self.error("AUTH", &error);
            // Not an answer with a code: the connection itself failed.
            if matches!(error.reason, Reason::Unreachable | Reason::Timeout) {
                error
            } else {
                NotifyError {
                    reason: Reason::Auth,
                    ..error
                }
            }
        })
    }

    /// RFC 2195, which lettre does not offer.
    async fn cram_md5(
        &self,
        connection: &mut AsyncSmtpConnection,
        secret: &Secret,
    ) -> Result<(), Error> {
        let challenge = connection.command("AUTH CRAM-MD5\r\n").await?;
        let challenge = challenge
            .first_word()
            .and_then(|word| STANDARD.decode(word).ok())
            .unwrap_or_default();
        let mut mac = Hmac::<md5::Md5>::new_from_slice(secret.expose().as_bytes())
            .expect("HMAC takes keys of any length");
        mac.update(&challenge);
        let digest = hex(&mac.finalize().into_bytes());
        let answer = STANDARD.encode(format!("{} {digest}", self.username));
        connection.command(format!("{answer}\r\n")).await.map(drop)
    }

    fn is_local(&self) -> bool {
        matches!(self.host.as_str(), "localhost" | "127.0.0.1" | "::1")
    }

    /// Every protocol error may be tried again (SEMANTICS 172).
    fn error(&self, step: &str, error: &Error) -> NotifyError {
        let reason = match error.status().map(u16::from) {
            Some(530 | 534 | 535 | 538) => Reason::Auth,
            Some(421 | 450..=452) => Reason::ServerError,
            Some(_) => Reason::Rejected,
            None if error.is_timeout() => Reason::Timeout,
            None if error.is_response() => Reason::InvalidResponse,
            None => Reason::Unreachable,
        };
        NotifyError::retryable(reason, format!("smtp: {step}: {}", self.words(error)))
    }

    /// What the server or the network said, on one line, without what was sent to it in confidence.
    fn words(&self, error: &Error) -> String {
        let mut text = error.to_string();
        for secret in [&self.password, &self.secret].into_iter().flatten() {
            let plain = format!("{}\0{}\0{}", self.identity, self.username, secret.expose());
            for form in [
                STANDARD.encode(plain),
                STANDARD.encode(secret.expose()),
                secret.expose().to_owned(),
            ] {
                text = Secret::new(form).redact(&text);
            }
        }
        text.split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
            .chars()
            .take(MAX_WORDS)
            .collect()
    }
}

fn foreign(address: &Address) -> String {
    format!("smtp: the server does not offer SMTPUTF8, without which {address} cannot be written")
}

/// The name of this host as it greets with, where a whole one is known: servers refuse others.
fn own_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    whole_name(name.trim(), &hosts).unwrap_or_else(|| "localhost".to_owned())
}

/// The host's name with its domain, as the kernel or the file of hosts has it.
fn whole_name(name: &str, hosts: &str) -> Option<String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.');
    let is_whole = |name: &str| {
        name.contains('.')
            && !name.starts_with('.')
            && !name.ends_with('.')
            && name.bytes().all(plain)
    };
    if is_whole(name) {
        return Some(name.to_owned());
    }
    let names = |line: &str| {
        line.split('#')
            .next()
            .unwrap_or("")
            .split_whitespace()
            .skip(1)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let named = hosts
        .lines()
        .map(names)
        .find(|names| !name.is_empty() && names.iter().any(|alias| alias == name))?;
    named
        .into_iter()
        .find(|alias| is_whole(alias) && alias.split('.').next() == Some(name))
}

/// `host:port`; the port may be a well-known name.
fn host_and_port(section: &Section<'_>, smarthost: &str) -> (String, u16) {
    let parts = smarthost.trim().rsplit_once(':').and_then(|(host, port)| {
        let port = match port {
            "smtp" => 25,
            "submission" => 587,
            "submissions" | "smtps" => SUBMISSIONS,
            digits => digits.parse().ok()?,
        };
        // Without a host it is this machine, as in Go.
        let host = if host.is_empty() {
            "localhost"
        } else {
            host.trim_start_matches('[').trim_end_matches(']')
        };
        Some((host.to_owned(), port))
    });
    parts.filter(|(_, port)| *port > 0).unwrap_or_else(|| {
        section.error(
            "smarthost",
            "is not of the form host:port",
            "give for example smtp.example.org:587",
        );
        (String::new(), 0)
    })
}

#[cfg(test)]
mod tests {
    use super::whole_name;

    #[test]
    fn the_whole_name_of_the_host_is_the_kernels_or_that_of_its_line_among_the_hosts() {
        let hosts = "127.0.0.1 localhost\n# 10.0.0.1 db.wrong.test db\n127.0.1.1\tdb.example.org db # here\n";
        for (name, hosts, want) in [
            ("db.example.org", "", Some("db.example.org")),
            ("db", hosts, Some("db.example.org")),
            ("other", hosts, None),
            ("db", "127.0.1.1 db\n", None),
            ("", hosts, None),
            ("a_b.c", "", None),
        ] {
            assert_eq!(whole_name(name, hosts).as_deref(), want, "{name}");
        }
    }
}
