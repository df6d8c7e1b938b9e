-- What was decided about alerts, so that people can ask why they were told or not. A scope is the name of an alert (what its rule decided),
-- a group key (what a flush decided) or an integration (what became of a message).
CREATE TABLE decisions (
    seq    BIGINT NOT NULL,
    scope  TEXT NOT NULL,
    at_ms  BIGINT NOT NULL,
    alerts TEXT NOT NULL,
    body   TEXT NOT NULL
);

CREATE INDEX decisions_order ON decisions (seq);
CREATE INDEX decisions_scope ON decisions (scope, seq);
