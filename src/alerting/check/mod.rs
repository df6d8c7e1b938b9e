//! Alertmanager's own judgement of an `alertmanager.yml`, for `check alertmanager` and
//! `check config`.
//!
//! [`schema`] holds the keys that Alertmanager takes, as a table for its version 0.33. To follow a
//! new version, compare its `config/config.go` and `config/notifiers.go` with the table, and its
//! `amtool check-config` with the files in `tests/alerting/`.

pub mod amtool;
pub(super) mod node;
pub(super) mod plain;
pub(super) mod schema;
