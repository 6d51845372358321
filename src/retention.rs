//! For how many days an engine keeps what has served: a setting of the server, and the time that it comes to.

use crate::error::Outcome;
use crate::instant;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};
use std::ffi::CStr;

/// A setting: days, 0 for ever.
pub struct Keep(GucSetting<i32>);

impl Keep {
    /// So many days, unless it is set.
    pub const fn days(default: i32) -> Self {
        Self(GucSetting::<i32>::new(default))
    }

    /// Makes it known to Postgres. Called once, when the library is loaded.
    pub fn define(&'static self, name: &'static CStr, what: &'static CStr, more: &'static CStr) {
        GucRegistry::define_int_guc(
            name,
            what,
            more,
            &self.0,
            0,
            36_500,
            GucContext::Suset,
            GucFlags::default(),
        );
    }

    /// What is older than this may go; None where it is kept for ever.
    pub fn limit(&self, now: TimestampWithTimeZone) -> Outcome<Option<TimestampWithTimeZone>> {
        match self.0.get() {
            0 => Ok(None),
            days => instant::days_before(now, days.into()).map(Some),
        }
    }
}
