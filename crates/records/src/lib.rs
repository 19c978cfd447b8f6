//! What must be remembered, in SQLite or PostgreSQL: the index of kept objects, tombstones, tree heads, answers that change.
