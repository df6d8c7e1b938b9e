-- Alerts of the rules as their last evaluation left them, so that a restart loses neither age nor value.
CREATE TABLE rule_alerts (
    rule        TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    body        TEXT NOT NULL,
    PRIMARY KEY (rule, fingerprint)
);
