//! Call-throughs: the product's functions under the same names in another schema.
//!
//! PostgREST's `rpc()` finds functions in the schemas that it serves, and older callers name functions without
//! a schema. `codex.expose('public')` makes functions of the same names, arguments, defaults and results there,
//! each of which does nothing but call the one in schema `codex`; `codex.unexpose('public')` takes them away.

use crate::error::{CodexError, OrRaise, Outcome, required, shorten};
use crate::schema::locks::one_at_a_time;
use crate::statement::message_of;
use pgrx::prelude::*;
use pgrx::spi::{SpiClient, quote_identifier, quote_literal, quote_qualified_identifier};

/// The functions that are exposed: those of the product, and their bulk forms.
const EXPOSED: &[&str] = &[
    "acknowledge_alert",
    "agent_performance_summary",
    "create_insight_from_signals",
    "create_system_alert",
    "dismiss_alert",
    "get_active_insights",
    "get_critical_alerts",
    "get_priority_signals",
    "get_user_unread_notifications",
    "mark_all_notifications_read",
    "mark_notification_as_read",
    "record_agent_execution",
    "resolve_alert",
    "send_user_notification",
    "send_user_notifications",
    "unlock_achievement",
];

/// How the comment of every call-through begins. It is what tells ours from other functions; dumps keep it.
const MARK: &str = "Call-through made by codex.expose().";

/// A function of ours.
struct Original {
    oid: pg_sys::Oid,
    name: String,
    /// Types of the arguments, and how many of them have no default.
    types: Vec<pg_sys::Oid>,
    required: usize,
    /// With names and defaults, as CREATE FUNCTION takes them.
    arguments: String,
    /// With names and without defaults, as DROP FUNCTION takes them.
    identity: String,
    result: String,
    volatility: i8,
    parallel: i8,
    returns_set: bool,
    comment: String,
}

/// A function in the target schema that a caller of ours would or could meet.
struct Existing {
    name: String,
    types: Vec<pg_sys::Oid>,
    identity: String,
    result: String,
    language: String,
    ours: bool,
    plain_function: bool,
    of_an_extension: bool,
}

const ORIGINALS: &str = "
SELECT
    p.oid,
    p.proname::text,
    p.proargtypes::oid[],
    (p.pronargs - p.pronargdefaults)::int4,
    pg_get_function_arguments(p.oid),
    pg_get_function_identity_arguments(p.oid),
    pg_get_function_result(p.oid),
    p.provolatile,
    p.proparallel,
    p.proretset,
    coalesce(obj_description(p.oid, 'pg_proc'), '')
FROM pg_proc AS p
JOIN pg_depend AS d
    ON d.classid = 'pg_proc'::regclass
    AND d.objid = p.oid
    AND d.deptype = 'e'
JOIN pg_extension AS e
    ON d.refclassid = 'pg_extension'::regclass
    AND d.refobjid = e.oid
WHERE e.extname = 'raptorflow_codex'
  AND p.proname = ANY ($1)
ORDER BY p.proname, p.oid";

const EXISTING: &str = "
SELECT
    p.proname::text,
    p.proargtypes::oid[],
    pg_get_function_identity_arguments(p.oid),
    coalesce(pg_get_function_result(p.oid), ''),
    l.lanname::text,
    l.lanname = 'sql' AND coalesce(starts_with(obj_description(p.oid, 'pg_proc'), $2), false),
    p.prokind = 'f',
    EXISTS (
        SELECT
        FROM pg_depend AS d
        WHERE d.classid = 'pg_proc'::regclass
          AND d.objid = p.oid
          AND d.deptype = 'e'
    )
FROM pg_proc AS p
JOIN pg_namespace AS n ON n.oid = p.pronamespace
JOIN pg_language AS l ON l.oid = p.prolang
WHERE n.nspname = $1
ORDER BY p.proname, p.oid";

/// The function of the same name and arguments in another schema, and its owner.
const MADE: &str = "
SELECT p.oid, p.proowner
FROM pg_proc AS p
JOIN pg_namespace AS n ON n.oid = p.pronamespace
JOIN pg_proc AS original
    ON original.proname = p.proname
    AND original.proargtypes = p.proargtypes
WHERE n.nspname = $1
  AND original.oid = $2";

/// Who may execute a function, but for the role $2; PUBLIC is NULL.
const GRANTEES: &str = "
SELECT DISTINCT CASE WHEN a.grantee <> 0 THEN pg_get_userbyid(a.grantee)::text END
FROM pg_proc AS p
CROSS JOIN LATERAL aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS a
WHERE p.oid = $1
  AND a.grantee <> $2";

/// Makes call-throughs in `schema` for the functions of the Codex, and tells what it did with each:
/// `created`, `refreshed` (one of ours was there) or `replaced` (the product's old PL/pgSQL function was there).
///
/// A call-through has the name, arguments, defaults and result of the original and runs with the rights of its
/// caller, who needs EXECUTE on the original and USAGE on schema `codex` too. It belongs to the role that called
/// `codex.expose()` and may be executed by the roles that may execute the original; run it again after granting
/// or after an update of the extension. Take the call-throughs away before `DROP EXTENSION`: they would fail.
///
/// A function in `schema` that would stand in the way (same name, and arguments that the same call would match) is
/// replaced, with a NOTICE, if it is one of the product's old ones: in PL/pgSQL and with the argument types of ours,
/// without those that were added later (numbers may be of another numeric type). Any other is an error, and nothing
/// is changed. Functions of the same name with other arguments are left alone.
///
/// Refuses: NULL (22004); a schema that does not exist, schema `codex` and those of the system (22023); a caller who
/// may not create there or does not own what is to be replaced (42501); a function in the way that is not ours, a
/// function to be replaced on which other objects depend (55000).
#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn expose(
    schema: Option<&str>,
) -> TableIterator<'static, (name!(function, String), name!(action, String))> {
    let run = || -> Outcome<_> {
        let schema = required(schema, "schema")?;
        one_at_a_time()?;
        Spi::connect_mut(|client| {
            check_schema(client, schema)?;
            let originals = originals(client)?;
            let existing = existing(client, schema)?;
            refuse_what_is_in_the_way(schema, &originals, &existing)?;
            let mut done = Vec::with_capacity(originals.len());
            for original in &originals {
                let action = expose_one(client, schema, original, &existing)?;
                done.push((
                    quote_qualified_identifier(schema, &original.name),
                    action.to_string(),
                ));
            }
            Ok(done)
        })
    };
    TableIterator::new(run().or_raise())
}

/// Takes the call-throughs in `schema` away that `codex.expose()` made there, also those of an older version,
/// and tells which. Nothing else is touched.
///
/// Refuses: NULL (22004); a schema that does not exist, schema `codex` and those of the system (22023); a caller who
/// does not own them (42501); call-throughs on which other objects depend (55000).
#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn unexpose(
    schema: Option<&str>,
) -> TableIterator<'static, (name!(function, String), name!(action, String))> {
    let run = || -> Outcome<_> {
        let schema = required(schema, "schema")?;
        one_at_a_time()?;
        Spi::connect_mut(|client| {
            check_schema_exists(client, schema)?;
            let mut done = Vec::new();
            for function in existing(client, schema)?.iter().filter(|f| f.ours) {
                drop_function(client, schema, function)?;
                done.push((
                    quote_qualified_identifier(schema, &function.name),
                    "dropped".to_string(),
                ));
            }
            Ok(done)
        })
    };
    TableIterator::new(run().or_raise())
}

extension_sql!(
    r#"
COMMENT ON FUNCTION expose(text) IS
'Makes call-throughs with the names, arguments, defaults and results of the product''s functions in a schema, for rpc() and for callers that name no schema; one row a function: created, refreshed or replaced. The product''s old PL/pgSQL functions are replaced with a NOTICE; any other function in the way is an error. Run again after granting rights or updating the extension. Errors: 22004 NULL, 22023 no such schema, 42501 may not create there, 55000 a function in the way or other objects depend on it.';
COMMENT ON FUNCTION unexpose(text) IS
'Drops the call-throughs that codex.expose() made in a schema, and nothing else. Errors: 22004 NULL, 22023 no such schema, 42501 not the owner, 55000 other objects depend on them.';
"#,
    name = "comment_expose",
    requires = [expose, unexpose]
);

fn signature(schema: &str, original: &Original) -> String {
    format!(
        "{}({})",
        quote_qualified_identifier(schema, &original.name),
        original.identity
    )
}

fn check_schema_exists(client: &SpiClient<'_>, schema: &str) -> Outcome<()> {
    if schema == "codex" || schema == "information_schema" || schema.starts_with("pg_") {
        return Err(CodexError::bad_value(format!(
            "schema is \"{}\", which takes no call-throughs",
            shorten(schema)
        ))
        .with_hint("Name a schema of the application, such as public."));
    }
    let found = client.select(
        "SELECT FROM pg_catalog.pg_namespace AS n WHERE n.nspname = $1",
        Some(1),
        &[schema.into()],
    )?;
    if found.is_empty() {
        return Err(CodexError::bad_value(format!(
            "schema is \"{}\", and there is no such schema",
            shorten(schema)
        )));
    }
    Ok(())
}

fn check_schema(client: &SpiClient<'_>, schema: &str) -> Outcome<()> {
    check_schema_exists(client, schema)?;
    let allowed = client
        .select(
            "SELECT pg_catalog.has_schema_privilege($1, 'CREATE')",
            Some(1),
            &[schema.into()],
        )?
        .first()
        .get_one::<bool>()?;
    if allowed == Some(true) {
        return Ok(());
    }
    Err(CodexError::not_allowed(format!(
        "you may not create functions in schema {}",
        quote_identifier(schema)
    ))
    .with_hint(format!(
        "GRANT CREATE ON SCHEMA {} TO the role that runs codex.expose().",
        quote_identifier(schema)
    )))
}

fn originals(client: &SpiClient<'_>) -> Outcome<Vec<Original>> {
    let names: Vec<String> = EXPOSED.iter().map(ToString::to_string).collect();
    let rows = client.select(ORIGINALS, None, &[names.into()])?;
    let mut originals = Vec::new();
    for row in rows {
        originals.push(Original {
            oid: row.get(1)?.unwrap_or(pg_sys::InvalidOid),
            name: row.get(2)?.unwrap_or_default(),
            types: row.get(3)?.unwrap_or_default(),
            required: usize::try_from(row.get::<i32>(4)?.unwrap_or_default()).unwrap_or_default(),
            arguments: row.get(5)?.unwrap_or_default(),
            identity: row.get(6)?.unwrap_or_default(),
            result: row.get(7)?.unwrap_or_default(),
            volatility: row.get(8)?.unwrap_or_default(),
            parallel: row.get(9)?.unwrap_or_default(),
            returns_set: row.get(10)?.unwrap_or_default(),
            comment: row.get(11)?.unwrap_or_default(),
        });
    }
    Ok(originals)
}

fn existing(client: &SpiClient<'_>, schema: &str) -> Outcome<Vec<Existing>> {
    let rows = client.select(EXISTING, None, &[schema.into(), MARK.into()])?;
    let mut existing = Vec::new();
    for row in rows {
        existing.push(Existing {
            name: row.get(1)?.unwrap_or_default(),
            types: row.get(2)?.unwrap_or_default(),
            identity: row.get(3)?.unwrap_or_default(),
            result: row.get(4)?.unwrap_or_default(),
            language: row.get(5)?.unwrap_or_default(),
            ours: row.get(6)?.unwrap_or_default(),
            plain_function: row.get(7)?.unwrap_or_default(),
            of_an_extension: row.get(8)?.unwrap_or_default(),
        });
    }
    Ok(existing)
}

impl Existing {
    /// Whether a call that is meant for `original` could end up here: the same name, and its arguments or
    /// the first of them, with nothing left out that `original` requires.
    fn is_in_the_way_of(&self, original: &Original) -> bool {
        self.name == original.name
            && (original.required..=original.types.len()).contains(&self.types.len())
            && self
                .types
                .iter()
                .zip(&original.types)
                .all(|(mine, theirs)| kind_of_type(*mine) == kind_of_type(*theirs))
    }

    /// Whether this is one of the product's old functions.
    fn is_old(&self) -> bool {
        self.language == "plpgsql" && self.plain_function && !self.of_an_extension
    }
}

/// Types that a caller may use for each other without a cast fall into one kind.
fn kind_of_type(oid: pg_sys::Oid) -> pg_sys::Oid {
    match oid {
        pg_sys::INT2OID
        | pg_sys::INT4OID
        | pg_sys::INT8OID
        | pg_sys::FLOAT4OID
        | pg_sys::FLOAT8OID => pg_sys::NUMERICOID,
        pg_sys::VARCHAROID => pg_sys::TEXTOID,
        other => other,
    }
}

fn refuse_what_is_in_the_way(
    schema: &str,
    originals: &[Original],
    existing: &[Existing],
) -> Outcome<()> {
    let in_the_way: Vec<String> = existing
        .iter()
        .filter(|function| !function.ours && !function.is_old())
        .filter(|function| originals.iter().any(|o| function.is_in_the_way_of(o)))
        .map(|function| {
            format!(
                "{}({}), language {}",
                quote_qualified_identifier(schema, &function.name),
                function.identity,
                function.language
            )
        })
        .collect();
    if in_the_way.is_empty() {
        return Ok(());
    }
    Err(CodexError::wrong_state(format!(
        "functions in schema {} are in the way that codex.expose() did not make: {}",
        quote_identifier(schema),
        in_the_way.join("; ")
    ))
    .with_hint(
        "Drop or rename them, or expose the functions in another schema. Nothing was changed.",
    ))
}

/// Makes the call-through of one function; what was there goes. Says what it did.
fn expose_one(
    client: &mut SpiClient<'_>,
    schema: &str,
    original: &Original,
    existing: &[Existing],
) -> Outcome<&'static str> {
    let mut action = "created";
    for function in existing.iter().filter(|f| {
        // One of ours goes whatever its arguments are: it may be of an older version.
        (f.ours && f.name == original.name) || f.is_in_the_way_of(original)
    }) {
        if function.ours {
            action = if action == "replaced" {
                action
            } else {
                "refreshed"
            };
        } else {
            action = "replaced";
            notice!(
                "replacing the PL/pgSQL function {}({}) by a call-through to codex.{}",
                quote_qualified_identifier(schema, &function.name),
                function.identity,
                original.name
            );
        }
        // CREATE OR REPLACE keeps what depends on a function, but takes no other names or result.
        if function.identity != original.identity || function.result != original.result {
            drop_function(client, schema, function)?;
        }
    }
    client.update(&call_through(schema, original), None, &[])?;
    client.update(
        &format!(
            "COMMENT ON FUNCTION {} IS {}",
            signature(schema, original),
            quote_literal(format!("{MARK} {}", original.comment))
        ),
        None,
        &[],
    )?;
    grant_like_original(client, schema, original)?;
    Ok(action)
}

/// CREATE FUNCTION of the call-through. Arguments go by position: their names may be those of columns.
fn call_through(schema: &str, original: &Original) -> String {
    let arguments = (1..=original.types.len())
        .map(|number| format!("${number}"))
        .collect::<Vec<_>>()
        .join(", ");
    let call = format!(
        "{}({arguments})",
        quote_qualified_identifier("codex", &original.name)
    );
    format!(
        "CREATE OR REPLACE FUNCTION {}({})
RETURNS {}
LANGUAGE sql
{}
PARALLEL {}
SECURITY INVOKER
SET search_path = pg_catalog, pg_temp
AS $codex$ SELECT {}{call} $codex$",
        quote_qualified_identifier(schema, &original.name),
        original.arguments,
        original.result,
        match original.volatility as u8 {
            b'i' => "IMMUTABLE",
            b's' => "STABLE",
            _ => "VOLATILE",
        },
        match original.parallel as u8 {
            b's' => "SAFE",
            b'r' => "RESTRICTED",
            _ => "UNSAFE",
        },
        if original.returns_set { "* FROM " } else { "" },
    )
}

/// Gives EXECUTE to the roles that have it on the original, and to no other.
fn grant_like_original(
    client: &mut SpiClient<'_>,
    schema: &str,
    original: &Original,
) -> Outcome<()> {
    let made = client
        .update(MADE, Some(1), &[schema.into(), original.oid.into()])?
        .first();
    let (Some(made), Some(owner)) = made.get_two::<pg_sys::Oid, pg_sys::Oid>()? else {
        return Err(CodexError::wrong_state(format!(
            "the call-through {} is not there after it was made: an event trigger removed it",
            signature(schema, original)
        )));
    };
    let function = signature(schema, original);
    let roles_of = |client: &mut SpiClient<'_>, oid: pg_sys::Oid| -> Outcome<Vec<String>> {
        let rows = client.update(GRANTEES, None, &[oid.into(), owner.into()])?;
        let mut roles = Vec::new();
        for row in rows {
            roles.push(
                row.get::<String>(1)?
                    .map_or("PUBLIC".to_string(), quote_identifier),
            );
        }
        Ok(roles)
    };
    for role in roles_of(client, made)? {
        client.update(
            &format!("REVOKE ALL ON FUNCTION {function} FROM {role}"),
            None,
            &[],
        )?;
    }
    for role in roles_of(client, original.oid)? {
        client.update(
            &format!("GRANT EXECUTE ON FUNCTION {function} TO {role}"),
            None,
            &[],
        )?;
    }
    Ok(())
}

/// Drops a function; when other objects depend on it, says which.
fn drop_function(client: &mut SpiClient<'_>, schema: &str, function: &Existing) -> Outcome<()> {
    let name = format!(
        "{}({})",
        quote_qualified_identifier(schema, &function.name),
        function.identity
    );
    let sql = format!("DROP FUNCTION {name}");
    PgTryBuilder::new(std::panic::AssertUnwindSafe(|| {
        client.update(&sql, None, &[])?;
        Ok(())
    }))
    .catch_when(
        PgSqlErrorCode::ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST,
        |caught| {
            let detail = match &caught {
                pg_sys::panic::CaughtError::PostgresError(report)
                | pg_sys::panic::CaughtError::ErrorReport(report) => report.detail(),
                pg_sys::panic::CaughtError::RustPanic { ereport, .. } => ereport.detail(),
            };
            Err(CodexError::wrong_state(message_of(&caught))
                .with_detail(detail.unwrap_or_default())
                .with_hint(format!(
                    "Drop what depends on {name}, or change it to call codex.{} itself, and run this again.",
                    function.name
                )))
        },
    )
    .execute()
}
