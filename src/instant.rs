//! Points in time, and how far apart they are.

use crate::error::{CodexError, Outcome};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys;

/// Now, by the clock: it goes on while a transaction runs.
pub fn now() -> TimestampWithTimeZone {
    pgrx::datum::datetime_support::clock_timestamp()
}

/// The time `micros` microseconds after `at` (or before, where negative); 22023 outside of what Postgres can hold.
pub fn after(at: TimestampWithTimeZone, micros: i64) -> Outcome<TimestampWithTimeZone> {
    of(pg_sys::TimestampTz::from(at).saturating_add(micros))
}

/// The time `days` times 24 hours before `at`; 22023 outside of what Postgres can hold.
pub fn days_before(at: TimestampWithTimeZone, days: i64) -> Outcome<TimestampWithTimeZone> {
    after(at, days.saturating_mul(-86_400_000_000))
}

/// The time that Postgres counts as `micros`; 22023 outside of what it can hold.
pub fn of(micros: pg_sys::TimestampTz) -> Outcome<TimestampWithTimeZone> {
    TimestampWithTimeZone::try_from(micros)
        .map_err(|_| CodexError::bad_value("a point in time is outside of what Postgres can hold"))
}
