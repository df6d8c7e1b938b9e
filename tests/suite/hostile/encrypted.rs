//! `web.config.file`: TLS, client certificates and passwords, with curl as the client and the
//! commands that ask.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::servers::{Server, free_port, wait_until};

struct Encrypted {
    port: u16,
    folder: tempfile::TempDir,
    _server: Server,
}

fn write(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).expect("written");
}

/// A CA, a certificate for localhost and one for a client.
fn certificates(folder: &Path) {
    let authority = rcgen::KeyPair::generate().expect("a key");
    let mut of_authority = rcgen::CertificateParams::new(Vec::new()).expect("parameters");
    of_authority
        .distinguished_name
        .push(rcgen::DnType::CommonName, "authority");
    of_authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    write(
        folder,
        "ca.pem",
        &of_authority.self_signed(&authority).expect("signed").pem(),
    );
    let issuer = rcgen::Issuer::new(of_authority, authority);
    for (name, host) in [("server", "localhost"), ("client", "client.example")] {
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = rcgen::CertificateParams::new(vec![host.to_owned()])
            .expect("parameters")
            .signed_by(&key, &issuer)
            .expect("signed");
        write(folder, &format!("{name}.pem"), &certificate.pem());
        write(folder, &format!("{name}.key"), &key.serialize_pem());
    }
}

impl Encrypted {
    /// Starts it; `as_one` is how curl comes in.
    fn start(web: &str, as_one: &[&str]) -> Self {
        let (folder, port) = (tempfile::tempdir().expect("a folder"), free_port());
        certificates(folder.path());
        write(folder.path(), "web.yml", web);
        write(folder.path(), "nightbell.yml", "rules: {shipped: false}\n");
        let log = std::fs::File::create(folder.path().join("log")).expect("a log");
        let child = Command::new(env!("CARGO_BIN_EXE_nightbell"))
            .args(["--listen", &format!("127.0.0.1:{port}"), "--config"])
            .arg(folder.path().join("nightbell.yml"))
            .arg("--state-dir")
            .arg(folder.path().join("state"))
            .arg(format!(
                "--web.config.file={}",
                folder.path().join("web.yml").display()
            ))
            .stdout(Stdio::null())
            .stderr(Stdio::from(log))
            .spawn()
            .expect("it starts");
        let encrypted = Encrypted {
            port,
            folder,
            _server: Server(child),
        };
        // Until it is ready it says so, by TLS too.
        wait_until("it is ready", Duration::from_secs(30), || {
            encrypted.curl(as_one, "/-/ready") == 200
        });
        encrypted
    }

    /// The status that curl is given; 0 where there is none.
    fn curl(&self, arguments: &[&str], path: &str) -> u16 {
        let output = Command::new("curl")
            .current_dir(self.folder.path())
            .args([
                "-s",
                "-m",
                "20",
                "-o",
                "/dev/null",
                "-w",
                "%{http_code}",
                "--cacert",
                "ca.pem",
            ])
            .args(arguments)
            .arg(format!("https://localhost:{}{path}", self.port))
            .output();
        String::from_utf8_lossy(&output.expect("curl runs").stdout)
            .trim()
            .parse()
            .unwrap_or(0)
    }
}

const TLS: &str = "tls_server_config: {cert_file: server.pem, key_file: server.key";

/// How curl shows the client's certificate.
const WITH_CERTIFICATE: [&str; 4] = ["--cert", "client.pem", "--key", "client.key"];

#[test]
fn the_server_speaks_tls_and_asks_for_a_password() {
    let hash = bcrypt::hash("w0rd", 4).expect("a hash");
    let server = Encrypted::start(
        &format!(
            "{TLS}, min_version: TLS12}}\nbasic_auth_users: {{alice: '{hash}'}}\n\
         http_server_config: {{headers: {{Strict-Transport-Security: 'max-age=63072000'}}}}\n"
        ),
        &["-u", "alice:w0rd"],
    );
    for path in ["/", "/-/healthy", "/metrics", "/api/v2/status", "/nothing"] {
        assert_eq!(server.curl(&[], path), 401, "{path}");
        assert_eq!(server.curl(&["-u", "alice:wrong"], path), 401, "{path}");
        assert_eq!(server.curl(&["-u", "bob:w0rd"], path), 401, "{path}");
    }
    assert_eq!(server.curl(&["-u", "alice:w0rd"], "/-/healthy"), 200);
    assert_eq!(
        server.curl(&["-u", "alice:w0rd", "-X", "POST"], "/-/reload"),
        200,
        "who has logged in may change something"
    );
    let foreign = [
        "-u",
        "alice:w0rd",
        "-X",
        "POST",
        "-H",
        "Origin: https://evil.example",
    ];
    assert_eq!(
        server.curl(&foreign, "/-/reload"),
        403,
        "a browser sends passwords along for every page"
    );
    // A new file is in force without a reload; a broken one leaves the old one in force.
    write(
        server.folder.path(),
        "web.yml",
        "basic_auth_users: {alice: 'no hash'}\n",
    );
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(server.curl(&["-u", "alice:w0rd"], "/-/healthy"), 200);
    let hash = bcrypt::hash("0ther", 4).expect("a hash");
    write(
        server.folder.path(),
        "web.yml",
        &format!("{TLS}}}\nbasic_auth_users: {{alice: '{hash}'}}\n"),
    );
    wait_until("the new password holds", Duration::from_secs(20), || {
        server.curl(&["-u", "alice:0ther"], "/-/healthy") == 200
    });
    assert_eq!(server.curl(&["-u", "alice:w0rd"], "/-/healthy"), 401);
    // The commands ask as amtool and promtool do.
    write(
        server.folder.path(),
        "http.yml",
        "basic_auth: {username: alice, password: 0ther}\ntls_config: {ca_file: ca.pem}\n",
    );
    let ask = |arguments: &[&str]| {
        let url = format!("https://localhost:{}", server.port);
        let mut command = Command::new(env!("CARGO_BIN_EXE_nightbell"));
        command
            .current_dir(server.folder.path())
            .args(arguments)
            .env("NIGHTBELL_URL", url);
        let output = command.output().expect("it runs");
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    for arguments in [
        &["alert", "query"][..],
        &["silence", "query"],
        &["health"],
        &["query", "instant", "1"],
    ] {
        assert!(!ask(arguments).0, "{arguments:?} without a password");
        let with: Vec<&str> = arguments
            .iter()
            .copied()
            .chain(["--http.config.file", "http.yml"])
            .collect();
        let (is_fine, said) = ask(&with);
        assert!(is_fine, "{arguments:?}: {said}");
    }
}

#[test]
fn a_client_certificate_is_asked_for() {
    let server = Encrypted::start(
        &format!("{TLS}, client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.pem}}\n"),
        &WITH_CERTIFICATE,
    );
    assert_eq!(
        server.curl(&[], "/-/healthy"),
        0,
        "no handshake without one"
    );
    assert_eq!(
        server.curl(
            &["--cert", "server.pem", "--key", "server.key"],
            "/-/healthy"
        ),
        200
    );
    assert_eq!(
        server.curl(
            &["--cert", "client.pem", "--key", "client.key"],
            "/-/healthy"
        ),
        200
    );
    let server = Encrypted::start(
        &format!(
            "{TLS}, client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.pem, client_allowed_sans: [client.example]}}\n"
        ),
        &WITH_CERTIFICATE,
    );
    assert_eq!(
        server.curl(
            &["--cert", "server.pem", "--key", "server.key"],
            "/-/healthy"
        ),
        0,
        "another name"
    );
    assert_eq!(
        server.curl(
            &["--cert", "client.pem", "--key", "client.key"],
            "/-/healthy"
        ),
        200
    );
}

#[test]
fn a_broken_web_config_file_is_refused_at_start_with_its_line() {
    let folder = tempfile::tempdir().expect("a folder");
    certificates(folder.path());
    write(
        folder.path(),
        "nightbell.yml",
        "rules: {shipped: false}\nweb: {config_file: web.yml}\n",
    );
    for (web, why) in [
        ("tls_server_config: {cert_file: server.pem}\n", "key_file"),
        (
            "tls_server_config: {cert_file: server.pem, key_file: client.key}\n",
            "does not fit",
        ),
        (
            "tls_server_config: {cert_file: none.pem, key_file: server.key}\n",
            "cannot be read",
        ),
        (
            "basic_auth_users: {a: secret-in-clear}\n",
            "not a bcrypt hash",
        ),
        ("basic_auth: {a: b}\n", "web.yml"),
    ] {
        write(folder.path(), "web.yml", web);
        let output = Command::new(env!("CARGO_BIN_EXE_nightbell"))
            .args(["check", "config"])
            .arg(folder.path().join("nightbell.yml"))
            .output();
        let output = output.expect("it runs");
        let said = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(
            !output.status.success() && said.contains(why) && !said.contains("secret-in-clear"),
            "{web}: {said}"
        );
    }
}
