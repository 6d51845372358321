-- 025 departures: codex.departures, the receipts of what was erased.
-- :users is the table of users of this database; codex.migrate() and codex.migration_sql() fill it in.

-- Without references and without a workspace_id: a receipt outlives what it is about.
CREATE TABLE codex.departures (
    id uuid PRIMARY KEY DEFAULT codex.uuid_v7(),
    kind text NOT NULL
        CHECK (kind IN ('user', 'workspace')),
    subject uuid NOT NULL,
    rows_deleted bigint NOT NULL
        CHECK (rows_deleted >= 0),
    rows_anonymised bigint NOT NULL
        CHECK (rows_anonymised >= 0),
    counts jsonb NOT NULL,
    erased_by name NOT NULL DEFAULT current_user,
    erased_at timestamptz NOT NULL DEFAULT now()
);

COMMENT ON TABLE codex.departures IS
    'Receipts of codex.erase_workspace() and codex.erase_user(): one a call that found something. For the owner to read.';
COMMENT ON COLUMN codex.departures.subject IS
    'The id of the workspace or of the user; nothing else is kept about either.';
COMMENT ON COLUMN codex.departures.rows_anonymised IS
    'Rows that stayed and whose references became NULL.';
COMMENT ON COLUMN codex.departures.counts IS
    'What was done to how many rows of which table: [{"table", "action", "rows"}, …], actions deleted, anonymised, loosened, kept.';

CREATE INDEX departures_subject_idx
    ON codex.departures (subject);

SELECT codex.protect_shared('codex.departures');
