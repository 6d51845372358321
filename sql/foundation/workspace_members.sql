CREATE TABLE public.workspace_members (
    workspace_id uuid NOT NULL REFERENCES public.workspaces (id) ON DELETE CASCADE,
    user_id uuid NOT NULL REFERENCES :users (id) ON DELETE CASCADE,
    role text NOT NULL DEFAULT 'member',
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (workspace_id, user_id)
);

COMMENT ON TABLE public.workspace_members IS
    'Which user belongs to which workspace. Made by codex.migrate(), because the database had no such table.';

CREATE INDEX workspace_members_user_id_idx
    ON public.workspace_members (user_id);

SELECT codex.protect('public.workspace_members');
