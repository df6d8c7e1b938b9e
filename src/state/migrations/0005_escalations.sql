-- Critical alerts that somebody must acknowledge: whom they reached, and who took them on.
CREATE TABLE escalations (
    fingerprint     TEXT NOT NULL,
    receiver        TEXT NOT NULL,
    starts_ms       BIGINT NOT NULL,
    told_ms         BIGINT NOT NULL,
    level           BIGINT NOT NULL,
    acknowledged_ms BIGINT NOT NULL,
    acknowledged_by TEXT NOT NULL,
    PRIMARY KEY (fingerprint, receiver)
);

-- Keys of this installation, made at its first start.
CREATE TABLE secrets (
    name  TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);
