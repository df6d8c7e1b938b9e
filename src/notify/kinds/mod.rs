//! One file or folder for each kind of receiver. Each exports a `KIND`, which [`super::NOTIFIERS`]
//! lists: how its keys are read, and one attempt to deliver. Copy the nearest one to add a kind.

pub(super) mod command;
pub(super) mod dingtalk;
pub(super) mod discord;
pub(super) mod email;
pub(super) mod feishu;
pub(super) mod msteams;
pub(super) mod msteamsv2;
pub(super) mod opsgenie;
pub(super) mod pagerduty;
pub(super) mod slack;
pub(super) mod sms;
pub(super) mod telegram;
pub(super) mod webhook;
pub(super) mod wecom;
