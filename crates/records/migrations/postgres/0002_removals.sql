-- What was removed on purpose, for replicas that did not run then.
CREATE TABLE removals (
    seq   BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at_ms BIGINT NOT NULL DEFAULT (CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)),
    key   TEXT COLLATE "C" NOT NULL
);
CREATE INDEX removals_at ON removals (at_ms);
