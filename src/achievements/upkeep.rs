//! What time does to metrics: events that are known long enough and days that no rule looks at any more go.

use crate::argument;
use crate::context;
use crate::error::{OrRaise, Outcome};
use crate::instant;
use crate::statement;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::prelude::*;
use pgrx::spi::SpiClient;
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};

static EVENT_DAYS: GucSetting<i32> = GucSetting::<i32>::new(90);
static METRIC_DAYS: GucSetting<i32> = GucSetting::<i32>::new(800);

/// Defines the settings that this room reads.
pub fn define_settings() {
    GucRegistry::define_int_guc(
        c"raptorflow_codex.keep_metric_events_days",
        c"How many days a recorded event is known by its id; 90 by default.",
        c"An event that occurred longer ago is refused, since it could not be told from one that was counted. codex.upkeep_achievements() deletes older ones; totals and days stay.",
        &EVENT_DAYS,
        1,
        3_650,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"raptorflow_codex.keep_metric_days",
        c"How many days back windows and streaks look; 800 by default, at least 400.",
        c"The longest window or streak has 366 days. codex.upkeep_achievements() deletes the sums of older days; never of such as an event may still come for.",
        &METRIC_DAYS,
        400,
        36_500,
        GucContext::Suset,
        GucFlags::default(),
    );
}

/// For how many days events are known.
pub fn events_kept() -> i32 {
    EVENT_DAYS.get()
}

statement!(
    FORGET_EVENTS(TIMESTAMPTZ, INT8) = "
DELETE FROM codex.metric_events AS e
WHERE e.ctid = ANY (ARRAY(
    SELECT o.ctid
    FROM codex.metric_events AS o
    WHERE o.recorded_at < $1
    ORDER BY o.recorded_at
    LIMIT $2
    FOR UPDATE SKIP LOCKED
))"
);
// Days are those of the user's zone: one more is kept than asked for.
statement!(
    FORGET_DAYS(TIMESTAMPTZ, INT8) = "
DELETE FROM codex.metric_days AS d
WHERE d.ctid = ANY (ARRAY(
    SELECT o.ctid
    FROM codex.metric_days AS o
    WHERE o.day < ($1 AT TIME ZONE 'UTC')::date - 1
    ORDER BY o.day
    LIMIT $2
    FOR UPDATE SKIP LOCKED
))"
);

/// Does one batch of everything that is to be done at `now`; gives what was done, and to how many rows. What another
/// session is at is left to it, so that two at once do no harm.
pub fn upkeep(
    client: &mut SpiClient<'_>,
    now: TimestampWithTimeZone,
    batch: i64,
) -> Outcome<Vec<(&'static str, i64)>> {
    // A day longer than events are taken: what is refused as too old and what is forgotten must not overlap.
    let events = i64::from(EVENT_DAYS.get()) + 1;
    let days = i64::from(METRIC_DAYS.get()).max(events);
    let before = |days: i64| instant::days_before(now, days);
    let arguments = [before(events)?.into(), batch.into()];
    let forgotten = FORGET_EVENTS.with(|s| s.execute(client, &arguments))?;
    let arguments = [before(days)?.into(), batch.into()];
    let days = FORGET_DAYS.with(|s| s.execute(client, &arguments))?;
    Ok(vec![
        ("metric events deleted", forgotten as i64),
        ("days of metrics deleted", days as i64),
    ])
}

/// Does what time does to metrics, up to `batch` rows of each kind (1 to 100000): deletes events that were recorded more
/// than `raptorflow_codex.keep_metric_events_days` ago, and days older than `raptorflow_codex.keep_metric_days`. Of the
/// current workspace when there is one, else of all.
///
/// Returns what was done, to how many rows; call it again while a number reaches `batch`. Two at once are safe. Refuses:
/// NULL (22004); a batch out of bounds (22023); a caller to whom row-level security applies and who has entered no
/// workspace (42501).
#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn upkeep_achievements(
    batch: default!(Option<i32>, 1000),
) -> TableIterator<'static, (name!(done, &'static str), name!(rows, i64))> {
    let run = || -> Outcome<_> {
        let batch = argument::between(batch, "batch", 1..=100_000)?;
        context::workspace_or_all()?;
        Spi::connect_mut(|client| upkeep(client, instant::now(), batch))
    };
    TableIterator::new(run().or_raise())
}

extension_sql!(
    r#"
ALTER FUNCTION upkeep_achievements(integer) SET enable_seqscan = off;
ALTER FUNCTION upkeep_achievements(integer) SET enable_sort = off;
COMMENT ON FUNCTION upkeep_achievements(integer) IS
'Deletes metric events that were recorded more than raptorflow_codex.keep_metric_events_days ago, and days older than raptorflow_codex.keep_metric_days; up to batch rows of each. Returns what was done, to how many rows. Errors: 22004 NULL, 22023 batch out of bounds, 42501 no workspace entered.';
"#,
    name = "comment_upkeep_achievements",
    requires = [upkeep_achievements]
);
