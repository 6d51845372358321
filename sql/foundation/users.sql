CREATE TABLE public.users (
    id uuid PRIMARY KEY DEFAULT codex.uuid_v7(),
    email text
        CHECK (btrim(email) <> ''),
    full_name text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

COMMENT ON TABLE public.users IS
    'The people of the product. Made by codex.migrate(), because the database had no table of users.';

CREATE UNIQUE INDEX users_email_key
    ON public.users (lower(email));

ALTER TABLE public.users ENABLE ROW LEVEL SECURITY;

CREATE POLICY users_own_access
    ON public.users
    USING (id = (SELECT codex.current_user_id()));

CREATE TRIGGER users_updated_at
    BEFORE UPDATE ON public.users
    FOR EACH ROW EXECUTE FUNCTION codex.set_updated_at();
