//! The rules that are in force, and the way from a judgement to those who are notified.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::alerting;
use crate::config::glob;
use crate::model::alert::evidence::Clue;
use crate::model::{Alert, HistogramSample, LabelSets, Sample, Timestamp};
use crate::promql::{self, Engine, Expr, Sharing, Value};
use crate::remote::alertmanager::{Known, Metrics, Sender};
use crate::rules::RuleGroup;
use crate::rules::backend::{Backend, Hits, RangeSeries, hits};
use crate::rules::error::RuleError;
use crate::rules::explain::feed;
use crate::rules::file::{parse_text, read};
use crate::rules::threshold::apply;
use crate::scrape::{RelabelRule, Scraper, apply_relabelling};
use crate::store::Store;

use super::config::{Config, ShippedConfig};
use super::outside::{OutsideAlertmanagers, OutsideGroup};
use super::profiles::Profile;
use super::shipped::{PROFILES, RULES, ShippedRules};

/// How long an alert fires elsewhere without being renewed: four times the resend delay, as
/// Prometheus has it.
const OUTSIDE_END: Duration = Duration::from_secs(240);
/// Batches of alerts between the evaluation and the dispatcher.
const QUEUE: usize = 16;

/// The engine over the store, as the rules see it.
pub struct Judge {
    /// Evaluates.
    pub engine: Engine,
    /// Holds the samples.
    pub store: Arc<Store>,
}

impl Judge {
    fn value(&self, engine: &Engine, expr: &Expr, at: Timestamp) -> Hits {
        hits(engine.instant(&self.store, expr, at)?.value)
    }
}

impl Backend for Judge {
    fn query(&self, expr: &Expr, at: Timestamp) -> Hits {
        self.value(&self.engine, expr, at)
    }

    fn query_sharing(&self, expr: &Expr, at: Timestamp, sharing: Sharing) -> Hits {
        self.value(
            &Engine {
                sharing: Some(sharing),
                ..self.engine.clone()
            },
            expr,
            at,
        )
    }

    fn series(&self, expr: &Expr, at: Timestamp) -> Result<LabelSets, RuleError> {
        Ok(self.engine.series(&self.store, expr, at)?)
    }

    fn query_text(&self, text: &str, at: Timestamp) -> Hits {
        self.query(&promql::parse(text)?, at)
    }

    fn range(
        &self,
        expr: &Expr,
        from: Timestamp,
        to: Timestamp,
        step: Duration,
    ) -> Result<Vec<RangeSeries>, RuleError> {
        let evaluated = self.engine.range(&self.store, expr, from, to, step)?;
        match evaluated.value {
            Value::Matrix(series) => Ok(series.into_iter().map(|s| (s.labels, s.points)).collect()),
            _ => Ok(Vec::new()),
        }
    }

    fn append(&self, at: Timestamp, samples: &[Sample]) {
        // The store counts what it refuses.
        self.store.append(at, samples);
    }

    fn append_histograms(&self, at: Timestamp, samples: &[HistogramSample]) {
        self.store.append_histograms(at, samples);
    }
}

/// Reads every rule file that the configuration, the flag or the binary names; the error lists all
/// mistakes of all files.
pub fn load(config: &Config, folder: Option<&Path>) -> anyhow::Result<Vec<RuleGroup>> {
    let (mut groups, mut mistakes) = (Vec::new(), Vec::new());
    let mut take = |result: Result<
        crate::rules::file::RuleFile,
        crate::rules::file::RuleFileErrors,
    >| match result {
        Ok(file) => groups.extend(file.groups),
        Err(errors) => mistakes.push(errors.to_string()),
    };
    let ShippedConfig {
        shipped,
        folder: configured,
        profiles,
        ..
    } = &config.shipped;
    match folder.or(configured.as_deref()) {
        Some(folder) => {
            for path in glob(&folder.join("*.yml"))?
                .into_iter()
                .filter(|path| path.is_file())
            {
                take(read(&path));
            }
        }
        None if *shipped => RULES
            .iter()
            .for_each(|rules| take(built_in(rules, "built-in rules/"))),
        None => {}
    }
    PROFILES
        .iter()
        .filter(|p| profiles.iter().any(|name| name == p.name))
        .for_each(|profile| take(built_in(profile, feed::PROFILES)));
    let mut thresholds = Vec::new();
    for profile in profiles.iter().filter_map(|name| Profile::named(name)) {
        let profile = profile?;
        profile.want(&mut groups);
        thresholds.push(profile.thresholds);
    }
    thresholds.push(config.shipped.thresholds.clone());
    mistakes.extend(
        apply(&mut groups, &thresholds)
            .iter()
            .map(ToString::to_string),
    );
    for path in &config.rule_files {
        match read(path) {
            Ok(file) => groups.extend(file.groups),
            Err(errors) => mistakes.push(errors.to_string()),
        }
    }
    if mistakes.is_empty() {
        Ok(groups)
    } else {
        Err(anyhow::anyhow!(mistakes.join("\n")))
    }
}

fn built_in(
    rules: &ShippedRules,
    folder: &str,
) -> Result<crate::rules::file::RuleFile, crate::rules::file::RuleFileErrors> {
    let mut file = parse_text(&format!("{folder}{}.yml", rules.name), rules.text)?;
    file.groups
        .iter_mut()
        .for_each(|group| group.shipped = true);
    Ok(file)
}

/// The rules that somebody has switched on and that nothing in this configuration can feed, for
/// people.
pub fn without_input(config: &Config) -> Vec<String> {
    // What is scraped, pushed or sent, and what a textfile holds, is not known before it comes.
    let is_open = !config.jobs.is_empty()
        || ["textfile_directory", "pushgateway", "otlp"]
            .iter()
            .any(|key| config.text.contains(key));
    let kinds: Vec<&str> = config
        .collectors
        .iter()
        .map(|collector| collector.kind)
        .collect();
    let chosen: Vec<String> = config
        .collectors
        .iter()
        .flat_map(|collector| collector.collector.chosen())
        .collect();
    feed::without_input(&config.groups, &kinds, &chosen, is_open)
}

/// Alertmanagers elsewhere, as the configuration in force names them.
pub struct Outside {
    current: RwLock<Servers>,
    metrics: Metrics,
    known: Arc<RwLock<Known>>,
    /// Where the sending runs.
    runtime: Handle,
}

struct Servers {
    /// Each with the relabelling of its own.
    groups: Vec<(Vec<RelabelRule>, Sender)>,
    relabel: Vec<RelabelRule>,
}

impl Servers {
    fn start(config: OutsideAlertmanagers, metrics: &Metrics, runtime: &Handle) -> Self {
        let _there = runtime.enter();
        let start = |group: OutsideGroup| {
            (
                group.relabel,
                Sender::start(group.endpoints, metrics.clone()),
            )
        };
        Servers {
            groups: config.groups.into_iter().map(start).collect(),
            relabel: config.relabel,
        }
    }
}

impl Outside {
    /// Starts sending to these servers.
    pub fn start(config: OutsideAlertmanagers, metrics: Metrics, runtime: Handle) -> Arc<Self> {
        let known = Arc::new(RwLock::new(config.known.clone()));
        let current = RwLock::new(Servers::start(config, &metrics, &runtime));
        Arc::new(Outside {
            current,
            metrics,
            known,
            runtime,
        })
    }

    /// Sends to these servers from now on; what was queued for the old ones is still sent.
    pub fn replace(&self, config: OutsideAlertmanagers) {
        *self.known.write() = config.known.clone();
        *self.current.write() = Servers::start(config, &self.metrics, &self.runtime);
    }

    /// The servers, for people; a reload changes them.
    pub fn known(&self) -> Arc<RwLock<Known>> {
        self.known.clone()
    }

    /// A firing alert gets an end, so that it resolves elsewhere should we fall silent
    /// (SEMANTICS 122).
    fn send(&self, alerts: &[Alert], now: Timestamp) {
        let servers = self.current.read();
        let outgoing = |alert: &Alert| {
            let mut labels = alert.labels.to_builder();
            let kept = apply_relabelling(&servers.relabel, &mut labels);
            kept.then(|| Alert {
                labels: labels.build(),
                ends_at: alert.ends_at.or(Some(now + OUTSIDE_END)),
                ..alert.clone()
            })
        };
        let alerts: Vec<Alert> = alerts.iter().filter_map(outgoing).collect();
        for (rules, sender) in &servers.groups {
            let relabelled = |alert: &Alert| {
                let mut labels = alert.labels.to_builder();
                apply_relabelling(rules, &mut labels).then(|| Alert {
                    labels: labels.build(),
                    ..alert.clone()
                })
            };
            match rules.is_empty() {
                true => sender.send(&alerts),
                false => sender.send(&alerts.iter().filter_map(relabelled).collect::<Vec<_>>()),
            }
        }
    }
}

/// The queue into [`hand_on`].
pub fn queue() -> (mpsc::Sender<Vec<Alert>>, mpsc::Receiver<Vec<Alert>>) {
    mpsc::channel(QUEUE)
}

/// Lines of a target's log that an alert brings at most.
const MAX_LINES: usize = 5;

/// Adds what the alert's target has to say about it, where it has just begun to fire: only then has
/// it evidence.
fn add_lines(alert: &mut Alert, scraper: &Scraper) {
    let parts: Vec<&str> = alert.evidence.iter().filter_map(Clue::expression).collect();
    if alert.ends_at.is_some() || parts.is_empty() {
        return;
    }
    let notes = scraper.notes(&alert.labels);
    let about = notes
        .into_iter()
        .filter(|note| note.is_about(&alert.labels, parts.iter().copied()));
    let lines: Vec<String> = about
        .flat_map(|note| note.lines.into_iter().rev())
        .take(MAX_LINES)
        .collect();
    if !lines.is_empty() {
        alert.evidence.push(Clue::Lines {
            lines: lines.into_iter().rev().collect(),
        });
    }
}

/// Hands what the rules found to the dispatcher and to Alertmanagers elsewhere, until the rules
/// end.
pub async fn hand_on(
    mut alerts: mpsc::Receiver<Vec<Alert>>,
    scraper: Arc<Scraper>,
    alerting: alerting::Handle,
    outside: Arc<Outside>,
) -> Result<(), Infallible> {
    while let Some(mut batch) = alerts.recv().await {
        batch
            .iter_mut()
            .for_each(|alert| add_lines(alert, &scraper));
        outside.send(&batch, Timestamp::now());
        alerting.put(batch).await;
    }
    Ok(())
}
