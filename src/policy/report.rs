//! `codex.isolation_report()` and `codex.unprotected_tables()`: what weakens isolation in this database right now.
//!
//! Each rule is one statement over the catalogs that gives severity, object, finding, and the statement that
//! mends it. A tenant table is one that carries a policy of `codex.protect()` or has a uuid column
//! `workspace_id`; tables of extensions and of the system are left out.

use crate::context::membership;
use crate::context::settings::{self, Mode};
use crate::error::{OrRaise, Outcome};
use pgrx::prelude::*;
use pgrx::spi::SpiClient;

/// Opens every rule's statement: the tenant tables of this database.
const TENANT_TABLES: &str = "
WITH tenant AS MATERIALIZED (
    SELECT c.oid,
        c.relname,
        c.relowner,
        c.relacl,
        c.relrowsecurity,
        c.relforcerowsecurity,
        c.relispartition,
        pg_catalog.format('%I.%I', n.nspname, c.relname) AS name,
        w.attname AS workspace_column,
        EXISTS (
            SELECT
            FROM pg_catalog.pg_policy AS p
            WHERE p.polrelid = c.oid
                AND p.polname::text LIKE '%\\_workspace\\_isolation'
        ) AS isolated,
        EXISTS (
            SELECT
            FROM pg_catalog.aclexplode(c.relacl) AS a
            WHERE a.grantee <> c.relowner
        ) AS granted
    FROM pg_catalog.pg_class AS c
        JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
        LEFT JOIN pg_catalog.pg_attribute AS w ON w.attrelid = c.oid
            AND w.attname = 'workspace_id'
            AND w.atttypid = 'uuid'::regtype
            AND NOT w.attisdropped
    WHERE c.relkind IN ('r', 'p')
        AND n.nspname NOT IN ('pg_catalog', 'information_schema')
        AND n.nspname !~ '^pg_(toast|temp)'
        AND NOT EXISTS (
            SELECT
            FROM pg_catalog.pg_depend AS d
            WHERE d.classid = 'pg_catalog.pg_class'::regclass
                AND d.objid = c.oid
                AND d.deptype = 'e'
        )
),
guarded AS (
    SELECT t.*
    FROM tenant AS t
    WHERE t.isolated
        OR t.workspace_column IS NOT NULL
)";

/// Tables that hold tenants' rows, or that others may read, and that no policy protects.
const UNPROTECTED: &str = "
SELECT t.oid,
    CASE WHEN t.granted THEN 'critical' ELSE 'medium' END,
    t.name,
    CASE
        WHEN NOT t.relrowsecurity AND t.relispartition THEN 'a partition without row-level security of its own: read by its own name it shows every workspace'
        WHEN NOT t.relrowsecurity THEN 'row-level security is off'
        ELSE 'no policy binds its rows to a workspace'
    END || CASE WHEN t.granted THEN '' ELSE ' (nobody but its owner has been granted anything on it)' END,
    CASE
        WHEN t.workspace_column IS NOT NULL THEN pg_catalog.format('SELECT codex.protect(%L);', t.name)
        ELSE pg_catalog.format('SELECT codex.protect_shared(%L);', t.name)
    END
FROM tenant AS t
WHERE t.workspace_column IS NOT NULL AND NOT (t.relrowsecurity AND (t.isolated OR EXISTS (
        SELECT
        FROM pg_catalog.pg_policy AS p
        WHERE p.polrelid = t.oid
            AND pg_catalog.pg_get_expr(p.polqual, p.polrelid) LIKE '%current_workspace_id()%'
    )))
    OR t.workspace_column IS NULL AND NOT t.relrowsecurity AND t.granted
ORDER BY 2, 3";

/// The rules beside [`UNPROTECTED`].
const RULES: &[&str] = &[
    // Permissive policies are OR-ed: another one beside the isolation widens it.
    "
SELECT 'high',
    t.name,
    pg_catalog.format(
        'the permissive policy %I lets through more than the workspace%s',
        p.polname,
        CASE WHEN pg_catalog.pg_get_expr(p.polqual, p.polrelid) = 'true' THEN ': it is always true' ELSE '' END
    ),
    pg_catalog.format('DROP POLICY %I ON %s;', p.polname, t.name)
FROM guarded AS t
    JOIN pg_catalog.pg_policy AS p ON p.polrelid = t.oid
WHERE p.polpermissive
    AND p.polname::text NOT LIKE '%\\_workspace\\_isolation'
    AND t.isolated
ORDER BY t.name, p.polname",
    // Without the restrictive policy neighbours see each other's rows.
    "
SELECT 'critical',
    t.name,
    'its rows belong to users, but no restrictive policy keeps the neighbours in a workspace apart',
    pg_catalog.format(
        'SELECT codex.protect(%L, user_column => ''user_id''%s);',
        t.name,
        CASE WHEN t.relname = 'user_notifications' THEN '' ELSE ', user_writes => false' END
    )
FROM tenant AS t
WHERE t.name IN ('public.user_achievements', 'public.user_notifications', 'public.user_stats')
    AND t.relrowsecurity
    AND NOT EXISTS (
        SELECT
        FROM pg_catalog.pg_policy AS p
        WHERE p.polrelid = t.oid
            AND p.polname::text LIKE '%\\_own\\_access'
            AND NOT p.polpermissive
    )
ORDER BY t.name",
    // The owner of a table is not subject to its policies.
    "
SELECT CASE WHEN k.role_name IS NULL THEN 'medium' ELSE 'critical' END,
    t.name,
    pg_catalog.format('its owner %I can log in, and policies do not apply to the owner', o.rolname),
    pg_catalog.format('ALTER TABLE %s FORCE ROW LEVEL SECURITY;', t.name)
FROM guarded AS t
    JOIN pg_catalog.pg_roles AS o ON o.oid = t.relowner
    LEFT JOIN codex.roles AS k ON k.role_name = o.rolname
WHERE t.relrowsecurity
    AND NOT t.relforcerowsecurity
    AND (o.rolcanlogin AND NOT o.rolsuper OR k.role_name IS NOT NULL)
ORDER BY t.name",
    // Roles of the application that row-level security does not apply to.
    "
SELECT 'critical',
    pg_catalog.format('role %I', r.rolname),
    pg_catalog.format(
        'registered as a %s role, but %s: no policy applies to it',
        k.kind,
        CASE WHEN r.rolsuper THEN 'a superuser' ELSE 'has BYPASSRLS' END
    ),
    pg_catalog.format('ALTER ROLE %I %s;', r.rolname, CASE WHEN r.rolsuper THEN 'NOSUPERUSER' ELSE 'NOBYPASSRLS' END)
FROM codex.roles AS k
    JOIN pg_catalog.pg_roles AS r ON r.rolname = k.role_name
WHERE r.rolsuper
    OR r.rolbypassrls
ORDER BY r.rolname",
    // The same by SET ROLE: membership in a role that bypasses policies, or that owns a tenant table.
    "
SELECT CASE WHEN k.role_name IS NULL THEN 'medium' ELSE 'high' END,
    pg_catalog.format('role %I', r.rolname),
    pg_catalog.format(
        'can become %I, %s',
        b.rolname,
        CASE
            WHEN b.rolsuper THEN 'a superuser'
            WHEN b.rolbypassrls THEN 'which bypasses row-level security'
            ELSE 'which owns tables of tenants'
        END
    ),
    pg_catalog.format('REVOKE %I FROM %I;', b.rolname, r.rolname)
FROM pg_catalog.pg_roles AS r
    JOIN pg_catalog.pg_roles AS b ON b.oid <> r.oid
        AND pg_catalog.pg_has_role(r.oid, b.oid, 'MEMBER')
    LEFT JOIN codex.roles AS k ON k.role_name = r.rolname
WHERE NOT r.rolsuper
    AND NOT r.rolbypassrls
    AND (
        k.role_name IS NOT NULL
        OR r.rolcanlogin
        AND EXISTS (
            SELECT
            FROM guarded AS t
            WHERE pg_catalog.has_table_privilege(b.oid, t.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE')
        )
    )
    AND (
        b.rolsuper
        OR b.rolbypassrls
        OR EXISTS (
            SELECT
            FROM guarded AS t
            WHERE t.relowner = b.oid
                AND NOT t.relforcerowsecurity
        )
    )
ORDER BY r.rolname, b.rolname",
    // A member who inherits a service sees the neighbours' rows.
    "
SELECT 'high',
    pg_catalog.format('role %I', m.role_name),
    pg_catalog.format('a member role that inherits the service role %I: it sees the rows of all users of its workspace', s.role_name),
    pg_catalog.format('REVOKE %I FROM %I;', s.role_name, m.role_name)
FROM codex.roles AS m
    JOIN codex.roles AS s ON s.kind = 'service'
    JOIN pg_catalog.pg_roles AS mr ON mr.rolname = m.role_name
    JOIN pg_catalog.pg_roles AS sr ON sr.rolname = s.role_name
WHERE m.kind = 'member'
    AND pg_catalog.pg_has_role(mr.oid, sr.oid, 'MEMBER')
ORDER BY 2, 3",
    // A view reads with its owner's rights unless told otherwise.
    "
SELECT DISTINCT 'high',
    pg_catalog.format('%I.%I', n.nspname, v.relname),
    pg_catalog.format('a view that reads %s as its owner %I, past the policies', pg_catalog.string_agg(DISTINCT t.name, ', '), o.rolname),
    pg_catalog.format('ALTER VIEW %I.%I SET (security_invoker = true);', n.nspname, v.relname)
FROM guarded AS t
    JOIN pg_catalog.pg_depend AS d ON d.refclassid = 'pg_catalog.pg_class'::regclass
        AND d.refobjid = t.oid
        AND d.classid = 'pg_catalog.pg_rewrite'::regclass
    JOIN pg_catalog.pg_rewrite AS w ON w.oid = d.objid
    JOIN pg_catalog.pg_class AS v ON v.oid = w.ev_class
        AND v.relkind = 'v'
    JOIN pg_catalog.pg_namespace AS n ON n.oid = v.relnamespace
    JOIN pg_catalog.pg_roles AS o ON o.oid = v.relowner
WHERE NOT coalesce(
        (
            SELECT x.option_value::boolean
            FROM pg_catalog.pg_options_to_table(v.reloptions) AS x
            WHERE x.option_name = 'security_invoker'
        ),
        false
    )
    AND (
        o.rolsuper
        OR o.rolbypassrls
        OR pg_catalog.pg_has_role(o.oid, t.relowner, 'USAGE') AND NOT t.relforcerowsecurity
    )
GROUP BY n.nspname, v.relname, o.rolname
ORDER BY 2",
    // A materialised view has no policies.
    "
SELECT 'high',
    pg_catalog.format('%I.%I', n.nspname, v.relname),
    pg_catalog.format('a materialised view of %s: policies cannot protect it, and others may read it', pg_catalog.string_agg(DISTINCT t.name, ', ')),
    pg_catalog.format('REVOKE ALL ON %I.%I FROM PUBLIC%s;', n.nspname, v.relname, (
        SELECT pg_catalog.string_agg(', ' || r.rolname::regrole::text, '' ORDER BY r.rolname)
        FROM (
            SELECT DISTINCT g.rolname
            FROM pg_catalog.pg_class AS c
                CROSS JOIN LATERAL pg_catalog.aclexplode(c.relacl) AS a
                JOIN pg_catalog.pg_roles AS g ON g.oid = a.grantee
            WHERE c.oid = v.oid
                AND a.grantee <> c.relowner
        ) AS r
    ))
FROM guarded AS t
    JOIN pg_catalog.pg_depend AS d ON d.refclassid = 'pg_catalog.pg_class'::regclass
        AND d.refobjid = t.oid
        AND d.classid = 'pg_catalog.pg_rewrite'::regclass
    JOIN pg_catalog.pg_rewrite AS w ON w.oid = d.objid
    JOIN pg_catalog.pg_class AS v ON v.oid = w.ev_class
        AND v.relkind = 'm'
    JOIN pg_catalog.pg_namespace AS n ON n.oid = v.relnamespace
WHERE EXISTS (
        SELECT
        FROM pg_catalog.aclexplode(v.relacl) AS a
        WHERE a.grantee <> v.relowner
    )
GROUP BY n.nspname, v.relname, v.oid
ORDER BY 2",
    // Definer functions: their search path, and who may call them.
    "
SELECT CASE WHEN o.rolsuper OR o.rolbypassrls THEN 'high' ELSE 'medium' END,
    p.oid::regprocedure::text,
    pg_catalog.format('runs as its owner %I (SECURITY DEFINER) with the search path of its caller', o.rolname),
    pg_catalog.format('ALTER FUNCTION %s SET search_path = pg_catalog, pg_temp;', p.oid::regprocedure)
FROM pg_catalog.pg_proc AS p
    JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
    JOIN pg_catalog.pg_roles AS o ON o.oid = p.proowner
WHERE p.prosecdef
    AND n.nspname NOT IN ('pg_catalog', 'information_schema')
    AND NOT EXISTS (
        SELECT
        FROM pg_catalog.unnest(p.proconfig) AS setting
        WHERE setting LIKE 'search\\_path=%'
    )
    AND NOT EXISTS (
        SELECT
        FROM pg_catalog.pg_depend AS d
        WHERE d.classid = 'pg_catalog.pg_proc'::regclass
            AND d.objid = p.oid
            AND d.deptype = 'e'
    )
ORDER BY 2",
    "
SELECT 'medium',
    p.oid::regprocedure::text,
    pg_catalog.format('runs as its owner %I (SECURITY DEFINER), past the policies, and everybody may call it', o.rolname),
    pg_catalog.format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC;', p.oid::regprocedure)
FROM pg_catalog.pg_proc AS p
    JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
    JOIN pg_catalog.pg_roles AS o ON o.oid = p.proowner
WHERE p.prosecdef
    AND n.nspname NOT IN ('pg_catalog', 'information_schema')
    AND p.prorettype <> ALL (ARRAY['trigger', 'event_trigger']::regtype[])
    AND (
        o.rolsuper
        OR o.rolbypassrls
        OR EXISTS (
            SELECT
            FROM guarded AS t
            WHERE t.relowner = o.oid
        )
    )
    AND EXISTS (
        SELECT
        FROM pg_catalog.aclexplode(coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner))) AS a
        WHERE a.grantee = 0
            AND a.privilege_type = 'EXECUTE'
    )
    AND NOT EXISTS (
        SELECT
        FROM pg_catalog.pg_depend AS d
        WHERE d.classid = 'pg_catalog.pg_proc'::regclass
            AND d.objid = p.oid
            AND d.deptype = 'e'
    )
ORDER BY 2",
    // Privileges that row-level security does not see.
    "
SELECT CASE WHEN a.privilege_type = 'TRUNCATE' THEN 'high' ELSE 'medium' END,
    t.name,
    pg_catalog.format(
        '%s has %s, which row-level security does not see',
        coalesce(pg_catalog.quote_ident(r.rolname), 'PUBLIC'),
        pg_catalog.string_agg(a.privilege_type, ', ' ORDER BY a.privilege_type)
    ),
    pg_catalog.format(
        'REVOKE %s ON %s FROM %s;',
        pg_catalog.string_agg(a.privilege_type, ', ' ORDER BY a.privilege_type),
        t.name,
        coalesce(pg_catalog.quote_ident(r.rolname), 'PUBLIC')
    )
FROM tenant AS t
    CROSS JOIN LATERAL pg_catalog.aclexplode(t.relacl) AS a
    LEFT JOIN pg_catalog.pg_roles AS r ON r.oid = a.grantee
WHERE t.relrowsecurity
    AND a.grantee <> t.relowner
    AND a.privilege_type IN ('TRUNCATE', 'REFERENCES', 'TRIGGER', 'MAINTAIN')
GROUP BY t.name, r.rolname, a.privilege_type = 'TRUNCATE', CASE WHEN a.privilege_type = 'TRUNCATE' THEN 'high' ELSE 'medium' END
ORDER BY 1, 2, 3",
    // A row moves to another workspace when its workspace_id may be updated.
    "
SELECT 'low',
    t.name,
    pg_catalog.format('%s may update %I; the policy keeps it from naming another workspace than the current one', coalesce(pg_catalog.quote_ident(r.rolname), 'PUBLIC'), t.workspace_column),
    pg_catalog.format('REVOKE UPDATE ON %s FROM %s;', t.name, coalesce(pg_catalog.quote_ident(r.rolname), 'PUBLIC'))
FROM guarded AS t
    CROSS JOIN LATERAL pg_catalog.aclexplode(t.relacl) AS a
    LEFT JOIN pg_catalog.pg_roles AS r ON r.oid = a.grantee
WHERE a.privilege_type = 'UPDATE'
    AND a.grantee <> t.relowner
    AND t.workspace_column IS NOT NULL
    AND NOT coalesce(r.rolsuper OR r.rolbypassrls, false)
ORDER BY t.name, r.rolname",
    // What new tables will be granted.
    "
SELECT 'medium',
    CASE WHEN n.nspname IS NULL THEN 'default privileges' ELSE pg_catalog.format('default privileges in schema %I', n.nspname) END,
    pg_catalog.format(
        'tables made by %I are granted to %s with %s, before they have any policy',
        o.rolname,
        coalesce(pg_catalog.quote_ident(r.rolname), 'PUBLIC'),
        pg_catalog.string_agg(a.privilege_type, ', ' ORDER BY a.privilege_type)
    ),
    pg_catalog.format(
        'ALTER DEFAULT PRIVILEGES FOR ROLE %I%s REVOKE ALL ON TABLES FROM %s;',
        o.rolname,
        CASE WHEN n.nspname IS NULL THEN '' ELSE pg_catalog.format(' IN SCHEMA %I', n.nspname) END,
        coalesce(pg_catalog.quote_ident(r.rolname), 'PUBLIC')
    )
FROM pg_catalog.pg_default_acl AS f
    CROSS JOIN LATERAL pg_catalog.aclexplode(f.defaclacl) AS a
    JOIN pg_catalog.pg_roles AS o ON o.oid = f.defaclrole
    LEFT JOIN pg_catalog.pg_roles AS r ON r.oid = a.grantee
    LEFT JOIN pg_catalog.pg_namespace AS n ON n.oid = f.defaclnamespace
WHERE f.defaclobjtype = 'r'
    AND a.grantee <> f.defaclrole
    AND NOT coalesce(r.rolsuper OR r.rolbypassrls, false)
GROUP BY n.nspname, o.rolname, r.rolname
ORDER BY 2, 3",
    // Whoever may create objects in a schema that others look into can put his own in front of theirs.
    "
SELECT 'high',
    pg_catalog.format('schema %I', n.nspname),
    pg_catalog.format('%s may create objects in it', coalesce(pg_catalog.quote_ident(r.rolname), 'PUBLIC')),
    pg_catalog.format('REVOKE CREATE ON SCHEMA %I FROM %s;', n.nspname, coalesce(pg_catalog.quote_ident(r.rolname), 'PUBLIC'))
FROM pg_catalog.pg_namespace AS n
    CROSS JOIN LATERAL pg_catalog.aclexplode(n.nspacl) AS a
    LEFT JOIN pg_catalog.pg_roles AS r ON r.oid = a.grantee
    LEFT JOIN codex.roles AS k ON k.role_name = r.rolname
WHERE n.nspname IN ('public', 'codex')
    AND a.privilege_type = 'CREATE'
    AND (a.grantee = 0 OR k.role_name IS NOT NULL)
ORDER BY 2, 3",
    // A reference between tenant tables that does not carry the workspace accepts another tenant's row.
    "
SELECT 'medium',
    t.name,
    pg_catalog.format('the foreign key %I to %s does not carry the workspace: it accepts, and tells of, rows of other workspaces', k.conname, f.name),
    pg_catalog.format(
        'ALTER TABLE %s ADD FOREIGN KEY (workspace_id, %s) REFERENCES %s (workspace_id, %s), DROP CONSTRAINT %I;',
        t.name,
        (
            SELECT pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ', ' ORDER BY x.position)
            FROM pg_catalog.unnest(k.conkey) WITH ORDINALITY AS x (attnum, position)
                JOIN pg_catalog.pg_attribute AS a ON a.attrelid = k.conrelid AND a.attnum = x.attnum
        ),
        f.name,
        (
            SELECT pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ', ' ORDER BY x.position)
            FROM pg_catalog.unnest(k.confkey) WITH ORDINALITY AS x (attnum, position)
                JOIN pg_catalog.pg_attribute AS a ON a.attrelid = k.confrelid AND a.attnum = x.attnum
        ),
        k.conname
    )
FROM pg_catalog.pg_constraint AS k
    JOIN guarded AS t ON t.oid = k.conrelid
    JOIN guarded AS f ON f.oid = k.confrelid
WHERE k.contype = 'f'
    AND k.conparentid = 0
    AND t.workspace_column IS NOT NULL
    AND f.workspace_column IS NOT NULL
    AND NOT EXISTS (
        SELECT
        FROM pg_catalog.pg_attribute AS a
        WHERE a.attrelid = k.conrelid
            AND a.attname = 'workspace_id'
            AND a.attnum = ANY (k.conkey)
    )
ORDER BY t.name, k.conname",
    // The planner runs a leakproof function before the policy.
    "
SELECT 'low',
    p.oid::regprocedure::text,
    'marked LEAKPROOF: it sees rows before the policies have dropped them',
    pg_catalog.format('ALTER FUNCTION %s NOT LEAKPROOF;', p.oid::regprocedure)
FROM pg_catalog.pg_proc AS p
    JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
WHERE p.proleakproof
    AND n.nspname NOT IN ('pg_catalog', 'information_schema')
    AND NOT EXISTS (
        SELECT
        FROM pg_catalog.pg_depend AS d
        WHERE d.classid = 'pg_catalog.pg_proc'::regclass
            AND d.objid = p.oid
            AND d.deptype = 'e'
    )
ORDER BY 2",
];

/// A finding: severity, object, what was found, and the statement that mends it.
type Finding = (String, String, String, String);

/// Lists what weakens the isolation of workspaces in this database right now.
///
/// `severity` is `critical` (tenants' rows are open), `high` (open by a detour), `medium` or `low`; `object` is
/// what it is about, `finding` says it in words, `mend` is the statement that mends it: read it before you run
/// it. No row: nothing was found. Reads the catalogs only and needs no privilege but USAGE on schema `codex` and
/// SELECT on `codex.roles`.
#[pg_extern(stable, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn isolation_report() -> TableIterator<
    'static,
    (
        name!(severity, String),
        name!(object, String),
        name!(finding, String),
        name!(mend, String),
    ),
> {
    TableIterator::new(Spi::connect(report).or_raise())
}

fn report(client: &SpiClient<'_>) -> Outcome<Vec<Finding>> {
    let mut findings = membership_findings();
    findings.extend(
        unprotected(client)?
            .into_iter()
            .map(|(_, severity, name, finding, mend)| (severity, name, finding, mend)),
    );
    let registered = membership::table_named(c"codex", c"roles").is_some();
    for rule in RULES {
        // Before the tables are there, no role is registered.
        let rule = if registered {
            (*rule).to_string()
        } else {
            rule.replace(
                "codex.roles",
                "(SELECT NULL::name AS role_name, NULL::text AS kind WHERE false)",
            )
        };
        let rows = client.select(&format!("{TENANT_TABLES}\n{rule}"), None, &[])?;
        for row in rows {
            findings.push((
                row.get::<String>(1)?.unwrap_or_default(),
                row.get::<String>(2)?.unwrap_or_default(),
                row.get::<String>(3)?.unwrap_or_default(),
                row.get::<String>(4)?.unwrap_or_default(),
            ));
        }
    }
    findings.extend(setting_findings(client)?);
    let rank = |severity: &str| {
        ["critical", "high", "medium", "low"]
            .iter()
            .position(|one| *one == severity)
    };
    findings.sort_by_key(|finding| rank(&finding.0));
    Ok(findings)
}

fn membership_findings() -> Vec<Finding> {
    match membership::table() {
        None => vec![(
            "high".into(),
            "membership".into(),
            "there is neither public.workspace_members nor public.user_workspaces: no user is a member of anything".into(),
            "SELECT * FROM codex.migrate();".into(),
        )],
        Some(table) if !membership::readable(table) => vec![(
            "high".into(),
            "membership".into(),
            "the membership table is no ordinary table with uuid columns workspace_id and user_id: no user counts as a member".into(),
            "-- Give public.workspace_members uuid columns workspace_id and user_id, and make it an ordinary table.".into(),
        )],
        Some(_) => Vec::new(),
    }
}

fn setting_findings(client: &SpiClient<'_>) -> Outcome<Vec<Finding>> {
    let mut findings = Vec::new();
    let (database, preloaded) = client
        .select(
            "SELECT pg_catalog.quote_ident(pg_catalog.current_database()),
                 pg_catalog.concat_ws(',',
                     pg_catalog.current_setting('session_preload_libraries', true),
                     pg_catalog.current_setting('shared_preload_libraries', true),
                     pg_catalog.current_setting('local_preload_libraries', true)
                 ) LIKE '%raptorflow\\_codex%'",
            Some(1),
            &[],
        )?
        .next()
        .map(|row| {
            Ok::<_, crate::error::CodexError>((
                row.get::<String>(1)?.unwrap_or_default(),
                row.get::<bool>(2)?.unwrap_or(false),
            ))
        })
        .transpose()?
        .unwrap_or_default();
    if settings::mode() == Mode::Session {
        findings.push((
            "low".into(),
            "raptorflow_codex.context".into(),
            "settings of the session count as context: a pooled connection can carry a tenant over to the next one".into(),
            format!("ALTER DATABASE {database} SET raptorflow_codex.context = 'transaction';"),
        ));
    }
    if !preloaded {
        findings.push((
            "low".into(),
            "session_preload_libraries".into(),
            "the library is loaded at its first use only: a malformed context that is set before is refused late, with a warning".into(),
            format!("ALTER DATABASE {database} SET session_preload_libraries = 'raptorflow_codex';"),
        ));
    }
    Ok(findings)
}

type Unprotected = (pg_sys::Oid, String, String, String, String);

fn unprotected(client: &SpiClient<'_>) -> Outcome<Vec<Unprotected>> {
    client
        .select(&format!("{TENANT_TABLES}\n{UNPROTECTED}"), None, &[])?
        .map(|row| {
            Ok((
                row.get::<pg_sys::Oid>(1)?.unwrap_or(pg_sys::InvalidOid),
                row.get::<String>(2)?.unwrap_or_default(),
                row.get::<String>(3)?.unwrap_or_default(),
                row.get::<String>(4)?.unwrap_or_default(),
                row.get::<String>(5)?.unwrap_or_default(),
            ))
        })
        .collect()
}

/// Lists the tables that no policy protects: those with a uuid column `workspace_id` and no policy that binds
/// their rows to a workspace, and those without row-level security on which others than the owner were granted
/// something. Tables of the system and of extensions are left out.
#[pg_extern(stable, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn unprotected_tables() -> TableIterator<
    'static,
    (
        name!(table_name, String),
        name!(reason, String),
        name!(mend, String),
    ),
> {
    TableIterator::new(
        Spi::connect(unprotected)
            .or_raise()
            .into_iter()
            .map(|(_, _, name, reason, mend)| (name, reason, mend)),
    )
}

extension_sql!(
    r#"
COMMENT ON FUNCTION isolation_report() IS
'What weakens the isolation of workspaces in this database right now, a row each: severity (critical, high, medium, low), object, finding, and the statement that mends it. No row: nothing was found.';
COMMENT ON FUNCTION unprotected_tables() IS
'Tables that no policy protects: those with a uuid column workspace_id and no policy that binds their rows to a workspace, and those without row-level security on which others than the owner were granted something; with the statement that protects each.';
"#,
    name = "comment_report",
    requires = [isolation_report, unprotected_tables]
);
