//! What agents may use: tokens and money, in a period, in a workspace.
//!
//! A *budget* limits one agent, or all agents of a workspace together, in a day, a week, a month or once and for all. Before
//! an agent uses something it *reserves* what it may come to; afterwards it *settles* what it really came to:
//!
//! ```text
//!  reserve_agent_budget() ──► held ──── settle_agent_budget() ───► settled
//!       │ does not fit         │ └───── release_agent_budget() ──► released
//!       ▼                      └─ not heard of until expires_at ─► expired ──► settled, all the same
//!    refused, nothing is kept
//! ```
//!
//! - A reservation is taken from every budget that it falls under (the agent's and the workspace's, of each period), or
//!   from none. It fits where `used + reserved + asked ≤ limit` in each. That is judged with the rows of the current
//!   periods locked, so that any number of sessions at once never reserve more than there is.
//! - Without a budget there is no limit; the reservation is kept all the same.
//! - What was really used counts, even where it is more than was reserved: it is spent. A budget can so come to stand
//!   above its limit; nothing fits any more then.
//! - A reservation counts in the periods in which it was made, whenever it is settled.
//! - When what is used and reserved first reaches `soft_limit_percentage` of a limit, an alert is raised, once a budget
//!   and period.
//!
//! Locks are taken in one order (reservations that ran out, skipping what others have; then periods by their id), so
//! that calls wait for each other but not in a circle. A transaction that makes several calls holds the periods of the
//! first while it waits for those of the next: make each call its own transaction, or expect 40P01 now and then.

use super::amount;
use crate::alerts;
use crate::argument::{self, LONGEST_KEY};
use crate::context;
use crate::error::{CodexError, OrRaise, Outcome, required, shorten};
use crate::instant;
use crate::statement;
use crate::statement::{Reference, naming_what_is_missing};
use codex_delivery::SECOND;
use pgrx::Uuid;
use pgrx::datum::{Interval, TimestampWithTimeZone};
use pgrx::prelude::*;
use pgrx::spi::SpiClient;
use std::collections::BTreeMap;

const PERIODS: &[&str] = &["day", "week", "month", "total"];

/// The most tokens that one reservation, one settlement or one limit may name: so that no sum leaves a bigint.
const MOST_TOKENS: i64 = 1_000_000_000_000;

/// The longest that a reservation is held: 30 days.
const LONGEST_HOLD: i64 = 30 * 86_400 * SECOND;

/// How many reservations that ran out are let go at most before another is made.
const EXPIRED_BY_A_RESERVATION: i64 = 1000;

fn tokens(value: Option<i64>, name: &str) -> Outcome<i64> {
    match required(value, name)? {
        count @ 0..=MOST_TOKENS => Ok(count),
        other => Err(CodexError::bad_value(format!(
            "{name} is {other}; it must be from 0 to {MOST_TOKENS}"
        ))),
    }
}

fn cost(value: Option<AnyNumeric>, name: &str) -> Outcome<AnyNumeric> {
    Ok(amount(required(value, name)?, name)?.0)
}

statement!(
    SET_BUDGET(UUID, UUID, TEXT, INT8, NUMERIC, INT4) = "
INSERT INTO codex.agent_budgets AS b (workspace_id, agent_id, period, token_limit, cost_limit, soft_limit_percentage)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (workspace_id, agent_id, period) DO UPDATE SET
    token_limit = excluded.token_limit,
    cost_limit = excluded.cost_limit,
    soft_limit_percentage = excluded.soft_limit_percentage
RETURNING b.id"
);
statement!(
    REMOVE_BUDGET(UUID, UUID, TEXT) = "
DELETE FROM codex.agent_budgets AS b
WHERE b.workspace_id = $1
  AND b.agent_id IS NOT DISTINCT FROM $2
  AND b.period = $3"
);

/// Sets how much an agent may use in a period, in place of what was set before; returns the budget's id.
///
/// - `period`: day, week (from Monday) or month, by the calendar in UTC, or total: once and for all.
/// - `agent_id`: the agent; NULL for all agents of the workspace together.
/// - `token_limit`: input and output together, 0 to 10^12; `cost_limit`: money in the workspace's currency, finite, 0 or
///   more. NULL for no such limit; both NULL takes the budget away, with what it counted, and returns NULL.
/// - `soft_limit_percentage`: at how many percent of a limit an alert is raised, 1 to 100; NULL for never.
///
/// Said twice it changes nothing. What the period has used so far counts against the new limit. Refuses: NULL for the
/// workspace or the period (22004); a value out of its list or range (22023); an unknown workspace or agent (23503); a
/// workspace that is not the caller's (42501).
#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn set_agent_budget(
    workspace: Option<Uuid>,
    period: Option<&str>,
    agent_id: default!(Option<Uuid>, "NULL"),
    token_limit: default!(Option<i64>, "NULL"),
    cost_limit: default!(Option<AnyNumeric>, "NULL"),
    soft_limit_percentage: default!(Option<i32>, 80),
) -> Option<Uuid> {
    let run = || -> Outcome<Option<Uuid>> {
        let workspace = required(workspace, "workspace")?;
        let period = argument::one_of(period, "period", PERIODS)?;
        let token_limit = match token_limit {
            None => None,
            some => Some(tokens(some, "token_limit")?),
        };
        let cost_limit = match cost_limit {
            None => None,
            some => Some(cost(some, "cost_limit")?),
        };
        if soft_limit_percentage.is_some() {
            argument::between(soft_limit_percentage, "soft_limit_percentage", 1..=100)?;
        }
        context::require_workspace(workspace)?;
        if token_limit.is_none() && cost_limit.is_none() {
            let key = [workspace.into(), agent_id.into(), period.into()];
            Spi::connect_mut(|client| {
                REMOVE_BUDGET.with(|statement| statement.execute(client, &key))
            })?;
            return Ok(None);
        }
        let arguments = [
            workspace.into(),
            agent_id.into(),
            period.into(),
            token_limit.into(),
            cost_limit.into(),
            soft_limit_percentage.into(),
        ];
        let id = naming_what_is_missing(&references(workspace, agent_id), || {
            Spi::connect_mut(|client| {
                SET_BUDGET.with(|statement| {
                    statement.write_one(client, &arguments, |row| row.get::<Uuid>(1))
                })
            })
        })?;
        Ok(id.flatten())
    };
    run().or_raise()
}

fn references(workspace: Uuid, agent: Option<Uuid>) -> [Reference<'static>; 2] {
    [
        Reference {
            foreign_key: "_workspace_id_fkey",
            argument: "workspace",
            what: "workspace",
            value: Some(workspace),
        },
        Reference {
            foreign_key: "_agent_id_fkey",
            argument: "agent_id",
            what: "agent",
            value: agent,
        },
    ]
}

// The first moment of the period that $3 lies in.
macro_rules! period_start {
    () => {
        "CASE
        WHEN b.period = 'total' THEN '-infinity'::timestamptz
        ELSE date_trunc(b.period, $3, 'UTC')
    END"
    };
}

// The first moment after it, NULL where it never ends. In UTC, where every day has 24 hours.
macro_rules! period_end {
    () => {
        "CASE
        WHEN b.period <> 'total'
        THEN (date_trunc(b.period, $3, 'UTC') AT TIME ZONE 'UTC' + concat('1 ', b.period)::interval) AT TIME ZONE 'UTC'
    END"
    };
}

statement!(
    BEGIN_PERIODS(UUID, UUID, TIMESTAMPTZ) = concat!(
        "
INSERT INTO codex.agent_budget_periods (workspace_id, budget_id, period_start)
SELECT b.workspace_id, b.id, ",
        period_start!(),
        "
FROM codex.agent_budgets AS b
WHERE b.workspace_id = $1
  AND (b.agent_id = $2 OR b.agent_id IS NULL)
  AND NOT EXISTS (
      SELECT
      FROM codex.agent_budget_periods AS p
      WHERE p.workspace_id = b.workspace_id
        AND p.budget_id = b.id
        AND p.period_start = ",
        period_start!(),
        "
  )
ON CONFLICT (workspace_id, budget_id, period_start) DO NOTHING"
    )
);

macro_rules! periods {
    ($($lock:literal)?) => {
        concat!(
            "
SELECT
    p.id,
    b.id,
    b.token_limit - p.tokens_used - p.tokens_reserved,
    b.cost_limit - p.cost_used - p.cost_reserved,
    coalesce($4 <= b.token_limit - p.tokens_used - p.tokens_reserved, true)
        AND coalesce($5 <= b.cost_limit - p.cost_used - p.cost_reserved, true),
    ",
            period_end!(),
            "
FROM codex.agent_budgets AS b
JOIN codex.agent_budget_periods AS p
    ON p.workspace_id = b.workspace_id
    AND p.budget_id = b.id
    AND p.period_start = ",
            period_start!(),
            "
WHERE b.workspace_id = $1
  AND (b.agent_id = $2 OR b.agent_id IS NULL)
ORDER BY p.id",
            $($lock)?
        )
    };
}

statement!(
    /// The periods that a use of an agent at the time $3 falls into, and whether so much fits.
    PERIODS_OF(UUID, UUID, TIMESTAMPTZ, INT8, NUMERIC) = periods!()
);
statement!(
    /// The same, locked: the values are those of the locked rows.
    LOCK_PERIODS_OF(UUID, UUID, TIMESTAMPTZ, INT8, NUMERIC) =
        periods!("\nFOR NO KEY UPDATE OF p")
);
statement!(
    LOCK_PERIOD(UUID, UUID) = "
SELECT p.id
FROM codex.agent_budget_periods AS p
WHERE p.workspace_id = $1
  AND p.id = $2
FOR NO KEY UPDATE"
);

statement!(
    /// Changes what is reserved and used. The rows are locked already, in their order.
    COUNT(UUID, UUID_ARRAY, INT8, NUMERIC, INT8, NUMERIC, TIMESTAMPTZ) = "
UPDATE codex.agent_budget_periods AS p
SET tokens_reserved = p.tokens_reserved + $3,
    cost_reserved = p.cost_reserved + $4,
    tokens_used = p.tokens_used + $5,
    cost_used = p.cost_used + $6,
    alerted_at = CASE
        WHEN p.alerted_at IS NULL
            AND (
                100 * (p.tokens_reserved + $3 + p.tokens_used + $5)::numeric
                    >= b.token_limit::numeric * b.soft_limit_percentage
                OR 100 * (p.cost_reserved + $4 + p.cost_used + $6)
                    >= b.cost_limit * b.soft_limit_percentage
            )
        THEN $7
        ELSE p.alerted_at
    END
FROM codex.agent_budgets AS b
WHERE p.workspace_id = $1
  AND p.id = ANY ($2)
  AND b.workspace_id = p.workspace_id
  AND b.id = p.budget_id
RETURNING
    p.alerted_at IS NOT DISTINCT FROM $7,
    b.id,
    b.agent_id,
    b.period,
    CASE WHEN b.period = 'total' THEN b.period ELSE to_char(p.period_start AT TIME ZONE 'UTC', 'YYYY-MM-DD') END,
    b.soft_limit_percentage,
    concat_ws(', ',
        (p.tokens_used + p.tokens_reserved)::text || ' of ' || b.token_limit::text || ' tokens',
        trim_scale(p.cost_used + p.cost_reserved)::text || ' of ' || trim_scale(b.cost_limit)::text || ' in money'
    ),
    (SELECT r.agent_name FROM public.agent_registry AS r WHERE r.id = b.agent_id)"
);

/// What changes in the periods of a reservation.
struct Change {
    tokens_reserved: i64,
    cost_reserved: AnyNumeric,
    tokens_used: i64,
    cost_used: AnyNumeric,
}

impl Change {
    fn reserve(tokens: i64, cost: AnyNumeric) -> Self {
        Self {
            tokens_reserved: tokens,
            cost_reserved: cost,
            tokens_used: 0,
            cost_used: AnyNumeric::from(0),
        }
    }

    /// What was held is given back.
    fn give_back(tokens: i64, cost: &AnyNumeric) -> Self {
        Self::reserve(-tokens, -cost.clone())
    }

    fn and_use(self, tokens: i64, cost: AnyNumeric) -> Self {
        Self {
            tokens_used: tokens,
            cost_used: cost,
            ..self
        }
    }

    /// Counts it in locked periods; raises the alert of each that comes to its soft limit by it.
    fn count(
        self,
        client: &mut SpiClient<'_>,
        workspace: Uuid,
        periods: Vec<Uuid>,
        now: TimestampWithTimeZone,
    ) -> Outcome<()> {
        if periods.is_empty() {
            return Ok(());
        }
        let arguments = [
            workspace.into(),
            periods.into(),
            self.tokens_reserved.into(),
            self.cost_reserved.into(),
            self.tokens_used.into(),
            self.cost_used.into(),
            now.into(),
        ];
        let reached = COUNT.with(|statement| {
            statement.write(client, &arguments, |row| {
                if row.get::<bool>(1)? != Some(true) {
                    return Ok(None);
                }
                Ok(Some(SoftLimit {
                    budget: row.get(2)?,
                    agent: row.get(3)?,
                    period: row.get::<String>(4)?.unwrap_or_default(),
                    period_start: row.get::<String>(5)?.unwrap_or_default(),
                    percentage: row.get::<i32>(6)?.unwrap_or(0),
                    stands_at: row.get::<String>(7)?.unwrap_or_default(),
                    agent_name: row.get(8)?,
                }))
            })
        })?;
        for one in reached.into_iter().flatten() {
            one.raise(workspace)?;
        }
        Ok(())
    }
}

/// A budget that has come to its soft limit.
struct SoftLimit {
    budget: Option<Uuid>,
    agent: Option<Uuid>,
    agent_name: Option<String>,
    period: String,
    period_start: String,
    percentage: i32,
    stands_at: String,
}

impl SoftLimit {
    fn raise(&self, workspace: Uuid) -> Outcome<()> {
        let Some(budget) = self.budget else {
            return Ok(());
        };
        let whose = match &self.agent_name {
            Some(name) => format!("of {}", shorten(name)),
            None => "of all agents".to_string(),
        };
        let period = match self.period.as_str() {
            "day" => "daily",
            "week" => "weekly",
            "month" => "monthly",
            other => other,
        };
        alerts::NewAlert {
            workspace,
            alert_type: "action_required",
            severity: "medium",
            title: &format!(
                "The {period} budget {whose} has reached {} %",
                self.percentage
            ),
            description: &format!("Used and reserved: {}.", self.stands_at),
            agent: self.agent,
            campaign: None,
            data_points: None,
            dedup_key: Some(&format!("agent-budget:{budget}:{}", self.period_start)),
        }
        .raise()?;
        Ok(())
    }
}

macro_rules! expire {
    ($($of_workspace:literal)?) => {
        concat!(
            "
UPDATE codex.budget_reservations AS r
SET status = 'expired',
    finished_at = $1
WHERE r.ctid = ANY (ARRAY(
    SELECT h.ctid
    FROM codex.budget_reservations AS h
    WHERE h.status = 'held'
      AND h.expires_at <= $1",
            $($of_workspace,)?
            "
    ORDER BY h.expires_at
    LIMIT $2
    FOR NO KEY UPDATE SKIP LOCKED
))
  AND r.status = 'held'
RETURNING r.workspace_id, r.tokens, r.cost, r.period_ids"
        )
    };
}

statement!(EXPIRE(TIMESTAMPTZ, INT8) = expire!());
statement!(
    EXPIRE_IN_WORKSPACE(TIMESTAMPTZ, INT8, UUID) = expire!("\n      AND h.workspace_id = $3")
);
statement!(
    FORGET(TIMESTAMPTZ, INT8) = "
DELETE FROM codex.budget_reservations AS r
WHERE r.ctid = ANY (ARRAY(
    SELECT o.ctid
    FROM codex.budget_reservations AS o
    WHERE o.finished_at IS NOT NULL
      AND o.finished_at < $1
    ORDER BY o.finished_at
    LIMIT $2
    FOR UPDATE SKIP LOCKED
))"
);

/// A reservation that ran out, before its periods know of it.
struct Expired {
    workspace: Uuid,
    tokens: i64,
    cost: AnyNumeric,
    periods: Vec<Uuid>,
}

fn expired(row: pgrx::spi::SpiHeapTupleData<'_>) -> spi::SpiResult<Option<Expired>> {
    let Some(workspace) = row.get(1)? else {
        return Ok(None);
    };
    Ok(Some(Expired {
        workspace,
        tokens: row.get(2)?.unwrap_or(0),
        cost: row.get(3)?.unwrap_or_else(|| AnyNumeric::from(0)),
        periods: row.get(4)?.unwrap_or_default(),
    }))
}

/// Lets up to `batch` reservations go whose time has run out; gives how many.
pub fn expire(client: &mut SpiClient<'_>, now: TimestampWithTimeZone, batch: i64) -> Outcome<i64> {
    let found =
        EXPIRE.with(|statement| statement.write(client, &[now.into(), batch.into()], expired))?;
    let count = found.len() as i64;
    let mut by_workspace: BTreeMap<[u8; 16], Vec<Expired>> = BTreeMap::new();
    for one in found.into_iter().flatten() {
        by_workspace
            .entry(*one.workspace.as_bytes())
            .or_default()
            .push(one);
    }
    for (workspace, gone) in by_workspace {
        let workspace = Uuid::from_bytes(workspace);
        lock(
            client,
            workspace,
            gone.iter().flat_map(|one| one.periods.iter()),
        )?;
        give_back(client, gone, now)?;
    }
    Ok(count)
}

/// Deletes up to `batch` reservations that were finished before `before`; gives how many.
pub fn forget(
    client: &mut SpiClient<'_>,
    before: TimestampWithTimeZone,
    batch: i64,
) -> Outcome<i64> {
    let gone =
        FORGET.with(|statement| statement.execute(client, &[before.into(), batch.into()]))?;
    Ok(gone as i64)
}

/// Locks periods one by one, in the order of their ids: they are few.
fn lock<'a>(
    client: &mut SpiClient<'_>,
    workspace: Uuid,
    periods: impl Iterator<Item = &'a Uuid>,
) -> Outcome<()> {
    let mut periods: Vec<Uuid> = periods.copied().collect();
    periods.sort_unstable();
    periods.dedup();
    for period in periods {
        LOCK_PERIOD.with(|statement| {
            statement.write(client, &[workspace.into(), period.into()], |_| Ok(()))
        })?;
    }
    Ok(())
}

/// Gives back what reservations held that ran out; their periods are locked.
fn give_back(
    client: &mut SpiClient<'_>,
    gone: Vec<Expired>,
    now: TimestampWithTimeZone,
) -> Outcome<()> {
    for one in gone {
        Change::give_back(one.tokens, &one.cost).count(client, one.workspace, one.periods, now)?;
    }
    Ok(())
}

statement!(
    RESERVE(
        UUID,
        UUID,
        INT8,
        NUMERIC,
        UUID_ARRAY,
        TEXT,
        TIMESTAMPTZ,
        TIMESTAMPTZ
    ) = "
INSERT INTO codex.budget_reservations (
    workspace_id, agent_id, tokens, cost, period_ids, idempotency_key, reserved_at, expires_at
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (workspace_id, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
RETURNING id"
);
statement!(
    /// Run as a write, for its fresh snapshot: whoever took the key may have committed a moment ago.
    KNOWN(UUID, TEXT, UUID, INT8, NUMERIC) = "
SELECT r.id, r.agent_id = $3 AND r.tokens = $4 AND r.cost = $5
FROM codex.budget_reservations AS r
WHERE r.workspace_id = $1
  AND r.idempotency_key = $2"
);
statement!(AGENT(UUID) = "SELECT r.id FROM public.agent_registry AS r WHERE r.id = $1");

/// A period of a budget, and whether so much fits.
struct Period {
    id: Uuid,
    budget: Uuid,
    tokens_left: Option<i64>,
    cost_left: Option<AnyNumeric>,
    fits: bool,
    ends: Option<TimestampWithTimeZone>,
}

fn period(row: pgrx::spi::SpiHeapTupleData<'_>) -> spi::SpiResult<Option<Period>> {
    let (Some(id), Some(budget)) = (row.get(1)?, row.get(2)?) else {
        return Ok(None);
    };
    Ok(Some(Period {
        id,
        budget,
        tokens_left: row.get(3)?,
        cost_left: row.get(4)?,
        fits: row.get(5)?.unwrap_or(false),
        ends: row.get(6)?,
    }))
}

/// What somebody asks for.
struct Ask<'a> {
    workspace: Uuid,
    agent: Uuid,
    tokens: i64,
    cost: AnyNumeric,
    hold: i64,
    key: Option<&'a str>,
}

/// What came of it.
struct Answer {
    reservation: Option<Uuid>,
    refused_by: Option<Uuid>,
    tokens_left: Option<i64>,
    cost_left: Option<AnyNumeric>,
    resets_at: Option<TimestampWithTimeZone>,
}

impl Answer {
    /// That of a reservation that was made, now or earlier: the least that is left after it, of all its budgets.
    fn granted(reservation: Uuid, periods: &[Period], tokens: i64, cost: &AnyNumeric) -> Self {
        let tokens_left = periods.iter().filter_map(|one| one.tokens_left).min();
        let cost_left = periods
            .iter()
            .filter_map(|one| one.cost_left.clone())
            .reduce(|a, b| if b < a { b } else { a });
        Self {
            reservation: Some(reservation),
            refused_by: None,
            tokens_left: tokens_left.map(|left| left - tokens),
            cost_left: cost_left.map(|left| left - cost.clone()),
            resets_at: None,
        }
    }

    fn refused(by: Period) -> Self {
        Self {
            reservation: None,
            refused_by: Some(by.budget),
            tokens_left: by.tokens_left,
            cost_left: by.cost_left,
            resets_at: by.ends,
        }
    }
}

impl Ask<'_> {
    fn run(&self, client: &mut SpiClient<'_>) -> Outcome<Answer> {
        AGENT
            .with(|statement| statement.read_one(client, &[self.agent.into()], |_| Ok(())))?
            .ok_or_else(|| {
                CodexError::unknown_reference(format!(
                    "agent_id is {}, and there is no such agent",
                    self.agent
                ))
            })?;
        let now = instant::now();
        if let Some(known) = self.known(client, now)? {
            return Ok(known);
        }
        let periods = self.lock_periods(client, now)?;
        let ids: Vec<Uuid> = periods.iter().map(|one| one.id).collect();
        // Of several that it does not fit into, the one that opens last: before, it is no use to ask again.
        let refusing = periods
            .iter()
            .enumerate()
            .filter(|(_, one)| !one.fits)
            .max_by_key(|(_, one)| one.ends.map_or(i64::MAX, pg_sys::TimestampTz::from))
            .map(|(place, _)| place);
        if let Some(place) = refusing {
            let by = periods.into_iter().nth(place);
            return by.map(Answer::refused).ok_or_else(|| {
                CodexError::wrong_state("a period of a budget was lost".to_string())
            });
        }
        let row = [
            self.workspace.into(),
            self.agent.into(),
            self.tokens.into(),
            self.cost.clone().into(),
            ids.clone().into(),
            self.key.into(),
            now.into(),
            instant::after(now, self.hold)?.into(),
        ];
        let made = RESERVE
            .with(|statement| statement.write_one(client, &row, |row| row.get::<Uuid>(1)))?;
        let Some(id) = made.flatten() else {
            // Somebody took the key in the meantime; nothing is counted yet.
            return self.known(client, now)?.ok_or_else(|| {
                CodexError::busy("idempotency_key was in use a moment ago and is not any more")
                    .with_hint("Send the call again.")
            });
        };
        Change::reserve(self.tokens, self.cost.clone()).count(client, self.workspace, ids, now)?;
        Ok(Answer::granted(id, &periods, self.tokens, &self.cost))
    }

    fn key_of_periods(
        &self,
        now: TimestampWithTimeZone,
    ) -> Vec<pgrx::datum::DatumWithOid<'static>> {
        vec![
            self.workspace.into(),
            self.agent.into(),
            now.into(),
            self.tokens.into(),
            self.cost.clone().into(),
        ]
    }

    /// The answer of the reservation that was made with the same key.
    fn known(
        &self,
        client: &mut SpiClient<'_>,
        now: TimestampWithTimeZone,
    ) -> Outcome<Option<Answer>> {
        let Some(key) = self.key else {
            return Ok(None);
        };
        let arguments = [
            self.workspace.into(),
            key.into(),
            self.agent.into(),
            self.tokens.into(),
            self.cost.clone().into(),
        ];
        let known = KNOWN.with(|statement| {
            statement.write_one(client, &arguments, |row| {
                Ok((row.get::<Uuid>(1)?, row.get::<bool>(2)?))
            })
        })?;
        let Some((Some(id), same)) = known else {
            return Ok(None);
        };
        if same != Some(true) {
            return Err(CodexError::bad_value(format!(
                "idempotency_key \"{}\" was used for another reservation",
                shorten(key)
            ))
            .with_hint(
                "A key stands for one call with its arguments: take a new key for a new call.",
            ));
        }
        let periods = PERIODS_OF
            .with(|statement| statement.write(client, &self.key_of_periods(now), period))?;
        let periods: Vec<Period> = periods.into_iter().flatten().collect();
        Ok(Some(Answer::granted(id, &periods, 0, &AnyNumeric::from(0))))
    }

    /// The current periods of all budgets that the agent falls under, locked; what has run out is given back first.
    fn lock_periods(
        &self,
        client: &mut SpiClient<'_>,
        now: TimestampWithTimeZone,
    ) -> Outcome<Vec<Period>> {
        let arguments = [
            now.into(),
            EXPIRED_BY_A_RESERVATION.into(),
            self.workspace.into(),
        ];
        let gone =
            EXPIRE_IN_WORKSPACE.with(|statement| statement.write(client, &arguments, expired))?;
        let gone: Vec<Expired> = gone.into_iter().flatten().collect();
        let key = self.key_of_periods(now);
        BEGIN_PERIODS.with(|statement| statement.execute(client, &key[..3]))?;
        if !gone.is_empty() {
            // Theirs and ours at once, in one order.
            let ours = PERIODS_OF.with(|statement| statement.write(client, &key, period))?;
            let ours: Vec<Uuid> = ours.into_iter().flatten().map(|one| one.id).collect();
            let theirs = gone.iter().flat_map(|one| one.periods.iter());
            lock(client, self.workspace, theirs.chain(&ours))?;
            give_back(client, gone, now)?;
        }
        let periods = LOCK_PERIODS_OF.with(|statement| statement.write(client, &key, period))?;
        Ok(periods.into_iter().flatten().collect())
    }
}

/// Reserves tokens and money for an agent in every budget that it falls under (its own and the workspace's, of each
/// period), or in none.
///
/// - `tokens`: the most that it may come to, 0 to 10^12; `cost`: likewise, money, finite, 0 or more.
/// - `expires_after`: how long it is held when nothing more is heard of it, a second to 30 days.
/// - `idempotency_key`: the same key again reserves nothing and gives the first reservation; of a refused call nothing is
///   kept, so that it can be tried again. The lease token of a task is a good one.
///
/// Returns one row. Granted: `reservation_id`, and `tokens_left` and `cost_left`, the least that is left in any of the
/// budgets; NULL where nothing limits. Refused: `refused_by`, the budget that it does not fit into, what is left in that
/// one, and `resets_at`, when its period ends (NULL: never). Reservations that ran out are given back before that is
/// judged. When a budget comes to its soft limit an alert is raised in the same transaction, once a period, with the dedup
/// key `agent-budget:<budget>:<first day of the period, or total>`.
///
/// Refuses: NULL (22004); a number or time out of bounds, a key that was used for another reservation (22023); an unknown
/// workspace or agent (23503); a workspace that is not the caller's (42501).
#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
#[allow(clippy::type_complexity)]
fn reserve_agent_budget(
    workspace: Option<Uuid>,
    agent_id: Option<Uuid>,
    tokens: Option<i64>,
    cost: default!(Option<AnyNumeric>, "0"),
    expires_after: default!(Option<Interval>, "'1 hour'"),
    idempotency_key: default!(Option<&str>, "NULL"),
) -> TableIterator<
    'static,
    (
        name!(reservation_id, Option<Uuid>),
        name!(refused_by, Option<Uuid>),
        name!(tokens_left, Option<i64>),
        name!(cost_left, Option<AnyNumeric>),
        name!(resets_at, Option<TimestampWithTimeZone>),
    ),
> {
    let run = || -> Outcome<Answer> {
        let ask = Ask {
            workspace: required(workspace, "workspace")?,
            agent: required(agent_id, "agent_id")?,
            tokens: self::tokens(tokens, "tokens")?,
            cost: self::cost(cost, "cost")?,
            hold: argument::duration(expires_after, "expires_after", SECOND..=LONGEST_HOLD)?,
            key: argument::key(idempotency_key, "idempotency_key", LONGEST_KEY)?,
        };
        context::require_workspace(ask.workspace)?;
        naming_what_is_missing(&references(ask.workspace, Some(ask.agent)), || {
            Spi::connect_mut(|client| ask.run(client))
        })
    };
    let answer = run().or_raise();
    TableIterator::once((
        answer.reservation,
        answer.refused_by,
        answer.tokens_left,
        answer.cost_left,
        answer.resets_at,
    ))
}

statement!(
    LOCK_RESERVATION(UUID, UUID, INT8, NUMERIC) = "
SELECT r.status, r.tokens, r.cost, r.period_ids, r.tokens_used = $3 AND r.cost_used = $4
FROM codex.budget_reservations AS r
WHERE r.workspace_id = $1
  AND r.id = $2
FOR NO KEY UPDATE"
);
statement!(
    FINISH(UUID, UUID, TEXT, INT8, NUMERIC, TIMESTAMPTZ) = "
UPDATE codex.budget_reservations AS r
SET status = $3,
    tokens_used = $4,
    cost_used = $5,
    finished_at = $6
WHERE r.workspace_id = $1
  AND r.id = $2"
);

/// What a reservation comes to; None when it is released.
type Used = Option<(i64, AnyNumeric)>;

/// Settles or releases a reservation.
fn finish(workspace: Uuid, reservation: Uuid, used: &Used) -> Outcome<()> {
    Spi::connect_mut(|client| {
        let (tokens_used, cost_used) = match used {
            Some((tokens, cost)) => (Some(*tokens), Some(cost.clone())),
            None => (None, None),
        };
        let key = [
            workspace.into(),
            reservation.into(),
            tokens_used.into(),
            cost_used.clone().into(),
        ];
        let found = LOCK_RESERVATION.with(|statement| {
            statement.write_one(client, &key, |row| {
                Ok((
                    row.get::<String>(1)?.unwrap_or_default(),
                    row.get::<i64>(2)?.unwrap_or(0),
                    row.get::<AnyNumeric>(3)?,
                    row.get::<Vec<Uuid>>(4)?.unwrap_or_default(),
                    row.get::<bool>(5)?,
                ))
            })
        })?;
        let Some((status, tokens, cost, periods, same)) = found else {
            return Err(CodexError::not_found(format!(
                "there is no reservation {reservation} here"
            )));
        };
        let cost = cost.unwrap_or_else(|| AnyNumeric::from(0));
        let given_back = match (status.as_str(), used) {
            ("held", _) => Change::give_back(tokens, &cost),
            // What it held was given back when it ran out; what was used is used all the same.
            ("expired", Some(_)) => Change::give_back(0, &AnyNumeric::from(0)),
            ("expired" | "released", None) => return Ok(()),
            ("settled", Some(_)) if same == Some(true) => return Ok(()),
            ("settled", Some(_)) => {
                return Err(CodexError::wrong_state(format!(
                    "reservation {reservation} was settled with other amounts"
                )));
            }
            (status, _) => {
                return Err(CodexError::wrong_state(format!(
                    "reservation {reservation} is {status} already"
                )));
            }
        };
        let now = instant::now();
        let status = if used.is_some() {
            "settled"
        } else {
            "released"
        };
        let row = [
            workspace.into(),
            reservation.into(),
            status.into(),
            tokens_used.into(),
            cost_used.into(),
            now.into(),
        ];
        FINISH.with(|statement| statement.execute(client, &row))?;
        lock(client, workspace, periods.iter())?;
        let change = match used {
            Some((tokens, cost)) => given_back.and_use(*tokens, cost.clone()),
            None => given_back,
        };
        change.count(client, workspace, periods, now)
    })
}

/// Says what a reservation really came to: that counts as used, and what was held is given back.
///
/// - `tokens`, `cost`: as with [`reserve_agent_budget`]; they may be more than was reserved. It counts in the periods in
///   which it was reserved. One that has expired can still be settled: what was used is used.
///
/// Said twice with the same amounts it changes nothing. Refuses: NULL (22004); a number out of bounds (22023); a
/// reservation that is not there (P0002); one that was released, or settled with other amounts (55000); a workspace that
/// is not the caller's (42501).
#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn settle_agent_budget(
    workspace: Option<Uuid>,
    reservation_id: Option<Uuid>,
    tokens: Option<i64>,
    cost: default!(Option<AnyNumeric>, "0"),
) {
    let run = || -> Outcome<()> {
        let workspace = required(workspace, "workspace")?;
        let reservation = required(reservation_id, "reservation_id")?;
        let used = (self::tokens(tokens, "tokens")?, self::cost(cost, "cost")?);
        context::require_workspace(workspace)?;
        finish(workspace, reservation, &Some(used))
    };
    run().or_raise();
}

/// Gives a reservation back of which nothing was used.
///
/// One that was released or has expired stays as it is. Refuses: NULL (22004); a reservation that is not there (P0002);
/// one that was settled (55000); a workspace that is not the caller's (42501).
#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn release_agent_budget(workspace: Option<Uuid>, reservation_id: Option<Uuid>) {
    let run = || -> Outcome<()> {
        let workspace = required(workspace, "workspace")?;
        let reservation = required(reservation_id, "reservation_id")?;
        context::require_workspace(workspace)?;
        finish(workspace, reservation, &None)
    };
    run().or_raise();
}

statement!(
    STATUS(UUID, UUID, TIMESTAMPTZ) = concat!(
        "
SELECT
    b.id,
    b.agent_id,
    b.period,
    ",
        period_start!(),
        ",
    ",
        period_end!(),
        ",
    b.token_limit,
    coalesce(p.tokens_used, 0),
    coalesce(p.tokens_reserved, 0),
    b.cost_limit,
    coalesce(p.cost_used, 0),
    coalesce(p.cost_reserved, 0),
    p.alerted_at
FROM codex.agent_budgets AS b
LEFT JOIN codex.agent_budget_periods AS p
    ON p.workspace_id = b.workspace_id
    AND p.budget_id = b.id
    AND p.period_start = ",
        period_start!(),
        "
WHERE b.workspace_id = $1
  AND ($2 IS NULL OR b.agent_id = $2 OR b.agent_id IS NULL)
ORDER BY b.agent_id NULLS FIRST, array_position(ARRAY['day', 'week', 'month', 'total'], b.period)"
    )
);

type Standing = (
    Option<Uuid>,
    Option<Uuid>,
    Option<String>,
    Option<TimestampWithTimeZone>,
    Option<TimestampWithTimeZone>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<AnyNumeric>,
    Option<AnyNumeric>,
    Option<AnyNumeric>,
    Option<TimestampWithTimeZone>,
);

/// How the budgets of a workspace stand in their current periods: those of an agent and those of all agents together, or
/// without `agent_id` all of them.
///
/// `budget_agent_id` is NULL for the budget of all agents; `period_start` is `-infinity` and `resets_at` NULL for the one
/// that is once and for all; a limit that there is not is NULL; `alerted_at` is when the soft limit was reached. Refuses:
/// a NULL workspace (22004); a workspace that is not the caller's (42501).
#[pg_extern(stable, parallel_restricted)]
#[search_path(pg_catalog, pg_temp)]
#[allow(clippy::type_complexity)]
fn agent_budget_status(
    workspace: Option<Uuid>,
    agent_id: default!(Option<Uuid>, "NULL"),
) -> TableIterator<
    'static,
    (
        name!(budget_id, Option<Uuid>),
        name!(budget_agent_id, Option<Uuid>),
        name!(period, Option<String>),
        name!(period_start, Option<TimestampWithTimeZone>),
        name!(resets_at, Option<TimestampWithTimeZone>),
        name!(token_limit, Option<i64>),
        name!(tokens_used, Option<i64>),
        name!(tokens_reserved, Option<i64>),
        name!(cost_limit, Option<AnyNumeric>),
        name!(cost_used, Option<AnyNumeric>),
        name!(cost_reserved, Option<AnyNumeric>),
        name!(alerted_at, Option<TimestampWithTimeZone>),
    ),
> {
    let run = || -> Outcome<Vec<Standing>> {
        let workspace = required(workspace, "workspace")?;
        context::require_workspace(workspace)?;
        let arguments = [workspace.into(), agent_id.into(), instant::now().into()];
        Spi::connect(|client| {
            STATUS.with(|statement| {
                statement.read(client, &arguments, |row| {
                    Ok((
                        row.get(1)?,
                        row.get(2)?,
                        row.get(3)?,
                        row.get(4)?,
                        row.get(5)?,
                        row.get(6)?,
                        row.get(7)?,
                        row.get(8)?,
                        row.get(9)?,
                        row.get(10)?,
                        row.get(11)?,
                        row.get(12)?,
                    ))
                })
            })
        })
    };
    TableIterator::new(run().or_raise())
}

// What has run out is the beginning of an index, whatever the planner thinks of a LIMIT that it does not know.
extension_sql!(
    r#"
ALTER FUNCTION reserve_agent_budget(uuid, uuid, bigint, numeric, interval, text) SET enable_seqscan = off;
ALTER FUNCTION reserve_agent_budget(uuid, uuid, bigint, numeric, interval, text) SET enable_bitmapscan = off;
ALTER FUNCTION agent_budget_status(uuid, uuid) ROWS 10;
COMMENT ON FUNCTION set_agent_budget(uuid, text, uuid, bigint, numeric, integer) IS
'Sets how many tokens and how much money an agent may use in a period (day, week, month, by the calendar in UTC; total: once and for all); without an agent it is for all agents of the workspace together. Both limits NULL takes the budget away. At soft_limit_percentage (1 to 100, NULL: never) of a limit an alert is raised, once a period. Returns the budget''s id. Errors: 22004 NULL, 22023 bad value, 23503 unknown workspace or agent, 42501 not your workspace.';
COMMENT ON FUNCTION reserve_agent_budget(uuid, uuid, bigint, numeric, interval, text) IS
'Reserves tokens and money for an agent in every budget that it falls under, or in none; held for expires_after (a second to 30 days). One row: reservation_id and the least that is left; or, refused, the budget that it does not fit into, what is left in that, and when its period ends. Any number of sessions at once never reserve more than there is. The same idempotency_key again reserves nothing. Errors: 22004 NULL, 22023 bad value or a key of another call, 23503 unknown workspace or agent, 42501 not your workspace.';
COMMENT ON FUNCTION settle_agent_budget(uuid, uuid, bigint, numeric) IS
'Says what a reservation really came to, be it more than was reserved: that counts as used, in the periods in which it was reserved, and what was held is given back. An expired one can still be settled. Twice with the same amounts: no change. Errors: 22004 NULL, 22023 bad value, P0002 no such reservation, 55000 released, or settled with other amounts, 42501 not your workspace.';
COMMENT ON FUNCTION release_agent_budget(uuid, uuid) IS
'Gives a reservation back of which nothing was used. One that was released or has expired stays as it is. Errors: 22004 NULL, P0002 no such reservation, 55000 settled, 42501 not your workspace.';
COMMENT ON FUNCTION agent_budget_status(uuid, uuid) IS
'How the budgets of a workspace stand in their current periods (limits, used, reserved, when they start anew, when the soft limit was reached): those of an agent and those of all agents together, or all. Errors: 22004 NULL, 42501 not your workspace.';
"#,
    name = "comment_agent_budgets",
    requires = [
        set_agent_budget,
        reserve_agent_budget,
        settle_agent_budget,
        release_agent_budget,
        agent_budget_status
    ]
);
