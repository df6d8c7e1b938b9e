//! How a line of an access log is read: nginx's `log_format`, JSON, or what sshd and its kin write
//! about logins.

use memchr::memmem;

use crate::collectors::log_file::json::{Paths, Raw, unescaped};

/// nginx's `combined`, and Apache's.
const COMBINED: &str = r#"$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent""#;
/// The common log format.
const COMMON: &str =
    r#"$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent"#;

/// One request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request<'l> {
    /// Where it came from.
    pub client: &'l [u8],
    /// Whom it was forwarded for.
    pub forwarded: &'l [u8],
    /// Its method.
    pub method: &'l [u8],
    /// The answer's status.
    pub status: u16,
    /// Bytes of the answer's body.
    pub bytes: u64,
    /// How long it took, in seconds.
    pub seconds: Option<f64>,
}

/// The format of a log.
#[derive(Debug)]
pub enum Format {
    /// As nginx's `log_format` has it.
    Written(Vec<Part>),
    /// An object a line.
    Json(Paths),
    /// Lines of sshd, sudo, su and login.
    Logins,
}

/// A variable and the text that ends it.
#[derive(Debug)]
pub struct Part {
    /// What stands before the first variable only.
    before: Vec<u8>,
    variable: String,
    end: memmem::Finder<'static>,
}

/// Keys of JSON logs, by what they are; the first that is there counts.
const JSON_KEYS: [&[&str]; 6] = [
    &["remote_addr", "client_ip", "remote_ip", "request.remote_ip"],
    &["http_x_forwarded_for", "x_forwarded_for"],
    &["request_method", "method", "request.method", "request"],
    &["status", "status_code"],
    &["body_bytes_sent", "bytes_sent", "bytes", "size"],
    &["request_time", "duration"],
];

impl Format {
    /// The format by its name, or a `log_format` text; errs with what is wrong with it.
    pub fn parse(text: &str) -> Result<Format, String> {
        match text {
            "combined" => Format::written(COMBINED),
            "common" => Format::written(COMMON),
            "auth" => Ok(Format::Logins),
            "json" => {
                let mut paths = Paths::default();
                for key in JSON_KEYS.iter().copied().flatten() {
                    // There is room for all.
                    let _ = paths.add(key);
                }
                Ok(Format::Json(paths))
            }
            other if other.contains('$') => Format::written(other),
            other => Err(format!("{other:?} is not known")),
        }
    }

    fn written(text: &str) -> Result<Format, String> {
        let mut parts = Vec::new();
        let (before, mut rest) = text.split_once('$').unwrap_or((text, ""));
        let mut before = before.as_bytes().to_vec();
        loop {
            let rest_of_name = rest.strip_prefix('{').unwrap_or(rest);
            let length = rest_of_name
                .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                .unwrap_or(rest_of_name.len());
            let (variable, after) = rest_of_name.split_at(length);
            let after = if rest.starts_with('{') {
                after.strip_prefix('}').unwrap_or(after)
            } else {
                after
            };
            let (end, next) = after
                .split_once('$')
                .map_or((after, None), |(end, next)| (end, Some(next)));
            if variable.is_empty() || (end.is_empty() && next.is_some()) {
                return Err(
                    "has two variables without anything between them, or a $ without a name".into(),
                );
            }
            let end = memmem::Finder::new(end).into_owned();
            parts.push(Part {
                before: std::mem::take(&mut before),
                variable: variable.to_owned(),
                end,
            });
            match next {
                Some(next) => rest = next,
                None => break,
            }
        }
        let has = |names: &[&str]| {
            parts
                .iter()
                .any(|part| names.contains(&part.variable.as_str()))
        };
        if !has(&["status"]) || !has(&["request", "request_method"]) {
            return Err("has no $status, or neither $request nor $request_method".into());
        }
        Ok(Format::Written(parts))
    }

    /// Reads a line; `None` when it is none of this format.
    pub fn read<'l>(&self, line: &'l [u8]) -> Option<Request<'l>> {
        let mut request = Request::default();
        match self {
            Format::Logins => return None,
            Format::Written(parts) => {
                let mut rest = line;
                for part in parts {
                    rest = rest.strip_prefix(part.before.as_slice())?;
                    let end = if part.end.needle().is_empty() {
                        rest.len()
                    } else {
                        part.end.find(rest)?
                    };
                    let value = &rest[..end];
                    match part.variable.as_str() {
                        "remote_addr" => request.client = value,
                        "http_x_forwarded_for" | "proxy_add_x_forwarded_for" => {
                            request.forwarded = value
                        }
                        "request" => request.method = first_word(value),
                        "request_method" => request.method = value,
                        "status" => request.status = number(value)?,
                        "body_bytes_sent" | "bytes_sent" => {
                            request.bytes = number(value).unwrap_or(0)
                        }
                        "request_time" => request.seconds = number(value),
                        _ => {}
                    }
                    rest = &rest[end + part.end.needle().len()..];
                }
            }
            Format::Json(paths) => {
                let mut found: Vec<Raw<'l>> = vec![None; paths.len()];
                paths.find(line, &mut found);
                let mut from = 0;
                let mut next = |keys: &[&str]| {
                    let own = &found[from..from + keys.len()];
                    from += keys.len();
                    own.iter()
                        .flatten()
                        .find(|raw| !raw.starts_with(b"{"))
                        .copied()
                };
                let [client, forwarded, method, status, bytes, seconds] = JSON_KEYS.map(&mut next);
                request.client = client.unwrap_or_default();
                request.forwarded = forwarded.unwrap_or_default();
                request.method = first_word(method.unwrap_or_default());
                request.status = number(status?)?;
                request.bytes = bytes.and_then(number).unwrap_or(0);
                request.seconds = seconds.and_then(number);
            }
        }
        (100..=999).contains(&request.status).then_some(request)
    }
}

fn first_word(value: &[u8]) -> &[u8] {
    value.split(|b| *b == b' ').next().unwrap_or_default()
}

fn number<T: std::str::FromStr>(value: &[u8]) -> Option<T> {
    std::str::from_utf8(value).ok()?.trim().parse().ok()
}

/// The method as a label: one of those that there are.
pub fn method_label(method: &[u8]) -> &'static str {
    const METHODS: [&str; 9] = [
        "GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "CONNECT", "TRACE",
    ];
    METHODS
        .into_iter()
        .find(|known| known.as_bytes() == method)
        .unwrap_or("other")
}

/// A login that failed: the program that says so, and the address that it names.
pub fn failed_login(line: &[u8]) -> Option<(&'static str, String)> {
    const SIGNS: [&[u8]; 5] = [
        b"Failed password",
        b"authentication failure",
        b"Failed publickey",
        b"FAILED LOGIN",
        b"incorrect password attempt",
    ];
    if !SIGNS.iter().any(|sign| memmem::find(line, sign).is_some()) {
        return None;
    }
    // sshd writes two lines of one failure: that of PAM is not counted.
    let is = |program: &str| memmem::find(line, program.as_bytes()).is_some();
    let source = match () {
        () if is("sshd") && is("pam_unix") => return None,
        () if is("sshd") => "sshd",
        () if is("sudo") => "sudo",
        () if is(" su") => "su",
        () if is("login") => "login",
        () => "other",
    };
    let text = unescaped(line);
    let client = text
        .split_once(" from ")
        .and_then(|(_, rest)| rest.split_whitespace().next())
        .unwrap_or_default();
    Some((source, client.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn combined_own_and_json_formats_are_read() {
        let combined = Format::parse("combined").expect("known");
        let line = br#"203.0.113.7 - ann [30/Nov/2026:12:00:00 +0000] "POST /api/v1/x?a=b HTTP/1.1" 502 157 "-" "curl/8 \x22x\x22""#;
        let want = Request {
            client: b"203.0.113.7",
            method: b"POST",
            status: 502,
            bytes: 157,
            ..Request::default()
        };
        assert_eq!(combined.read(line), Some(want.clone()));
        assert_eq!(combined.read(b"garbage"), None);
        let own = Format::parse(
            r#"$remote_addr "$request" $status ${request_time}s xff=$http_x_forwarded_for"#,
        )
        .expect("a format");
        let got = own
            .read(br#"::1 "GET / HTTP/1.1" 200 0.250s xff=198.51.100.1, 10.0.0.1"#)
            .expect("read");
        assert_eq!(
            (got.seconds, got.forwarded, got.status),
            (Some(0.25), &b"198.51.100.1, 10.0.0.1"[..], 200)
        );
        let json = Format::parse("json").expect("known");
        let line = br#"{"remote_addr":"203.0.113.7","request_method":"POST","status":"502","body_bytes_sent":157,"request_time":"0.1"}"#;
        assert_eq!(
            json.read(line),
            Some(Request {
                seconds: Some(0.1),
                ..want
            })
        );
        for wrong in ["xml", "$status", "$request$status", "$ $status $request"] {
            assert!(Format::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn failed_logins_are_counted_once() {
        let line = b"Nov 30 12:00:00 h sshd[7]: Failed password for invalid user x from 203.0.113.9 port 5 ssh2";
        assert_eq!(failed_login(line), Some(("sshd", "203.0.113.9".into())));
        assert_eq!(failed_login(b"Nov 30 12:00:00 h sshd[7]: pam_unix(sshd:auth): authentication failure; rhost=203.0.113.9"), None);
        assert_eq!(
            failed_login(
                b"Nov 30 12:00:00 h sudo: pam_unix(sudo:auth): authentication failure; user=x"
            ),
            Some(("sudo", String::new()))
        );
        assert_eq!(
            failed_login(b"Nov 30 12:00:00 h sshd[7]: Accepted password for x from 203.0.113.9"),
            None
        );
    }
}
