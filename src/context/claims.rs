//! The claims of `request.jwt.claims`: what an API gateway (PostgREST, for one) verified and hands on.

use super::settings::{self, Mode};
use pgrx::Uuid;
use pgrx::prelude::*;
use serde::{Deserialize, Deserializer};
use std::cell::RefCell;
use std::ffi::CStr;

/// The claims that matter here.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Claims {
    /// `sub`
    pub user: Option<Uuid>,
    /// `workspace_id`
    pub workspace: Option<Uuid>,
}

/// What reading the claims gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// There are none.
    Absent,
    /// There are, and they make sense.
    Claims(Claims),
    /// There are, and they do not: no JSON object, a claim that is no uuid, a claim given twice.
    Unusable,
}

/// A claim that may be missing; when it is there it must be a uuid.
#[derive(Deserialize)]
struct Raw {
    #[serde(default, deserialize_with = "uuid_claim")]
    sub: Option<Uuid>,
    #[serde(default, deserialize_with = "uuid_or_null_claim")]
    workspace_id: Option<Uuid>,
}

fn uuid_claim<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Uuid>, D::Error> {
    let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
    settings::parse_uuid(text.as_bytes())
        .map(Some)
        .ok_or_else(|| serde::de::Error::custom("not a uuid"))
}

fn uuid_or_null_claim<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Uuid>, D::Error> {
    match Option::<std::borrow::Cow<'de, str>>::deserialize(deserializer)? {
        None => Ok(None),
        Some(text) => settings::parse_uuid(text.as_bytes())
            .map(Some)
            .ok_or_else(|| serde::de::Error::custom("not a uuid")),
    }
}

/// Reads the text of the claims.
fn parse(text: &[u8]) -> Read {
    if text.is_empty() {
        return Read::Absent;
    }
    // An array would be read as the fields in their order.
    if text.trim_ascii_start().first() != Some(&b'{') {
        return Read::Unusable;
    }
    match serde_json::from_slice::<Raw>(text) {
        Ok(raw) => Read::Claims(Claims {
            user: raw.sub,
            workspace: raw.workspace_id,
        }),
        Err(_) => Read::Unusable,
    }
}

thread_local! {
    /// The last text of claims and what it meant: it is parsed once, not once a statement.
    static LAST: RefCell<(Vec<u8>, Read)> = const { RefCell::new((Vec::new(), Read::Absent)) };
}

/// The claims of this session, as far as they count in `mode`.
pub fn current(mode: Mode) -> Read {
    let record = settings::record_of(c"request.jwt.claims");
    // SAFETY: NULL or a valid record.
    let Some(generic) = (unsafe { record.as_ref() }) else {
        return Read::Absent;
    };
    if generic.vartype != pg_sys::config_type::PGC_STRING {
        return Read::Absent;
    }
    // SAFETY: a record of this type is a config_string, whose first member is the generic part; its variable
    // points to NULL or to a terminated string that stays until the setting changes.
    let text = unsafe {
        let value = *(*record.cast::<pg_sys::config_string>()).variable;
        if value.is_null() {
            return Read::Absent;
        }
        CStr::from_ptr(value).to_bytes()
    };
    if text.is_empty() {
        return Read::Absent;
    }
    // SAFETY: see above.
    if mode >= Mode::Transaction && !unsafe { settings::is_transaction_local(record) } {
        return Read::Absent;
    }
    if !settings::claims_count_here() {
        return Read::Absent;
    }
    LAST.with_borrow_mut(|(last, read)| {
        if last.as_slice() != text {
            *read = parse(text);
            last.clear();
            last.extend_from_slice(text);
        }
        *read
    })
}
