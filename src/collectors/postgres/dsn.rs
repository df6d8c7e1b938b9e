//! DSNs, in both forms that libpq reads
//! (<https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING>): URLs, with
//! SQLAlchemy's drivers in their scheme, and `host=… dbname=…`.

use url::Url;

/// What cannot be used in a DSN, and what to write instead. Neither holds a part of the DSN: that
/// may be the password.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The problem.
    pub problem: &'static str,
    /// The remedy.
    pub remedy: &'static str,
}

const FORM: Refusal = Refusal {
    problem: "is not a PostgreSQL URL",
    remedy: "give postgres://user:password@host:5432/database",
};
const ENCODE: Refusal = Refusal {
    problem: "cannot be read: its user name or password holds characters that end them in a URL",
    remedy: "percent-encode them: @ is %40, / is %2F, : is %3A, # is %23, ? is %3F, % is %25",
};
const HOSTS: Refusal = Refusal {
    problem: "names several servers",
    remedy: "give each server an entry of its own, with a dsn that names only it",
};
const SERVICE: Refusal = Refusal {
    problem: "names a service of a pg_service.conf",
    remedy: "write host, port, user and database into the dsn",
};
const PASSFILE: Refusal = Refusal {
    problem: "names a password file",
    remedy: "set the variable PGPASSFILE, or put the dsn with its password into a file that dsn_file names",
};
const ABSTRACT: Refusal = Refusal {
    problem: "names an abstract socket",
    remedy: "give the folder of a socket that is a file, or host and port",
};
const PORT: Refusal = Refusal {
    problem: "has a port that is no number from 1 to 65535",
    remedy: "give postgres://user:password@host:5432/database",
};

/// The parameters, by libpq's names; the last of each counts.
#[derive(Debug, Default)]
pub struct Dsn(Vec<(String, String)>);

impl Dsn {
    /// Reads either form.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let text = text.trim();
        let dsn = match text.split_once("://") {
            Some((scheme, rest))
                if matches!(scheme.split('+').next(), Some("postgres" | "postgresql")) =>
            {
                url(rest)?
            }
            _ => keywords(text).filter(|dsn| !dsn.0.is_empty()).ok_or(FORM)?,
        };
        dsn.check()?;
        Ok(dsn)
    }

    /// The value of a parameter that is not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .rev()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    fn check(&self) -> Result<(), Refusal> {
        if ["host", "hostaddr", "port"]
            .iter()
            .any(|name| self.get(name).is_some_and(|value| value.contains(',')))
        {
            return Err(HOSTS);
        }
        if self.get("host").is_some_and(|host| host.starts_with('@')) {
            return Err(ABSTRACT);
        }
        if self
            .get("port")
            .is_some_and(|port| !port.parse::<u16>().is_ok_and(|port| port > 0))
        {
            return Err(PORT);
        }
        match (self.get("service"), self.get("passfile")) {
            (Some(_), _) => Err(SERVICE),
            (_, Some(_)) => Err(PASSFILE),
            _ => Ok(()),
        }
    }

    /// As a URL that holds everything as parameters, and only what the client library knows. `None`
    /// where a value is none that it takes.
    pub fn url(&self) -> Option<Url> {
        let mut url = Url::parse("postgres:///").ok()?;
        let mut pairs = url.query_pairs_mut();
        pairs.clear();
        let system = self.get("sslrootcert") == Some("system");
        let mode = match self.get("sslmode").or_else(|| self.get("ssl")) {
            // As in libpq: a certificate that the system's own authorities vouch for is of use only
            // with the name that it is for.
            _ if system => Some("verify-full"),
            Some("true" | "True" | "1") => Some("require"),
            Some("false" | "False" | "0") => Some("disable"),
            other => other,
        };
        if let Some(mode) = mode {
            pairs.append_pair("sslmode", mode);
        }
        // The certificate is for the name, not for the address.
        let address = self
            .get("hostaddr")
            .filter(|_| self.get("host").is_none() || mode != Some("verify-full"));
        if let Some(host) = address.or_else(|| self.get("host")) {
            pairs.append_pair("host", host);
        }
        for name in [
            "port",
            "dbname",
            "user",
            "password",
            "sslrootcert",
            "sslcert",
            "sslkey",
        ] {
            if let Some(value) = self.get(name).filter(|_| name != "sslrootcert" || !system) {
                pairs.append_pair(name, value);
            }
        }
        drop(pairs);
        Some(url)
    }
}

/// What follows `postgres://`, cut as libpq cuts it: nothing but `@` ends a password, and nothing
/// but `/` and `?` a list of hosts.
fn url(rest: &str) -> Result<Dsn, Refusal> {
    let mut dsn = Dsn::default();
    let mut add = |name: &str, value: &str| -> Result<(), Refusal> {
        dsn.0.push((name.to_owned(), decode(value).ok_or(ENCODE)?));
        Ok(())
    };
    let mut rest = rest;
    if let Some(end) = rest.find(['@', '/'])
        && rest[end..].starts_with('@')
    {
        let (user, password) = rest[..end]
            .split_once(':')
            .map_or((&rest[..end], None), |(user, password)| {
                (user, Some(password))
            });
        add("user", user)?;
        if let Some(password) = password {
            add("password", password)?;
        }
        rest = &rest[end + 1..];
    }
    let (hosts, tail) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (path, query) = tail.split_once('?').unwrap_or((tail, ""));
    if hosts.contains('@') || path.contains('@') {
        return Err(ENCODE);
    }
    if hosts.contains(',') {
        return Err(HOSTS);
    }
    let (host, port) = match hosts
        .strip_prefix('[')
        .and_then(|inner| inner.split_once(']'))
    {
        Some((address, port)) => (address, port.strip_prefix(':').unwrap_or(port)),
        None => hosts.split_once(':').unwrap_or((hosts, "")),
    };
    if !port.is_empty() && port.parse::<u16>().is_err() {
        // `postgres://user:pass/word@…`: what stands before the first slash looks like a host and
        // its port.
        return Err(if rest.contains('@') { ENCODE } else { PORT });
    }
    add("host", host)?;
    add("port", port)?;
    add("dbname", path.strip_prefix('/').unwrap_or(path))?;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if !value.is_empty() {
            add(name, value)?;
        }
    }
    Ok(dsn)
}

/// `%41` is `A`. `None` for a percent sign that begins no code, and for codes that make no text.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let code = tail
            .get(..2)
            .and_then(|code| std::str::from_utf8(code).ok())?;
        bytes.push(u8::from_str_radix(code, 16).ok()?);
        rest = &tail[2..];
    }
    String::from_utf8(bytes).ok()
}

/// `host=db user='a b'`; a backslash takes the next character as it is.
fn keywords(text: &str) -> Option<Dsn> {
    let mut dsn = Dsn::default();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (name, tail) = rest.split_once('=')?;
        let name = name.trim_end();
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return None;
        }
        let tail = tail.trim_start();
        let quoted = tail.starts_with('\'');
        let mut characters = tail.char_indices().skip(usize::from(quoted));
        let mut value = String::new();
        let end = loop {
            match characters.next() {
                Some((_, '\\')) => value.push(characters.next()?.1),
                Some((at, '\'')) if quoted => break at + 1,
                Some((at, c)) if !quoted && c.is_whitespace() => break at,
                Some((_, c)) => value.push(c),
                None if quoted => return None,
                None => break tail.len(),
            }
        };
        dsn.0.push((name.to_owned(), value));
        rest = tail[end..].trim_start();
    }
    Some(dsn)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn got(text: &str) -> String {
        let dsn = Dsn::parse(text).unwrap_or_else(|refusal| panic!("{text}: {refusal:?}"));
        ["user", "password", "host", "port", "dbname"]
            .map(|name| dsn.get(name).unwrap_or("-"))
            .join(" ")
    }

    #[test]
    fn every_form_that_libpq_reads_means_the_same() {
        assert_eq!(
            got("postgres://u:p@h:6432/db?sslmode=disable"),
            "u p h 6432 db"
        );
        assert_eq!(
            got("postgresql+asyncpg://u:p@/db?host=/run/postgresql"),
            "u p /run/postgresql - db"
        );
        assert_eq!(got("postgresql:///db?host=/dir&user=u"), "u - /dir - db");
        assert_eq!(got("postgres://u@%2Fdir/db"), "u - /dir - db");
        assert_eq!(
            got("postgres://u:p%40%2F@[::1]:5433/db"),
            "u p@/ ::1 5433 db"
        );
        assert_eq!(got("postgres://u:p#a?b@h/db"), "u p#a?b h - db");
        assert_eq!(
            got("host=127.0.0.1 port=5432 user=u password=p dbname=db"),
            "u p 127.0.0.1 5432 db"
        );
        assert_eq!(
            got(r"host = h  password='it\'s a \\ b' user=u\ v dbname=''"),
            r"u v it's a \ b h - -"
        );
        assert_eq!(got("postgres://"), "- - - - -");
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_the_remedy() {
        let refused = |text: &str| Dsn::parse(text).expect_err(text);
        for text in ["mysql://u@h/db", "db", "http://h", "", "host='h", "a b=c"] {
            assert_eq!(refused(text), FORM, "{text}");
        }
        for text in [
            "postgres://u:p@ss@h/db",
            "postgres://u:p/w@h/db",
            "postgres://u:p%zz@h/db",
        ] {
            assert_eq!(refused(text), ENCODE, "{text}");
        }
        assert_eq!(
            refused("postgres://u:p@a:1,b:5432/db?target_session_attrs=any"),
            HOSTS
        );
        assert_eq!(refused("host=a,b user=u"), HOSTS);
        assert_eq!(refused("service=prod"), SERVICE);
        assert_eq!(refused("host=h passfile=/x"), PASSFILE);
        assert_eq!(refused("host=@x"), ABSTRACT);
        assert_eq!(refused("postgres://h:99999/db"), PORT);
    }

    #[test]
    fn the_system_s_authorities_are_asked_for_by_name() {
        let dsn =
            Dsn::parse("postgres://u@h/db?sslmode=verify-full&sslrootcert=system").expect("valid");
        assert_eq!(
            dsn.url().expect("a URL").as_str(),
            "postgres:///?sslmode=verify-full&host=h&dbname=db&user=u"
        );
    }
}
