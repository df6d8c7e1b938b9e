-- Recipients that a message to several is done with, as a JSON list: the next attempt leaves them out.
ALTER TABLE outbox ADD COLUMN served TEXT NOT NULL DEFAULT '';
ALTER TABLE dead_letters ADD COLUMN served TEXT NOT NULL DEFAULT '';
