-- The messages of one group that wait, without a look at all the others.
CREATE INDEX outbox_groups ON outbox (integration, group_key, seq);
