//! Death at random instants: the process ends before, during and after each write and each
//! delivery, and goes on from its database.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nightbell::alerting::delivery::deliverer::Deliverer;
use nightbell::alerting::delivery::task::Step;
use nightbell::alerting::dispatch::Dispatch;
use nightbell::alerting::metrics::Metrics;
use nightbell::alerting::{Alerting, Incoming};
use nightbell::model::Timestamp;
use nightbell::notify::AlertStatus;
use nightbell::state::State;

use super::delivery::{Answer, Scripted, scripted};
use super::{START, alert, heard};

/// Numerical Recipes' generator: the same deaths in each run.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

struct Process {
    state: State,
    dispatch: Dispatch,
    deliverer: Deliverer,
}

struct World {
    path: PathBuf,
    config: Arc<Alerting>,
    receiver: Arc<Scripted>,
    process: Process,
    dice: Dice,
    deaths: usize,
}

impl World {
    async fn boot(path: &std::path::Path, config: Arc<Alerting>, now: Timestamp) -> Process {
        let state = State::open(path)
            .await
            .expect("the state file opens after any death");
        let mut dispatch = Dispatch::restore(config, state.clone(), Metrics::default(), now).await;
        // The loop begins with a flush.
        dispatch.flush(now).await;
        let deliverer = dispatch.deliverers().into_iter().next().expect("one");
        Process {
            state,
            dispatch,
            deliverer,
        }
    }

    async fn die(&mut self, now: Timestamp) {
        self.deaths += 1;
        self.process = Self::boot(&self.path, self.config.clone(), now).await;
    }

    /// The rule engine reports; perhaps the process dies while it writes.
    async fn report(&mut self, alerts: Vec<Incoming>, now: Timestamp, mortal: bool) -> bool {
        let patience = Duration::from_micros(self.dice.roll(3000));
        if mortal && self.dice.roll(8) == 0 {
            let finished = tokio::time::timeout(patience, self.process.dispatch.put(alerts, now))
                .await
                .is_ok();
            self.die(now).await;
            return finished;
        }
        self.process.dispatch.put(alerts, now).await;
        true
    }

    async fn flush(&mut self, now: Timestamp, mortal: bool) {
        let patience = Duration::from_micros(self.dice.roll(3000));
        if mortal && self.dice.roll(8) == 0 {
            let _ = tokio::time::timeout(patience, self.process.dispatch.flush(now)).await;
            self.die(now).await;
        } else {
            self.process.dispatch.flush(now).await;
        }
    }

    /// Delivers; perhaps the process dies after the receiver has taken the message and before the
    /// outbox knows.
    async fn deliver(&mut self, now: Timestamp, mortal: bool) {
        if mortal
            && self.dice.roll(4) == 0
            && !self.process.state.outbox(1).await.expect("read").is_empty()
        {
            self.receiver.script.lock().push_back(Answer::Hang);
            let receiver = self.receiver.clone();
            tokio::select! {
                step = self.process.deliverer.step(START) => panic!("the receiver hangs, yet the step ended with {step:?}"),
                () = async { while !receiver.script.lock().is_empty() { receiver.tried.notified().await } } => {}
            }
            self.die(now).await;
        } else if !mortal || self.dice.roll(3) > 0 {
            while self.process.deliverer.step(START).await == Step::Done {}
        }
    }
}

/// Nothing lost, at most one repeat for each death, each repeat with its delivery id.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_the_process_dies_at_any_instant() {
    let folder = tempfile::tempdir().expect("a folder");
    for seed in 0..4 {
        let path = folder.path().join(format!("{seed}.db"));
        let (config, receiver, _) = scripted();
        let config = Arc::new(config);
        let process = World::boot(&path, config.clone(), START).await;
        let mut world = World {
            path,
            config,
            receiver,
            process,
            dice: Dice(seed),
            deaths: 0,
        };
        // Twelve alerts in four groups, each 20 to 60 s long; ends are reported again and again, as
        // the rules do for 15 minutes.
        let lives: Vec<(u64, u64)> = (0..12)
            .map(|n| (n * 8, n * 8 + 20 + world.dice.roll(40)))
            .collect();
        let mut written: BTreeSet<String> = BTreeSet::new();
        for second in 0..240u64 {
            let (now, mortal) = (START + Duration::from_secs(second), second < 200);
            let living = lives
                .iter()
                .enumerate()
                .filter(|(_, (from, _))| *from <= second);
            let reports = living.map(|(n, (from, to))| {
                let instant = |s: u64| START + Duration::from_secs(s);
                let end = (second >= *to).then(|| instant(*to));
                (
                    n,
                    Incoming::from(alert(
                        &format!("alertname=G{} n={n}", n % 4),
                        instant(*from),
                        end,
                        now,
                    )),
                )
            });
            let (numbers, reports): (Vec<usize>, Vec<Incoming>) = reports.unzip();
            if world.report(reports, now, mortal).await {
                written.extend(numbers.iter().map(usize::to_string));
            }
            world.flush(now, mortal).await;
            world.deliver(now, mortal).await;
        }
        let notified = world.receiver.notified.lock().clone();
        assert_eq!(
            heard(&notified, AlertStatus::Firing),
            written,
            "seed {seed}: every alert was notified of"
        );
        assert_eq!(
            heard(&notified, AlertStatus::Resolved),
            written,
            "seed {seed}: and its end"
        );
        assert_eq!(written.len(), lives.len());
        let mut times: BTreeMap<&str, usize> = BTreeMap::new();
        for message in &notified {
            *times.entry(message.delivery_id.as_str()).or_default() += 1;
        }
        let repeats: usize = times.values().map(|n| n - 1).sum();
        assert!(
            world.deaths > 50,
            "seed {seed}: only {} deaths",
            world.deaths
        );
        assert!(
            repeats > 0 && repeats <= world.deaths,
            "seed {seed}: {repeats} repeats for {} deaths",
            world.deaths
        );
        for alert in &written {
            let firing_then_over = notified
                .iter()
                .rev()
                .flat_map(|m| &m.alerts)
                .find(|a| a.label("n") == alert)
                .map(|a| a.status);
            assert_eq!(
                firing_then_over,
                Some(AlertStatus::Resolved),
                "seed {seed}: the last word about alert {alert} is its end"
            );
        }
        assert_eq!(world.process.state.outbox(10).await.expect("read"), []);
    }
}
