//! The rows that nearly every test begins with.

use postgres::types::{FromSqlOwned, ToSql};
use postgres::{Client, GenericClient};
use uuid::Uuid;

/// The only column of the only row of a query. `numeric` has no Rust type here: cast it to `text` or `float8`.
#[track_caller]
pub fn value<T: FromSqlOwned>(
    client: &mut impl GenericClient,
    sql: &str,
    parameters: &[&(dyn ToSql + Sync)],
) -> T {
    match client.query_one(sql, parameters) {
        Ok(row) => row.get(0),
        Err(error) => panic!("{}\n{sql}", crate::Failure::from(&error)),
    }
}

/// A new workspace.
#[track_caller]
pub fn workspace(admin: &mut Client, name: &str) -> Uuid {
    value(
        admin,
        "INSERT INTO public.workspaces (id, name) VALUES (pg_catalog.gen_random_uuid(), $1) RETURNING id",
        &[&name],
    )
}

/// A new user who is a member of nothing.
#[track_caller]
pub fn user(admin: &mut Client, email: &str) -> Uuid {
    value(
        admin,
        "INSERT INTO public.users (id, email) VALUES (pg_catalog.gen_random_uuid(), $1) RETURNING id",
        &[&email],
    )
}

/// A new user who is a member of `workspace`.
#[track_caller]
pub fn member(admin: &mut Client, workspace: Uuid, email: &str) -> Uuid {
    let user = user(admin, email);
    admin
        .execute(
            "INSERT INTO public.workspace_members (workspace_id, user_id) VALUES ($1, $2)",
            &[&workspace, &user],
        )
        .unwrap_or_else(|error| panic!("{}", crate::Failure::from(&error)));
    user
}
