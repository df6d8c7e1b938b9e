//! Reading the configuration with everything it names, at start and while running. Everything new
//! is built and checked before anything running is touched; an invalid file changes nothing.

use std::sync::Arc;

use parking_lot::RwLock;
use prometheus_client::metrics::gauge::Gauge;
use tracing::{error, info};

use crate::config::{ConfigError, Environment};
use crate::model::Timestamp;
use crate::telemetry::Telemetry;
use crate::web::LastReload;

use super::config::Config;
use super::{Options, Parts};

/// What is known about the last reload.
#[derive(Clone, Default)]
pub struct ReloadMetrics {
    /// The same, for the API.
    pub(super) last: Arc<RwLock<LastReload>>,
    successful: Gauge,
    at: Gauge<f64, std::sync::atomic::AtomicU64>,
}

impl ReloadMetrics {
    /// Publishes them.
    pub fn register(telemetry: &Telemetry) -> Self {
        let metrics = ReloadMetrics::default();
        telemetry.register(|registry| {
            registry.register(
                "config_last_reload_successful",
                "Whether the last attempt to load the configuration succeeded.",
                metrics.successful.clone(),
            );
            registry.register(
                "config_last_reload_success_timestamp_seconds",
                "When the configuration was last loaded.",
                metrics.at.clone(),
            );
        });
        metrics
    }

    /// Notes that the configuration of this instant is in force.
    pub fn succeeded(&self, now: Timestamp) {
        *self.last.write() = LastReload {
            successful: true,
            at: now,
            tried_at: now,
        };
        self.successful.set(1);
        self.at.set(now.seconds());
    }

    /// Notes that a configuration was refused at this instant.
    pub fn failed(&self, now: Timestamp) {
        let mut last = self.last.write();
        (last.successful, last.tried_at) = (false, now);
        self.successful.set(0);
    }
}

impl Parts {
    /// Reads the configuration again and puts it in force.
    ///
    /// # Errors
    /// When it cannot be used; then nothing has changed.
    pub(super) async fn reload(&self) -> anyhow::Result<()> {
        let _one_at_a_time = self.reloading.lock().await;
        let options = self.options.clone();
        // Files may hang, and a large configuration takes its time.
        let loaded = tokio::task::spawn_blocking(move || {
            load_unless(&options, |mistake| !may_come_later(mistake))
        })
        .await;
        let mut config = match loaded.map_err(anyhow::Error::from).flatten() {
            Ok(config) => config,
            Err(refused) => {
                self.reloads.failed(Timestamp::now());
                error!(error = %refused, "The configuration was not reloaded; the old one runs on.");
                return Err(refused);
            }
        };
        config.log_warnings();
        config.reach_at(self.listen);
        self.apply(config.take_plan()).await?;
        let settings = config.rule_settings();
        // The loop of the rules ends with the same error, and the process with it.
        self.rules
            .reload(config.groups, settings, Timestamp::now())
            .await?;
        self.outside.replace(config.outside);
        *self.heartbeat.write() = config.heartbeat;
        self.peers.replace(config.peers, Timestamp::now());
        self.calendar.replace(config.tasks);
        *self.windows.write() = config.windows;
        *self.reports.write() = config.reports;
        *self.self_test.write() = config.self_test;
        self.alerting.reload(config.alerting).await;
        *self.config_text.write() = config.text;
        self.budget.set_limit(config.memory.bytes);
        *self.web.write() = config.web;
        self.reloads.succeeded(Timestamp::now());
        info!(settings = config.name, "The configuration was reloaded.");
        Ok(())
    }
}

/// The environment of this process and of the files that the flags name.
pub fn environment(options: &Options) -> anyhow::Result<Environment> {
    let mut environment = Environment::of_process();
    for file in &options.env_files {
        environment.add_file(file)?;
    }
    Ok(environment)
}

/// Reads a configuration with everything it names, without starting anything.
pub fn load(options: &Options) -> anyhow::Result<Config> {
    load_unless(options, |_| true)
}

/// As [`load`], for a start: with a mistake that can be borne, such as a template that cannot be
/// read, people are notified at least. A reload with one is refused, because what runs is better.
pub(super) fn load_for_start(options: &Options) -> anyhow::Result<Config> {
    load_unless(options, |mistake| !mistake.non_fatal)
}

/// Whether this is a file of credentials that is read when they are used: what needs them fails
/// until it is there, and the rest runs.
fn may_come_later(mistake: &ConfigError) -> bool {
    mistake.non_fatal && (mistake.key.ends_with("_file") || mistake.key.ends_with(".files"))
}

fn load_unless(options: &Options, refused: fn(&ConfigError) -> bool) -> anyhow::Result<Config> {
    let (mut config, mistakes) = Config::load(
        options.config.as_deref(),
        &environment(options)?,
        super::state_folder(options),
        options,
    )?;
    let groups = super::rules::load(&config, options.rules.as_deref());
    let (refused, borne): (Vec<ConfigError>, Vec<ConfigError>) =
        mistakes.0.into_iter().partition(refused);
    config
        .warnings
        .extend(borne.iter().map(ToString::to_string));
    let mut said: Vec<String> = refused.iter().map(ToString::to_string).collect();
    match groups {
        Ok(groups) => {
            config.groups = groups;
            config
                .warnings
                .extend(super::profiles::Profile::disagreements(
                    &config.shipped.profiles,
                ));
            config.warnings.extend(super::rules::without_input(&config));
        }
        Err(error) => said.push(error.to_string()),
    }
    anyhow::ensure!(said.is_empty(), said.join("\n"));
    Ok(config)
}

/// Reads and checks the configuration file alone: what stands in other files, or whether they
/// exist, does not count.
pub fn load_alone(options: &Options) -> anyhow::Result<Config> {
    let (config, mistakes) = Config::load(
        options.config.as_deref(),
        &environment(options)?,
        super::state_folder(options),
        options,
    )?;
    let about_others = |mistake: &ConfigError| {
        let key = mistake.key.as_str();
        let unread = key.ends_with("_file") && mistake.problem.contains("cannot be read");
        unread || key.starts_with("rule_files") || key.ends_with("rules.folder")
    };
    let own = mistakes
        .0
        .iter()
        .filter(|mistake| mistake.file == config.name && !about_others(mistake));
    let said: Vec<String> = own.map(ToString::to_string).collect();
    anyhow::ensure!(said.is_empty(), said.join("\n"));
    Ok(config)
}
