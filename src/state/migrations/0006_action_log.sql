-- What recovery actions did, or why they were not taken. A row is there before its action begins.
CREATE TABLE action_log (
    id          TEXT NOT NULL PRIMARY KEY,
    integration TEXT NOT NULL,
    target      TEXT NOT NULL,
    begun_ms    BIGINT NOT NULL,
    outcome     TEXT NOT NULL,
    body        TEXT NOT NULL
);

CREATE INDEX action_log_target ON action_log (integration, target, begun_ms);
CREATE INDEX action_log_begun ON action_log (begun_ms);
