-- What alerting must still know after a restart. One dialect for SQLite and PostgreSQL: TEXT, BIGINT (times in
-- milliseconds since the Unix epoch, flags 0 and 1), no defaults, no triggers.

-- Alerts that some group still has to tell about.
CREATE TABLE alerts (
    fingerprint TEXT NOT NULL PRIMARY KEY,
    body        TEXT NOT NULL
);

-- Timers of the aggregation groups.
CREATE TABLE alert_groups (
    id            TEXT NOT NULL PRIMARY KEY,
    next_flush_ms BIGINT NOT NULL,
    flushed       BIGINT NOT NULL
);

-- What each integration was last told about each group.
CREATE TABLE notification_log (
    group_key   TEXT NOT NULL,
    integration TEXT NOT NULL,
    sent_ms     BIGINT NOT NULL,
    firing      TEXT NOT NULL,
    resolved    TEXT NOT NULL,
    expires_ms  BIGINT NOT NULL,
    PRIMARY KEY (group_key, integration)
);

-- Messages that a receiver has not accepted yet, in the order in which they were decided.
CREATE TABLE outbox (
    delivery_id TEXT NOT NULL PRIMARY KEY,
    seq         BIGINT NOT NULL,
    integration TEXT NOT NULL,
    group_key   TEXT NOT NULL,
    created_ms  BIGINT NOT NULL,
    body        TEXT NOT NULL
);

CREATE INDEX outbox_order ON outbox (integration, seq);

-- Messages that no attempt could bring to their receiver, kept for people to look at.
CREATE TABLE dead_letters (
    delivery_id TEXT NOT NULL PRIMARY KEY,
    integration TEXT NOT NULL,
    group_key   TEXT NOT NULL,
    created_ms  BIGINT NOT NULL,
    died_ms     BIGINT NOT NULL,
    error       TEXT NOT NULL,
    body        TEXT NOT NULL
);

CREATE TABLE silences (
    id         TEXT NOT NULL PRIMARY KEY,
    starts_ms  BIGINT NOT NULL,
    ends_ms    BIGINT NOT NULL,
    updated_ms BIGINT NOT NULL,
    body       TEXT NOT NULL
);
