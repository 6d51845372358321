//! Achievements: the points, level and rates of a user.

use crate::error::Outcome;
use crate::row_triggers::Row;
use crate::trigger_function;
use pgrx::pg_sys;
use pgrx::prelude::*;

/// Points that make one level.
const POINTS_PER_LEVEL: i32 = 1000;

/// Keeps the level of a user: `total_points / 1000 + 1`, and the way to the next level in percent,
/// `total_points % 1000 / 10`. NULL points count as 0.
fn with_level(data: &pg_sys::TriggerData) -> Outcome<pg_sys::HeapTuple> {
    let row = Row::of(data)?;
    let level_column = row.column("experience_level")?;
    let percentage_column = row.column("experience_percentage")?;
    let points: i32 = row.new_value(row.column("total_points")?).unwrap_or(0);
    let level = points / POINTS_PER_LEVEL + 1;
    // A level has 1000 points, so a point is a tenth of a percent.
    let percentage = tenths(points % POINTS_PER_LEVEL);
    if row.new_value::<i32>(level_column) == Some(level)
        && row.new_value::<AnyNumeric>(percentage_column).as_ref() == Some(&percentage)
    {
        return Ok(row.unchanged());
    }
    Ok(row.with([
        (level_column, pg_sys::Datum::from(level)),
        (percentage_column, datum(percentage)),
    ]))
}

trigger_function!(update_experience_level, with_level);

/// Keeps the success rate of a user's moves in percent: `moves_successful / moves_executed * 100`, 0 when
/// none was executed. NULL counters count as 0.
fn with_success_rate(data: &pg_sys::TriggerData) -> Outcome<pg_sys::HeapTuple> {
    let row = Row::of(data)?;
    let rate_column = row.column("success_rate_percentage")?;
    let executed: i32 = row.new_value(row.column("moves_executed")?).unwrap_or(0);
    let successful: i32 = row.new_value(row.column("moves_successful")?).unwrap_or(0);
    let rate = if executed == 0 {
        AnyNumeric::from(0)
    } else {
        AnyNumeric::from(i64::from(successful) * 100) / AnyNumeric::from(executed)
    };
    if row.new_value::<AnyNumeric>(rate_column).as_ref() == Some(&rate) {
        return Ok(row.unchanged());
    }
    Ok(row.with([(rate_column, datum(rate))]))
}

trigger_function!(calculate_move_success_rate, with_success_rate);

extension_sql!(
    r#"
CREATE FUNCTION update_experience_level() RETURNS trigger
LANGUAGE c
AS 'MODULE_PATHNAME', 'update_experience_level_trigger';

COMMENT ON FUNCTION update_experience_level() IS
'Trigger BEFORE INSERT OR UPDATE of a row of user_stats: experience_level becomes total_points / 1000 + 1 and experience_percentage total_points % 1000 / 10. NULL points count as 0.';

CREATE FUNCTION calculate_move_success_rate() RETURNS trigger
LANGUAGE c
AS 'MODULE_PATHNAME', 'calculate_move_success_rate_trigger';

COMMENT ON FUNCTION calculate_move_success_rate() IS
'Trigger BEFORE INSERT OR UPDATE of a row of user_stats: success_rate_percentage becomes moves_successful / moves_executed * 100, 0 when none was executed. NULL counters count as 0.';
"#,
    name = "triggers_user_stats"
);

/// `value / 10` as a numeric with one decimal.
fn tenths(value: i32) -> AnyNumeric {
    // SAFETY: int64_div_fast_to_numeric takes any value with a small scale and gives a palloc'd numeric.
    let made = unsafe {
        let made = pg_sys::int64_div_fast_to_numeric(i64::from(value), 1);
        AnyNumeric::from_datum(pg_sys::Datum::from(made), false)
    };
    made.unwrap_or_else(|| AnyNumeric::from(0))
}

fn datum(value: AnyNumeric) -> pg_sys::Datum {
    value.into_datum().unwrap_or(pg_sys::Datum::from(0))
}
