//! The daily self-test (`self_test: {at: "09:00"}`): a marked message to every receiver, so that a
//! way that is broken is known before it is needed.
//!
//! The message tells of an end, not of trouble: nobody is called by name, and pagers open no
//! incident. A way that fails is an alert, `NightbellSelfTestFailed`, until it works again. Where
//! the routes of that alert lead only to receivers that failed themselves, the first receiver that
//! works is notified directly.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _};
use jiff::civil;
use jiff::tz::TimeZone;
use parking_lot::RwLock;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use tracing::{error, info};

use super::flush::dedup::NotifyReason;
use super::flush::message::{Subject, compose, ended, notified, test_message};
use super::flush::pipeline;
use super::metrics::{FailureLabels, IntegrationLabels};
use super::{Alerting, Handle, Incoming, Integration};
use crate::config::Section;
use crate::model::{Alert, Labels, Timestamp};
use crate::notify::{Notification, NotifyError, Reason};
use crate::telemetry::Telemetry;

/// The alert of a way that fails.
pub const ALERT: &str = "NightbellSelfTestFailed";
/// How often the time is looked at: a clock that jumps is noticed within it.
const LOOK: Duration = Duration::from_secs(15);
/// Deadline of one attempt, how many there are where another one can help, and the longest pause
/// between two.
const ATTEMPT: Duration = Duration::from_secs(30);
const ATTEMPTS: usize = 3;
const LONGEST_PAUSE: Duration = Duration::from_secs(90);
/// Ways that are tried at once.
const AT_ONCE: usize = 4;
/// How long a failure counts when no later test says otherwise.
const LASTS: Duration = Duration::from_secs(25 * 3600);

/// The block `self_test`.
#[derive(Clone, Debug)]
pub struct SelfTest {
    at: civil::Time,
    zone: TimeZone,
    /// Receivers that are left out.
    except: Vec<String>,
}

impl SelfTest {
    /// Reads the block.
    pub fn read(section: &Section<'_>) -> Option<Self> {
        let text: String = section.require("at");
        let at = civil::Time::strptime("%H:%M", &text).ok();
        if at.is_none() && !text.is_empty() {
            section.error(
                "at",
                format!("{text:?} is not a time of day"),
                "give for example \"09:00\"",
            );
        }
        let name: String = section.or("timezone", "UTC".to_owned());
        let zone = TimeZone::get(&name).unwrap_or_else(|_| {
            section.error(
                "timezone",
                format!("{name:?} is not a known time zone"),
                "give an IANA name such as Asia/Shanghai",
            );
            TimeZone::UTC
        });
        let except = section.or("except", Vec::new());
        section.finish();
        Some(SelfTest {
            at: at?,
            zone,
            except,
        })
    }

    /// Complains of names in `except` that no receiver has.
    pub fn check(&self, section: &Section<'_>, alerting: &Alerting) {
        for name in self
            .except
            .iter()
            .filter(|name| alerting.receiver(name).is_none())
        {
            let known: Vec<&str> = alerting
                .receivers
                .iter()
                .map(|receiver| receiver.name.as_str())
                .collect();
            section.error(
                "self_test.except",
                format!("{name:?} is not a receiver"),
                format!("there is {}", known.join(", ")),
            );
        }
    }

    /// The first time after `after` at which it is due.
    pub fn next(&self, after: Timestamp) -> Timestamp {
        let Ok(instant) = jiff::Timestamp::from_millisecond(after.0) else {
            return Timestamp::MAX;
        };
        let today = instant.to_zoned(self.zone.clone()).date();
        // A time that a change of clocks skips comes an hour later on that day.
        let due = [
            today,
            today.saturating_add(jiff::Span::new().days(1)),
            today.saturating_add(jiff::Span::new().days(2)),
        ];
        let due = due
            .into_iter()
            .filter_map(|day| day.to_datetime(self.at).to_zoned(self.zone.clone()).ok());
        due.map(|zoned| Timestamp(zoned.timestamp().as_millisecond()))
            .find(|at| *at > after)
            .unwrap_or(Timestamp::MAX)
    }
}

/// What is counted.
#[derive(Clone, Default)]
pub struct Metrics {
    success: Family<IntegrationLabels, Gauge>,
    failed: Family<FailureLabels, Counter>,
    at: Gauge<f64, std::sync::atomic::AtomicU64>,
}

impl Metrics {
    /// Publishes them.
    pub fn register(telemetry: &Telemetry) -> Self {
        let metrics = Metrics::default();
        telemetry.register(|registry| {
            let help = "Whether the last self-test of an integration was accepted.";
            registry.register("self_test_success", help, metrics.success.clone());
            registry.register(
                "self_tests_failed",
                "Self-tests that an integration did not accept, by reason.",
                metrics.failed.clone(),
            );
            registry.register(
                "self_test_timestamp_seconds",
                "When the last self-test of all receivers ended.",
                metrics.at.clone(),
            );
        });
        metrics
    }
}

/// When the time was looked at last.
struct Schedule(Timestamp);

impl Schedule {
    /// Whether a test has become due since the last look. After a long sleep, or a clock that
    /// jumped, it is due once; a test that is new in the configuration is not due for a time that
    /// was over before.
    fn is_due(&mut self, test: Option<&SelfTest>, now: Timestamp) -> bool {
        let before = std::mem::replace(&mut self.0, now);
        test.is_some_and(|test| test.next(before) <= now)
    }

    /// How long until the next look.
    fn wait(&self, test: Option<&SelfTest>, now: Timestamp) -> Duration {
        test.map_or(LOOK, |test| {
            test.next(self.0)
                .since(now)
                .clamp(Duration::from_millis(1), LOOK)
        })
    }
}

/// Sends test messages until the process ends, as `settings` says at the time.
pub async fn run(
    settings: Arc<RwLock<Option<SelfTest>>>,
    alerting: Handle,
    metrics: Metrics,
) -> Result<(), Infallible> {
    let mut schedule = Schedule(Timestamp::now());
    loop {
        let test = settings.read().clone();
        if schedule.is_due(test.as_ref(), Timestamp::now()) {
            let except = test
                .as_ref()
                .map(|test| test.except.clone())
                .unwrap_or_default();
            test_all(&alerting, &except, &metrics).await;
        }
        tokio::time::sleep(schedule.wait(test.as_ref(), Timestamp::now())).await;
    }
}

/// Tests every integration now, and tells of those that failed.
pub async fn test_all(alerting: &Handle, except: &[String], metrics: &Metrics) {
    let config = alerting.config();
    let receivers = config
        .receivers
        .iter()
        .filter(|receiver| !except.contains(&receiver.name));
    let integrations: Vec<Integration> = receivers
        .flat_map(|receiver| receiver.integrations.iter().cloned())
        .collect();
    let tests: Vec<BoxFuture<'static, _>> = integrations
        .into_iter()
        .map(|integration| test_one(integration, config.external_url.clone()).boxed())
        .collect();
    let results: Vec<(Integration, Result<(), NotifyError>)> = futures_util::stream::iter(tests)
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let now = Timestamp::now();
    let mut failures = Vec::new();
    for (integration, result) in &results {
        let labels = IntegrationLabels::of(integration);
        metrics
            .success
            .get_or_create(&labels)
            .set(i64::from(result.is_ok()));
        if let Err(error) = result {
            metrics
                .failed
                .get_or_create(&labels.because(error.reason.as_str()))
                .inc();
            error!(receiver = integration.receiver, notifier = integration.kind, %error, "Self-test failed.");
        }
        let alert = failure(integration, result.as_ref().err(), now);
        // What did not fail before is no news that it does not now.
        if result.is_err() || alerting.fires(alert.fingerprint(), now) {
            failures.push(alert);
        }
    }
    metrics.at.set(now.seconds());
    info!(
        integrations = results.len(),
        failed = results.iter().filter(|(_, r)| r.is_err()).count(),
        "Self-test of all receivers ended."
    );
    alerting
        .post(failures.iter().cloned().map(Incoming::from).collect())
        .await;
    let firing: Vec<&Alert> = failures
        .iter()
        .filter(|alert| !alert.is_resolved(now))
        .collect();
    tell_directly(alerting, &config, &firing, &results, now).await;
}

async fn test_one(
    integration: Integration,
    external_url: String,
) -> (Integration, Result<(), NotifyError>) {
    let mut attempt = 1;
    loop {
        let message = ended(test_message(&integration, &external_url, Timestamp::now()));
        let result =
            match tokio::time::timeout(ATTEMPT, integration.notifier.notify(&message)).await {
                Ok(result) => result,
                Err(_) => Err(NotifyError::retryable(
                    Reason::Timeout,
                    format!("no answer within {}s", ATTEMPT.as_secs()),
                )),
            };
        match &result {
            Err(error) if error.retryable && attempt < ATTEMPTS => {
                tokio::time::sleep(
                    error
                        .retry_after
                        .unwrap_or(Duration::from_secs(1))
                        .min(LONGEST_PAUSE),
                )
                .await;
                attempt += 1;
            }
            _ => return (integration, result),
        }
    }
}

/// The alert of one integration, which is over where there is no error.
fn failure(integration: &Integration, error: Option<&NotifyError>, now: Timestamp) -> Alert {
    let labels = [
        ("alertname", ALERT),
        ("receiver", integration.receiver.as_str()),
        ("notifier", integration.kind),
        ("integration", integration.key.as_str()),
        ("severity", "critical"),
    ];
    let text = error.map(ToString::to_string).unwrap_or_default();
    let summary = format!(
        "receiver {} ({}) cannot be reached: {text}",
        integration.receiver, integration.kind
    );
    let summary_zh = format!(
        "接收方 {}（{}）自检失败：{text}",
        integration.receiver, integration.kind
    );
    Alert {
        labels: Labels::from_pairs(labels),
        annotations: Labels::from_pairs([
            ("summary", summary.as_str()),
            ("summary_zh", summary_zh.as_str()),
        ]),
        starts_at: now,
        ends_at: Some(if error.is_some() { now + LASTS } else { now }),
        updated_at: now,
        generator_url: String::new(),
        value: None,
        peak: None,
        evidence: Vec::new(),
        shipped: false,
    }
}

/// Tells the first receiver that works of those failures whose routes lead only to receivers that
/// failed.
async fn tell_directly(
    alerting: &Handle,
    config: &Alerting,
    failures: &[&Alert],
    results: &[(Integration, Result<(), NotifyError>)],
    now: Timestamp,
) {
    let works = |receiver: &str| {
        results.iter().any(|(integration, result)| {
            integration.receiver == receiver
                && result.is_ok()
                && integration.notifier.action().is_none()
        })
    };
    let unheard: Vec<&Alert> = failures
        .iter()
        .copied()
        .filter(|alert| {
            let routes = config
                .routes
                .matching(&alert.labels)
                .into_iter()
                .filter_map(|index| config.routes.get(index));
            !routes.map(|route| route.receiver.as_str()).any(works)
        })
        .collect();
    let Some(other) = config
        .receivers
        .iter()
        .find(|receiver| works(&receiver.name))
        .filter(|_| !unheard.is_empty())
    else {
        return;
    };
    let labels = Labels::from_pairs([("alertname", ALERT)]);
    let subject = Subject {
        group_key: "self-test",
        group_labels: &labels,
        external_url: &config.external_url,
        now,
    };
    let shown = || unheard.iter().map(|alert| notified(alert, now)).collect();
    let able = other
        .integrations
        .iter()
        .filter(|integration| integration.notifier.action().is_none());
    let messages = able.map(|integration| {
        let message: Notification = compose(&subject, integration, NotifyReason::First, shown());
        pipeline::to_row(message, integration, now)
    });
    alerting.tell(messages.collect()).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test(at: &str, zone: &str) -> SelfTest {
        let zone = TimeZone::get(zone).expect("a zone");
        SelfTest {
            at: civil::Time::strptime("%H:%M", at).expect("a time"),
            zone,
            except: Vec::new(),
        }
    }

    #[test]
    fn it_is_due_once_a_day_at_its_local_time_also_when_clocks_change() {
        let time = |text: &str| Timestamp::parse_rfc3339(text).expect("a time");
        let daily = test("09:00", "Asia/Shanghai");
        assert_eq!(
            daily.next(time("2026-11-26T00:59:59Z")),
            time("2026-11-26T01:00:00Z")
        );
        assert_eq!(
            daily.next(time("2026-11-26T01:00:00Z")),
            time("2026-11-27T01:00:00Z"),
            "once"
        );
        // 02:30 is skipped in Berlin on 2026-03-29 and comes twice on 2026-10-25.
        let night = test("02:30", "Europe/Berlin");
        let (mut at, mut times) = (time("2026-03-28T00:00:00Z"), Vec::new());
        for _ in 0..3 {
            at = night.next(at);
            times.push(at.rfc3339());
        }
        assert_eq!(
            times,
            [
                "2026-03-28T01:30:00.000Z",
                "2026-03-29T01:30:00.000Z",
                "2026-03-30T00:30:00.000Z"
            ]
        );
        let first = night.next(time("2026-10-24T20:00:00Z"));
        assert_eq!(
            (first, night.next(first)),
            (time("2026-10-25T00:30:00Z"), time("2026-10-26T01:30:00Z"))
        );
    }
    #[test]
    fn a_look_in_time_finds_it_due_and_the_next_one_does_not() {
        let time = |text: &str| Timestamp::parse_rfc3339(text).expect("a time");
        let daily = test("09:00", "UTC");
        let mut schedule = Schedule(time("2026-11-26T08:59:50Z"));
        assert!(!schedule.is_due(Some(&daily), time("2026-11-26T08:59:58Z")));
        assert_eq!(
            schedule.wait(Some(&daily), time("2026-11-26T08:59:58Z")),
            Duration::from_secs(2)
        );
        assert!(schedule.is_due(Some(&daily), time("2026-11-26T09:00:00Z")));
        assert!(
            !schedule.is_due(Some(&daily), time("2026-11-26T09:00:15Z")),
            "once"
        );
        assert_eq!(
            schedule.wait(Some(&daily), time("2026-11-26T09:00:15Z")),
            LOOK
        );
        assert!(
            schedule.is_due(Some(&daily), time("2026-11-29T12:00:00Z")),
            "after a long sleep, once"
        );
        assert!(
            !schedule.is_due(Some(&daily), time("2026-11-29T08:00:00Z")),
            "the clock was set back"
        );
        assert!(!schedule.is_due(None, time("2026-11-29T09:30:00Z")));
        assert!(
            !schedule.is_due(Some(&daily), time("2026-11-29T09:30:15Z")),
            "it is new, and nine is over"
        );
    }
}
