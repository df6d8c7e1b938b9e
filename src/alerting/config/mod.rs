//! `route`, `receivers`, `inhibit_rules` and `time_intervals` as in `alertmanager.yml`
//! (<https://prometheus.io/docs/alerting/latest/configuration/>), inline in `nightbell.yml` or in a
//! file of their own.
//!
//! A receiver's `*_configs` keys are the rows of [`NOTIFIERS`]; another of Alertmanager's keys is
//! an error that says so.

pub mod document;
pub mod matchers;
pub mod policy;
pub mod route;
pub mod time_interval;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::delivery::renewing::Renewing;
use super::mute::flapping::{Flapping, FlappingKeys};
use super::mute::inhibit::InhibitRule;
use crate::config::{ConfigErrors, Document, Environment, FromNode, Loader, Section, Value, glob};
use crate::model::{Labels, MatchOp, Matcher};
use crate::notify::{Digest, NOTIFIERS, Notifier, NotifierKind};
use crate::template::Library;
use policy::Policy;
use route::{Route, Routes};
use time_interval::TimeInterval;

/// Keys of Alertmanager's `global` block. Notifiers read theirs; one that no configured notifier
/// reads is no mistake.
pub(super) const GLOBAL_KEYS: &[&str] = &[
    "http_config",
    "jira_api_url",
    "language",
    "mattermost_webhook_url",
    "mattermost_webhook_url_file",
    "opsgenie_api_key",
    "opsgenie_api_key_file",
    "opsgenie_api_url",
    "pagerduty_url",
    "resolve_timeout",
    "rocketchat_api_url",
    "rocketchat_token",
    "rocketchat_token_file",
    "rocketchat_token_id",
    "rocketchat_token_id_file",
    "slack_api_url",
    "slack_api_url_file",
    "slack_app_token",
    "slack_app_token_file",
    "slack_app_url",
    "smtp_auth_identity",
    "smtp_auth_password",
    "smtp_auth_password_file",
    "smtp_auth_secret",
    "smtp_auth_secret_file",
    "smtp_auth_username",
    "smtp_force_implicit_tls",
    "smtp_from",
    "smtp_hello",
    "smtp_require_tls",
    "smtp_smarthost",
    "smtp_tls_config",
    "telegram_api_url",
    "telegram_bot_token",
    "telegram_bot_token_file",
    "timezone",
    "victorops_api_key",
    "victorops_api_key_file",
    "victorops_api_url",
    "webex_api_url",
    "wechat_api_corp_id",
    "wechat_api_secret",
    "wechat_api_secret_file",
    "wechat_api_url",
];

/// Alertmanager's receiver keys, to distinguish "not supported yet" from a typo.
pub(super) const ALERTMANAGER_KINDS: &[&str] = &[
    "discord_configs",
    "email_configs",
    "incidentio_configs",
    "jira_configs",
    "mattermost_configs",
    "msteams_configs",
    "msteamsv2_configs",
    "opsgenie_configs",
    "pagerduty_configs",
    "pushover_configs",
    "rocketchat_configs",
    "slack_configs",
    "sns_configs",
    "telegram_configs",
    "victorops_configs",
    "webex_configs",
    "webhook_configs",
    "wechat_configs",
];

/// One notifier inside a receiver.
#[derive(Clone)]
pub struct Integration {
    /// `receiver/notifier/index`: names it in the notification log and the outbox.
    pub key: String,
    /// The receiver's name.
    pub receiver: String,
    /// The notifier's name.
    pub kind: &'static str,
    /// Whether resolved alerts are sent.
    pub send_resolved: bool,
    /// The receiver's own keys.
    pub policy: Arc<Policy>,
    /// The notifier.
    pub notifier: Arc<dyn Notifier>,
}

impl Integration {
    /// Whether it opens incidents at a service that keeps them open until it hears of the end.
    pub fn is_pager(&self) -> bool {
        self.send_resolved
            && self.notifier.action().is_none()
            && self.notifier.digest() == Digest::Never
    }
}

/// A name that routes send to.
#[derive(Clone)]
pub struct Receiver {
    /// Its name.
    pub name: String,
    /// Its labels, by which the API finds it; its name is one.
    pub labels: Labels,
    /// Its integrations; none means the alerts end here.
    pub integrations: Vec<Integration>,
}

impl Receiver {
    fn new(name: &str, labels: &Labels, integrations: Vec<Integration>) -> Self {
        Receiver {
            name: name.to_owned(),
            labels: labels.with("name", name),
            integrations,
        }
    }

    /// Who is notified next of a critical alert that nobody acknowledges.
    pub fn escalation(&self) -> &[super::follow_up::escalation::Step] {
        self.integrations
            .first()
            .map_or(&[], |i| &i.policy.escalation)
    }
}

/// Everything the alerting side is configured with.
#[derive(Clone)]
pub struct Alerting {
    /// What the author of its file may not expect, where that is one of its own.
    pub notes: Vec<String>,
    /// The routing tree.
    pub routes: Routes,
    /// The receivers, in file order.
    pub receivers: Vec<Receiver>,
    /// The inhibition rules.
    pub inhibit_rules: Vec<InhibitRule>,
    /// Time intervals by name.
    pub time_intervals: BTreeMap<String, Vec<TimeInterval>>,
    /// When an alert without an end is taken as over, unless it is renewed.
    pub resolve_timeout: Duration,
    /// When an alert flaps, unless its route says otherwise.
    pub flapping: FlappingKeys,
    /// How many alerts from outside are kept.
    pub posted_alerts: usize,
    /// Where people reach this nightbell.
    pub external_url: String,
    /// Whether they do, from elsewhere: somebody configured it.
    pub is_public: bool,
}

impl Alerting {
    /// Reads the blocks from `section`, which must have a `route`; `global` is Alertmanager's block
    /// of that name. Finishes neither.
    pub fn read(section: &Section<'_>, global: Option<&Section<'_>>) -> Self {
        let routes = match section.section("route") {
            Some(route) => Routes::read(&route),
            None => {
                section.error(
                    "",
                    "key \"route\" is missing",
                    "add route: with at least a receiver",
                );
                Routes::of(Route::root(String::new()), Vec::new())
            }
        };
        read_templates(section);
        let time_intervals = read_time_intervals(section);
        let alerting = Alerting {
            notes: Vec::new(),
            receivers: read_receivers(section, global, &time_intervals),
            inhibit_rules: section
                .sections("inhibit_rules")
                .iter()
                .map(InhibitRule::read)
                .collect(),
            time_intervals,
            resolve_timeout: resolve_timeout(global),
            flapping: FlappingKeys::read(section, FlappingKeys::default()),
            posted_alerts: super::memory::alerts::MAX_POSTED,
            external_url: String::new(),
            is_public: false,
            routes,
        };
        alerting.check_names(section);
        alerting
    }

    /// Reads an `alertmanager.yml`.
    /// It may be used when all mistakes beside it can be borne.
    pub fn read_file(
        path: &Path,
        environment: &Environment,
    ) -> Result<(Self, ConfigErrors), ConfigErrors> {
        Ok(Self::read_with_mistakes(
            &Document::read(path)?,
            path.parent().unwrap_or(Path::new(".")),
            environment,
        ))
    }

    /// Reads the document of an `alertmanager.yml` that lies in `folder`.
    pub(super) fn read_document(
        document: &Document,
        folder: &Path,
        environment: &Environment,
    ) -> Result<Self, ConfigErrors> {
        let (alerting, mistakes) = Self::read_with_mistakes(document, folder, environment);
        if mistakes.0.is_empty() {
            Ok(alerting)
        } else {
            Err(mistakes)
        }
    }

    pub(super) fn read_with_mistakes(
        document: &Document,
        folder: &Path,
        environment: &Environment,
    ) -> (Self, ConfigErrors) {
        // Its texts mean what they mean to Alertmanager.
        let environment = &environment.verbatim();
        let loader = Loader::new(document, environment, folder);
        let alerting = {
            let root = loader.root();
            let global = root.section("global");
            let mut alerting = Self::read(&root, global.as_ref());
            if let Some(global) = global {
                global.finish();
            }
            // Alertmanager's tracing and recording of itself: valid there, of no use here.
            root.node("tracing");
            root.node("event_recorder");
            root.finish();
            alerting.notes = root.notes();
            alerting
        };
        (alerting, loader.into_errors())
    }

    /// The routing when no `route` is written: `section` maps a notifier's name to its settings,
    /// one or a list of them. Critical goes everywhere, warning to all but e-mail, info to the
    /// webhook alone. The broadest one that is configured also takes what no other takes, and an
    /// alert without a known severity counts as critical: in doubt, notify. Unlike in
    /// `alertmanager.yml`, every kind is notified of the end unless `send_resolved` says no.
    /// Finishes the section.
    pub fn read_default(section: &Section<'_>, global: Option<&Section<'_>>) -> Self {
        let mut receivers: Vec<(u8, Receiver)> = Vec::new();
        for kind in NOTIFIERS {
            let settings = section.one_or_many(kind.name);
            if !settings.is_empty() {
                let integrations = settings.iter().enumerate().map(|(i, s)| {
                    let policy = Arc::new(Policy::read(s, &Intervals::new()));
                    read_integration((kind, i, true), (kind.name, policy), s, global)
                });
                let integrations = integrations.collect();
                receivers.push((
                    breadth(kind.name),
                    Receiver::new(kind.name, &Labels::empty(), integrations),
                ));
            }
        }
        receivers.sort_by_key(|(breadth, _)| *breadth);
        check_policies(section, "", receivers.iter().map(|(_, receiver)| receiver));
        for (_, receiver) in receivers
            .iter()
            .filter(|(_, r)| r.integrations.iter().any(|i| i.notifier.action().is_some()))
        {
            let remedy = "write receivers with command_configs, and a route with the matchers of its alerts that leads there";
            section.error(&receiver.name, "would act on every alert", remedy);
        }
        section.finish();
        let routes = default_routes(&receivers);
        let mut receivers: Vec<Receiver> = receivers
            .into_iter()
            .map(|(_, receiver)| receiver)
            .collect();
        if receivers.is_empty() {
            receivers.push(Receiver::new(NOBODY, &Labels::empty(), Vec::new()));
        }
        Alerting {
            notes: Vec::new(),
            routes,
            receivers,
            inhibit_rules: Vec::new(),
            time_intervals: BTreeMap::new(),
            resolve_timeout: resolve_timeout(global),
            flapping: FlappingKeys::default(),
            posted_alerts: super::memory::alerts::MAX_POSTED,
            external_url: String::new(),
            is_public: false,
        }
    }

    /// The routing of a nightbell that was notified of no receiver: alerts are kept and shown,
    /// nobody is notified.
    pub fn nobody() -> Self {
        Alerting {
            notes: Vec::new(),
            routes: default_routes(&[]),
            receivers: vec![Receiver::new(NOBODY, &Labels::empty(), Vec::new())],
            inhibit_rules: Vec::new(),
            time_intervals: BTreeMap::new(),
            resolve_timeout: RESOLVE_TIMEOUT,
            flapping: FlappingKeys::default(),
            posted_alerts: super::memory::alerts::MAX_POSTED,
            external_url: String::new(),
            is_public: false,
        }
    }

    /// Reads `recovery`, a list of actions with the matchers of the alerts that they are for. Each
    /// becomes a receiver and a route beside the tree, so that an `alertmanager.yml` stays as it
    /// is; what still fires when the cool-down is over is tried again, up to the limit.
    pub fn read_recovery(&mut self, root: &Section<'_>, global: Option<&Section<'_>>) {
        let Some(kind) = NOTIFIERS.iter().find(|kind| kind.key == "command_configs") else {
            return;
        };
        for section in root.sections("recovery") {
            let name: String = section.require("name");
            let matchers = self::route::read_matchers(&section, "match", "match_re", "matchers");
            if matchers.is_empty() {
                section.error(
                    "",
                    "would act on every alert",
                    "add matchers: [alertname=\"…\"]",
                );
            }
            if self.receiver(&name).is_some() {
                section.error(
                    "name",
                    format!("{name:?} is a receiver already"),
                    "give the action a name of its own",
                );
            }
            let repeat_interval: Option<Duration> = section.get("repeat_interval");
            let integration =
                read_integration((kind, 0, false), (&name, Arc::default()), &section, global);
            let cool_down = integration
                .notifier
                .action()
                .map_or(RESOLVE_TIMEOUT, |action| action.limits().cool_down);
            let mut route = Route::root(name.clone()).child(matchers);
            route.group_by = self::route::GroupBy::All;
            route.group_wait = Duration::ZERO;
            route.repeat_interval = repeat_interval
                .filter(|r| !r.is_zero())
                .unwrap_or(cool_down);
            route.group_interval = route.repeat_interval.min(Duration::from_secs(30));
            self.routes.add_beside(&name, route);
            self.receivers
                .push(Receiver::new(&name, &Labels::empty(), vec![integration]));
        }
    }

    /// When an alert with these labels flaps: the first route that takes it decides.
    pub fn flapping(&self, labels: &Labels) -> Flapping {
        let first = self
            .routes
            .matching(labels)
            .into_iter()
            .find_map(|index| self.routes.get(index));
        first
            .map_or_else(FlappingKeys::default, |route| route.flapping)
            .over(self.flapping)
    }

    /// The receiver of this name.
    pub fn receiver(&self, name: &str) -> Option<&Receiver> {
        self.receivers.iter().find(|r| r.name == name)
    }

    fn check_names(&self, section: &Section<'_>) {
        let receivers: BTreeSet<&str> = self.receivers.iter().map(|r| r.name.as_str()).collect();
        if receivers.len() < self.receivers.len() {
            section.error(
                "receivers",
                "two receivers have the same name",
                "give each its own",
            );
        }
        check_policies(section, "receivers", self.receivers.iter());
        let named: BTreeSet<&str> = self
            .routes
            .nodes()
            .iter()
            .map(|route| route.receiver.as_str())
            .filter(|name| !name.is_empty())
            .collect();
        for name in named.difference(&receivers) {
            let known: Vec<&str> = receivers.iter().copied().collect();
            let remedy = format!("define it under receivers; there is {}", known.join(", "));
            section.error("route", format!("receiver {name:?} is not defined"), remedy);
        }
        let intervals = self
            .routes
            .nodes()
            .iter()
            .flat_map(|r| r.mute_time_intervals.iter().chain(&r.active_time_intervals));
        for name in intervals.filter(|name| !self.time_intervals.contains_key(*name)) {
            section.error(
                "route",
                format!("time interval {name:?} is not defined"),
                "define it under time_intervals",
            );
        }
    }
}

const NOBODY: &str = "nobody";
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5 * 60);

fn resolve_timeout(global: Option<&Section<'_>>) -> Duration {
    let Some(global) = global else {
        return RESOLVE_TIMEOUT;
    };
    for key in GLOBAL_KEYS {
        global.node(key);
    }
    global.or("resolve_timeout", RESOLVE_TIMEOUT)
}

/// The order of the built-in routing: what takes more severities comes later.
fn breadth(notifier: &str) -> u8 {
    match notifier {
        "email" => 0,
        "webhook" => 2,
        _ => 1,
    }
}

fn default_routes(receivers: &[(u8, Receiver)]) -> Routes {
    let broadest = receivers
        .last()
        .map_or(NOBODY, |(_, receiver)| receiver.name.as_str());
    let mut root = Route::root(broadest.to_owned());
    root.group_by = self::route::GroupBy::Labels(BTreeSet::from(["alertname".to_owned()]));
    root.group_wait = Duration::from_secs(5);
    root.group_interval = Duration::from_secs(30);
    let others = receivers
        .iter()
        .filter(|(_, receiver)| receiver.name != broadest);
    let narrow = others.map(|(breadth, receiver)| {
        let spared = if *breadth == 0 {
            "warning|info|none"
        } else {
            "info|none"
        };
        // A constant pattern compiles; without it the route would take more, never less.
        let matchers = Matcher::new("severity", MatchOp::NotRegex, spared)
            .into_iter()
            .collect();
        Route {
            receiver: receiver.name.clone(),
            continues: true,
            ..root.child(matchers)
        }
    });
    let mut children: Vec<Route> = narrow.collect();
    if !children.is_empty() {
        children.push(root.child(Vec::new()));
    }
    Routes::of(root, children)
}

/// Reads the files of `templates` and gives their named templates to the receivers. Patterns are
/// relative to the file and may match nothing.
fn read_templates(section: &Section<'_>) {
    let patterns = match section.node("templates").map(|node| &node.value) {
        Some(Value::List(items)) => items.as_slice(),
        _ => {
            section.get::<Vec<PathBuf>>("templates");
            return;
        }
    };
    let mut library = Library::default();
    for (index, node) in patterns.iter().enumerate() {
        let key = format!("templates[{index}]");
        let Some(pattern) = PathBuf::from_node(section, &key, node) else {
            continue;
        };
        let found = glob(&pattern).unwrap_or_else(|problem| {
            section.error_at(
                node.position,
                &key,
                problem.to_string(),
                "write a path; *, ? and [a-z] stand for parts of names".into(),
            );
            Vec::new()
        });
        if found.is_empty() {
            tracing::warn!(pattern = %pattern.display(), "No file of templates has this name.");
        }
        for file in found {
            if let Err(problem) = library.add_file(&file) {
                section.non_fatal_at(
                    node.position,
                    &key,
                    problem.to_string(),
                    "write it as Alertmanager's templates are written".into(),
                );
            }
        }
    }
    section.give(library);
}

fn read_receivers(
    section: &Section<'_>,
    global: Option<&Section<'_>>,
    intervals: &Intervals,
) -> Vec<Receiver> {
    section
        .sections("receivers")
        .iter()
        .map(|receiver| read_receiver(receiver, global, intervals))
        .collect()
}

fn read_receiver(
    section: &Section<'_>,
    global: Option<&Section<'_>>,
    intervals: &Intervals,
) -> Receiver {
    let name: String = section.require("name");
    if name.is_empty() && section.node("name").is_some_and(|node| !node.is_null()) {
        section.error("name", "is empty", "give the receiver a name");
    }
    let policy = Arc::new(Policy::read(section, intervals));
    let (mut integrations, mut written): (Vec<Integration>, bool) = (Vec::new(), false);
    for kind in NOTIFIERS {
        let settings = section.sections(kind.key);
        written |= settings
            .iter()
            .any(|one| one.node("send_resolved").is_some());
        let settings = settings.iter().enumerate();
        integrations.extend(settings.map(|(i, s)| {
            read_integration(
                (kind, i, kind.send_resolved),
                (&name, policy.clone()),
                s,
                global,
            )
        }));
    }
    for key in section.keys() {
        if ALERTMANAGER_KINDS.contains(&key) && !NOTIFIERS.iter().any(|kind| kind.key == key) {
            section.node(key);
            let known: Vec<&str> = NOTIFIERS.iter().map(|kind| kind.key).collect();
            section.error(
                key,
                "nightbell has no such notifier yet",
                format!("known here: {}", known.join(", ")),
            );
        }
    }
    let labels = section.or("labels", Labels::empty());
    let people = || {
        integrations
            .iter()
            .filter(|integration| integration.notifier.action().is_none())
    };
    if !written
        && people().next().is_some()
        && people().all(|integration| !integration.send_resolved)
    {
        section.note(
            "",
            format!("receiver {name:?} never hears that an alert is over"),
            "write send_resolved: true for it, or false to keep it so",
        );
    }
    section.finish();
    Receiver::new(&name, &labels, integrations)
}

fn read_integration(
    (kind, index, send_resolved): (&'static NotifierKind, usize, bool),
    (receiver, policy): (&str, Arc<Policy>),
    section: &Section<'_>,
    global: Option<&Section<'_>>,
) -> Integration {
    let send_resolved = section.or("send_resolved", send_resolved);
    let before = section.files_read();
    let mut notifier: Arc<dyn Notifier> = Arc::from((kind.build)(section, global));
    section.finish();
    if let Some(renewal) = section
        .renewal(global, before)
        .filter(|_| notifier.action().is_none())
    {
        notifier = Arc::new(Renewing::new(kind, renewal, notifier));
    }
    Integration {
        key: format!("{receiver}/{}/{index}", kind.name),
        receiver: receiver.into(),
        kind: kind.name,
        send_resolved,
        policy,
        notifier,
    }
}

type Intervals = BTreeMap<String, Vec<TimeInterval>>;

/// A fallback and the next contact must be other receivers.
fn check_policies<'a>(
    section: &Section<'_>,
    key: &str,
    receivers: impl Iterator<Item = &'a Receiver> + Clone,
) {
    for receiver in receivers.clone() {
        let fallbacks = receiver
            .integrations
            .iter()
            .filter_map(|i| Some(("fallback", i.policy.fallback.as_deref()?)));
        let contacts = receiver.integrations.iter().flat_map(|i| {
            i.policy
                .escalation
                .iter()
                .map(|s| ("escalation to", s.receiver.as_str()))
        });
        for (role, named) in fallbacks.chain(contacts).collect::<BTreeSet<_>>() {
            let known: Vec<&str> = receivers
                .clone()
                .map(|r| r.name.as_str())
                .filter(|name| *name != receiver.name)
                .collect();
            if !known.contains(&named) {
                let problem = format!(
                    "{role} {named:?} of receiver {:?} is not another receiver",
                    receiver.name
                );
                let known = if known.is_empty() {
                    "no other".to_owned()
                } else {
                    known.join(", ")
                };
                section.error(key, problem, format!("there is {known}"));
            }
        }
    }
}

fn read_time_intervals(section: &Section<'_>) -> Intervals {
    let mut intervals = BTreeMap::new();
    for key in ["mute_time_intervals", "time_intervals"] {
        for named in section.sections(key) {
            let name: String = named.require("name");
            let elements = named
                .sections("time_intervals")
                .iter()
                .map(TimeInterval::read)
                .collect();
            named.finish();
            if intervals.insert(name.clone(), elements).is_some() {
                named.error(
                    "name",
                    format!("{name:?} is defined twice"),
                    "give each time interval its own name",
                );
            }
        }
    }
    intervals
}
