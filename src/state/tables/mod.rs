//! One file for each table: its row and the statements on it.

pub(super) mod action_log;
pub(super) mod alert_groups;
pub(super) mod alerts;
pub(super) mod decisions;
pub(super) mod escalations;
pub(super) mod flaps;
pub(super) mod for_state;
pub(super) mod notification_log;
pub(super) mod outbox;
pub(super) mod silences;
