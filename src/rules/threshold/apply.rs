//! Puts what is set into the rules.

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;

use super::figure::{comparisons, ranges, replace};
use super::setting::{Change, Place, Setting};
use super::unit::{as_range, in_words};
use super::{Figure, Severity, Thresholds, Unit};
use crate::config::ConfigError;
use crate::model::text::nearest;
use crate::promql::syntax::ast::BinaryOp;
use crate::rules::{AlertingRule, Rule, RuleGroup};

/// What the settings together say of one alert.
struct Outcome {
    change: Option<Change>,
    severity: Severity,
    /// Who said the last of it.
    place: Place,
    of_profile: bool,
}

/// Changes the rules as the settings say, later ones over earlier ones; returns what is wrong with
/// them.
pub fn apply(groups: &mut Vec<RuleGroup>, thresholds: &[Thresholds]) -> Vec<ConfigError> {
    let mut errors = Vec::new();
    let mut outcomes: BTreeMap<String, Outcome> = BTreeMap::new();
    for (of_profile, setting) in thresholds
        .iter()
        .flat_map(|one| one.settings.iter().map(|setting| (one.of_profile, setting)))
    {
        match targets(groups, setting) {
            Err(error) if !of_profile => errors.push(error),
            Err(_) => {}
            Ok(targets) => {
                for (alert, severity) in targets {
                    let before = outcomes.remove(alert).and_then(|outcome| outcome.change);
                    let change = setting.change.map(|change| change.over(before));
                    outcomes.insert(
                        alert.to_owned(),
                        Outcome {
                            change,
                            severity,
                            place: setting.place.clone(),
                            of_profile,
                        },
                    );
                }
            }
        }
    }
    for rule in alerts_mut(groups) {
        if let Some(Outcome {
            change: Some(change),
            severity,
            place,
            ..
        }) = outcomes.get(&rule.name)
            && let Err((problem, remedy)) = write(rule, *change, *severity)
        {
            errors.push(place.error(problem, remedy));
        }
    }
    let gone: BTreeSet<&String> = outcomes
        .iter()
        .filter(|(_, outcome)| outcome.change.is_none())
        .map(|(alert, _)| alert)
        .collect();
    for group in groups.iter_mut() {
        group.rules.retain(|rule| {
            matches!(rule, Rule::Recording(_)) || !gone.contains(&rule.name().to_owned())
        });
    }
    groups.retain(|group| !group.rules.is_empty());
    for figure in super::FIGURES {
        errors.extend(out_of_order(groups, figure, &outcomes));
    }
    errors
}

impl Change {
    fn over(self, before: Option<Change>) -> Change {
        let before = before.unwrap_or_default();
        Change {
            figure: self.figure.or(before.figure),
            hold: self.hold.or(before.hold),
            window: self.window.or(before.window),
        }
    }
}

fn alerts(groups: &[RuleGroup]) -> impl Iterator<Item = &AlertingRule> {
    groups
        .iter()
        .flat_map(|group| &group.rules)
        .filter_map(|rule| match rule {
            Rule::Alerting(alert) => Some(alert),
            Rule::Recording(_) => None,
        })
}

fn alerts_mut(groups: &mut [RuleGroup]) -> impl Iterator<Item = &mut AlertingRule> {
    groups
        .iter_mut()
        .flat_map(|group| &mut group.rules)
        .filter_map(|rule| match rule {
            Rule::Alerting(alert) => Some(alert),
            Rule::Recording(_) => None,
        })
}

/// The alerts that a setting means, each with the severity that it gets: those of the severity that
/// it names; where all have one and the same, these, whatever it names.
fn targets<'s>(
    groups: &[RuleGroup],
    setting: &'s Setting,
) -> Result<Vec<(&'s str, Severity)>, ConfigError> {
    let names: Vec<&'s str> = Figure::named(&setting.name).map_or_else(
        || vec![setting.name.as_str()],
        |figure| figure.alerts.to_vec(),
    );
    let found: Vec<(&str, Severity)> = names
        .iter()
        .filter_map(|name| {
            alerts(groups)
                .find(|rule| rule.name == *name)
                .map(|rule| (*name, severity_of(rule)))
        })
        .collect();
    if found.is_empty() {
        let meant = nearest(names[0], alerts(groups).map(|rule| rule.name.as_str()));
        let remedy = meant.map_or("switch on what has it, or remove this".to_owned(), |name| {
            format!("did you mean {name:?}?")
        });
        return Err(setting
            .place
            .error(format!("no rule {} is loaded", names.join(" or ")), remedy));
    }
    let Some(severity) = setting.severity else {
        return Ok(found);
    };
    let same: Vec<_> = found
        .iter()
        .copied()
        .filter(|(_, own)| *own == severity)
        .collect();
    if !same.is_empty() {
        return Ok(same);
    }
    if found.iter().all(|(_, own)| *own == found[0].1) {
        return Ok(found
            .into_iter()
            .map(|(name, _)| (name, severity))
            .collect());
    }
    let there: BTreeSet<&str> = found.iter().map(|(_, own)| own.as_str()).collect();
    let there = there.into_iter().collect::<Vec<_>>().join(", ");
    Err(setting.place.error(
        format!("{} has no rule of this severity", setting.name),
        format!("there is {there}"),
    ))
}

fn severity_of(rule: &AlertingRule) -> Severity {
    let label = rule.labels.value("severity");
    Severity::ALL
        .into_iter()
        .find(|severity| severity.as_str() == label)
        .unwrap_or(Severity::Warning)
}

/// Writes a change into a rule and into what it says of itself.
fn write(
    rule: &mut AlertingRule,
    change: Change,
    severity: Severity,
) -> Result<(), (String, String)> {
    let mut words = Vec::new();
    if let Some(window) = change.window {
        let mut there = BTreeSet::new();
        ranges(&mut rule.expr, &mut |range| there.extend([*range]));
        let &[old] = there.iter().collect::<Vec<_>>().as_slice() else {
            return Err((
                format!("{} has no window of its own", rule.name),
                "leave window out".into(),
            ));
        };
        words.push((as_range(*old), as_range(window)));
        ranges(&mut rule.expr, &mut |range| *range = window);
    }
    if let Some(hold) = change.hold {
        let (old, new) = (
            in_words(rule.hold.as_secs_f64()),
            in_words(hold.as_secs_f64()),
        );
        words.push((format!("for {old}"), format!("for {new}")));
        rule.hold = hold;
    }
    if let (Some(value), Some(unit)) = (change.figure, unit_of(&rule.name)) {
        let Some(old) = comparisons(&rule.expr)
            .first()
            .map(|comparison| comparison.value)
        else {
            return Err((
                format!("{} is not compared with a figure", rule.name),
                "remove it".into(),
            ));
        };
        words.push((unit.write(old), unit.write(value)));
        replace(&mut rule.expr, value);
    }
    rule.expr_text = rule.expr.to_string();
    rule.labels = rule.labels.with("severity", severity.as_str());
    let mut annotations = rule.annotations.to_builder();
    for (name, text) in &rule.annotations {
        // Figures and times stand in `threshold` alone; a window stands wherever a text asks for
        // what it covers.
        let words = words
            .iter()
            .enumerate()
            .filter(|(index, _)| name == "threshold" || (*index == 0 && change.window.is_some()));
        let written = words.fold(text.to_owned(), |text, (_, (old, new))| {
            replaced(&text, old, new)
        });
        annotations.set(name, &written);
    }
    rule.annotations = annotations.build();
    Ok(())
}

fn unit_of(alert: &str) -> Option<Unit> {
    super::FIGURES
        .iter()
        .find(|figure| figure.alerts.contains(&alert))
        .map(|figure| figure.unit)
}

/// Every occurrence that is no part of a longer number or word.
fn replaced(text: &str, old: &str, new: &str) -> String {
    let pattern = format!(
        r"(?P<before>^|[^0-9A-Za-z.]){}(?P<after>$|[^0-9A-Za-z])",
        regex::escape(old)
    );
    match Regex::new(&pattern) {
        Ok(found) => found
            .replace_all(text, format!("${{before}}{new}${{after}}").as_str())
            .into_owned(),
        // An escaped text is a valid expression.
        Err(_) => text.to_owned(),
    }
}

/// A milder severity that is reached after a graver one would never be heard of.
fn out_of_order(
    groups: &[RuleGroup],
    figure: &Figure,
    outcomes: &BTreeMap<String, Outcome>,
) -> Option<ConfigError> {
    let mut levels: Vec<(Severity, BinaryOp, f64, &AlertingRule)> = figure
        .alerts
        .iter()
        .filter_map(|name| alerts(groups).find(|rule| rule.name == *name))
        .filter_map(|rule| {
            comparisons(&rule.expr)
                .first()
                .map(|one| (severity_of(rule), one.op, one.value, rule))
        })
        .collect();
    levels.sort_by_key(|(severity, ..)| *severity);
    let wrong = levels.windows(2).find(|pair| match pair[0].1 {
        _ if pair[0].0 == pair[1].0 => false,
        BinaryOp::Less | BinaryOp::LessOrEqual => pair[0].2 <= pair[1].2,
        _ => pair[0].2 >= pair[1].2,
    })?;
    let [(mild, _, low, first), (grave, _, high, second)] = [wrong[0], wrong[1]];
    let said = [outcomes.get(&first.name), outcomes.get(&second.name)];
    let outcome = said
        .into_iter()
        .flatten()
        .min_by_key(|outcome| outcome.of_profile)?;
    let (low, high) = (figure.unit.write(low), figure.unit.write(high));
    let (mild, grave) = (mild.as_str(), grave.as_str());
    let problem = format!("{mild} at {low} comes no earlier than {grave} at {high}");
    Some(outcome.place.error(
        problem,
        format!(
            "set both {mild} and {grave} of {}, or one of them to off",
            figure.name
        ),
    ))
}
