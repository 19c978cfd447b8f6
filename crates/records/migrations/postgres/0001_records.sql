-- Keys are ordered by their bytes, as in SQLite, whatever the database's own collation is.
CREATE TABLE objects (
    key        TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    folder     TEXT COLLATE "C" NOT NULL,
    size       BIGINT  NOT NULL,
    sha256     BYTEA   NOT NULL,
    h1         TEXT,
    kept_at_ms BIGINT  NOT NULL,
    used_at_ms BIGINT  NOT NULL,
    pinned     BOOLEAN NOT NULL DEFAULT FALSE
);
CREATE INDEX objects_folder ON objects (folder);
CREATE INDEX objects_kept ON objects (kept_at_ms, key);
CREATE INDEX objects_used ON objects (used_at_ms, key);

CREATE TABLE tombstones (
    module  TEXT COLLATE "C" NOT NULL,
    version TEXT COLLATE "C" NOT NULL,
    reason  TEXT NOT NULL,
    time    TEXT NOT NULL,
    PRIMARY KEY (module, version)
);

CREATE TABLE tree_heads (
    name TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    size BIGINT NOT NULL,
    note BYTEA  NOT NULL,
    fork BYTEA
);

CREATE TABLE answers (
    key      TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    asked_ms BIGINT NOT NULL,
    raw      BYTEA  NOT NULL
);

-- Small facts by name, such as which old files were taken over.
CREATE TABLE facts (
    name  TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);

CREATE TABLE changes (
    seq   BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at_ms BIGINT NOT NULL DEFAULT (CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)),
    kind  TEXT   NOT NULL,
    key   TEXT   NOT NULL
);

CREATE TABLE leases (
    key        TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    holder     TEXT   NOT NULL,
    token      BIGINT NOT NULL,
    expires_ms BIGINT NOT NULL
);
-- Tokens only grow, over all leases and for ever.
CREATE SEQUENCE lease_tokens;
