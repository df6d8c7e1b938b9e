//! Units of systemd, asked over the system's message bus, under node_exporter's names. Only on
//! request: `host: {enable: [systemd]}`.
//!
//! Any user may ask. Nothing is started, subscribed to or changed; the connection lasts for one
//! look.

mod bus;
mod message;

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use crate::model::MetricDesc;

use super::kernel::PartError;
use super::part::{Context, Lane, Part, counter, gauge};
use bus::Bus;
use message::{Body, Call, Unit, Value};

/// The part.
pub const PART: Part = Part {
    name: "systemd",
    default: false,
    lane: Lane::Process,
    metrics: &METRICS,
    read,
};

/// How long one look may take.
const TIMEOUT: Duration = Duration::from_secs(3);

const SYSTEMD: &str = "org.freedesktop.systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const STATES: [&str; 5] = ["active", "activating", "deactivating", "inactive", "failed"];
const NAME: &[&str] = &["name"];

const UNIT_STATE: MetricDesc = gauge(
    "node_systemd_unit_state",
    "",
    "1 for the state that the unit is in, else 0.",
    &["name", "state", "type"],
    "ListUnits",
);
const UNITS: MetricDesc = gauge(
    "node_systemd_units",
    "",
    "Units in each state.",
    &["state"],
    "ListUnits",
);
const RUNNING: MetricDesc = gauge(
    "node_systemd_system_running",
    "",
    "1 while the system is running, 0 while it starts or stops, or when a unit has failed.",
    &[],
    "SystemState",
);
const VERSION: MetricDesc = gauge(
    "node_systemd_version",
    "",
    "The version of systemd.",
    &["version"],
    "Version",
);
const RESTARTS: MetricDesc = counter(
    "node_systemd_service_restart_total",
    "",
    "Restarts of the service by systemd.",
    NAME,
    "NRestarts",
);
const ACCEPTED: MetricDesc = counter(
    "node_systemd_socket_accepted_connections_total",
    "",
    "Connections that the socket accepted.",
    NAME,
    "NAccepted",
);
const CURRENT: MetricDesc = gauge(
    "node_systemd_socket_current_connections",
    "",
    "Connections of the socket.",
    NAME,
    "NConnections",
);
const REFUSED: MetricDesc = gauge(
    "node_systemd_socket_refused_connections_total",
    "",
    "Connections that the socket refused.",
    NAME,
    "NRefused",
);
const TRIGGERED: MetricDesc = gauge(
    "node_systemd_timer_last_trigger_seconds",
    "seconds",
    "When the timer last ran, Unix time; 0: never.",
    NAME,
    "LastTriggerUSec",
);
const METRICS: [MetricDesc; 9] = [
    UNIT_STATE, UNITS, RUNNING, VERSION, RESTARTS, ACCEPTED, CURRENT, REFUSED, TRIGGERED,
];

/// The number of a kind of unit that is shown: end of the name, interface, property, metric, factor
/// to its unit.
const NUMBERS: [(&str, &str, &str, &MetricDesc, f64); 5] = [
    (
        ".service",
        "org.freedesktop.systemd1.Service",
        "NRestarts",
        &RESTARTS,
        1.0,
    ),
    (
        ".socket",
        "org.freedesktop.systemd1.Socket",
        "NAccepted",
        &ACCEPTED,
        1.0,
    ),
    (
        ".socket",
        "org.freedesktop.systemd1.Socket",
        "NConnections",
        &CURRENT,
        1.0,
    ),
    (
        ".socket",
        "org.freedesktop.systemd1.Socket",
        "NRefused",
        &REFUSED,
        1.0,
    ),
    (
        ".timer",
        "org.freedesktop.systemd1.Timer",
        "LastTriggerUSec",
        &TRIGGERED,
        1e-6,
    ),
];

fn read(context: &mut Context<'_>) -> Result<(), PartError> {
    look(context).map_err(|source| PartError::Io {
        path: context.settings.systemd_bus.clone(),
        source,
    })
}

fn look(context: &mut Context<'_>) -> io::Result<()> {
    let mut bus = Bus::connect(
        &context.settings.systemd_bus,
        Instant::now() + TIMEOUT.min(context.settings.deadline),
    )?;
    let units = list(&mut bus)?;
    show_manager(&mut bus, context)?;
    let mut counts: BTreeMap<&str, u32> = STATES.map(|state| (state, 0)).into();
    for unit in &units {
        *counts.entry(&unit.state).or_default() += 1;
    }
    for (state, count) in counts {
        context
            .batch
            .push(&UNITS, &[("state", state)], f64::from(count));
    }
    let (include, exclude) = (
        &context.settings.units_include,
        &context.settings.units_exclude,
    );
    let mut shown: Vec<&Unit> = units
        .iter()
        .filter(|unit| {
            unit.loaded == "loaded" && include.is_match(&unit.name) && !exclude.is_match(&unit.name)
        })
        .collect();
    // What has failed is never what the cap leaves out.
    shown.sort_by_key(|unit| (unit.state != "failed", &unit.name));
    context.memory.omitted = Some(shown.len().saturating_sub(context.settings.max_objects));
    shown.truncate(context.settings.max_objects);
    show_states(&mut bus, &shown, context)?;
    show_numbers(&mut bus, &shown, context)
}

fn list(bus: &mut Bus) -> io::Result<Vec<Unit>> {
    let call = Call {
        destination: SYSTEMD,
        path: "/org/freedesktop/systemd1",
        interface: MANAGER,
        member: "ListUnits",
        arguments: &[],
    };
    bus.call(&[call])?
        .remove(0)
        .map_err(|name| io::Error::other(format!("ListUnits: {name}")))?
        .units()
}

/// The call that asks for a property.
fn property<'a>(path: &'a str, arguments: &'a [&'a str]) -> Call<'a> {
    Call {
        destination: SYSTEMD,
        path,
        interface: "org.freedesktop.DBus.Properties",
        member: "Get",
        arguments,
    }
}

/// The value of a property; `None` where this version has none, or the unit has gone.
fn value(result: Result<Body, String>) -> Option<Value> {
    result.ok().and_then(|body| body.value().ok())
}

fn show_manager(bus: &mut Bus, context: &mut Context<'_>) -> io::Result<()> {
    let calls = [[MANAGER, "SystemState"], [MANAGER, "Version"]];
    let calls: Vec<Call<'_>> = calls
        .iter()
        .map(|arguments| property("/org/freedesktop/systemd1", arguments))
        .collect();
    let mut values = bus.call(&calls)?.into_iter().map(value);
    if let Some(Some(Value::Text(state))) = values.next() {
        context
            .batch
            .push(&RUNNING, &[], f64::from(u8::from(state == "running")));
    }
    if let Some(Some(Value::Text(version))) = values.next() {
        // `252.38-1~deb12u1`, `v254`
        let digits = version.trim_start_matches(|c: char| !c.is_ascii_digit());
        let end = digits
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(digits.len());
        if let Ok(number) = digits[..end].trim_end_matches('.').parse() {
            context
                .batch
                .push(&VERSION, &[("version", &version)], number);
        }
    }
    Ok(())
}

fn show_states(bus: &mut Bus, units: &[&Unit], context: &mut Context<'_>) -> io::Result<()> {
    let services: Vec<&&Unit> = units
        .iter()
        .filter(|unit| unit.name.ends_with(".service"))
        .collect();
    let calls: Vec<Call<'_>> = services
        .iter()
        .map(|unit| property(&unit.path, &["org.freedesktop.systemd1.Service", "Type"]))
        .collect();
    let kinds = bus
        .call(&calls)?
        .into_iter()
        .map(|result| match value(result) {
            Some(Value::Text(kind)) => kind,
            _ => String::new(),
        });
    let kinds: BTreeMap<&str, String> = services
        .iter()
        .map(|unit| unit.name.as_str())
        .zip(kinds)
        .collect();
    for unit in units {
        let kind = kinds.get(unit.name.as_str()).map_or("", String::as_str);
        for state in STATES {
            let labels = [
                ("name", unit.name.as_str()),
                ("state", state),
                ("type", kind),
            ];
            context.batch.push(
                &UNIT_STATE,
                &labels,
                f64::from(u8::from(unit.state == state)),
            );
        }
    }
    Ok(())
}

fn show_numbers(bus: &mut Bus, units: &[&Unit], context: &mut Context<'_>) -> io::Result<()> {
    for (end, interface, name, desc, factor) in NUMBERS {
        let of_kind: Vec<&&Unit> = units
            .iter()
            .filter(|unit| unit.name.ends_with(end))
            .collect();
        let arguments = [interface, name];
        let calls: Vec<Call<'_>> = of_kind
            .iter()
            .map(|unit| property(&unit.path, &arguments))
            .collect();
        for (unit, result) in of_kind.iter().zip(bus.call(&calls)?) {
            if let Some(Value::Number(number)) = value(result) {
                context
                    .batch
                    .push(desc, &[("name", &unit.name)], number * factor);
            }
        }
    }
    Ok(())
}
