//! `command_configs`: a recovery action instead of a message: run a program, restart a systemd unit
//! or a container, call an endpoint.
//!
//! Only what the configuration lists is ever run, never through a shell that nobody wrote. Labels
//! come from outside, so they reach a program as environment variables, which may hold anything, or
//! as parts of its arguments, which then must be names: nothing that an option, a path upwards or a
//! shell could be made of. What may be done how often is decided in `alerting`; here is one action,
//! once.

mod argument;
mod capture;
mod endpoint;
mod inheritance;
mod process;

use std::path::PathBuf;
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::config::{FromNode, Node, Secret, Section, Value};
use crate::model::{ActionOutcome, Timestamp};

use crate::notify::error::{NotifyError, Reason};
use crate::notify::message::Style;
use crate::notify::notification::{AlertStatus, Notification, NotifiedAlert, common};
use crate::notify::{Notifier, NotifierKind};
use argument::{Argument, Permits};
use endpoint::Call;
pub use inheritance::close_inheritance;

/// The kind's row in the table of notifiers.
pub const KIND: NotifierKind = NotifierKind {
    key: "command_configs",
    name: "command",
    send_resolved: false,
    build,
};

/// Longest time that an action may take.
const MAX_TIMEOUT: Duration = Duration::from_secs(3600);
/// Longest value of an environment variable, in bytes, and most of them from labels, and from
/// annotations.
const MAX_VALUE: usize = 4096;
const MAX_VARIABLES: usize = 64;
/// What a program sees of our own environment: where programs and their settings are, nothing that
/// may be a secret.
const INHERITED: [&str; 10] = [
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "LC_ALL",
    "TZ",
    "XDG_RUNTIME_DIR",
    "DBUS_SESSION_BUS_ADDRESS",
    "DOCKER_HOST",
    "DOCKER_CONTEXT",
];

/// How often an action may be taken, and when it is judged.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Least time between two beginnings of the same for the same target.
    pub cool_down: Duration,
    /// Most beginnings for one target within `limit_per`.
    pub limit: usize,
    /// The time that `limit` is about.
    pub limit_per: Duration,
    /// Time after its end at which it is judged by whether the alert still fires.
    pub verify_after: Duration,
    /// Longest time that it may take.
    pub timeout: Duration,
    /// Only write down what would be done.
    pub dry_run: bool,
}

/// A recovery action.
pub struct Action {
    what: What,
    /// Targets that a template may name.
    allowed: Option<Vec<String>>,
    environment: Vec<(String, Secret)>,
    permits: Permits,
    limits: Limits,
    style: Style,
}

enum What {
    Program(Vec<Argument>),
    Call(Box<Call>),
}

/// What an action comes to for one alert.
#[derive(Debug)]
pub struct Order {
    /// What is done to what, for people: the same text is the same target. Values of `${NAME}` do
    /// not show.
    pub target: String,
    program: Vec<String>,
    /// The message with this alert alone.
    about: Notification,
}

/// How an action ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// In one word.
    pub outcome: ActionOutcome,
    /// In a few: `exit status 3`.
    pub detail: String,
    /// What it printed, or what the endpoint answered: bounded, without control characters.
    pub output: String,
}

fn build(section: &Section<'_>, global: Option<&Section<'_>>) -> Box<dyn Notifier> {
    Box::new(Action::read(section, global))
}

impl Action {
    fn read(section: &Section<'_>, global: Option<&Section<'_>>) -> Self {
        let kinds = ["command", "systemd_unit", "container", "url", "url_file"];
        let written: Vec<&str> = kinds
            .into_iter()
            .filter(|key| section.node(key).is_some())
            .collect();
        if written.len() != 1 {
            let problem = if written.is_empty() {
                "says nothing to do".into()
            } else {
                format!("says {}", written.join(" and "))
            };
            section.error(
                "",
                problem,
                "give one of command: [program, argument…], systemd_unit, container, url",
            );
        }
        let named = |verb: &[&str], key: &'static str| {
            let literal = verb.iter().map(|text| Argument::literal(section, text));
            What::Program(literal.chain(Argument::read(section, key)).collect())
        };
        let what = match written.first() {
            Some(&"systemd_unit") => named(
                &["systemctl", "--no-ask-password", "restart", "--"],
                "systemd_unit",
            ),
            Some(&"container") => named(&["docker", "restart", "--"], "container"),
            Some(&("url" | "url_file")) => What::Call(Box::new(Call::read(section, global))),
            _ => What::Program(argument::read_command(section)),
        };
        let allowed: Option<Vec<String>> = section.get("allowed");
        let chosen = written
            .first()
            .filter(|key| matches!(**key, "systemd_unit" | "container"));
        if let (Some(key), What::Program(arguments)) = (chosen, &what) {
            match (
                arguments.last().is_some_and(Argument::is_template),
                &allowed,
            ) {
                (true, None) => section.error(
                    key,
                    "lets a label choose what is restarted",
                    format!(
                        "list what it may choose: allowed: [{}]",
                        if *key == "container" {
                            "web, worker"
                        } else {
                            "nginx.service"
                        }
                    ),
                ),
                (false, Some(_)) => section.error(
                    "allowed",
                    format!("{key} holds no template, so there is no choice"),
                    "remove it",
                ),
                _ => {}
            }
        } else if allowed.is_some() {
            section.error("allowed", "is for systemd_unit and container", "remove it");
        }
        let permits = if allowed.is_some() {
            Permits::listed()
        } else {
            Permits::read(section)
        };
        let action = Action {
            what,
            allowed,
            environment: read_environment(section),
            permits,
            limits: Limits::read(section),
            style: Style::read(section, global),
        };
        // For a call, which has it in common with every other notifier, it is read there.
        if matches!(action.what, What::Program(_)) && section.node("http_config").is_some() {
            section.error("http_config", "is for url", "remove it");
        }
        action
    }

    /// How often it may be taken.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What it comes to for one alert of a message; errs where a label holds more than a name, or
    /// chooses what is not allowed.
    pub fn order(
        &self,
        message: &Notification,
        alert: &NotifiedAlert,
    ) -> Result<Order, NotifyError> {
        let about = alone(message, alert);
        match &self.what {
            What::Call(call) => Ok(Order {
                target: call.shown(),
                program: Vec::new(),
                about,
            }),
            What::Program(arguments) => {
                let mut program = Vec::with_capacity(arguments.len());
                let mut shown = Vec::with_capacity(arguments.len());
                for argument in arguments {
                    let (value, text) = argument.render(&about, &self.style, &self.permits)?;
                    program.push(value);
                    shown.push(text);
                }
                if let (Some(allowed), Some(chosen)) = (&self.allowed, program.last())
                    && !allowed.contains(chosen)
                {
                    return Err(NotifyError::permanent(
                        Reason::Rejected,
                        format!("{chosen:?} is not among allowed"),
                    ));
                }
                Ok(Order {
                    target: shown.join(" "),
                    program,
                    about,
                })
            }
        }
    }

    /// Does it. The text of the answer is for people.
    pub async fn run(&self, order: &Order) -> Ended {
        let mut ended = match &self.what {
            What::Call(call) => {
                call.run(&order.about, &self.style, self.limits.timeout)
                    .await
            }
            What::Program(_) => {
                process::run(&order.program, &self.variables(order), self.limits.timeout).await
            }
        };
        // What is printed goes into messages: a program that repeats what was given to it in
        // confidence is no reason to pass that on.
        ended.output = self
            .confidential()
            .iter()
            .fold(ended.output, |output, secret| secret.redact(&output));
        ended
    }

    /// What nobody may see, the longest first, because one may hold another.
    fn confidential(&self) -> Vec<Secret> {
        let mut secrets: Vec<Secret> = self
            .environment
            .iter()
            .map(|(_, value)| value.clone())
            .collect();
        match &self.what {
            What::Call(call) => secrets.extend(call.confidential()),
            What::Program(arguments) => {
                secrets.extend(arguments.iter().filter_map(Argument::confidential))
            }
        }
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.expose().len()));
        secrets
    }

    /// Whether it could be taken, as far as that can be known without doing it.
    fn check(&self) -> Result<(), NotifyError> {
        let What::Program(arguments) = &self.what else {
            return Ok(());
        };
        let Some(program) = arguments.first().map(Argument::written) else {
            return Ok(());
        };
        match find(program) {
            Some(_) => Ok(()),
            None => Err(NotifyError::permanent(
                Reason::Rejected,
                format!("{program:?} is not a program that can be run"),
            )),
        }
    }

    /// The program's whole environment.
    fn variables(&self, order: &Order) -> Vec<(String, String)> {
        let inherited = INHERITED
            .into_iter()
            .filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?)));
        let own = self
            .environment
            .iter()
            .map(|(name, value)| (name.clone(), value.expose().to_owned()));
        let mut out: Vec<(String, String)> = inherited.chain(own).collect();
        let n = &order.about;
        let Some(alert) = n.alerts.first() else {
            return out;
        };
        let fixed = [
            ("NIGHTBELL_ALERT", alert.label("alertname").to_owned()),
            ("NIGHTBELL_FINGERPRINT", alert.fingerprint.clone()),
            ("NIGHTBELL_RECEIVER", n.receiver.clone()),
            (
                "NIGHTBELL_STARTS_AT",
                Timestamp(alert.starts_at_ms).rfc3339(),
            ),
            (
                "NIGHTBELL_VALUE",
                alert
                    .value
                    .map(|value| value.to_string())
                    .unwrap_or_default(),
            ),
        ];
        out.extend(fixed.map(|(name, value)| (name.to_owned(), variable(&value))));
        for (prefix, pairs) in [
            ("NIGHTBELL_LABEL_", &alert.labels),
            ("NIGHTBELL_ANNOTATION_", &alert.annotations),
        ] {
            let named = pairs.iter().take(MAX_VARIABLES);
            out.extend(named.map(|(name, value)| {
                (format!("{prefix}{}", variable_name(name)), variable(value))
            }));
        }
        out
    }
}

impl Limits {
    fn read(section: &Section<'_>) -> Self {
        let limits = Limits {
            cool_down: section.or("cool_down", Duration::from_secs(10 * 60)),
            limit: section.or("limit", 3),
            limit_per: section.or("limit_per", Duration::from_secs(3600)),
            verify_after: section.or("verify_after", Duration::from_secs(2 * 60)),
            timeout: section.or("timeout", Duration::from_secs(60)),
            dry_run: section.or("dry_run", false),
        };
        for (key, value) in [
            ("cool_down", limits.cool_down),
            ("limit_per", limits.limit_per),
            ("timeout", limits.timeout),
        ] {
            if value < Duration::from_secs(1) {
                section.error(key, "is below a second", "give for example 5m");
            }
        }
        if limits.timeout > MAX_TIMEOUT {
            section.error(
                "timeout",
                "is above an hour",
                "start what takes longer as a service of its own",
            );
        }
        if limits.limit == 0 {
            section.error(
                "limit",
                "is zero",
                "give how often it may be taken within limit_per, or dry_run: true",
            );
        }
        limits
    }
}

impl Notifier for Action {
    /// For tests of a receiver: looks whether it could be taken, and does nothing.
    fn notify<'a>(&'a self, _: &'a Notification) -> BoxFuture<'a, Result<(), NotifyError>> {
        Box::pin(async move { self.check() })
    }

    fn action(&self) -> Option<&Action> {
        Some(self)
    }
}

/// The message as if this alert were its only one.
fn alone(message: &Notification, alert: &NotifiedAlert) -> Notification {
    let mut about = Notification {
        alerts: vec![alert.clone()],
        status: AlertStatus::Firing,
        ..message.clone()
    };
    about.common_labels = common(about.alerts.iter().map(|a| a.labels.as_slice()));
    about.common_annotations = common(about.alerts.iter().map(|a| a.annotations.as_slice()));
    about
}

/// `environment`: names with values that may be secrets.
fn read_environment(section: &Section<'_>) -> Vec<(String, Secret)> {
    let Some(Node {
        value: Value::Map(entries),
        ..
    }) = section.node("environment")
    else {
        section.get::<std::collections::BTreeMap<String, String>>("environment");
        return Vec::new();
    };
    let read = entries.iter().filter_map(|(name, position, node)| {
        if variable_name(name) != *name || name.starts_with("NIGHTBELL_") {
            let remedy = "use A-Z, 0-9 and _, and no NIGHTBELL_ in front";
            section.error_at(
                *position,
                "environment",
                format!("{name:?} is not a name for a variable here"),
                remedy.into(),
            );
        }
        Some((
            name.clone(),
            Secret::from_node(section, &format!("environment.{name}"), node)?,
        ))
    });
    read.collect()
}

/// The upper-case name of a variable.
fn variable_name(name: &str) -> String {
    name.chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_uppercase()
            } else {
                '_'
            }
        })
        .collect()
}

/// What a variable can hold: no NUL, and not without end.
fn variable(value: &str) -> String {
    let mut end = value.len().min(MAX_VALUE);
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    value[..end].replace('\0', "")
}

/// The file of a program, as the system would find it.
fn find(program: &str) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt as _;
    let is_program = |path: &PathBuf| {
        path.metadata()
            .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    };
    if program.contains('/') {
        return Some(PathBuf::from(program)).filter(is_program);
    }
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|folder| folder.join(program))
        .find(is_program)
}
