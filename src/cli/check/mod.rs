//! `nightbell check`: files are read as they would be for use, and everything that is wrong with
//! them is listed.

pub(super) mod alertmanager;
pub(super) mod config;
pub(super) mod connect;
pub(super) mod health;
pub mod rules;
