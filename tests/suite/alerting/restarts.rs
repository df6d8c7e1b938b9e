//! The same samples with and without restarts: rules, alerting, deliveries and the state database
//! on one virtual clock. A process that stops or dies between any two of its writes and goes on
//! from the database tells people the same at the same times.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use nightbell::alerting::delivery::deliverer::Deliverer;
use nightbell::alerting::delivery::task::Step;
use nightbell::alerting::dispatch::Dispatch;
use nightbell::alerting::memory::alerts::PostedAlert;
use nightbell::alerting::metrics::Metrics;
use nightbell::alerting::{Alerting, Incoming, Silence};
use nightbell::model::{Alert, Labels, METRIC_NAME, Sample, Timestamp};
use nightbell::notify::{Notification, NotifiedAlert, Notifier, NotifyError, Reason};
use nightbell::promql::{EvalError, Expr};
use nightbell::rules::RuleGroup;
use nightbell::rules::backend::{Backend, Hits};
use nightbell::rules::error::RuleError;
use nightbell::rules::evaluate::group::Settings;
use nightbell::rules::file::parse_text;
use nightbell::rules::scheduler::Scheduler;
use nightbell::state::State;
use nightbell::telemetry::Telemetry;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::crash::Dice;
use super::{START, read_config};
use crate::servers::postgres::Postgres;

/// How long a run is.
const SECONDS: u64 = 400;
/// Every how many seconds rules are judged; samples of all but `c` change at the same instants.
const SLOT: u64 = 5;

/// Four ways to be notified: at once, after `for`, beyond the end, and urgently.
const RULES: &str = "groups:
- name: one
  interval: 5s
  rules:
  - {alert: A, expr: a, annotations: {summary: '{{ $labels.i }} is at {{ $value }}'}}
  - {alert: P, expr: p, for: 10s, labels: {severity: warning}, annotations: {summary: '{{ $value }}'}}
- name: two
  interval: 5s
  rules:
  - {alert: K, expr: k, keep_firing_for: 15s}
- name: three
  interval: 5s
  rules:
  - {alert: C, expr: c, labels: {severity: critical}}
";

const CONFIG: &str = "
global: {resolve_timeout: 1h}
flapping: {firings: 6, within: 1m, stable_for: 20s}
route:
  receiver: ops
  group_by: [alertname]
  group_wait: 3s
  group_interval: 10s
  repeat_interval: 45s
  routes:
  - {receiver: oncall, matchers: [severity=critical], group_by: ['...'], group_wait: 0s, group_interval: 7s, continue: true}
  - {receiver: calm, matchers: [severity=warning], group_by: [], mute_time_intervals: [meeting], continue: true}
  - {receiver: ends, matchers: ['i=\"1\"'], continue: true}
  - {receiver: ops}
inhibit_rules: [{source_matchers: [alertname=C], target_matchers: [alertname=A], equal: [i]}]
time_intervals:
- {name: meeting, time_intervals: [{times: [{start_time: '00:02', end_time: '00:03'}]}]}
receivers:
- {name: ops, webhook_configs: [{url: 'http://127.0.0.1:9/'}, {url: 'http://127.0.0.1:9/', send_resolved: false}]}
- {name: oncall, webhook_configs: [{url: 'http://127.0.0.1:9/'}], escalation: [{after: 8s, receiver: deputy}]}
- {name: calm, webhook_configs: [{url: 'http://127.0.0.1:9/'}], quiet_hours: [{times: [{start_time: '00:04', end_time: '00:05'}]}]}
- {name: ends, webhook_configs: [{url: 'http://127.0.0.1:9/'}]}
- {name: deputy, webhook_configs: [{url: 'http://127.0.0.1:9/'}]}
";

fn at(second: u64) -> Timestamp {
    START + Duration::from_secs(second)
}

/// The samples, the same in every run: by series, the value at each second.
struct Samples(
    BTreeMap<(&'static str, u64), Vec<Option<f64>>>,
    BTreeSet<(&'static str, u64)>,
);

impl Samples {
    /// Series that come and go for some slots, with a value that changes; some queries fail.
    fn new(dice: &mut Dice) -> Self {
        let (mut series, mut broken) = (BTreeMap::new(), BTreeSet::new());
        for (name, grain) in [("a", SLOT), ("p", SLOT), ("k", SLOT), ("c", 1)] {
            for instance in 0..3 {
                let mut values = Vec::new();
                let mut fires = false;
                while values.len() < SECONDS as usize + 1 {
                    let value = (fires && dice.roll(9) > 0).then(|| dice.roll(5) as f64);
                    values.extend(std::iter::repeat_n(
                        value,
                        (grain * (1 + dice.roll(3))) as usize,
                    ));
                    fires = if dice.roll(5) == 0 { !fires } else { fires };
                }
                series.insert((name, instance), values);
            }
            broken.extend(
                (0..SECONDS / grain)
                    .filter(|_| dice.roll(30) == 0)
                    .map(|slot| (name, slot * grain)),
            );
        }
        Samples(series, broken)
    }
}

impl Backend for Samples {
    fn query(&self, expr: &Expr, at: Timestamp) -> Hits {
        let Expr::VectorSelector(selector) = expr else {
            return Err(RuleError::NotAVector);
        };
        let second = at.since(START).as_secs();
        if self.1.iter().any(|(name, broken)| {
            *name == selector.name && (*broken..broken + SLOT).contains(&second) && *name != "c"
        }) {
            return Err(EvalError::Execution("the query failed".into()).into());
        }
        let of = self
            .0
            .iter()
            .filter(|((name, _), _)| *name == selector.name);
        let hit = |((name, i), values): (&(&str, u64), &Vec<Option<f64>>)| {
            let value = (*values.get(second as usize)?)?;
            Some(
                (
                    Labels::from_pairs([(METRIC_NAME, *name), ("i", i.to_string().as_str())]),
                    value,
                )
                    .into(),
            )
        };
        Ok(of.filter_map(hit).collect())
    }

    fn query_text(&self, _: &str, _: Timestamp) -> Hits {
        Err(RuleError::NotAVector)
    }

    fn append(&self, _: Timestamp, _: &[Sample]) {}
}

/// What a place does with the next message, beside taking it.
#[derive(Clone, Copy, PartialEq)]
enum Manner {
    /// Accepts.
    Well,
    /// Answers 503.
    Away,
    /// The process dies before the place has the message.
    DiesBefore,
    /// The process dies after that, before it knows.
    DiesAfter,
}

/// One message as people see it: when it came, where, and all that stands in it.
type Notified = (u64, String, String, String);

/// Every place; it outlives the processes.
struct Place {
    name: String,
    manner: Mutex<Manner>,
    second: Mutex<u64>,
    notified: Mutex<Vec<Notified>>,
    tried: tokio::sync::Notify,
}

impl Notifier for Place {
    fn notify<'a>(&'a self, message: &'a Notification) -> BoxFuture<'a, Result<(), NotifyError>> {
        Box::pin(async move {
            let manner = *self.manner.lock();
            if manner == Manner::Away {
                return Err(NotifyError::retryable(Reason::ServerError, "503"));
            }
            if manner != Manner::DiesBefore {
                // Values and texts are those of the last report, and rules report anew at a start.
                let life = |a: &NotifiedAlert| {
                    (
                        a.starts_at_ms - START.0,
                        a.ends_at_ms.map(|end| end - START.0),
                    )
                };
                let alerts = message
                    .alerts
                    .iter()
                    .map(|a| format!("{:?} {} {:?}", a.status, a.label("i"), life(a)));
                let text = alerts.collect::<Vec<_>>().join("; ");
                let what = format!(
                    "{} {} {}: {text}",
                    message.at_ms - START.0,
                    message.group_key,
                    message.reason
                );
                self.notified.lock().push((
                    *self.second.lock(),
                    self.name.clone(),
                    message.delivery_id.clone(),
                    what,
                ));
            }
            if manner != Manner::Well {
                self.tried.notify_one();
                std::future::pending::<()>().await;
            }
            Ok(())
        })
    }
}

/// Where the state lives between processes.
#[derive(Clone)]
enum Disk {
    File(PathBuf),
    Server(String),
}

impl Disk {
    async fn open(&self) -> State {
        match self {
            Disk::File(path) => State::open(path)
                .await
                .expect("the state file opens after any death"),
            Disk::Server(dsn) => State::connect(dsn)
                .await
                .expect("the database takes the next process"),
        }
    }
}

struct Process {
    state: State,
    scheduler: Arc<Scheduler>,
    alerts: mpsc::Receiver<Vec<Alert>>,
    dispatch: Dispatch,
    deliverers: Vec<Deliverer>,
}

struct World {
    disk: Disk,
    config: Arc<Alerting>,
    groups: Vec<RuleGroup>,
    samples: Arc<Samples>,
    places: Vec<Arc<Place>>,
    process: Process,
    deaths: u64,
}

impl World {
    async fn new(disk: Disk, samples: Arc<Samples>) -> Self {
        let mut config = read_config(CONFIG).unwrap_or_else(|e| panic!("{e}"));
        let mut places = Vec::new();
        for integration in config
            .receivers
            .iter_mut()
            .flat_map(|r| &mut r.integrations)
        {
            let place = Arc::new(Place {
                name: integration.key.clone(),
                manner: Mutex::new(Manner::Well),
                second: Mutex::new(0),
                notified: Mutex::default(),
                tried: tokio::sync::Notify::new(),
            });
            integration.notifier = place.clone();
            places.push(place);
        }
        let groups = parse_text("rules.yml", RULES)
            .unwrap_or_else(|e| panic!("{e}"))
            .groups;
        let config = Arc::new(config);
        let process = Self::boot(&disk, &config, &groups, &samples, START).await;
        World {
            disk,
            config,
            groups,
            samples,
            places,
            process,
            deaths: 0,
        }
    }

    /// As the program starts: memory back, whatever is due, then the rules and their first
    /// judgement.
    async fn boot(
        disk: &Disk,
        config: &Arc<Alerting>,
        groups: &[RuleGroup],
        samples: &Arc<Samples>,
        now: Timestamp,
    ) -> Process {
        let state = disk.open().await;
        let mut dispatch =
            Dispatch::restore(config.clone(), state.clone(), Metrics::default(), now).await;
        dispatch.flush(now).await;
        let (sender, alerts) = mpsc::channel(1);
        let scheduler = Arc::new(Scheduler::new(
            samples.clone(),
            state.clone(),
            sender,
            &Telemetry::new(),
        ));
        let settings = Settings {
            resend_delay: Duration::from_secs(20),
            ..Settings::default()
        };
        scheduler
            .reload(groups.to_vec(), settings, now)
            .await
            .expect("reload");
        let deliverers = dispatch.deliverers();
        let mut process = Process {
            state,
            scheduler: scheduler.clone(),
            alerts,
            dispatch,
            deliverers,
        };
        let first = async move {
            scheduler.restore(now).await.expect("restore");
            scheduler.evaluate_all(now).await.expect("evaluate");
        };
        process.judged(first, now, None).await;
        process.dispatch.flush(now).await;
        process
    }

    /// The process is no more; the next one goes on from the database.
    async fn reborn(&mut self, now: Timestamp) {
        self.deaths += 1;
        self.process = Self::boot(&self.disk, &self.config, &self.groups, &self.samples, now).await;
    }

    /// One second of a process's life, perhaps its last one.
    async fn live(&mut self, second: u64, mut fate: impl FnMut(u64) -> u64) {
        let now = at(second);
        // What is due goes first, as at a start.
        self.process.dispatch.flush(now).await;
        let death = fate(20);
        if death == 0 {
            self.process.state.close().await;
            self.reborn(now).await;
        }
        if death == 1 {
            self.reborn(now).await;
        }
        self.people(second).await;
        let scheduler = self.process.scheduler.clone();
        let evaluation = async move {
            scheduler.arrived(now).await.expect("judged");
            scheduler.tick(now).await.expect("judged");
        };
        let last = (death == 2).then(|| fate(3));
        if self.process.judged(evaluation, now, last).await {
            self.reborn(now).await;
        }
        if death == 3 {
            self.reborn(now).await;
        }
        self.process.dispatch.flush(now).await;
        if death == 4 {
            self.reborn(now).await;
        }
        let dying = (death == 5).then(|| {
            if fate(2) == 0 {
                Manner::DiesBefore
            } else {
                Manner::DiesAfter
            }
        });
        self.deliver(second, dying).await;
    }

    /// What people and other programs ask for, the same in every run.
    async fn people(&mut self, second: u64) {
        let (now, dispatch) = (at(second), &mut self.process.dispatch);
        if second % 60 == 20 {
            let silence = Silence {
                id: String::new(),
                matchers: nightbell::alerting::config::matchers::parse_matchers(
                    ["alertname=A,i=0", "alertname=C", "i=1"][second as usize / 60 % 3],
                )
                .expect("matchers"),
                starts_at: now + Duration::from_secs(7),
                ends_at: now + Duration::from_secs(31),
                updated_at: now,
                created_by: "li".into(),
                comment: "work".into(),
                annotations: Vec::new(),
            };
            dispatch.set_silence(silence, now).await.expect("silenced");
        }
        if second % 50 == 33 {
            let labels = [("alertname", "C"), ("i", "2"), ("severity", "critical")];
            dispatch
                .acknowledge(&[Labels::from_pairs(labels).fingerprint()], "li", now)
                .await;
        }
        // Another Prometheus tells of an alert again and again, then of its end.
        if second % 20 == 7 && second % 200 < 120 {
            let over = second % 200 >= 100;
            let labels = [("alertname", "Outside"), ("i", "1")]
                .map(|(n, v)| (n.to_owned(), v.to_owned()))
                .to_vec();
            let posted = PostedAlert {
                labels,
                starts_at: Some(at(second - second % 200)),
                ends_at: over.then_some(now),
                ..PostedAlert::default()
            };
            let incoming: Incoming = posted
                .accept(now, self.config.resolve_timeout)
                .expect("accepted");
            dispatch.put(vec![incoming], now).await;
        }
    }

    async fn deliver(&mut self, second: u64, mut dying: Option<Manner>) {
        for index in 0..self.places.len() {
            let place = self.places[index].clone();
            // Each is away for a while, at another time.
            let away = second % 90 > 70 && (second / 90) as usize % self.places.len() == index;
            *place.second.lock() = second;
            *place.manner.lock() = if away {
                Manner::Away
            } else {
                dying.unwrap_or(Manner::Well)
            };
            loop {
                let died = {
                    let mut step = pin!(self.process.deliverers[index].step(at(second)));
                    tokio::select! {
                        step = &mut step => if step == Step::Done { continue } else { break },
                        () = place.tried.notified() => true,
                    }
                };
                assert!(died);
                dying = None;
                *place.manner.lock() = Manner::Well;
                self.reborn(at(second)).await;
            }
        }
    }

    async fn run(mut self, mut fate: impl FnMut(u64) -> u64) -> (BTreeSet<Notified>, usize, u64) {
        for second in 1..SECONDS {
            self.live(second, &mut fate).await;
        }
        let notified: Vec<Notified> = self
            .places
            .iter()
            .flat_map(|place| place.notified.lock().clone())
            .collect();
        let count = notified.len();
        (notified.into_iter().collect(), count, self.deaths)
    }
}

impl Process {
    /// Takes in what an evaluation hands on; `last`: the process dies when it has the alerts of
    /// that number and has not put them. Tells whether it died.
    async fn judged(
        &mut self,
        evaluation: impl Future<Output = ()> + Send + 'static,
        now: Timestamp,
        last: Option<u64>,
    ) -> bool {
        let mut evaluation = tokio::spawn(evaluation);
        let (mut number, mut over) = (0, false);
        loop {
            let batch = if over {
                let Ok(batch) = self.alerts.try_recv() else {
                    return false;
                };
                batch
            } else {
                tokio::select! {
                    batch = self.alerts.recv() => batch.expect("the scheduler lives"),
                    ended = &mut evaluation => {
                        ended.expect("judged");
                        over = true;
                        continue;
                    }
                }
            };
            if last == Some(number) {
                evaluation.abort();
                return true;
            }
            number += 1;
            self.dispatch
                .put(batch.into_iter().map(Incoming::from).collect(), now)
                .await;
        }
    }
}

async fn compared(seed: u64, disk: Disk) {
    let samples = Arc::new(Samples::new(&mut Dice(seed)));
    let folder = tempfile::tempdir().expect("a folder");
    let whole = Disk::File(folder.path().join("whole.db"));
    let (wanted, count, _) = World::new(whole, samples.clone())
        .await
        .run(|_| u64::MAX)
        .await;
    assert!(count > 100, "seed {seed}: only {count} messages");
    assert_eq!(
        wanted.len(),
        count,
        "seed {seed}: without a death nothing is notified twice"
    );
    let mut dice = Dice(seed ^ 0xdead);
    let (got, count, deaths) = World::new(disk, samples)
        .await
        .run(|sides| dice.roll(sides))
        .await;
    let show = |notified: Vec<&Notified>| {
        notified
            .iter()
            .take(6)
            .map(|t| format!("{t:?}"))
            .collect::<Vec<_>>()
            .join("\n  ")
    };
    let (missing, extra) = (
        wanted.difference(&got).collect::<Vec<_>>(),
        got.difference(&wanted).collect::<Vec<_>>(),
    );
    assert!(
        missing.is_empty() && extra.is_empty(),
        "seed {seed}\nmissing:\n  {}\nextra:\n  {}",
        show(missing),
        show(extra)
    );
    assert!(deaths > 50, "seed {seed}: only {deaths} deaths");
    let repeats = (count - got.len()) as u64;
    assert!(
        repeats > 0 && repeats <= deaths,
        "seed {seed}: {repeats} repeats for {deaths} deaths"
    );
}

/// SEMANTICS 125-128, 154 [choice]: pending, firing, keep-firing, group, repeat, silence,
/// escalation, quiet hours and outbox all go on where they were.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarts_at_any_instant_change_no_message() {
    let folder = tempfile::tempdir().expect("a folder");
    for seed in seeds() {
        compared(seed, Disk::File(folder.path().join(format!("{seed}.db")))).await;
    }
}

/// `NIGHTBELL_TEST_RESTARTS` runs more.
fn seeds() -> std::ops::Range<u64> {
    0..std::env::var("NIGHTBELL_TEST_RESTARTS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(3)
}

/// The same with the state in PostgreSQL.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarts_change_no_message_when_the_state_is_in_postgres() {
    let postgres = tokio::task::spawn_blocking(|| Postgres::start(&[]))
        .await
        .expect("PostgreSQL starts");
    compared(100, Disk::Server(postgres.dsn("postgres", "postgres"))).await;
}
