CREATE TABLE public.workspaces (
    id uuid PRIMARY KEY DEFAULT codex.uuid_v7(),
    name text NOT NULL
        CHECK (btrim(name) <> ''),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

COMMENT ON TABLE public.workspaces IS
    'The tenants. Made by codex.migrate(), because the database had no such table.';

SELECT codex.protect('public.workspaces', workspace_column => 'id');

CREATE TRIGGER workspaces_updated_at
    BEFORE UPDATE ON public.workspaces
    FOR EACH ROW EXECUTE FUNCTION codex.set_updated_at();
