//! What became of a recovery action, as it is recorded, counted and shown.

use serde::{Deserialize, Serialize};

/// How an action ended, or why it was not taken. A closed set: it labels a metric.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActionOutcome {
    /// It was begun, and nothing more is known yet.
    Running,
    /// It ended well: exit status 0, or a 2xx answer.
    Succeeded,
    /// It ended with another status, or could not be begun.
    Failed,
    /// It did not end in time and was ended.
    TimedOut,
    /// It was begun, and the process ended before it did: nobody knows what came of it.
    Unknown,
    /// Only written down: `dry_run`.
    DryRun,
    /// Not taken: the same was done to the same target too short a time ago.
    CoolingDown,
    /// Not taken: it was done too often already.
    LimitReached,
    /// Not taken: a label holds what could be taken for more than a name.
    Refused,
}

impl ActionOutcome {
    /// Every outcome, so that counters can start at zero.
    pub const ALL: [ActionOutcome; 9] = [
        ActionOutcome::Running,
        ActionOutcome::Succeeded,
        ActionOutcome::Failed,
        ActionOutcome::TimedOut,
        ActionOutcome::Unknown,
        ActionOutcome::DryRun,
        ActionOutcome::CoolingDown,
        ActionOutcome::LimitReached,
        ActionOutcome::Refused,
    ];

    /// The outcome as a label value.
    pub fn as_str(self) -> &'static str {
        match self {
            ActionOutcome::Running => "running",
            ActionOutcome::Succeeded => "succeeded",
            ActionOutcome::Failed => "failed",
            ActionOutcome::TimedOut => "timed_out",
            ActionOutcome::Unknown => "unknown",
            ActionOutcome::DryRun => "dry_run",
            ActionOutcome::CoolingDown => "cooling_down",
            ActionOutcome::LimitReached => "limit_reached",
            ActionOutcome::Refused => "refused",
        }
    }

    /// The outcome with this label value.
    pub fn parse(text: &str) -> Option<Self> {
        ActionOutcome::ALL
            .into_iter()
            .find(|outcome| outcome.as_str() == text)
    }

    /// The outcome for people who read English.
    pub fn english(self) -> &'static str {
        match self {
            ActionOutcome::Running => "is under way",
            ActionOutcome::Succeeded => "succeeded",
            ActionOutcome::Failed => "FAILED",
            ActionOutcome::TimedOut => "TIMED OUT",
            ActionOutcome::Unknown => "was interrupted, its outcome is unknown",
            ActionOutcome::DryRun => "not done: dry run",
            ActionOutcome::CoolingDown => "not done again yet",
            ActionOutcome::LimitReached => "STOPPED: its limit is reached",
            ActionOutcome::Refused => "REFUSED",
        }
    }

    /// The outcome for people who read Chinese.
    pub fn chinese(self) -> &'static str {
        match self {
            ActionOutcome::Running => "正在执行",
            ActionOutcome::Succeeded => "成功",
            ActionOutcome::Failed => "失败",
            ActionOutcome::TimedOut => "超时",
            ActionOutcome::Unknown => "被中断，结果未知",
            ActionOutcome::DryRun => "未执行：演练模式",
            ActionOutcome::CoolingDown => "冷却中，未再次执行",
            ActionOutcome::LimitReached => "已停止：达到次数上限",
            ActionOutcome::Refused => "已拒绝",
        }
    }

    /// Whether something was begun, or may have been.
    pub fn was_begun(self) -> bool {
        use ActionOutcome::{Failed, Running, Succeeded, TimedOut, Unknown};
        matches!(self, Running | Succeeded | Failed | TimedOut | Unknown)
    }
}
