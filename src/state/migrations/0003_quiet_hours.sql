-- 1 for a message that waits for the end of its receiver's quiet hours.
ALTER TABLE outbox ADD COLUMN held BIGINT NOT NULL DEFAULT 0;
