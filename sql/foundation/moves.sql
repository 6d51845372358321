CREATE TABLE public.moves (
    id uuid PRIMARY KEY DEFAULT codex.uuid_v7(),
    workspace_id uuid NOT NULL REFERENCES public.workspaces (id) ON DELETE CASCADE,
    name text NOT NULL
        CHECK (btrim(name) <> ''),
    description text,
    status text NOT NULL DEFAULT 'planned',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT moves_workspace_id_id_key UNIQUE (workspace_id, id)
);

COMMENT ON TABLE public.moves IS
    'Steps that a workspace takes in the market. Made by codex.migrate(), because the database had no such table.';

SELECT codex.protect('public.moves');

CREATE TRIGGER moves_updated_at
    BEFORE UPDATE ON public.moves
    FOR EACH ROW EXECUTE FUNCTION codex.set_updated_at();
