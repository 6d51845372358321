CREATE TABLE IF NOT EXISTS codex.migrations (
    version integer PRIMARY KEY,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    applied_by text NOT NULL DEFAULT current_user,
    duration interval NOT NULL DEFAULT interval '0',
    extension_version text NOT NULL
);

COMMENT ON TABLE codex.migrations IS
    'Which migrations of the Codex this database has: written by codex.migrate() and codex.rollback().';
COMMENT ON COLUMN codex.migrations.checksum IS
    'SHA-256 of the migration''s up and down text when it was applied, in hexadecimal.';

SELECT codex.protect_shared('codex.migrations');

CREATE TABLE IF NOT EXISTS codex.roles (
    role_name name PRIMARY KEY,
    kind text NOT NULL
        CHECK (kind IN ('member', 'service')),
    granted_at timestamptz NOT NULL DEFAULT now(),
    granted_by name NOT NULL DEFAULT current_user
);

COMMENT ON TABLE codex.roles IS
    'Roles that codex.grant_member_role() and codex.grant_service_role() gave access to.';

SELECT codex.protect_shared('codex.roles');

CREATE TABLE IF NOT EXISTS codex.adopted (
    relation text NOT NULL,
    kind text NOT NULL,
    name text NOT NULL,
    definition text NOT NULL,
    adopted_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (relation, kind, name)
);

COMMENT ON TABLE codex.adopted IS
    'Tables that were there before the Codex (kind origin, with how they were), and the definitions they keep in their own way; codex.verify() expects these.';

SELECT codex.protect_shared('codex.adopted');
