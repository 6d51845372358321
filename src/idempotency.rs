//! Calls that can be sent again: the same idempotency key gets the same answer, and changes nothing.
//!
//! A client whose connection broke does not know whether its call was done. With a key it just sends it again:
//!
//! | the key | what happens |
//! |---|---|
//! | none | the work is done, whenever the call comes |
//! | new | the work is done, and its answer kept in `codex.requests`, in one transaction |
//! | known, same arguments | the answer that was kept; nothing is done |
//! | known, other arguments | refused (22023): a key stands for one call |
//!
//! Two sessions with one key at the same moment: the second waits until the first has ended, and then gets its answer,
//! or, where that failed, does the work itself. A key belongs to the workspace, the operation and the caller: a user,
//! or the services of the workspace together. Failed calls leave nothing, so that a key can be used again
//! after an error. Answers are kept for [`KEPT_DAYS`] days.

use crate::argument::{self, LONGEST_KEY};
use crate::context;
use crate::error::{CodexError, Outcome, shorten};
use crate::statement;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::spi::SpiClient;
use pgrx::{JsonB, Uuid};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// How long an answer is kept, in days.
pub const KEPT_DAYS: i32 = 30;

statement!(
    /// Takes the key, unless somebody has it; waits for whoever is taking it.
    TAKE(UUID, UUID, TEXT, TEXT, BYTEA) = "
INSERT INTO codex.requests (workspace_id, user_id, operation, idempotency_key, request_hash)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (workspace_id, operation, idempotency_key, user_id) DO NOTHING
RETURNING id"
);
statement!(
    ANSWER(UUID, JSONB) = "
UPDATE codex.requests AS r
SET answer = $2
WHERE r.id = $1"
);
statement!(
    /// Run as a write, for its fresh snapshot: whoever had the key may have committed a moment ago.
    KNOWN(UUID, UUID, TEXT, TEXT) = "
SELECT r.request_hash, r.answer::text
FROM codex.requests AS r
WHERE r.workspace_id = $1
  AND r.user_id IS NOT DISTINCT FROM $2
  AND r.operation = $3
  AND r.idempotency_key = $4"
);
statement!(
    FORGET(TIMESTAMPTZ, INT8) = "
WITH old AS (
    SELECT r.id
    FROM codex.requests AS r
    WHERE r.created_at < $1
    ORDER BY r.created_at
    LIMIT $2
    FOR UPDATE SKIP LOCKED
)
DELETE FROM codex.requests AS r
USING old
WHERE r.id = old.id
RETURNING 1"
);

/// Does `work` once for a key, in the table above; `operation` is the SQL function's name, `request` its arguments
/// (without the key).
pub fn once<T: Serialize + DeserializeOwned>(
    client: &mut SpiClient<'_>,
    operation: &str,
    workspace: Uuid,
    idempotency_key: Option<&str>,
    request: &Value,
    work: impl FnOnce(&mut SpiClient<'_>) -> Outcome<T>,
) -> Outcome<T> {
    let Some(key) = argument::key(idempotency_key, "idempotency_key", LONGEST_KEY)? else {
        return work(client);
    };
    let caller = context::caller();
    let hash = Sha256::digest(request.to_string()).to_vec();
    let taken = TAKE.with(|statement| {
        statement.write_one(
            client,
            &[
                workspace.into(),
                caller.into(),
                operation.into(),
                key.into(),
                hash.clone().into(),
            ],
            |row| row.get::<Uuid>(1),
        )
    })?;
    if let Some(id) = taken.flatten() {
        let answer = work(client)?;
        let kept = serde_json::to_value(&answer).map_err(|error| {
            CodexError::wrong_state(format!("the answer of {operation} cannot be kept: {error}"))
        })?;
        ANSWER.with(|statement| statement.execute(client, &[id.into(), JsonB(kept).into()]))?;
        return Ok(answer);
    }
    let known = KNOWN.with(|statement| {
        statement.write_one(
            client,
            &[
                workspace.into(),
                caller.into(),
                operation.into(),
                key.into(),
            ],
            |row| Ok((row.get::<Vec<u8>>(1)?, row.get::<String>(2)?)),
        )
    })?;
    let Some((first_hash, answer)) = known else {
        return Err(CodexError::busy(format!(
            "idempotency_key \"{}\" was in use a moment ago and is not any more",
            shorten(key)
        ))
        .with_hint("Send the call again."));
    };
    if first_hash.as_deref() != Some(hash.as_slice()) {
        return Err(CodexError::bad_value(format!(
            "idempotency_key \"{}\" was used for another call of {operation}",
            shorten(key)
        ))
        .with_hint(
            "A key stands for one call with its arguments: take a new key for a new call.",
        ));
    }
    let Some(answer) = answer else {
        return Err(CodexError::wrong_state(format!(
            "the call of {operation} with idempotency_key \"{}\" is still at work in this transaction",
            shorten(key)
        )));
    };
    serde_json::from_str(&answer).map_err(|error| {
        CodexError::corrupt(format!(
            "codex.requests.answer of {operation} with idempotency_key \"{}\" does not read: {error}",
            shorten(key)
        ))
    })
}

/// Forgets answers that were given before `before`, at most `batch` of them; gives how many.
pub fn forget(
    client: &mut SpiClient<'_>,
    before: TimestampWithTimeZone,
    batch: i64,
) -> Outcome<usize> {
    let forgotten = FORGET
        .with(|statement| statement.write(client, &[before.into(), batch.into()], |_| Ok(())))?;
    Ok(forgotten.len())
}

#[cfg(any(test, feature = "pg_test"))]
#[pgrx::pg_schema]
mod tests {
    use super::{forget, once};
    use crate::error::Outcome;
    use pgrx::Uuid;
    use pgrx::prelude::*;
    use serde_json::json;

    fn workspace() -> Uuid {
        Spi::run("SELECT codex.migrate()").unwrap();
        Spi::get_one("INSERT INTO public.workspaces (name) VALUES ('Acme') RETURNING id")
            .unwrap()
            .unwrap()
    }

    fn call(workspace: Uuid, key: Option<&str>, amount: i64, done: &mut i64) -> Outcome<i64> {
        Spi::connect_mut(|client| {
            once(
                client,
                "add",
                workspace,
                key,
                &json!({ "amount": amount }),
                |_| {
                    *done += 1;
                    Ok(amount * 10 + *done)
                },
            )
        })
    }

    #[pg_test]
    fn a_key_gets_the_first_answer_again() {
        let workspace = workspace();
        let mut done = 0;
        assert_eq!(call(workspace, Some("a"), 4, &mut done).unwrap(), 41);
        assert_eq!(call(workspace, Some("a"), 4, &mut done).unwrap(), 41);
        assert_eq!(call(workspace, Some("b"), 4, &mut done).unwrap(), 42);
        assert_eq!(call(workspace, None, 4, &mut done).unwrap(), 43);
        assert_eq!(done, 3);
    }

    #[pg_test]
    fn a_key_stands_for_one_call() {
        let workspace = workspace();
        let mut done = 0;
        call(workspace, Some("a"), 4, &mut done).unwrap();
        let refused = call(workspace, Some("a"), 5, &mut done).unwrap_err();
        assert_eq!(
            refused.sqlstate(),
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE
        );
        assert_eq!(done, 1);
    }

    #[pg_test]
    fn blank_and_endless_keys_are_refused() {
        let workspace = workspace();
        let mut done = 0;
        for key in ["", "  ", &"k".repeat(201)] {
            let refused = call(workspace, Some(key), 1, &mut done).unwrap_err();
            assert_eq!(
                refused.sqlstate(),
                PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE
            );
        }
        assert_eq!(done, 0);
    }

    #[pg_test]
    fn what_is_forgotten_is_done_again() {
        let workspace = workspace();
        let mut done = 0;
        call(workspace, Some("a"), 4, &mut done).unwrap();
        let soon = Spi::get_one::<TimestampWithTimeZone>("SELECT now() + interval '1 second'")
            .unwrap()
            .unwrap();
        assert_eq!(
            Spi::connect_mut(|client| forget(client, soon, 10)).unwrap(),
            1
        );
        call(workspace, Some("a"), 4, &mut done).unwrap();
        assert_eq!(done, 2);
    }
}
