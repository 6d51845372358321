//! The settings that carry the context.
//!
//! `app.current_workspace_id` and `app.current_user_id` are defined natively: a value is parsed once, when it is
//! set, and a malformed one is refused there. The parsed value lies in a static, so reading it costs nothing.
//! Postgres calls the assign hook at every change, a rollback and the end of a function with a SET clause
//! included, so the static always holds what SHOW would show.
//!
//! A value that was set before the library was loaded goes through the same check when it is; a malformed one
//! is then dropped with a warning and counts as none.

use pgrx::prelude::*;
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting, PostgresGucEnum, Uuid};
use std::cell::Cell;
#[cfg(feature = "pg15")]
use std::cmp::Ordering;
use std::ffi::{CStr, CString, c_char, c_int, c_void};

/// Which settings count as context: the values of `raptorflow_codex.context`, from loose to strict.
#[derive(PostgresGucEnum, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(non_camel_case_types)]
pub enum Mode {
    /// Whatever is set, for the session or for the transaction.
    #[name = c"session"]
    Session,
    /// Only what is set for the transaction (SET LOCAL, set_config(.., true), codex.enter_workspace()), so that
    /// a pooled connection cannot carry a tenant over.
    #[name = c"transaction"]
    Transaction,
    /// The same, and the first workspace used in a transaction is the only one: another one later in the same
    /// transaction counts as none.
    #[name = c"sealed"]
    Sealed,
}

static MODE: GucSetting<Mode> = GucSetting::<Mode>::new(Mode::Session);

/// The mode of this session.
pub fn mode() -> Mode {
    MODE.get()
}

static CLAIMS_FROM: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);

/// Whether the claims of this session count: whether its login role (not the role it has switched to) is one of
/// `raptorflow_codex.claims_from`, or that is empty.
pub fn claims_count_here() -> bool {
    // SAFETY: the setting's variable is NULL or points to a terminated string that stays until it changes.
    let listed = unsafe {
        let text = *CLAIMS_FROM.as_ptr();
        if text.is_null() {
            return true;
        }
        CStr::from_ptr(text).to_bytes()
    };
    if listed.is_empty() {
        return true;
    }
    // SAFETY: a catalog cache look-up that gives NULL for a role that is gone, else a terminated string.
    let login = unsafe {
        let name = pg_sys::GetUserNameFromId(pg_sys::GetSessionUserId(), true);
        if name.is_null() {
            return false;
        }
        CStr::from_ptr(name).to_bytes()
    };
    listed
        .split(|byte| *byte == b',')
        .any(|one| one.trim_ascii() == login)
}

/// `app.current_workspace_id`
pub static WORKSPACE: UuidSetting = UuidSetting::new(c"app.current_workspace_id");
/// `app.current_user_id`
pub static USER: UuidSetting = UuidSetting::new(c"app.current_user_id");

/// A setting that holds a uuid or nothing.
pub struct UuidSetting {
    name: &'static CStr,
    text: Cell<*mut c_char>,
    parsed: Cell<Option<Uuid>>,
    record: Cell<*mut pg_sys::config_generic>,
}

// SAFETY: a backend is single-threaded; the cells are touched by its one thread only.
unsafe impl Sync for UuidSetting {}

impl UuidSetting {
    const fn new(name: &'static CStr) -> Self {
        Self {
            name,
            text: Cell::new(std::ptr::null_mut()),
            parsed: Cell::new(None),
            record: Cell::new(std::ptr::null_mut()),
        }
    }

    /// The value, when there is one that counts in this mode.
    pub fn get(&self, mode: Mode) -> Option<Uuid> {
        let value = self.parsed.get()?;
        // SAFETY: the record of a setting that we defined lives as long as the backend.
        if mode >= Mode::Transaction && !unsafe { is_transaction_local(self.record.get()) } {
            return None;
        }
        Some(value)
    }

    /// Sets the value until the end of the transaction.
    pub fn set_local(&self, value: Option<Uuid>) {
        let text = value.map(|value| value.to_string()).unwrap_or_default();
        let text = CString::new(text).unwrap_or_default();
        // SAFETY: both strings are terminated and live across the call, which copies them. The value is
        // one that our check hook accepts.
        unsafe {
            pg_sys::set_config_option(
                self.name.as_ptr(),
                text.as_ptr(),
                pg_sys::GucContext::PGC_USERSET,
                pg_sys::GucSource::PGC_S_SESSION,
                pg_sys::GucAction::GUC_ACTION_LOCAL,
                true,
                0,
                false,
            );
        }
    }

    fn define(
        &'static self,
        short: &'static CStr,
        long: &'static CStr,
        assign: pg_sys::GucStringAssignHook,
    ) {
        // SAFETY: called once, from _PG_init. All strings are 'static, and so is the variable that Postgres
        // will point to its own copies of the value.
        unsafe {
            pg_sys::DefineCustomStringVariable(
                self.name.as_ptr(),
                short.as_ptr(),
                long.as_ptr(),
                self.text.as_ptr(),
                std::ptr::null(),
                pg_sys::GucContext::PGC_USERSET,
                0,
                Some(check_uuid),
                assign,
                None,
            );
        }
        self.record.set(record_of(self.name));
    }
}

/// Defines all settings. Called once, when the library is loaded.
pub fn define() {
    // The mode first: the values below may already be waiting to be taken over.
    // SAFETY: the hook raises nothing and has the signature of an enum setting's check hook.
    unsafe {
        GucRegistry::define_enum_guc_with_hooks(
            c"raptorflow_codex.context",
            c"Which settings count as the context of a transaction: session (default), transaction or sealed.",
            c"session: whatever is set. transaction: only what was set for this transaction, so that a pooled connection cannot carry a tenant over. sealed: the same, and a transaction has one workspace. SET can only make it stricter; ALTER ROLE, ALTER DATABASE and the configuration file set it freely.",
            &MODE,
            GucContext::Userset,
            GucFlags::default(),
            Some(check_mode),
            None,
            None,
        );
    }
    // SAFETY: as above, for a string setting.
    unsafe {
        GucRegistry::define_string_guc_with_hooks(
            c"raptorflow_codex.claims_from",
            c"The login roles whose request.jwt.claims count, separated by commas; empty (the default) for all.",
            c"Name the role that the API gateway logs in as, such as authenticator, so that no other session can claim to be somebody. SET can only fill it in, not change it.",
            &CLAIMS_FROM,
            GucContext::Userset,
            GucFlags::default(),
            Some(check_claims_from),
            None,
            None,
        );
    }
    WORKSPACE.define(
        c"The workspace whose rows this session sees.",
        c"A uuid, or empty for none. Without one, row-level security shows no rows.",
        Some(assign_workspace),
    );
    USER.define(
        c"The user on whose behalf this session works.",
        c"A uuid, or empty for none. A user who is not a member of the current workspace has no workspace.",
        Some(assign_user),
    );
    // SAFETY: a terminated 'static string. Only the prefix that is ours: app.* belongs to the application.
    unsafe { pg_sys::MarkGUCPrefixReserved(c"raptorflow_codex".as_ptr()) };
}

/// Reads a uuid in the form that Postgres prints, or the same 32 hexadecimal digits without hyphens; upper and
/// lower case. Nothing around it.
pub fn parse_uuid(text: &[u8]) -> Option<Uuid> {
    if !matches!(text.len(), 32 | 36) {
        return None;
    }
    let parsed = uuid::Uuid::try_parse_ascii(text).ok()?;
    Some(Uuid::from_bytes(*parsed.as_bytes()))
}

/// Check hook of both uuid settings: hands the parsed value on as `extra`.
#[pg_guard]
unsafe extern "C-unwind" fn check_uuid(
    new_value: *mut *mut c_char,
    extra: *mut *mut c_void,
    _source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: Postgres passes a valid pointer to the value, which is NULL or a terminated string.
    let text = unsafe { *new_value };
    if text.is_null() {
        return true;
    }
    // SAFETY: see above.
    let text = unsafe { CStr::from_ptr(text) }.to_bytes();
    if text.is_empty() {
        return true;
    }
    let Some(value) = parse_uuid(text) else {
        complain(
            c"It must be a uuid, such as 0192f0c1-2d3e-7abc-8def-0123456789ab, or empty for none.",
        );
        return false;
    };
    // SAFETY: 16 bytes from the allocator that this version of Postgres frees an `extra` with; checked for NULL
    // before use. Afterwards they belong to Postgres.
    unsafe {
        let bytes = allocate_extra(size_of::<Uuid>()).cast::<Uuid>();
        if bytes.is_null() {
            return false;
        }
        bytes.write(value);
        *extra = bytes.cast();
    }
    true
}

#[pg_guard]
unsafe extern "C-unwind" fn assign_workspace(_value: *const c_char, extra: *mut c_void) {
    // SAFETY: `extra` is what `check_uuid` made of the value that is being assigned.
    WORKSPACE
        .parsed
        .set(unsafe { extra.cast::<Uuid>().as_ref() }.copied());
}

#[pg_guard]
unsafe extern "C-unwind" fn assign_user(_value: *const c_char, extra: *mut c_void) {
    // SAFETY: as in `assign_workspace`.
    USER.parsed
        .set(unsafe { extra.cast::<Uuid>().as_ref() }.copied());
}

/// Check hook of the mode: what comes from the session itself may only make it stricter, so that a statement
/// slipped into a query cannot loosen what the administrator chose.
#[pg_guard]
unsafe extern "C-unwind" fn check_mode(
    new_value: *mut c_int,
    _extra: *mut *mut c_void,
    source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: Postgres passes a valid pointer to one of the enum's numbers.
    let wanted = unsafe { *new_value };
    // SAFETY: the cell holds the current number; reading an int.
    let current = unsafe { *MODE.as_ptr() };
    if source >= pg_sys::GucSource::PGC_S_INTERACTIVE && wanted < current {
        complain(c"SET can only make it stricter (session, transaction, sealed); RESET goes back to what the role, the database or the server is configured with.");
        return false;
    }
    true
}

/// Check hook of `raptorflow_codex.claims_from`: the session itself may fill it in, and not change it after.
#[pg_guard]
unsafe extern "C-unwind" fn check_claims_from(
    _new_value: *mut *mut c_char,
    _extra: *mut *mut c_void,
    source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: the variable is NULL or points to a terminated string.
    let filled_in = unsafe {
        let current = *CLAIMS_FROM.as_ptr();
        !current.is_null() && *current != 0
    };
    if source >= pg_sys::GucSource::PGC_S_INTERACTIVE && filled_in {
        complain(c"SET can only fill it in where it is empty; RESET goes back to what the role, the database or the server is configured with.");
        return false;
    }
    true
}

/// Gives the error that follows a refused value its DETAIL.
fn complain(detail: &'static CStr) {
    // SAFETY: copies a terminated string into the memory context that outlives the error, as
    // GUC_check_errdetail() does.
    unsafe {
        pg_sys::GUC_check_errdetail_string =
            pg_sys::MemoryContextStrdup(pg_sys::ErrorContext, detail.as_ptr());
    }
}

#[cfg(feature = "pg15")]
unsafe fn allocate_extra(size: usize) -> *mut c_void {
    unsafe extern "C" {
        fn malloc(size: usize) -> *mut c_void;
    }
    // SAFETY: plain malloc: before version 16 Postgres frees an `extra` with free().
    unsafe { malloc(size) }
}

#[cfg(not(feature = "pg15"))]
unsafe fn allocate_extra(size: usize) -> *mut c_void {
    // SAFETY: from version 16 on Postgres frees an `extra` with guc_free(); at level LOG it returns NULL
    // when memory ran out.
    unsafe { pg_sys::guc_malloc(pg_sys::LOG as c_int, size) }
}

/// The record that Postgres keeps of a setting, or NULL when there is none by this name.
#[cfg(feature = "pg15")]
pub fn record_of(name: &CStr) -> *mut pg_sys::config_generic {
    thread_local! {
        /// Where the last search ended. The claims are looked for in every statement; what is set seldom changes.
        static LAST: Cell<usize> = const { Cell::new(0) };
    }
    // SAFETY: the array has as many entries as the other function says, each a valid record, in the order of
    // their lower-cased names; nothing changes it while we look.
    let records = unsafe {
        std::slice::from_raw_parts(
            pg_sys::get_guc_variables(),
            usize::try_from(pg_sys::GetNumConfigOptions()).unwrap_or(0),
        )
    };
    let wanted = name.to_bytes();
    let compare = |record: &*mut pg_sys::config_generic| {
        // SAFETY: a record's name is a terminated string.
        let name = unsafe { CStr::from_ptr((**record).name) }.to_bytes();
        let name = name.iter().map(u8::to_ascii_lowercase);
        name.cmp(wanted.iter().map(u8::to_ascii_lowercase))
    };
    let last = LAST.get().min(records.len());
    let at_or_after = records[last..].first().map(compare);
    if at_or_after == Some(Ordering::Equal) {
        return records[last];
    }
    let before = last.checked_sub(1).map(|before| compare(&records[before]));
    if before.is_none_or(Ordering::is_lt) && at_or_after.is_none_or(Ordering::is_gt) {
        return std::ptr::null_mut();
    }
    match records.binary_search_by(compare) {
        Ok(at) => {
            LAST.set(at);
            records[at]
        }
        Err(at) => {
            LAST.set(at);
            std::ptr::null_mut()
        }
    }
}

/// The record that Postgres keeps of a setting, or NULL when there is none by this name.
#[cfg(not(feature = "pg15"))]
pub fn record_of(name: &CStr) -> *mut pg_sys::config_generic {
    // SAFETY: looks the name up in a hash table; told to make no placeholder and to skip errors.
    unsafe { pg_sys::find_option(name.as_ptr(), false, true, pg_sys::LOG as c_int) }
}

/// Whether the current value of a setting ends with the transaction, at the latest.
///
/// Postgres keeps a stack of the values to go back to. Its top tells how the current value came: by SET LOCAL
/// (alone, or after a SET), by a function's SET clause, or by a plain SET, which would stay. No stack: the value
/// was there before the transaction.
///
/// # Safety
/// `record` is NULL or a record of the settings' table.
pub unsafe fn is_transaction_local(record: *const pg_sys::config_generic) -> bool {
    use pg_sys::GucStackState::{GUC_LOCAL, GUC_SAVE, GUC_SET_LOCAL};
    // SAFETY: by the contract; `stack` is NULL or a valid entry.
    unsafe { record.as_ref().and_then(|record| record.stack.as_ref()) }
        .is_some_and(|top| matches!(top.state, GUC_LOCAL | GUC_SET_LOCAL | GUC_SAVE))
}
