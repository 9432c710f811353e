-- Commands that the operator marked to be skipped: the batch's ordinal, and which command of it, from 0.
CREATE TABLE IF NOT EXISTS skips (
    ordinal INTEGER NOT NULL,
    command INTEGER NOT NULL,
    -- Of generation, ordinal and command; see `checksum`.
    checksum INTEGER NOT NULL,
    PRIMARY KEY (ordinal, command)
) STRICT, WITHOUT ROWID;

-- Of a journal: commands that its node has agreed to have skipped, and does not know to be marked. Apart, because they are not skipped.
CREATE TABLE IF NOT EXISTS agreed (
    ordinal INTEGER NOT NULL,
    command INTEGER NOT NULL,
    checksum INTEGER NOT NULL,
    PRIMARY KEY (ordinal, command)
) STRICT, WITHOUT ROWID;
