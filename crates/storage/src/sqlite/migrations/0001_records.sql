CREATE TABLE records (
    kind     TEXT    NOT NULL,
    key      TEXT    NOT NULL,
    revision INTEGER NOT NULL,
    value    BLOB    NOT NULL,
    PRIMARY KEY (kind, key)
) STRICT;

-- The largest revision that was ever given out. It outlives the records, so that a revision never comes back.
CREATE TABLE last_revision (
    one      INTEGER PRIMARY KEY CHECK (one = 1),
    revision INTEGER NOT NULL
) STRICT;

INSERT INTO last_revision (one, revision) VALUES (1, 0);
