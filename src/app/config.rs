//! The root of the configuration: it only lists the sections, each read by the module that it
//! configures.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tracing::warn;

use crate::alerting::Alerting;
use crate::alerting::mute::flapping::FlappingKeys;
use crate::alerting::self_test::SelfTest;
use crate::collectors::StateFolder;
use crate::config::{
    AskedKey, ConfigError, ConfigErrors, Document, Environment, FromNode, Loader, Node, Section,
    Value, glob,
};
use crate::maintenance::Task;
use crate::remote::heartbeat::Heartbeat;
use crate::remote::peer::Peers;
use crate::rules::RuleGroup;
use crate::rules::evaluate::group::Settings;
use crate::rules::threshold::Thresholds;
use crate::scrape::{self, CollectorTarget, Global, Job, Plan};
use crate::store::{SeriesLimits, StorageConfig};
use crate::web::probe::ProbeConfig;
use crate::web::{MemoryLimit, WebConfig};

use super::environment::{EnvironmentTargets, discover};
use super::outside::{OutsideAlertmanagers, read_alerting};
use super::schedules::reports::Scheduled;
use super::schedules::windows::Recurring;

/// Keys of a prometheus.yml that nightbell takes and does not act on; each is named in a warning.
const WITHOUT_EFFECT: [&str; 5] = ["remote_write", "remote_read", "tracing", "otlp", "runtime"];

/// How long after a slot its rules are evaluated: by then the collections of that slot have ended,
/// unless a target is slow.
const PHASE: Duration = Duration::from_millis(250);
/// Where links lead when `web.external_url` is not set.
const EXTERNAL_URL: &str = "http://127.0.0.1:9908";

/// The configuration when there is no file: this host, and what the environment names.
const BUILT_IN: &str = "watch_environment: true\ncollectors:\n  host: {}\n";

/// Everything that a configuration file says.
pub struct Config {
    /// The file's name for people, `built-in settings` without one.
    pub name: String,
    /// The file as others may see it: secrets replaced, `${NAME}` as written.
    pub text: String,
    /// `global`.
    pub global: Global,
    /// `scrape_configs`.
    pub jobs: Vec<Job>,
    /// `collectors`, and the targets that the environment names.
    pub collectors: Vec<CollectorTarget>,
    /// `rule_files`, in file order, patterns resolved.
    pub rule_files: Vec<PathBuf>,
    /// The rules of all files, read and checked; filled by [`super::load`].
    pub groups: Vec<RuleGroup>,
    /// `rules`: which of the shipped rules are loaded.
    pub shipped: ShippedConfig,
    /// `route`, `receivers` and their kin; or `alertmanager`; or `notify`.
    pub alerting: Alerting,
    /// `alerting`: Alertmanagers elsewhere.
    pub outside: OutsideAlertmanagers,
    /// `heartbeat`: the sign of life to the outside.
    pub heartbeat: Option<Heartbeat>,
    /// `peers`: instances that watch each other.
    pub peers: Option<Peers>,
    /// `self_test`: the daily test of every receiver.
    pub self_test: Option<SelfTest>,
    /// `maintenance`: tasks by schedule.
    pub tasks: Vec<Task>,
    /// `reports`: reports on a schedule.
    pub reports: Vec<Scheduled>,
    /// `maintenance_windows`: planned windows that come again.
    pub windows: Vec<Recurring>,
    /// `state`.
    pub state: StateConfig,
    /// `storage`.
    pub storage: StorageConfig,
    /// `limits.memory`.
    pub memory: MemoryLimit,
    /// `limits.series` and `limits.series_per_target`.
    pub series: SeriesLimits,
    /// `web`.
    pub web: WebConfig,
    /// What the environment named.
    pub environment: EnvironmentTargets,
    /// What is accepted without effect, for a warning at start.
    pub warnings: Vec<String>,
    /// Rule files that are named and not there: Prometheus starts without them, and
    /// `promtool check config` refuses them. So do we.
    pub absent: ConfigErrors,
}

/// The block `rules`.
#[derive(Clone, Debug)]
pub struct ShippedConfig {
    /// Whether the built-in rules are loaded; true by default.
    pub shipped: bool,
    /// Whether causes among the alerts of the built-in rules mute their consequences; true by
    /// default.
    pub inhibit: bool,
    /// A folder of rule files instead of the built-in ones.
    pub folder: Option<PathBuf>,
    /// Applications whose figures hold in place of the standard ones.
    pub profiles: Vec<String>,
    /// Figures of one's own, in place of those.
    pub thresholds: Thresholds,
}

/// The block `state`.
#[derive(Clone, Debug, Default)]
pub struct StateConfig {
    /// A PostgreSQL URL instead of the SQLite file in the state folder.
    pub url: Option<crate::config::Secret>,
}

impl Config {
    /// Reads a file, or the built-in settings. The configuration may be used only when there are no
    /// mistakes beside it; with some, it serves to look for more of them in the files that it
    /// names. Collectors remember in the folder `state`, and take from the inbox what reaches the
    /// web.
    pub fn load(
        file: Option<&Path>,
        environment: &Environment,
        state: Option<PathBuf>,
        options: &super::Options,
    ) -> Result<(Self, ConfigErrors), ConfigErrors> {
        let document = match file {
            Some(path) => Document::read(path)?,
            None => Document::parse("built-in settings", BUILT_IN)?,
        };
        let folder = file
            .and_then(Path::parent)
            .filter(|p| !p.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        let document = with_environment(document, environment)?;
        let loader = Loader::new(&document, environment, folder);
        let config = {
            let root = loader.root();
            root.give(StateFolder(state));
            root.give(options.inbox.clone());
            root.give(options.otlp.clone());
            root.give(options.llm.clone());
            let config = Self::read(&root, environment);
            root.finish();
            config
        };
        Ok((config, loader.into_errors()))
    }

    /// The keys that reading `text` asks for, by their paths, and the mistakes in it: what the
    /// reference is made from.
    ///
    /// # Errors
    ///
    /// When the text is no YAML.
    pub fn asked_keys(
        file: &str,
        text: &str,
    ) -> Result<(BTreeMap<String, AskedKey>, ConfigErrors), ConfigErrors> {
        let document = Document::parse(file, text)?;
        let environment = Environment::default();
        let loader = Loader::new(&document, &environment, Path::new(".")).keeping_keys();
        {
            let root = loader.root();
            root.give(StateFolder(None));
            root.give(crate::collectors::job::Inbox::default());
            Self::read(&root, &environment);
            root.finish();
        }
        let keys = loader.asked_keys();
        Ok((keys, loader.into_errors()))
    }

    fn read(root: &Section<'_>, environment: &Environment) -> Self {
        let global_section = root.section("global");
        let global = Global::read(global_section.as_ref());
        let mut web = root
            .section("web")
            .map(|s| WebConfig::read(&s))
            .unwrap_or_default();
        web.probe = root.section("probe").map(|s| ProbeConfig::read(&s));
        let mut alerting = read_notification(root, global_section.as_ref(), environment);
        alerting.read_recovery(root, global_section.as_ref());
        alerting.posted_alerts = web.posted_alerts;
        alerting.is_public = web.external_url.is_some();
        alerting.external_url = web
            .external_url
            .clone()
            .unwrap_or_else(|| EXTERNAL_URL.to_owned());
        let limits = root.section("limits");
        let memory = limits.as_ref().map(MemoryLimit::read).unwrap_or_default();
        let series = limits.as_ref().map(SeriesLimits::read).unwrap_or_default();
        for section in [&global_section, &limits].into_iter().flatten() {
            section.finish();
        }
        let warnings = WITHOUT_EFFECT
            .iter()
            .filter(|key| root.node(key).is_some_and(|n| !n.is_null()))
            .map(|key| format!("{}: {key} has no effect in this version", root.file()))
            .collect();
        let shipped = root
            .section("rules")
            .map(|s| ShippedConfig::read(&s))
            .unwrap_or_default();
        if shipped.inhibit && (shipped.shipped || !shipped.profiles.is_empty()) {
            alerting
                .inhibit_rules
                .extend(super::shipped::inhibit_rules());
        }
        let self_test = root.section("self_test").and_then(|s| SelfTest::read(&s));
        if let Some(test) = &self_test {
            test.check(root, &alerting);
        }
        let named = root.or("watch_environment", false);
        let integrations = alerting
            .receivers
            .iter()
            .flat_map(|receiver| &receiver.integrations);
        let warnings: Vec<String> = Vec::into_iter(warnings)
            .chain(integrations.filter_map(|one| one.notifier.advice()))
            .collect();
        let (rule_files, absent) = rule_files(root);
        let reports = Scheduled::read_all(root, &alerting);
        let config = Config {
            name: root.file().to_owned(),
            text: String::new(),
            jobs: scrape::read_jobs(root, &global),
            collectors: scrape::read_collectors(root, &global),
            rule_files,
            groups: Vec::new(),
            shipped,
            alerting,
            outside: read_alerting(root),
            heartbeat: root.section("heartbeat").and_then(|s| Heartbeat::read(&s)),
            peers: root.section("peers").and_then(|s| Peers::read(&s)),
            self_test,
            tasks: Task::read_all(root),
            reports,
            windows: Recurring::read_all(root),
            state: root
                .section("state")
                .map(|s| StateConfig::read(&s))
                .unwrap_or_default(),
            storage: root
                .section("storage")
                .map(|s| StorageConfig::read(&s))
                .unwrap_or_default(),
            memory,
            series,
            web,
            environment: if named {
                discover(environment)
            } else {
                EnvironmentTargets::default()
            },
            warnings,
            absent,
            global,
        };
        // Last: by now it is known what is secret, and all that is noted.
        let warnings = [config.warnings, config.alerting.notes.clone(), root.notes()].concat();
        Config {
            text: root.redacted(),
            warnings,
            ..config
        }
    }

    /// Logs what is accepted without effect, and what is named and not there.
    pub fn log_warnings(&self) {
        if let Some(advice) = self.advice() {
            warn!(advice, "The configuration is used as it is.");
        }
        for warning in self
            .warnings
            .iter()
            .cloned()
            .chain(self.absent.0.iter().map(ToString::to_string))
        {
            warn!(
                warning,
                "The configuration is used, but a part of it has no effect."
            );
        }
    }

    /// What its author may not expect: where changes are refused because no token is set.
    pub fn advice(&self) -> Option<String> {
        let listens = self
            .web
            .listen
            .as_deref()
            .unwrap_or(super::LISTEN)
            .parse()
            .ok();
        crate::web::admin::needs_token(&self.web, listens)
    }

    /// Where people reach us, if the file does not say: at the address that is listened on, by the
    /// host's name where that is every one.
    pub fn reach_at(&mut self, address: SocketAddr) {
        if self.alerting.is_public {
            return;
        }
        let name = rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned();
        self.alerting.external_url = match address.ip().is_unspecified() && !name.is_empty() {
            true => format!("http://{name}:{}", address.port()),
            false => format!("http://{address}"),
        };
    }

    /// What shall be collected, our own registry included; leaves the configuration without it.
    pub fn take_plan(&mut self) -> Plan {
        let own = Some(("nightbell".to_owned(), self.global.collector_interval));
        Plan {
            collectors: std::mem::take(&mut self.collectors),
            jobs: std::mem::take(&mut self.jobs),
            own,
        }
    }

    /// How the rules are evaluated.
    pub fn rule_settings(&self) -> Settings {
        Settings {
            interval: self.evaluation_interval(),
            query_offset: self.global.rule_query_offset,
            phase: PHASE,
            external_labels: self.global.external_labels.clone(),
            external_url: self.alerting.external_url.clone(),
            evidence: true,
            ..Settings::default()
        }
    }

    /// Number of rules.
    pub fn rule_count(&self) -> usize {
        self.groups.iter().map(|g| g.rules.len()).sum()
    }

    /// The interval of rule groups that name none.
    pub fn evaluation_interval(&self) -> Duration {
        self.global
            .evaluation_interval
            .unwrap_or(self.global.collector_interval)
    }
}

impl Default for ShippedConfig {
    fn default() -> Self {
        ShippedConfig {
            shipped: true,
            inhibit: true,
            folder: None,
            profiles: Vec::new(),
            thresholds: Thresholds::default(),
        }
    }
}

impl ShippedConfig {
    fn read(section: &Section<'_>) -> Self {
        let config = ShippedConfig {
            shipped: section.or("shipped", true),
            inhibit: section.or("inhibit", true),
            folder: section.get("folder"),
            profiles: section.or("profiles", Vec::new()),
            thresholds: section
                .section("thresholds")
                .map(|s| Thresholds::read(&s))
                .unwrap_or_default(),
        };
        let known: Vec<&str> = super::shipped::PROFILE_SETTINGS
            .iter()
            .map(|p| p.name)
            .collect();
        for profile in config
            .profiles
            .iter()
            .filter(|p| !known.contains(&p.as_str()))
        {
            section.error(
                "profiles",
                format!("{profile:?} is not known"),
                format!("there is {}", known.join(", ")),
            );
        }
        if let Some(folder) = config.folder.as_ref().filter(|f| !f.is_dir()) {
            section.error(
                "folder",
                format!("{} is not a folder", folder.display()),
                "check the path",
            );
        }
        section.finish();
        config
    }
}

impl StateConfig {
    fn read(section: &Section<'_>) -> Self {
        let config = StateConfig {
            url: section.secret("url"),
        };
        if let Some(url) = &config.url
            && !url.expose().starts_with("postgres://")
            && !url.expose().starts_with("postgresql://")
        {
            section.error(
                "url",
                "is not a PostgreSQL URL",
                "give postgres://user:password@host/database, or leave it out for SQLite",
            );
        }
        section.finish();
        config
    }
}

/// `alertmanager: FILE`, or `route` and `receivers` here, or the short form `notify`, or nobody.
fn read_notification(
    root: &Section<'_>,
    global: Option<&Section<'_>>,
    environment: &Environment,
) -> Alerting {
    let file = root.get::<PathBuf>("alertmanager");
    let inline = root.node("route").is_some() || root.node("receivers").is_some();
    let short = root.section("notify");
    if usize::from(file.is_some()) + usize::from(inline) + usize::from(short.is_some()) > 1 {
        root.error(
            "",
            "says more than once who is notified",
            "keep one of alertmanager, route with receivers, notify",
        );
    }
    let mut alerting = match (file, short) {
        (Some(path), _) => {
            let (alerting, mistakes) = Alerting::read_file(&path, environment)
                .unwrap_or_else(|errors| (Alerting::nobody(), errors));
            mistakes
                .0
                .into_iter()
                .for_each(|mistake| root.include(mistake));
            alerting
        }
        _ if inline => return Alerting::read(root, global),
        (None, Some(section)) => Alerting::read_default(&section, global),
        (None, None) => Alerting::nobody(),
    };
    alerting.flapping = FlappingKeys::read(root, alerting.flapping);
    alerting
}

/// The paths that `rule_files` names, and a complaint about each path without a wildcard that does
/// not exist.
fn rule_files(root: &Section<'_>) -> (Vec<PathBuf>, ConfigErrors) {
    let (mut files, mut absent) = (Vec::new(), ConfigErrors::default());
    let Some(Node {
        value: Value::List(items),
        ..
    }) = root.node("rule_files")
    else {
        return (root.or("rule_files", files), absent);
    };
    for (index, node) in items.iter().enumerate() {
        let key = format!("rule_files[{index}]");
        let Some(pattern) = PathBuf::from_node(root, &key, node) else {
            continue;
        };
        match glob(&pattern) {
            Ok(found) => {
                let before = files.len();
                files.extend(found.into_iter().filter(|path| path.is_file()));
                if files.len() == before && !pattern.to_string_lossy().contains(['*', '?', '[']) {
                    absent.0.push(ConfigError {
                        file: root.file().to_owned(),
                        position: Some(node.position),
                        key,
                        problem: format!("{} does not exist", pattern.display()),
                        remedy: "check the path".into(),
                        non_fatal: false,
                    });
                }
            }
            Err(problem) => root.error_at(
                node.position,
                &key,
                problem.to_string(),
                "check the pattern".into(),
            ),
        }
    }
    (files, absent)
}

/// Adds the targets that the environment names to the file's `collectors`, when the file asks for
/// them.
fn with_environment(
    mut document: Document,
    environment: &Environment,
) -> Result<Document, ConfigError> {
    let asked = matches!(document.root.get("watch_environment").map(|n| &n.value), Some(Value::Scalar { text, .. }) if text == "true");
    let targets = discover(environment);
    if !asked || targets.yaml.is_empty() {
        return Ok(document);
    }
    let found = Document::parse("environment", &format!("collectors:\n{}", targets.yaml))?.root;
    let Some((_, Value::Map(kinds))) = found
        .get("collectors")
        .map(|n| (n.position, n.value.clone()))
    else {
        return Ok(document);
    };
    let empty = document.root.empty_at_same_position();
    if let Value::Map(entries) = &mut document.root.value {
        match entries.iter_mut().find(|(key, _, _)| key == "collectors") {
            Some((_, _, node)) => merge(node, kinds),
            None => {
                let node = Node {
                    value: Value::Map(kinds),
                    ..empty
                };
                entries.push(("collectors".into(), node.position, node));
            }
        }
    }
    Ok(document)
}

/// Adds collectors to a `collectors` mapping: a kind that is there already gets further targets.
fn merge(collectors: &mut Node, kinds: Vec<(String, crate::config::Position, Node)>) {
    if collectors.is_null() {
        collectors.value = Value::Map(Vec::new());
    }
    let Value::Map(entries) = &mut collectors.value else {
        return;
    };
    for (kind, position, node) in kinds {
        match entries.iter_mut().find(|(key, _, _)| *key == kind) {
            None => entries.push((kind, position, node)),
            Some((_, _, present)) => {
                let Value::List(more) = node.value else {
                    continue;
                };
                match &mut present.value {
                    Value::List(items) => items.extend(more),
                    _ => {
                        let one = std::mem::replace(&mut present.value, Value::List(Vec::new()));
                        let first = Node {
                            value: one,
                            ..present.empty_at_same_position()
                        };
                        present.value = Value::List(std::iter::once(first).chain(more).collect());
                    }
                }
            }
        }
    }
}
