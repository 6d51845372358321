//! Every error a user can meet, in one place.
//!
//! A function of this extension fails with one of the kinds below. Each kind has one SQLSTATE; the
//! message names the value that was wrong, and the hint says what to do where there is something to do.
//!
//! | kind | SQLSTATE | condition name |
//! |---|---|---|
//! | [`CodexError::required`] | 22004 | `null_value_not_allowed` |
//! | [`CodexError::bad_value`] | 22023 | `invalid_parameter_value` |
//! | [`CodexError::unknown_reference`] | 23503 | `foreign_key_violation` |
//! | [`CodexError::not_allowed`] | 42501 | `insufficient_privilege` |
//! | [`CodexError::wrong_state`] | 55000 | `object_not_in_prerequisite_state` |
//! | [`CodexError::not_found`] | P0002 | `no_data_found` |
//! | [`CodexError::busy`] | 55P03 | `lock_not_available` |
//! | [`CodexError::not_supported`] | 0A000 | `feature_not_supported` |
//! | [`CodexError::corrupt`] | XX001 | `data_corrupted` |
//!
//! An error that Postgres itself raises while a statement of ours runs (a violated CHECK, a cancelled
//! query) passes through untouched, SQLSTATE and all.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use std::fmt;

/// What a fallible function of this extension returns inside Rust.
pub type Outcome<T> = Result<T, CodexError>;

/// An error with its SQLSTATE, message, and optional detail and hint.
///
/// Boxed, so that a `Result` that carries it stays small on the good path.
#[derive(Debug)]
pub struct CodexError(Box<Parts>);

#[derive(Debug)]
struct Parts {
    code: PgSqlErrorCode,
    message: String,
    detail: Option<String>,
    hint: Option<String>,
}

impl CodexError {
    fn new(code: PgSqlErrorCode, message: impl Into<String>) -> Self {
        Self(Box::new(Parts {
            code,
            message: message.into(),
            detail: None,
            hint: None,
        }))
    }

    /// 22004: the argument `name` was NULL and may not be.
    pub fn required(name: &str) -> Self {
        Self::new(
            PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED,
            format!("{name} must not be NULL"),
        )
    }

    /// 22023: a value that the function does not take. The message names the value.
    pub fn bad_value(message: impl Into<String>) -> Self {
        Self::new(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, message)
    }

    /// 22023 for an enumeration: names the argument, the value and what is allowed.
    pub fn not_one_of(name: &str, value: &str, allowed: &[&str]) -> Self {
        Self::bad_value(format!("{name} is \"{}\"", shorten(value)))
            .with_hint(format!("Allowed values: {}.", allowed.join(", ")))
    }

    /// 23503: refers to a row that does not exist (or that the caller may not know of).
    pub fn unknown_reference(message: impl Into<String>) -> Self {
        Self::new(PgSqlErrorCode::ERRCODE_FOREIGN_KEY_VIOLATION, message)
    }

    /// 42501: the caller may not do this here.
    pub fn not_allowed(message: impl Into<String>) -> Self {
        Self::new(PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE, message)
    }

    /// 55000: the object is in a state in which this cannot be done.
    pub fn wrong_state(message: impl Into<String>) -> Self {
        Self::new(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            message,
        )
    }

    /// P0002: no such row, or none that the caller can see.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(PgSqlErrorCode::ERRCODE_NO_DATA_FOUND, message)
    }

    /// 55P03: a lock was not to be had in time; trying again may succeed.
    pub fn busy(message: impl Into<String>) -> Self {
        Self::new(PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE, message)
    }

    /// 0A000: this cannot be done here at all.
    pub fn not_supported(message: impl Into<String>) -> Self {
        Self::new(PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED, message)
    }

    /// XX001: stored bytes that are not what they should be.
    pub fn corrupt(message: impl Into<String>) -> Self {
        Self::new(PgSqlErrorCode::ERRCODE_DATA_CORRUPTED, message)
    }

    /// The same error with a DETAIL line.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.0.detail = Some(detail.into());
        self
    }

    /// The same error with a HINT line.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// The SQLSTATE.
    pub fn sqlstate(&self) -> PgSqlErrorCode {
        self.0.code
    }

    /// The primary message.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Raises the error in Postgres.
    pub fn raise(self) -> ! {
        let Parts {
            code,
            message,
            detail,
            hint,
        } = *self.0;
        let mut report = ErrorReport::new(code, message, "raptorflow_codex");
        if let Some(detail) = detail {
            report = report.set_detail(detail);
        }
        if let Some(hint) = hint {
            report = report.set_hint(hint);
        }
        report.report(PgLogLevel::ERROR);
        unreachable!("an ERROR does not return")
    }
}

impl fmt::Display for CodexError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for CodexError {}

/// A failure of the SPI call itself (not of the SQL, which Postgres raises by itself): a column that somebody gave
/// another type, else a bug of ours.
impl From<pgrx::spi::Error> for CodexError {
    fn from(error: pgrx::spi::Error) -> Self {
        if let pgrx::spi::Error::DatumError(wrong_type) = &error {
            return Self::wrong_state(format!(
                "a column of the Codex is not of the type that its migration gave it: {wrong_type}"
            ))
            .with_hint(
                "SELECT * FROM codex.verify() tells which: give it back the type that is expected.",
            );
        }
        Self::new(
            PgSqlErrorCode::ERRCODE_INTERNAL_ERROR,
            format!("raptorflow_codex could not run a statement: {error}"),
        )
    }
}

/// Raises the error of an outcome, or gives its value: the last step of every SQL-callable function.
pub trait OrRaise<T> {
    /// The value, or the error raised in Postgres.
    fn or_raise(self) -> T;
}

impl<T> OrRaise<T> for Outcome<T> {
    fn or_raise(self) -> T {
        match self {
            Ok(value) => value,
            Err(error) => error.raise(),
        }
    }
}

/// The value of a required argument, or 22004 with its name.
pub fn required<T>(value: Option<T>, name: &str) -> Outcome<T> {
    value.ok_or_else(|| CodexError::required(name))
}

/// A value as it is put into a message: cut after 80 characters, so that a huge argument does not
/// make a huge error.
pub fn shorten(value: &str) -> String {
    shorten_to(value, 80)
}

/// The first characters of a text, with an ellipsis where there were more.
pub fn shorten_to(text: &str, longest: usize) -> String {
    match text.char_indices().nth(longest) {
        None => text.to_string(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}
