//! Parameters of a request: the URL's query, merged with a form body.

use std::time::Duration;

use axum::extract::{FromRequest, Request};
use axum::http::header::CONTENT_TYPE;

use crate::model::text::quote;
use crate::model::{Matcher, Timestamp, parse_duration};
use crate::promql;

use super::super::seats::MAX_BODY;
use super::answer::Problem;
use crate::web::server::stream::query_of;

/// Greatest form body, in bytes; larger ones are refused before they are read.
const MAX_FORM: usize = MAX_BODY;
/// Most `match[]` of one request, and the most bytes of all of them together.
const MAX_MATCHES: usize = 512;
const MAX_MATCH_BYTES: usize = 512 << 10;

/// All parameters, repeated ones included, the form's first as Go's `ParseForm` orders them.
pub struct Parameters(Vec<(String, String)>);

impl<S: Send + Sync> FromRequest<S> for Parameters {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let is_form = parts
            .headers
            .get(CONTENT_TYPE)
            .and_then(|v| v.to_str().ok())
            .is_some_and(|t| t.starts_with("application/x-www-form-urlencoded"));
        let mut pairs = Vec::new();
        if is_form {
            let body = axum::body::to_bytes(body, MAX_FORM)
                .await
                .map_err(|_| Problem::bad_data("the form is too large"))?;
            pairs.extend(url::form_urlencoded::parse(&body).into_owned());
        }
        pairs.extend(url::form_urlencoded::parse(query_of(&parts).as_bytes()).into_owned());
        Ok(Parameters(pairs))
    }
}

impl Parameters {
    /// The first value of `name`; an empty one counts as absent.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.as_str())
            .filter(|v| !v.is_empty())
    }

    /// Every value of `name`.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(n, _)| n == name)
            .map(|(_, v)| v.as_str())
    }

    /// Unix seconds or RFC 3339, for selections: beyond what can be stored, the nearest that can.
    pub fn time(&self, name: &str) -> Result<Option<Timestamp>, Problem> {
        self.moment(name)
            .map(|found| found.map(Moment::clamped))
            .map_err(|text| {
                Problem::parameter(
                    name,
                    format!(
                        "invalid time value for '{name}': cannot parse {} to a valid timestamp",
                        quote(text)
                    ),
                )
            })
    }

    /// The same for the instant of a query: beyond 64 bits of nanoseconds it wraps, as it does in
    /// Prometheus.
    pub fn query_time(&self, name: &str) -> Result<Option<Timestamp>, Problem> {
        self.moment(name)
            .map(|found| found.map(Moment::wrapped))
            .map_err(|text| {
                Problem::parameter(
                    name,
                    format!(
                        "invalid time value for '{name}': cannot parse {} to a valid timestamp",
                        quote(text)
                    ),
                )
            })
    }

    /// The same for an end of a range query, which must be given; beyond what can be stored, the
    /// nearest that can.
    pub fn range_time(&self, name: &str) -> Result<Timestamp, Problem> {
        let found = self.moment(name).and_then(|found| found.ok_or(""));
        found.map(Moment::clamped).map_err(|text| {
            Problem::parameter(
                name,
                format!("cannot parse {} to a valid timestamp", quote(text)),
            )
        })
    }

    fn moment(&self, name: &str) -> Result<Option<Moment>, &str> {
        self.get(name)
            .map(|text| Moment::parse(text).ok_or(text))
            .transpose()
    }

    /// Seconds or `5m`; what is not above zero is zero.
    pub fn duration(&self, name: &str) -> Result<Option<Duration>, Problem> {
        self.get(name)
            .map(|text| parse_span(text).map_err(|error| Problem::parameter(name, error)))
            .transpose()
    }

    /// `lookback_delta`; zero and less mean the default.
    pub fn lookback(&self) -> Result<Option<Duration>, Problem> {
        let text = self.get("lookback_delta").map(parse_span).transpose();
        let found = text.map_err(|error| {
            Problem::bad_data(format!("error parsing lookback delta duration: {error}"))
        })?;
        Ok(found.filter(|lookback| !lookback.is_zero()))
    }

    /// `limit`: 0 for none.
    pub fn limit(&self) -> Result<usize, Problem> {
        let Some(text) = self.get("limit") else {
            return Ok(0);
        };
        match text.parse::<i64>() {
            Ok(limit) => usize::try_from(limit)
                .map_err(|_| Problem::parameter("limit", "limit must be non-negative")),
            Err(error) => Err(Problem::parameter(
                "limit",
                format!(
                    "strconv.Atoi: parsing {}: {}",
                    quote(text),
                    go_reason(&error)
                ),
            )),
        }
    }

    /// A number of the metadata API: `None` for no limit.
    pub fn count(&self, name: &str) -> Result<Option<usize>, Problem> {
        let Some(text) = self.get(name) else {
            return Ok(None);
        };
        let count: i64 = text
            .parse()
            .map_err(|_| Problem::bad_data(format!("{name} must be a number")))?;
        Ok(usize::try_from(count).ok())
    }

    /// A truth value in Go's spellings; absent: false.
    pub fn flag(&self, name: &str) -> Result<bool, Problem> {
        match self.get(name).unwrap_or("false") {
            "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
            "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
            text => {
                let reason = format!("strconv.ParseBool: parsing {}: invalid syntax", quote(text));
                Err(Problem::parameter(
                    name,
                    format!("error converting {name}: {reason}"),
                ))
            }
        }
    }

    /// `query`, parsed.
    pub fn query(&self) -> Result<(&str, promql::Expr), Problem> {
        let text = self.get("query").unwrap_or("");
        promql::parse(text)
            .map(|expr| (text, expr))
            .map_err(|e| Problem::parameter("query", e))
    }

    /// Errs when there are too many `match[]` to look for.
    pub fn check_matches(&self) -> Result<(), String> {
        let (count, bytes) = self.all("match[]").fold((0, 0), |(count, bytes), text| {
            (count + 1, bytes + text.len())
        });
        if count > MAX_MATCHES || bytes > MAX_MATCH_BYTES {
            return Err(format!(
                "too many match[]: at most {MAX_MATCHES} of {MAX_MATCH_BYTES} bytes together are taken"
            ));
        }
        Ok(())
    }

    /// Every `match[]` as matchers, each with one that does not match everything. The error is for
    /// people.
    pub fn matchers(&self) -> Result<Vec<Vec<Matcher>>, String> {
        self.check_matches()?;
        let read = |text: &str| {
            let matchers = promql::parse_selector(text).map_err(|e| e.to_string())?;
            let chooses = matchers.iter().any(|matcher| !matcher.matches(""));
            if chooses {
                Ok(matchers)
            } else {
                Err("match[] must contain at least one non-empty matcher".to_owned())
            }
        };
        self.all("match[]").map(read).collect()
    }
}

/// An instant as Go's `time.Unix` takes it.
#[derive(Clone, Copy)]
struct Moment {
    seconds: i64,
    nanos: i64,
}

impl Moment {
    fn parse(text: &str) -> Option<Self> {
        match text {
            // The bounds that clients send for "everything"; their years have too many digits for
            // RFC 3339.
            "-292273086-05-16T16:47:06Z" => {
                return Some(Moment {
                    seconds: i64::MIN / 1000 + 62_135_596_801,
                    nanos: 0,
                });
            }
            "292277025-08-18T07:12:54.999999999Z" => {
                return Some(Moment {
                    seconds: i64::MAX / 1000 - 62_135_596_801,
                    nanos: 999_999_999,
                });
            }
            _ => {}
        }
        let Ok(number) = text.parse::<f64>() else {
            let at = Timestamp::parse_rfc3339(text)?;
            return Some(Moment {
                seconds: at.0.div_euclid(1000),
                nanos: at.0.rem_euclid(1000) * 1_000_000,
            });
        };
        if !number.is_finite() || number.abs() >= 9.2e18 {
            // Go's conversion of what no integer holds.
            return Some(Moment {
                seconds: i64::MIN,
                nanos: 0,
            });
        }
        let fraction = (number.fract() * 1000.0).round() / 1000.0;
        Some(Moment {
            seconds: number.trunc() as i64,
            nanos: (fraction * 1e9) as i64,
        })
    }

    fn wrapped(self) -> Timestamp {
        Timestamp(
            self.seconds
                .wrapping_mul(1_000_000_000)
                .wrapping_add(self.nanos)
                / 1_000_000,
        )
    }

    fn clamped(self) -> Timestamp {
        Timestamp(
            self.seconds
                .saturating_mul(1000)
                .saturating_add(self.nanos.div_euclid(1_000_000)),
        )
    }
}

/// Seconds, or a duration as Prometheus writes it; what is not above zero is zero.
fn parse_span(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds.abs() * 1e9 > i64::MAX as f64 => Err(format!(
            "cannot parse {} to a valid duration. It overflows int64",
            quote(text)
        )),
        Ok(seconds) => Ok(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::ZERO)),
        Err(_) => parse_duration(text)
            .map_err(|_| format!("cannot parse {} to a valid duration", quote(text))),
    }
}

/// Why a number cannot be read, in Go's words.
pub fn go_reason(error: &std::num::ParseIntError) -> &'static str {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    if matches!(error.kind(), PosOverflow | NegOverflow) {
        "value out of range"
    } else {
        "invalid syntax"
    }
}
