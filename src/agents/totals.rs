//! The sums that the row of an hour keeps, and what follows from them.

use super::{Execution, beyond_the_sums};
use crate::error::Outcome;
use pgrx::AnyNumeric;
use pgrx::datum::DatumWithOid;
use pgrx::spi::{SpiHeapTupleData, SpiResult};

/// What the executions of an agent in an hour come to.
pub struct Totals {
    executions: i64,
    successes: i64,
    failures: i64,
    errors: i64,
    /// Seconds; None in a row that was there before the column was filled.
    time: Option<AnyNumeric>,
    shortest: Option<AnyNumeric>,
    longest: Option<AnyNumeric>,
    input_tokens: i64,
    output_tokens: i64,
    cost: AnyNumeric,
}

impl Totals {
    /// Those of a row, in the ten columns from `first` on.
    pub fn read(row: &SpiHeapTupleData<'_>, first: usize) -> SpiResult<Self> {
        let count = |at: usize| -> SpiResult<i64> { Ok(row.get(first + at)?.unwrap_or(0)) };
        Ok(Self {
            executions: count(0)?,
            successes: count(1)?,
            failures: count(2)?,
            errors: count(3)?,
            time: row.get(first + 4)?,
            shortest: row.get(first + 5)?,
            longest: row.get(first + 6)?,
            input_tokens: count(7)?,
            output_tokens: count(8)?,
            cost: row.get(first + 9)?.unwrap_or_else(|| AnyNumeric::from(0)),
        })
    }

    /// These and one more execution.
    pub fn and(self, execution: &Execution) -> Outcome<Self> {
        let sum = |total: i64, more: i64| {
            total
                .checked_add(more)
                .ok_or_else(|| beyond_the_sums(execution.agent, "bigint out of range"))
        };
        let (good, bad) = if execution.success { (1, 0) } else { (0, 1) };
        let time = &execution.time;
        Ok(Self {
            executions: sum(self.executions, 1)?,
            successes: sum(self.successes, good)?,
            failures: sum(self.failures, bad)?,
            errors: sum(self.errors, bad)?,
            time: self.time.map(|total| total + time.clone()),
            shortest: Some(
                self.shortest
                    .map_or_else(|| time.clone(), |known| known.min(time.clone())),
            ),
            longest: Some(
                self.longest
                    .map_or_else(|| time.clone(), |known| known.max(time.clone())),
            ),
            input_tokens: sum(self.input_tokens, execution.input_tokens)?,
            output_tokens: sum(self.output_tokens, execution.output_tokens)?,
            cost: self.cost + execution.cost.clone(),
        })
    }

    /// The arguments of [`WRITE_HOUR`](super::WRITE_HOUR) from the second to the seventeenth; there is an execution.
    pub fn into_arguments(self) -> [DatumWithOid<'static>; 16] {
        let executions = AnyNumeric::from(self.executions);
        let each = |total: AnyNumeric| total / executions.clone();
        let percent = |count: i64| {
            let hundred = AnyNumeric::from(100);
            each(hundred.clone() * AnyNumeric::from(count)).min(hundred)
        };
        [
            self.executions.into(),
            self.successes.into(),
            self.failures.into(),
            self.errors.into(),
            percent(self.successes).into(),
            percent(self.errors).into(),
            self.time.clone().into(),
            self.time.map(each).into(),
            self.shortest.into(),
            self.longest.into(),
            self.input_tokens.into(),
            each(self.input_tokens.into()).into(),
            self.output_tokens.into(),
            each(self.output_tokens.into()).into(),
            self.cost.clone().into(),
            each(self.cost).into(),
        ]
    }
}
