CREATE TABLE public.cohorts (
    id uuid PRIMARY KEY DEFAULT codex.uuid_v7(),
    workspace_id uuid NOT NULL REFERENCES public.workspaces (id) ON DELETE CASCADE,
    name text NOT NULL
        CHECK (btrim(name) <> ''),
    description text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT cohorts_workspace_id_id_key UNIQUE (workspace_id, id)
);

COMMENT ON TABLE public.cohorts IS
    'Groups of people that campaigns address. Made by codex.migrate(), because the database had no such table.';

SELECT codex.protect('public.cohorts');

CREATE TRIGGER cohorts_updated_at
    BEFORE UPDATE ON public.cohorts
    FOR EACH ROW EXECUTE FUNCTION codex.set_updated_at();
