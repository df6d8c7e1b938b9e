//! One file for each part of PostgreSQL that is looked at: its statements and the metrics that they
//! give.

pub(super) mod activity;
pub(super) mod database;
pub(super) mod locks;
pub(super) mod replication;
pub(super) mod server;
pub(super) mod settings;
pub(super) mod statements;
pub(super) mod tables;
pub(super) mod wal;
