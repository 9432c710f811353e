-- What the log is. One row, written once.
CREATE TABLE meta (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    cell INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    -- Where the generation before ended, all three or none.
    predecessor_generation INTEGER,
    predecessor_ordinal INTEGER,
    predecessor_digest BLOB
) STRICT;

-- Where the log stands. One row. `last` never goes back, so that trimming frees no ordinal for another batch.
CREATE TABLE ends (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    last INTEGER NOT NULL,
    trimmed INTEGER NOT NULL
) STRICT;

CREATE TABLE batches (
    ordinal INTEGER PRIMARY KEY,
    node INTEGER NOT NULL,
    incarnation INTEGER NOT NULL,
    number INTEGER NOT NULL,
    -- Of generation, ordinal, id and bytes; see `checksum`.
    checksum INTEGER NOT NULL,
    bytes BLOB NOT NULL
) STRICT;

-- The newest batch of each node. It outlives trimming and stands in for an index on ids: what is retried is nearly always the newest.
CREATE TABLE newest (
    node INTEGER PRIMARY KEY,
    incarnation INTEGER NOT NULL,
    number INTEGER NOT NULL,
    ordinal INTEGER NOT NULL
) STRICT;
