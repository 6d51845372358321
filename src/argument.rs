//! What a SQL-callable function asks of its arguments before it runs anything.
//!
//! Each check gives the value back, or an error of kind 22004 (NULL) or 22023 (a value that is not taken)
//! that names the argument and what it holds.

use crate::error::{CodexError, Outcome, required, shorten};
use pgrx::callconv::{Arg, ArgAbi, BoxRet, FcInfo};
use pgrx::datum::{Array, Interval};
use pgrx::pgrx_sql_entity_graph::metadata::{
    ArgumentError, ReturnsError, ReturnsRef, SqlMappingRef, SqlTranslatable, TypeOrigin,
};
use pgrx::prelude::*;
use pgrx::{AnyNumeric, PgMemoryContexts, PgRelation, Uuid};
use std::ffi::CStr;
use std::ops::RangeInclusive;

/// The longest key that is taken for a dedup key or an idempotency key, in characters.
pub const LONGEST_KEY: usize = 200;

/// How many ids an error message lists before it only counts them.
const MOST_LISTED: usize = 10;

/// A required argument that must be one of `allowed`.
pub fn one_of<'a>(value: Option<&'a str>, name: &str, allowed: &[&str]) -> Outcome<&'a str> {
    let value = required(value, name)?;
    if allowed.contains(&value) {
        Ok(value)
    } else {
        Err(CodexError::not_one_of(name, value, allowed))
    }
}

/// A required text that is not blank.
pub fn not_blank<'a>(value: Option<&'a str>, name: &str) -> Outcome<&'a str> {
    let value = required(value, name)?;
    if value.trim().is_empty() {
        Err(CodexError::bad_value(format!("{name} must not be blank")))
    } else {
        Ok(value)
    }
}

/// An optional key: not blank and at most `longest` characters.
pub fn key<'a>(value: Option<&'a str>, name: &str, longest: usize) -> Outcome<Option<&'a str>> {
    let Some(value) = value else { return Ok(None) };
    not_blank(Some(value), name)?;
    let length = value.chars().count();
    if length > longest {
        return Err(CodexError::bad_value(format!(
            "{name} has {length} characters; at most {longest} are taken: \"{}\"",
            shorten(value)
        )));
    }
    Ok(Some(value))
}

/// The argument `p_limit`: how many rows at most, NULL for all.
pub fn limit(value: Option<i32>) -> Outcome<Option<i64>> {
    match value {
        Some(negative @ ..0) => Err(CodexError::bad_value(format!(
            "p_limit is {negative}; it must be 0 or more, or NULL for no limit"
        ))),
        other => Ok(other.map(i64::from)),
    }
}

/// A required number within bounds.
pub fn between(value: Option<i32>, name: &str, bounds: RangeInclusive<i32>) -> Outcome<i64> {
    let value = required(value, name)?;
    if bounds.contains(&value) {
        return Ok(i64::from(value));
    }
    Err(CodexError::bad_value(format!(
        "{name} is {value}; it must be from {} to {}",
        bounds.start(),
        bounds.end()
    )))
}

/// A required length of time within bounds, in microseconds; a month counts as 30 days.
pub fn duration(value: Option<Interval>, name: &str, bounds: RangeInclusive<i64>) -> Outcome<i64> {
    let value = required(value, name)?;
    match i64::try_from(value.as_micros()) {
        Ok(micros) if bounds.contains(&micros) => Ok(micros),
        _ => Err(CodexError::bad_value(format!(
            "{name} is {} seconds; it must be from {} to {}",
            value.as_micros() / 1_000_000,
            bounds.start() / 1_000_000,
            bounds.end() / 1_000_000
        ))),
    }
}

/// A required score from 0 to 100. NaN and infinity are not.
pub fn score(value: Option<AnyNumeric>, name: &str) -> Outcome<AnyNumeric> {
    let value = required(value, name)?;
    // Postgres sorts NaN above everything, so that the upper bound refuses it as well.
    if value < AnyNumeric::from(0) || value > AnyNumeric::from(100) {
        return Err(CodexError::bad_value(format!(
            "{name} is {}; it must be from 0 to 100",
            shorten(&value.to_string())
        )));
    }
    Ok(value)
}

/// A required list of ids without NULL in it: sorted, each once. An empty list is refused.
pub fn ids(value: Option<Array<'_, Uuid>>, name: &str) -> Outcome<Vec<Uuid>> {
    let value = required(value, name)?;
    let mut ids = Vec::with_capacity(value.len());
    for (position, id) in value.iter().enumerate() {
        ids.push(id.ok_or_else(|| {
            CodexError::bad_value(format!("{name} has a NULL at position {}", position + 1))
        })?);
    }
    if ids.is_empty() {
        return Err(CodexError::bad_value(format!("{name} must not be empty")));
    }
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

/// A required list of texts, none of them NULL or blank. It may be empty.
pub fn texts(value: Option<Array<'_, &str>>, name: &str) -> Outcome<Vec<String>> {
    let value = required(value, name)?;
    let mut texts = Vec::with_capacity(value.len());
    for (position, text) in value.iter().enumerate() {
        let text = text.ok_or_else(|| {
            CodexError::bad_value(format!("{name} has a NULL at position {}", position + 1))
        })?;
        if text.trim().is_empty() {
            return Err(CodexError::bad_value(format!(
                "{name} has a blank text at position {}",
                position + 1
            )));
        }
        texts.push(text.to_string());
    }
    Ok(texts)
}

/// Ids as a message names them: the first ten, and how many more there are.
pub fn listed(ids: &[Uuid]) -> String {
    let mut text = ids
        .iter()
        .take(MOST_LISTED)
        .map(Uuid::to_string)
        .collect::<Vec<_>>()
        .join(", ");
    if ids.len() > MOST_LISTED {
        text.push_str(&format!(" and {} more", ids.len() - MOST_LISTED));
    }
    text
}

/// A `jsonb` that goes from an argument into a statement, or from a row to the caller, as it is.
///
/// It is never turned into a tree of Rust values: numbers keep all their digits, and nesting may be as
/// deep as Postgres takes it.
#[derive(Clone, Copy, Debug)]
pub struct Jsonb(pg_sys::Datum);

impl Jsonb {
    /// The value as Postgres prints it.
    pub fn text(self) -> String {
        // SAFETY: the datum is a jsonb, as above; jsonb_out gives a terminated string.
        let text =
            unsafe { pgrx::direct_function_call::<&CStr>(pg_sys::jsonb_out, &[Some(self.0)]) };
        text.map(|text| text.to_string_lossy().into_owned())
            .unwrap_or_default()
    }
}

impl FromDatum for Jsonb {
    unsafe fn from_polymorphic_datum(
        datum: pg_sys::Datum,
        is_null: bool,
        _type_oid: pg_sys::Oid,
    ) -> Option<Self> {
        (!is_null).then_some(Self(datum))
    }

    // A value of a row goes with the row; the copy stays.
    unsafe fn from_datum_in_memory_context(
        mut memory_context: PgMemoryContexts,
        datum: pg_sys::Datum,
        is_null: bool,
        _type_oid: pg_sys::Oid,
    ) -> Option<Self> {
        if is_null {
            return None;
        }
        // SAFETY: the datum is a jsonb, and the caller's context is one that can be allocated in.
        let copy = unsafe {
            memory_context.switch_to(|_| pg_sys::pg_detoast_datum_copy(datum.cast_mut_ptr()))
        };
        Some(Self(pg_sys::Datum::from(copy)))
    }
}

impl IntoDatum for Jsonb {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        Some(self.0)
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::JSONBOID
    }
}

// SAFETY: the datum of an argument stays valid until the function returns, and Postgres passes an argument
// declared `jsonb` (below) as a jsonb datum. It is only handed back to Postgres as an argument of type jsonb.
unsafe impl<'fcx> ArgAbi<'fcx> for Jsonb {
    unsafe fn unbox_arg_unchecked(argument: Arg<'_, 'fcx>) -> Self {
        // SAFETY: this reads the datum without looking into it; a NULL never gets here but as a null pointer
        // that nobody follows.
        Self(
            unsafe { argument.unbox_arg_using_from_datum::<Self>() }
                .map_or(pg_sys::Datum::null(), |jsonb| jsonb.0),
        )
    }
}

// SAFETY: it is a jsonb, and lives as long as the argument that it is or the context that it was copied to: that of the
// transaction, for the rows of a statement.
unsafe impl BoxRet for Jsonb {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut FcInfo<'fcx>) -> pgrx::datum::Datum<'fcx> {
        // SAFETY: as above.
        unsafe { fcinfo.return_raw_datum(self.0) }
    }
}

// SAFETY: the type is declared as what it holds.
unsafe impl SqlTranslatable for Jsonb {
    const TYPE_IDENT: &'static str = pgrx::pgrx_resolved_type!(Jsonb);
    const TYPE_ORIGIN: TypeOrigin = TypeOrigin::External;
    const ARGUMENT_SQL: Result<SqlMappingRef, ArgumentError> = Ok(SqlMappingRef::literal("jsonb"));
    const RETURN_SQL: Result<ReturnsRef, ReturnsError> =
        Ok(ReturnsRef::One(SqlMappingRef::literal("jsonb")));
}

/// A `regclass` argument: a relation that need not be there. Any number can be cast to a regclass.
#[derive(Clone, Copy, Debug)]
pub struct Regclass(pg_sys::Oid);

impl Regclass {
    /// The relation, opened; 22023 when there is none.
    pub fn open(self, name: &str) -> Outcome<PgRelation> {
        // SAFETY: takes a lock, and gives NULL for a relation that does not exist. What it gives is open, and
        // closed when the value is dropped.
        let relation = unsafe {
            pg_sys::try_relation_open(self.0, pg_sys::AccessShareLock as pg_sys::LOCKMODE)
        };
        if relation.is_null() {
            return Err(CodexError::bad_value(format!(
                "{name} is {}, and there is no such relation",
                self.0.to_u32()
            )));
        }
        // SAFETY: as above.
        Ok(unsafe { PgRelation::from_pg_owned(relation) })
    }
}

impl FromDatum for Regclass {
    unsafe fn from_polymorphic_datum(
        datum: pg_sys::Datum,
        is_null: bool,
        type_oid: pg_sys::Oid,
    ) -> Option<Self> {
        // SAFETY: a regclass is an oid.
        unsafe { pg_sys::Oid::from_polymorphic_datum(datum, is_null, type_oid) }.map(Self)
    }
}

// SAFETY: an argument declared `regclass` (below) is passed as an oid, by value.
unsafe impl<'fcx> ArgAbi<'fcx> for Regclass {
    unsafe fn unbox_arg_unchecked(argument: Arg<'_, 'fcx>) -> Self {
        // SAFETY: as above; a NULL does not get here.
        unsafe { argument.unbox_arg_using_from_datum::<Self>() }.unwrap_or(Self(pg_sys::InvalidOid))
    }
}

// SAFETY: the type is declared as what it holds.
unsafe impl SqlTranslatable for Regclass {
    const TYPE_IDENT: &'static str = pgrx::pgrx_resolved_type!(Regclass);
    const TYPE_ORIGIN: TypeOrigin = TypeOrigin::External;
    const ARGUMENT_SQL: Result<SqlMappingRef, ArgumentError> =
        Ok(SqlMappingRef::literal("regclass"));
    const RETURN_SQL: Result<ReturnsRef, ReturnsError> =
        Ok(ReturnsRef::One(SqlMappingRef::literal("regclass")));
}
