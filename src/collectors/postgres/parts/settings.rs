//! Settings: `pg_settings`, <https://www.postgresql.org/docs/current/view-pg-settings.html>.
//!
//! One gauge `pg_settings_<name>[_<base unit>]` for each setting that is a number or a truth value,
//! as postgres_exporter makes them. Texts are not exported: some hold connection strings.

use sqlx::postgres::PgRow;

use crate::model::{Batch, MetricKind};

use crate::collectors::postgres::part::{Cadence, Grant, Part, Rows, text};

/// The beginning of every name made here.
const PREFIX: &str = "pg_settings_";

/// All settings.
pub static SETTINGS: Part = Part {
    name: "settings",
    // Our own transaction sets a few: what counts is the value that any other would have.
    rows: Rows::Custom(
        "name, CASE WHEN name = 'transaction_read_only'
                THEN CASE WHEN pg_is_in_recovery() THEN 'on' ELSE current_setting('default_transaction_read_only') END
            WHEN name IN ('statement_timeout', 'lock_timeout', 'extra_float_digits') THEN coalesce(reset_val, setting)
            ELSE setting END, coalesce(unit, ''), short_desc",
        read,
    ),
    from: "FROM pg_settings WHERE vartype IN ('bool', 'integer', 'real') AND name <> 'sync_commit_cancel_wait' ORDER BY name",
    cadence: Cadence::Rare,
    grant: Some(Grant { role: "pg_read_all_settings", cost: "settings that only administrators see", required: false }),
    ..Part::DEFAULT
};

fn read(rows: &[PgRow], batch: &mut Batch) -> sqlx::Result<()> {
    for row in rows {
        let column = |index| Ok::<_, sqlx::Error>(text(row, index)?.unwrap_or_default());
        let (name, setting, unit, about) = (column(0)?, column(1)?, column(2)?, column(3)?);
        if let Some((name, value)) = metric(&name, &setting, &unit) {
            batch.push_named(&name, MetricKind::Gauge, &about, &[], value);
        }
    }
    Ok(())
}

/// Name and value of the metric for one setting; `None` for a value that is not a number.
fn metric(name: &str, setting: &str, unit: &str) -> Option<(String, f64)> {
    let value: f64 = match setting {
        "on" => 1.0,
        "off" => 0.0,
        number => number.parse().ok()?,
    };
    let (suffix, factor) = base_unit(unit);
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let name = PREFIX
        .chars()
        .chain(name.chars().map(plain))
        .chain(suffix.chars())
        .collect();
    // A negative number means "off" or "as another setting says": it is no amount.
    Some((name, if value > 0.0 { value * factor } else { value }))
}

/// The suffix of the base unit, and what one `unit` is in it: `8kB` is 8192 bytes.
fn base_unit(unit: &str) -> (&'static str, f64) {
    let letters = unit.trim_start_matches(|c: char| c.is_ascii_digit());
    let count = unit[..unit.len() - letters.len()].parse().unwrap_or(1.0);
    let (suffix, size) = match letters {
        "ms" => ("_seconds", 0.001),
        "s" => ("_seconds", 1.0),
        "min" => ("_seconds", 60.0),
        "h" => ("_seconds", 3600.0),
        "d" => ("_seconds", 86_400.0),
        "B" => ("_bytes", 1.0),
        "kB" => ("_bytes", 1024.0),
        "MB" => ("_bytes", 1024.0 * 1024.0),
        "GB" => ("_bytes", 1024.0 * 1024.0 * 1024.0),
        "TB" => ("_bytes", 1024.0 * 1024.0 * 1024.0 * 1024.0),
        _ => ("", 1.0),
    };
    (suffix, count * size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_named_and_scaled_as_the_exporter_does() {
        let got = |name, setting, unit| {
            metric(name, setting, unit)
                .map(|(n, v)| format!("{n} {v}"))
                .unwrap_or_default()
        };
        assert_eq!(
            got("shared_buffers", "16384", "8kB"),
            "pg_settings_shared_buffers_bytes 134217728"
        );
        assert_eq!(
            got("deadlock_timeout", "1000", "ms"),
            "pg_settings_deadlock_timeout_seconds 1"
        );
        assert_eq!(
            got("autovacuum_work_mem", "-1", "kB"),
            "pg_settings_autovacuum_work_mem_bytes -1"
        );
        assert_eq!(got("fsync", "on", ""), "pg_settings_fsync 1");
        assert_eq!(
            got("plpgsql.extra-errors", "off", ""),
            "pg_settings_plpgsql_extra_errors 0"
        );
        assert_eq!(got("data_directory_mode", "none", ""), "");
    }
}
