-- 018 requests: codex.requests, the memory of calls that carry an idempotency key.
-- :users is the table of users of this database; codex.migrate() and codex.migration_sql() fill it in.

CREATE TABLE codex.requests (
    id uuid PRIMARY KEY DEFAULT codex.uuid_v7(),
    workspace_id uuid NOT NULL REFERENCES public.workspaces (id) ON DELETE CASCADE,
    user_id uuid REFERENCES :users (id) ON DELETE CASCADE,
    operation text NOT NULL
        CHECK (btrim(operation) <> ''),
    idempotency_key text NOT NULL
        CHECK (btrim(idempotency_key) <> '' AND length(idempotency_key) <= 200),
    request_hash bytea NOT NULL,
    answer jsonb,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT requests_idempotency_key UNIQUE NULLS NOT DISTINCT (workspace_id, operation, idempotency_key, user_id)
);

COMMENT ON TABLE codex.requests IS
    'Calls that carried an idempotency key, with their answers: the same call again gets the same answer and changes nothing.';
COMMENT ON COLUMN codex.requests.user_id IS
    'The user in whose own name the call was made; NULL for a service. A key is the caller''s own.';
COMMENT ON COLUMN codex.requests.operation IS
    'The function that was called.';
COMMENT ON COLUMN codex.requests.request_hash IS
    'SHA-256 of the arguments: another call with the same key is refused.';
COMMENT ON COLUMN codex.requests.answer IS
    'What the first call answered.';

CREATE INDEX requests_user_id_idx
    ON codex.requests (user_id)
    WHERE user_id IS NOT NULL;
CREATE INDEX requests_created_at_idx
    ON codex.requests (created_at);

SELECT codex.protect('codex.requests', user_column => 'user_id');
