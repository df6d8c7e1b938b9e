-- Tasks that people have done, planned windows, and when what is scheduled was last begun (or first seen).
CREATE TABLE maintenance_done (
    id       TEXT NOT NULL PRIMARY KEY,
    task     TEXT NOT NULL,
    at_ms    BIGINT NOT NULL,
    noted_ms BIGINT NOT NULL,
    who      TEXT NOT NULL,
    note     TEXT NOT NULL
);

CREATE INDEX maintenance_done_task ON maintenance_done (task, at_ms);

-- The id is that of the silence.
CREATE TABLE maintenance_windows (
    id        TEXT NOT NULL PRIMARY KEY,
    starts_ms BIGINT NOT NULL,
    ends_ms   BIGINT NOT NULL,
    body      TEXT NOT NULL
);

CREATE TABLE schedules (
    name  TEXT NOT NULL PRIMARY KEY,
    at_ms BIGINT NOT NULL
);
