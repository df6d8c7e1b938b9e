//! The numbered changes of the schema, in order. Each is SQL text in the subset that SQLite and
//! PostgreSQL share.
//!
//! To add a table: write `NNNN_<name>.sql` here with the next number, list it in [`MIGRATIONS`],
//! and give the table a file of its own in `src/state/`. A migration that has been released is
//! never edited.

/// One change of the schema.
pub struct Migration {
    /// Its number; they run in this order and each runs once.
    pub number: i64,
    /// The statements.
    pub sql: &'static str,
}

/// Every change there is, lowest number first.
pub const MIGRATIONS: &[Migration] = &[
    Migration {
        number: 1,
        sql: include_str!("0001_alerting.sql"),
    },
    Migration {
        number: 2,
        sql: include_str!("0002_rule_alerts.sql"),
    },
    Migration {
        number: 3,
        sql: include_str!("0003_quiet_hours.sql"),
    },
    Migration {
        number: 4,
        sql: include_str!("0004_decisions.sql"),
    },
    Migration {
        number: 5,
        sql: include_str!("0005_escalations.sql"),
    },
    Migration {
        number: 6,
        sql: include_str!("0006_action_log.sql"),
    },
    Migration {
        number: 7,
        sql: include_str!("0007_flaps.sql"),
    },
    Migration {
        number: 8,
        sql: include_str!("0008_outbox_groups.sql"),
    },
    Migration {
        number: 9,
        sql: include_str!("0009_outbox_served.sql"),
    },
    Migration {
        number: 10,
        sql: include_str!("0010_maintenance.sql"),
    },
];
