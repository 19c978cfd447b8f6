-- What was removed on purpose, for replicas that did not run then: PostgreSQL's alone, and here so that one SQL text
-- serves both.
CREATE TABLE removals (
    seq   INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    at_ms INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000 AS INTEGER)),
    key   TEXT    NOT NULL
);
CREATE INDEX removals_at ON removals (at_ms);
