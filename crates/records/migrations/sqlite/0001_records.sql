CREATE TABLE objects (
    key        TEXT    NOT NULL PRIMARY KEY,
    folder     TEXT    NOT NULL,
    size       INTEGER NOT NULL,
    sha256     BLOB    NOT NULL,
    h1         TEXT,
    kept_at_ms INTEGER NOT NULL,
    used_at_ms INTEGER NOT NULL,
    pinned     BOOLEAN NOT NULL DEFAULT FALSE
) WITHOUT ROWID;
CREATE INDEX objects_folder ON objects (folder);
CREATE INDEX objects_kept ON objects (kept_at_ms, key);
CREATE INDEX objects_used ON objects (used_at_ms, key);

CREATE TABLE tombstones (
    module  TEXT NOT NULL,
    version TEXT NOT NULL,
    reason  TEXT NOT NULL,
    time    TEXT NOT NULL,
    PRIMARY KEY (module, version)
) WITHOUT ROWID;

CREATE TABLE tree_heads (
    name TEXT    NOT NULL PRIMARY KEY,
    size INTEGER NOT NULL,
    note BLOB    NOT NULL,
    fork BLOB
);

CREATE TABLE answers (
    key      TEXT    NOT NULL PRIMARY KEY,
    asked_ms INTEGER NOT NULL,
    raw      BLOB    NOT NULL
);

-- Small facts by name, such as which old files were taken over.
CREATE TABLE facts (
    name  TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);

CREATE TABLE changes (
    seq   INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    at_ms INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000 AS INTEGER)),
    kind  TEXT    NOT NULL,
    key   TEXT    NOT NULL
);

CREATE TABLE leases (
    key        TEXT    NOT NULL PRIMARY KEY,
    holder     TEXT    NOT NULL,
    token      INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL
);
