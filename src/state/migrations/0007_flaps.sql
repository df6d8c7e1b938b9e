-- When alerts began to fire lately, and which of them flap.
CREATE TABLE flaps (
    fingerprint TEXT NOT NULL PRIMARY KEY,
    changed_ms  BIGINT NOT NULL,
    body        TEXT NOT NULL
);
