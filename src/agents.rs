//! Agents: what they can do, what they have to do, what they may use, and what they did.
//!
//! | part | what it does |
//! |---|---|
//! | this file | what agents did: one row an hour for each agent, with exact sums and percentiles within 1 % |
//! | [`totals`] | the sums of an hour |
//! | [`registry`] | who can do what: finding agents, seeding the registry from a list |
//! | [`tasks`] | the queue of each assignment: claims, leases, attempts |
//! | [`budgets`] | tokens and money: reservations |
//! | [`upkeep`] | what time does |

mod budgets;
mod places;
mod registry;
mod tasks;
mod totals;
pub mod upkeep;

use crate::context;
use crate::error::{CodexError, OrRaise, Outcome, required, shorten};
use crate::statement;
use crate::statement::{Reference, message_of, naming_what_is_missing};
use codex_sketch::Sketch;
use pgrx::datum::Date;
use pgrx::prelude::*;
use pgrx::spi::SpiClient;
use places::{Place, Places};
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use totals::Totals;

const MICROSECONDS_PER_HOUR: i64 = 3_600_000_000;

/// Records one execution of an agent in its hour and credits an assignment with it.
///
/// | argument | |
/// |---|---|
/// | `p_execution_time_seconds` | seconds, finite, 0 or more |
/// | `p_input_tokens`, `p_output_tokens` | 0 or more; NULL counts as 0 |
/// | `p_cost` | money in the workspace's currency, finite, 0 or more; NULL counts as 0 |
/// | `p_success` | whether the execution succeeded |
/// | `p_campaign_id` | the campaign it was done for, if for one |
/// | `p_execution_id` | an id of the execution: the same one again changes nothing |
/// | `p_executed_at` | when it ended, any finite time; NULL is now |
///
/// The row of `agent_performance` is that of the workspace, the agent and the UTC hour of `p_executed_at`,
/// whatever the session's time zone. Counts and sums are exact with any number of sessions; averages and rates are
/// those sums divided by `execution_count`; p50, p95 and p99 come from the row's sketch (see the crate
/// `codex-sketch`) and are within 1 % of the exact sample of that rank.
///
/// One active assignment of the agent in the workspace is credited: that of the campaign; if there is none, one
/// without a campaign; the oldest where there are several (within a transaction, the one that was credited first).
///
/// A transaction that records for several agents locks their hours until it ends: in one order, such as that of the
/// agents' ids, or two of them may deadlock (40P01, to be tried again).
///
/// Refuses: 22004 a NULL workspace, agent, time or success; 22023 a negative or non-finite number, an infinite
/// `p_executed_at`, sums that their columns cannot hold, and an execution id that another agent used; 23503 an
/// unknown workspace, agent or campaign; 55000 an agent that is not active; 42501 a workspace that is not the
/// caller's current one; XX001 a damaged sketch. Whatever it refuses leaves nothing behind.
#[pg_extern(volatile)]
#[search_path(pg_catalog, pg_temp)]
#[allow(clippy::too_many_arguments)]
fn record_agent_execution(
    p_workspace_id: Option<pgrx::Uuid>,
    p_agent_id: Option<pgrx::Uuid>,
    p_execution_time_seconds: Option<AnyNumeric>,
    p_input_tokens: Option<i64>,
    p_output_tokens: Option<i64>,
    p_cost: Option<AnyNumeric>,
    p_success: Option<bool>,
    p_campaign_id: default!(Option<pgrx::Uuid>, "NULL"),
    p_execution_id: default!(Option<pgrx::Uuid>, "NULL"),
    p_executed_at: default!(Option<TimestampWithTimeZone>, "now()"),
) {
    let record = || {
        let (time, seconds) = amount(
            required(p_execution_time_seconds, "p_execution_time_seconds")?,
            "p_execution_time_seconds",
        )?;
        let (cost, _) = amount(p_cost.unwrap_or_else(|| AnyNumeric::from(0)), "p_cost")?;
        let execution = Execution {
            workspace: required(p_workspace_id, "p_workspace_id")?,
            agent: required(p_agent_id, "p_agent_id")?,
            time,
            seconds,
            input_tokens: tokens(p_input_tokens, "p_input_tokens")?,
            output_tokens: tokens(p_output_tokens, "p_output_tokens")?,
            cost,
            success: required(p_success, "p_success")?,
            campaign: p_campaign_id,
            id: p_execution_id,
            at: executed_at(p_executed_at)?,
        };
        context::require_workspace(execution.workspace)?;
        execution.record()
    };
    record().or_raise();
}

extension_sql!(
    r#"
COMMENT ON FUNCTION record_agent_execution(uuid, uuid, numeric, bigint, bigint, numeric, boolean, uuid, uuid, timestamptz) IS
'Records one execution of an agent: adds it to the row of agent_performance of its UTC hour (counts, sums, averages, rates, p50/p95/p99 within 1 %) and to one active assignment, that of p_campaign_id, else one without a campaign.
Time in seconds and cost are finite and not negative; NULL tokens and cost count as 0. The same p_execution_id again changes nothing. p_executed_at is the end of the execution, now if NULL.
Refuses: 22004 NULL workspace, agent, time or success; 22023 bad numbers, an infinite p_executed_at, an execution id of another agent; 23503 unknown workspace, agent or campaign; 55000 inactive agent; 42501 not the current workspace.';
"#,
    name = "comment_record_agent_execution",
    requires = [record_agent_execution]
);

/// One execution, its values checked.
struct Execution {
    workspace: pgrx::Uuid,
    agent: pgrx::Uuid,
    time: AnyNumeric,
    /// The time again, for the sketch.
    seconds: f64,
    input_tokens: i64,
    output_tokens: i64,
    cost: AnyNumeric,
    success: bool,
    campaign: Option<pgrx::Uuid>,
    id: Option<pgrx::Uuid>,
    at: TimestampWithTimeZone,
}

/// A numeric that is finite, not negative and within the range of a double precision number, as both.
fn amount(value: AnyNumeric, name: &str) -> Outcome<(AnyNumeric, f64)> {
    // SAFETY: the function takes any numeric; what is beyond a double becomes an infinity.
    let number: f64 = unsafe {
        pgrx::direct_function_call(
            pgrx::pg_sys::numeric_float8_no_overflow,
            &[value.clone().into_datum()],
        )
    }
    .unwrap_or(f64::NAN);
    if number.is_finite() && number.is_sign_positive() {
        return Ok((value, number));
    }
    Err(
        CodexError::bad_value(format!("{name} is {}", shorten(&value.to_string())))
            .with_hint("It has to be a finite number, 0 or more."),
    )
}

fn tokens(value: Option<i64>, name: &str) -> Outcome<i64> {
    match value.unwrap_or(0) {
        count @ 0.. => Ok(count),
        negative => Err(CodexError::bad_value(format!("{name} is {negative}"))
            .with_hint("It has to be 0 or more.")),
    }
}

fn executed_at(value: Option<TimestampWithTimeZone>) -> Outcome<TimestampWithTimeZone> {
    let at = value.unwrap_or_else(now);
    if at.is_infinity() || at.is_neg_infinity() {
        return Err(CodexError::bad_value("p_executed_at is infinite")
            .with_hint("It has to be the time at which the execution ended."));
    }
    Ok(at)
}

/// Hours since 2000-01-01 00:00 UTC: what tells one row of `agent_performance` from the next.
#[derive(Clone, Copy)]
struct Hour(i64);

impl Hour {
    /// The hour that a moment lies in.
    fn of(at: TimestampWithTimeZone) -> Self {
        Self(at.into_inner().div_euclid(MICROSECONDS_PER_HOUR))
    }

    /// The first hour that begins at a moment or after it.
    fn from(at: TimestampWithTimeZone) -> Self {
        let microseconds = at.into_inner();
        let begun = microseconds.rem_euclid(MICROSECONDS_PER_HOUR) != 0;
        Self(microseconds.div_euclid(MICROSECONDS_PER_HOUR) + i64::from(begun))
    }

    /// Its day, in UTC.
    fn date(self) -> Date {
        let days = i32::try_from(self.0.div_euclid(24)).unwrap_or(i32::MAX);
        // SAFETY: every timestamp of Postgres lies on a day of its type date.
        unsafe { Date::from_pg_epoch_days(days) }
    }

    /// Its number in the day, 0 to 23.
    fn of_day(self) -> i32 {
        self.0.rem_euclid(24) as i32
    }
}

statement!(
    AGENT_IS_ACTIVE(UUID) = "
    SELECT a.is_active
    FROM public.agent_registry AS a
    WHERE a.id = $1"
);

statement!(
    CAMPAIGN(UUID, UUID) = "
    SELECT c.id
    FROM public.campaigns AS c
    WHERE c.workspace_id = $1
      AND c.id = $2"
);

statement!(
    RECORDED_BY(UUID, UUID) = "
    SELECT e.agent_id
    FROM codex.agent_executions AS e
    WHERE e.workspace_id = $1
      AND e.execution_id = $2"
);

// Of two sessions with one id, the second waits here until the first has committed or given up.
statement!(
    REMEMBER(UUID, UUID, UUID, TIMESTAMPTZ) = "
    INSERT INTO codex.agent_executions (workspace_id, execution_id, agent_id, executed_at)
    VALUES ($1, $2, $3, $4)
    ON CONFLICT (workspace_id, execution_id) DO NOTHING"
);

// The agent is looked at on the way: a statement of its own would cost as much as what it finds. The casts are for tables
// that were adopted with other numbers than the migrations make.
macro_rules! lock_hour {
    ($at:literal) => {
        concat!(
            "
    SELECT p.id,
           p.ctid,
           (SELECT a.is_active FROM public.agent_registry AS a WHERE a.id = $2),
           coalesce(p.execution_count, 0)::bigint,
           coalesce(p.success_count, 0)::bigint,
           coalesce(p.failure_count, 0)::bigint,
           coalesce(p.error_count, 0)::bigint,
           p.total_execution_time_seconds::numeric,
           p.min_execution_time_seconds::numeric,
           p.max_execution_time_seconds::numeric,
           coalesce(p.total_input_tokens, 0)::bigint,
           coalesce(p.total_output_tokens, 0)::bigint,
           coalesce(p.total_cost_incurred, 0)::numeric,
           p.execution_time_sketch
    FROM public.agent_performance AS p
    WHERE ",
            $at,
            "p.workspace_id = $1
      AND p.agent_id = $2
      AND p.measurement_date = $3
      AND p.measurement_hour = $4
    FOR NO KEY UPDATE OF p"
        )
    };
}

statement!(LOCK_HOUR(UUID, UUID, DATE, INT4) = lock_hour!(""));
statement!(LOCK_HOUR_AT(UUID, UUID, DATE, INT4, TID) = lock_hour!("p.ctid = $5 AND "));

statement!(
    BEGIN_HOUR(UUID, UUID, DATE, INT4) = "
    INSERT INTO public.agent_performance (workspace_id, agent_id, measurement_date, measurement_hour)
    VALUES ($1, $2, $3, $4)
    ON CONFLICT (workspace_id, agent_id, measurement_date, measurement_hour) DO NOTHING"
);

// By its place: the row is locked, so that it stays there. And with values that were computed here: setting up an
// expression for each column would cost more than all the rest of the statement.
statement!(
    WRITE_HOUR(
        TID, INT8, INT8, INT8, INT8, NUMERIC, NUMERIC, NUMERIC, NUMERIC, NUMERIC, NUMERIC, INT8,
        NUMERIC, INT8, NUMERIC, NUMERIC, NUMERIC, BYTEA, NUMERIC, NUMERIC, NUMERIC
    ) = "
    UPDATE public.agent_performance AS p
    SET execution_count = $2,
        success_count = $3,
        failure_count = $4,
        error_count = $5,
        success_rate_percentage = $6,
        error_rate_percentage = $7,
        total_execution_time_seconds = $8,
        avg_execution_time_seconds = $9,
        min_execution_time_seconds = $10,
        max_execution_time_seconds = $11,
        total_input_tokens = $12,
        avg_input_tokens_per_execution = $13,
        total_output_tokens = $14,
        avg_output_tokens_per_execution = $15,
        total_cost_incurred = $16,
        avg_cost_per_execution = $17,
        execution_time_sketch = $18,
        p50_execution_time_seconds = $19,
        p95_execution_time_seconds = $20,
        p99_execution_time_seconds = $21
    WHERE p.ctid = $1
    RETURNING p.ctid"
);

statement!(
    CREDIT(UUID, UUID, UUID, INT4, INT8, NUMERIC) = "
    UPDATE public.agent_assignments AS g
    SET tasks_completed = coalesce(g.tasks_completed, 0) + $4,
        tasks_failed = coalesce(g.tasks_failed, 0) + 1 - $4,
        total_tokens_used = coalesce(g.total_tokens_used, 0) + $5,
        total_cost_incurred = coalesce(g.total_cost_incurred, 0) + $6
    WHERE g.id = (
        SELECT a.id
        FROM public.agent_assignments AS a
        WHERE a.workspace_id = $1
          AND a.agent_id = $2
          AND a.assignment_status = 'active'
          AND (a.assigned_to_campaign_id = $3 OR a.assigned_to_campaign_id IS NULL)
        ORDER BY a.assigned_to_campaign_id NULLS LAST, a.assigned_date, a.id
        LIMIT 1
    )
    RETURNING g.ctid, g.assigned_to_campaign_id IS NOT DISTINCT FROM $3"
);

statement!(
    CREDIT_AT(UUID, UUID, UUID, INT4, INT8, NUMERIC, TID) = "
    UPDATE public.agent_assignments AS g
    SET tasks_completed = coalesce(g.tasks_completed, 0) + $4,
        tasks_failed = coalesce(g.tasks_failed, 0) + 1 - $4,
        total_tokens_used = coalesce(g.total_tokens_used, 0) + $5,
        total_cost_incurred = coalesce(g.total_cost_incurred, 0) + $6
    WHERE g.ctid = $7
      AND g.workspace_id = $1
      AND g.agent_id = $2
      AND g.assignment_status = 'active'
      AND g.assigned_to_campaign_id IS NOT DISTINCT FROM $3
    RETURNING g.ctid"
);

type Key = [u8; 16];

thread_local! {
    /// Rows of `agent_performance` by workspace, agent and hour.
    static HOURS_AT: Places<(Key, Key, i64)> = const { Places::new() };
    /// Rows of `agent_assignments` by workspace, agent and campaign.
    static ASSIGNMENTS_AT: Places<(Key, Key, Option<Key>)> = const { Places::new() };
}

impl Execution {
    fn record(&self) -> Outcome<()> {
        Spi::connect_mut(|client| {
            if self.is_recorded(client)? {
                return Ok(());
            }
            self.check_campaign(client)?;
            self.naming_what_failed(|| {
                if !self.remember(client)? {
                    return Ok(());
                }
                self.add_to_hour(client)?;
                self.credit(client)
            })
        })
    }

    /// Whether the execution id was used before, for this agent; refuses one that another agent used.
    fn is_recorded(&self, client: &SpiClient<'_>) -> Outcome<bool> {
        let Some(id) = self.id else {
            return Ok(false);
        };
        let key = [self.workspace.into(), id.into()];
        let agent = RECORDED_BY
            .with(|s| s.read_one(client, &key, |row| row.get::<pgrx::Uuid>(1)))?
            .flatten();
        match agent {
            Some(agent) if agent != self.agent => Err(CodexError::bad_value(format!(
                "p_execution_id {id} was recorded for agent {agent}, not for {}",
                self.agent
            ))
            .with_hint("Give every execution an id of its own.")),
            recorded => Ok(recorded.is_some()),
        }
    }

    /// Refuses a campaign that the workspace does not have.
    fn check_campaign(&self, client: &SpiClient<'_>) -> Outcome<()> {
        let Some(campaign) = self.campaign else {
            return Ok(());
        };
        let key = [self.workspace.into(), campaign.into()];
        CAMPAIGN
            .with(|s| s.read_one(client, &key, |_| Ok(())))?
            .ok_or_else(|| {
                CodexError::unknown_reference(format!(
                    "p_campaign_id is {campaign}, and there is no such campaign in workspace {}",
                    self.workspace
                ))
            })
    }

    /// Refuses an agent that is not active; `active` is its `is_active`.
    fn check_activity(&self, active: Option<bool>) -> Outcome<()> {
        if active == Some(true) {
            return Ok(());
        }
        Err(
            CodexError::wrong_state(format!("agent {} is not active", self.agent))
                .with_hint("Set is_active of its row in agent_registry to let it work again."),
        )
    }

    /// Takes the execution id, if there is one; false when another session took it in the meantime.
    fn remember(&self, client: &mut SpiClient<'_>) -> Outcome<bool> {
        let Some(id) = self.id else {
            return Ok(true);
        };
        let row = [
            self.workspace.into(),
            id.into(),
            self.agent.into(),
            self.at.into(),
        ];
        if REMEMBER.with(|s| s.execute(client, &row))? == 1 {
            return Ok(true);
        }
        // Read again, with a snapshot that has the other session's row: was it this agent's?
        self.is_recorded(client)?;
        Ok(false)
    }

    fn add_to_hour(&self, client: &mut SpiClient<'_>) -> Outcome<()> {
        let hour = Hour::of(self.at);
        let LockedHour {
            place,
            totals,
            mut sketch,
            ..
        } = self.lock_hour(client, hour)?;
        sketch
            .add(self.seconds)
            .map_err(|error| CodexError::bad_value(format!("p_execution_time_seconds: {error}")))?;
        let percentile = |q| {
            let seconds = sketch.quantile(q)?;
            AnyNumeric::try_from(seconds).ok()
        };
        let mut arguments = vec![place.into()];
        arguments.extend(totals.and(self)?.into_arguments());
        arguments.extend([
            sketch.to_bytes().into(),
            percentile(0.50).into(),
            percentile(0.95).into(),
            percentile(0.99).into(),
        ]);
        let place = WRITE_HOUR.with(|s| s.write_one(client, &arguments, |row| row.get(1)))?;
        if let Some(Some(place)) = place {
            HOURS_AT.with(|hours| hours.keep(self.hour_key(hour), place));
        }
        Ok(())
    }

    fn hour_key(&self, hour: Hour) -> (Key, Key, i64) {
        (*self.workspace.as_bytes(), *self.agent.as_bytes(), hour.0)
    }

    /// The row of the hour, locked until the transaction ends and made where it is missing. Refuses an agent that is not
    /// there or not active.
    fn lock_hour(&self, client: &mut SpiClient<'_>, hour: Hour) -> Outcome<LockedHour> {
        /// The row can vanish between making and locking it only if somebody deletes it just then.
        const TRIES: usize = 10;
        let mut key = vec![
            self.workspace.into(),
            self.agent.into(),
            hour.date().into(),
            hour.of_day().into(),
        ];
        let known = HOURS_AT.with(|hours| hours.get(&self.hour_key(hour)));
        if let Some(place) = known {
            key.push(place.into());
            let found = LOCK_HOUR_AT.with(|s| s.write_one(client, &key, locked_hour))?;
            key.pop();
            if let Some(found) = found {
                return self.of_active_agent(found);
            }
        }
        for _ in 0..TRIES {
            let found = LOCK_HOUR.with(|s| s.write_one(client, &key, locked_hour))?;
            if let Some(found) = found {
                return self.of_active_agent(found);
            }
            let active = AGENT_IS_ACTIVE
                .with(|s| s.read_one(client, &[self.agent.into()], |row| row.get::<bool>(1)))?
                .ok_or_else(|| unknown_agent(self.agent))?;
            self.check_activity(active)?;
            BEGIN_HOUR.with(|s| s.execute(client, &key))?;
        }
        Err(CodexError::busy(format!(
            "the row of agent {} in agent_performance vanishes as often as it is made",
            self.agent
        )))
    }

    /// What was locked, once it is known that its agent is active.
    fn of_active_agent(&self, locked: Outcome<LockedHour>) -> Outcome<LockedHour> {
        let locked = locked?;
        self.check_activity(locked.agent_is_active)?;
        Ok(locked)
    }

    fn credit(&self, client: &mut SpiClient<'_>) -> Outcome<()> {
        let tokens = self
            .input_tokens
            .checked_add(self.output_tokens)
            .ok_or_else(|| {
                CodexError::bad_value("p_input_tokens and p_output_tokens together exceed 2^63 - 1")
            })?;
        let mut arguments = vec![
            self.workspace.into(),
            self.agent.into(),
            self.campaign.into(),
            i32::from(self.success).into(),
            tokens.into(),
            self.cost.clone().into(),
        ];
        let key = (
            *self.workspace.as_bytes(),
            *self.agent.as_bytes(),
            self.campaign.map(|campaign| *campaign.as_bytes()),
        );
        let keep = |place| ASSIGNMENTS_AT.with(|assignments| assignments.keep(key, place));
        if let Some(place) = ASSIGNMENTS_AT.with(|assignments| assignments.get(&key)) {
            arguments.push(place.into());
            let credited =
                CREDIT_AT.with(|s| s.write_one(client, &arguments, |row| row.get::<Place>(1)))?;
            arguments.pop();
            if let Some(Some(place)) = credited {
                keep(place);
                return Ok(());
            }
        }
        let credited = CREDIT.with(|s| {
            s.write_one(client, &arguments, |row| {
                Ok((row.get::<Place>(1)?, row.get::<bool>(2)?))
            })
        })?;
        // One that stands in for the campaign's is not remembered: the campaign may get its own.
        if let Some((Some(place), Some(true))) = credited {
            keep(place);
        }
        Ok(())
    }

    /// Runs `write`; an error of a foreign key or of a full column is raised again in words that name the
    /// value of the caller's which it comes from.
    fn naming_what_failed(&self, write: impl FnOnce() -> Outcome<()>) -> Outcome<()> {
        let agent = self.agent;
        let in_range = || {
            PgTryBuilder::new(AssertUnwindSafe(write))
                .catch_when(
                    PgSqlErrorCode::ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE,
                    move |caught| Err(beyond_the_sums(agent, &message_of(&caught))),
                )
                .execute()
        };
        let reference = |foreign_key, argument, what, value| Reference {
            foreign_key,
            argument,
            what,
            value: Some(value),
        };
        naming_what_is_missing(
            &[
                reference(
                    "_workspace_id_fkey",
                    "p_workspace_id",
                    "workspace",
                    self.workspace,
                ),
                // It was there a moment ago.
                reference("_agent_id_fkey", "p_agent_id", "agent", self.agent),
            ],
            in_range,
        )
    }
}

fn beyond_the_sums(agent: pgrx::Uuid, why: &str) -> CodexError {
    CodexError::bad_value(format!(
        "the sums of agent {agent} cannot hold this execution: {why}"
    ))
}

fn unknown_agent(agent: pgrx::Uuid) -> CodexError {
    CodexError::unknown_reference(format!("p_agent_id is {agent}, and there is no such agent"))
        .with_hint("Agents are the rows of agent_registry.")
}

/// A row of [`LOCK_HOUR`].
struct LockedHour {
    place: Place,
    agent_is_active: Option<bool>,
    totals: Totals,
    sketch: Sketch,
}

fn locked_hour(row: pgrx::spi::SpiHeapTupleData<'_>) -> spi::SpiResult<Outcome<LockedHour>> {
    let (id, place) = (row.get::<pgrx::Uuid>(1)?, row.get::<Place>(2)?);
    let (Some(id), Some(place)) = (id, place) else {
        return Ok(Err(CodexError::corrupt(
            "a row of agent_performance has no id",
        )));
    };
    let agent_is_active = row.get(3)?;
    let totals = Totals::read(&row, 4)?;
    Ok(sketch_of(row.get(14)?, id).map(|sketch| LockedHour {
        place,
        agent_is_active,
        totals,
        sketch,
    }))
}

/// The sketch that a row of `agent_performance` keeps; an empty one where it keeps none.
fn sketch_of(stored: Option<&[u8]>, row: pgrx::Uuid) -> Outcome<Sketch> {
    stored.map_or_else(
        || Ok(Sketch::new()),
        |bytes| {
            Sketch::from_bytes(bytes).map_err(|error| {
                CodexError::corrupt(format!(
                    "execution_time_sketch of row {row} of agent_performance is damaged: {error}"
                ))
                .with_hint(
                    "Restore the row from a backup, or set its execution_time_sketch to NULL: counts and sums \
                     stay, and its percentiles begin anew.",
                )
            })
        },
    )
}

/// What an agent did in a span of time, all its hours together.
///
/// Takes the workspace, an agent (NULL: every agent with executions) and the span: the hours that begin at `p_from`
/// or after it and before `p_to`, so that spans that touch never count an hour twice; NULL is open.
///
/// Returns a row an agent, ordered by its id: `executions`; `success_rate` in percent; `p50`, `p95`, `p99` of the
/// execution time in seconds, within 1 % of the exact sample of that rank (the sketches of the hours are merged;
/// percentiles are never averaged), NULL where no hour has a sketch; `tokens`, input and output together; `cost`.
///
/// Refuses: 22004 a NULL workspace; 22023 a `p_from` after `p_to`, and sums beyond a bigint; 42501 a workspace that
/// is not the caller's current one; XX001 a damaged sketch.
#[pg_extern(stable, parallel_restricted)]
#[search_path(pg_catalog, pg_temp)]
#[allow(clippy::type_complexity)]
fn agent_performance_summary(
    p_workspace_id: Option<pgrx::Uuid>,
    p_agent_id: default!(Option<pgrx::Uuid>, "NULL"),
    p_from: default!(Option<TimestampWithTimeZone>, "NULL"),
    p_to: default!(Option<TimestampWithTimeZone>, "NULL"),
) -> TableIterator<
    'static,
    (
        name!(agent_id, pgrx::Uuid),
        name!(executions, i64),
        name!(success_rate, Option<AnyNumeric>),
        name!(p50, Option<AnyNumeric>),
        name!(p95, Option<AnyNumeric>),
        name!(p99, Option<AnyNumeric>),
        name!(tokens, i64),
        name!(cost, AnyNumeric),
    ),
> {
    let summaries = summarise(p_workspace_id, p_agent_id, p_from, p_to).or_raise();
    TableIterator::new(summaries.into_values().map(Summary::into_row))
}

extension_sql!(
    r#"
COMMENT ON FUNCTION agent_performance_summary(uuid, uuid, timestamptz, timestamptz) IS
'What each agent of a workspace did in the UTC hours that begin at p_from or after it and before p_to (NULL: open): executions, success rate in percent, p50/p95/p99 of the execution time in seconds within 1 % (the sketches of the hours are merged), tokens, cost. Only p_agent_id where it is given.
Refuses: 22004 NULL workspace; 22023 p_from after p_to; 42501 not the current workspace; XX001 a damaged sketch.';

ALTER FUNCTION agent_performance_summary(uuid, uuid, timestamptz, timestamptz) ROWS 70;
"#,
    name = "comment_agent_performance_summary",
    requires = [agent_performance_summary]
);

statement!(
    HOURS(UUID, UUID, DATE, INT4, DATE, INT4) = "
    SELECT p.agent_id,
           p.id,
           coalesce(p.execution_count, 0),
           coalesce(p.success_count, 0),
           coalesce(p.total_input_tokens, 0),
           coalesce(p.total_output_tokens, 0),
           p.total_cost_incurred,
           p.execution_time_sketch
    FROM public.agent_performance AS p
    WHERE p.workspace_id = $1
      AND ($2 IS NULL OR p.agent_id = $2)
      AND p.measurement_date BETWEEN $3 AND $5
      AND (p.measurement_date, coalesce(p.measurement_hour, 0)) >= ($3, $4)
      AND (p.measurement_date, coalesce(p.measurement_hour, 0)) < ($5, $6)"
);

fn summarise(
    workspace: Option<pgrx::Uuid>,
    agent: Option<pgrx::Uuid>,
    from: Option<TimestampWithTimeZone>,
    to: Option<TimestampWithTimeZone>,
) -> Outcome<BTreeMap<[u8; 16], Summary>> {
    let workspace = required(workspace, "p_workspace_id")?;
    if from.zip(to).is_some_and(|(from, to)| from > to) {
        return Err(CodexError::bad_value("p_from is after p_to"));
    }
    context::require_workspace(workspace)?;

    let (first_date, first_hour) = bound(from, i32::MIN);
    let (end_date, end_hour) = bound(to, i32::MAX);
    let arguments = [
        workspace.into(),
        agent.into(),
        first_date.into(),
        first_hour.into(),
        end_date.into(),
        end_hour.into(),
    ];
    // Added up here and not sorted by the server: a sketch makes a row wide, and there are few agents.
    let mut summaries: BTreeMap<[u8; 16], Summary> = BTreeMap::new();
    Spi::connect(|client| {
        HOURS.with(|s| {
            s.scan(client, &arguments, |row| {
                let Some(agent) = row.get::<pgrx::Uuid>(1)? else {
                    return Ok(());
                };
                let summary = summaries
                    .entry(*agent.as_bytes())
                    .or_insert_with(|| Summary::of(agent));
                summary.add(&row)
            })
        })
    })?;
    Ok(summaries)
}

/// Day and hour of an end of the span; an open end is the day `open` (an infinity of the type date).
fn bound(at: Option<TimestampWithTimeZone>, open: i32) -> (Date, i32) {
    let infinite = match at {
        Some(at) if at.is_infinity() => i32::MAX,
        Some(at) if at.is_neg_infinity() => i32::MIN,
        Some(at) => {
            let hour = Hour::from(at);
            return (hour.date(), hour.of_day());
        }
        None => open,
    };
    // SAFETY: i32::MIN and i32::MAX are the infinities of the type date.
    (unsafe { Date::from_pg_epoch_days(infinite) }, 0)
}

/// The hours of one agent, added up.
struct Summary {
    agent: pgrx::Uuid,
    executions: i64,
    successes: i64,
    tokens: i64,
    cost: AnyNumeric,
    sketch: Sketch,
}

impl Summary {
    fn of(agent: pgrx::Uuid) -> Self {
        Self {
            agent,
            executions: 0,
            successes: 0,
            tokens: 0,
            cost: AnyNumeric::from(0),
            sketch: Sketch::new(),
        }
    }

    /// Adds a row of [`HOURS`].
    fn add(&mut self, row: &pgrx::spi::SpiHeapTupleData<'_>) -> Outcome<()> {
        let too_many = || {
            CodexError::bad_value("the sums of this span exceed 2^63 - 1")
                .with_hint("Ask for less at once.")
        };
        let sum = |total: i64, part: Option<i64>| {
            total.checked_add(part.unwrap_or(0)).ok_or_else(too_many)
        };
        self.executions = sum(self.executions, row.get::<i32>(3)?.map(i64::from))?;
        self.successes = sum(self.successes, row.get::<i32>(4)?.map(i64::from))?;
        self.tokens = sum(self.tokens, row.get(5)?)?;
        self.tokens = sum(self.tokens, row.get(6)?)?;
        if let Some(cost) = row.get::<AnyNumeric>(7)? {
            self.cost = std::mem::replace(&mut self.cost, AnyNumeric::from(0)) + cost;
        }
        if let (Some(id), Some(stored)) = (row.get::<pgrx::Uuid>(2)?, row.get::<&[u8]>(8)?) {
            let hour = sketch_of(Some(stored), id)?;
            self.sketch.merge(&hour).map_err(|_| too_many())?;
        }
        Ok(())
    }

    #[allow(clippy::type_complexity)]
    fn into_row(
        self,
    ) -> (
        pgrx::Uuid,
        i64,
        Option<AnyNumeric>,
        Option<AnyNumeric>,
        Option<AnyNumeric>,
        Option<AnyNumeric>,
        i64,
        AnyNumeric,
    ) {
        let quantile = |q| {
            let seconds = self.sketch.quantile(q)?;
            AnyNumeric::try_from(seconds).ok()
        };
        let success_rate = (self.executions > 0).then(|| {
            AnyNumeric::from(self.successes) * AnyNumeric::from(100)
                / AnyNumeric::from(self.executions)
        });
        (
            self.agent,
            self.executions,
            success_rate,
            quantile(0.50),
            quantile(0.95),
            quantile(0.99),
            self.tokens,
            self.cost,
        )
    }
}
