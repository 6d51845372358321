//! What a statement that writes has to make ready, made ready cheaply: CHECK constraints, conditions of triggers,
//! indexes.
//!
//! **Conditions.** For every statement that writes to a table Postgres reads the definition of each of its CHECKs, and of the
//! WHEN of each of its triggers, anew: from text to an expression, simplified as the planner does it, and compiled into the
//! steps of its interpreter. For a statement that writes one row this was half of the whole call. So the statements of this
//! extension find them in a memory of this backend: compiled where nothing but Postgres's own functions is called,
//! else a CHECK is simplified and only compiled, and a WHEN left to Postgres.
//!
//! What is evaluated is the same expression by the same code; what is refused, in which words, and in which order stays
//! with Postgres. What is remembered counts for the very text of the definition that it was made from, so that
//! `ALTER TABLE` needs no attention; and all is forgotten when any function or type of the database changes, because
//! the simplification may have computed with it: not while a statement runs that uses it, but before the next one.
//! One thing is different: whether the role may execute a function of Postgres's own (which everybody may, unless somebody
//! took that away) is asked when the expression is compiled, not for every statement.
//!
//! **Indexes.** The same goes for the predicate and the expressions of each index that an INSERT adds to. An INSERT of this
//! extension opens the indexes as Postgres would at the first row, and finds what was compiled.
//!
//! Only statements that run under [`Writing`] are looked at.

use pgrx::prelude::*;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::{CStr, c_int, c_void};

/// How many expressions are remembered at once; beyond that the memory starts anew.
const MOST: usize = 1000;

/// The language `internal`: INTERNALlanguageId in Postgres's catalog/pg_language.
const INTERNAL_LANGUAGE: pg_sys::Oid = pg_sys::Oid::from_u32(12);

/// What an expression is.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Of {
    /// The condition of a CHECK.
    Check,
    /// The WHEN of a trigger.
    Trigger,
    /// The predicate of an index.
    Predicate,
    /// The expressions of an index, as a list.
    Expressions,
}

/// An expression: its table or index, what it is, and the place of the CHECK or trigger among those of the table.
type Key = (pg_sys::Oid, Of, usize);

/// What was made of an expression, in [`memory`].
struct Remembered {
    definition: Box<[u8]>,
    ready: Ready,
}

/// An expression as far as it is made ready. It is handed out as it is: it stays until no statement runs that uses it.
#[derive(Clone, Copy)]
struct Ready {
    of: Of,
    /// Simplified.
    expression: *mut pg_sys::Expr,
    /// Compiled, where that can be used again: no statement is in the middle of it when another one begins with it, since
    /// the functions in it write nothing.
    compiled: Option<Compiled>,
}

impl Ready {
    /// What was compiled, or else the expression compiled for one statement, in the current memory context.
    ///
    /// # Safety
    /// The statement runs under [`Writing`].
    unsafe fn for_statement(self) -> Compiled {
        self.compiled
            // SAFETY: what is remembered stays as long as the statement.
            .unwrap_or_else(|| unsafe { compile(self.of, self.expression) })
    }
}

/// An expression as [`compile`] leaves it: a list for the expressions of an index, else a state.
type Compiled = *mut c_void;

thread_local! {
    static WRITING: Cell<bool> = const { Cell::new(false) };
    /// Whether the memory is to be emptied before the next statement.
    static STALE: Cell<bool> = const { Cell::new(false) };
    static REMEMBERED: RefCell<Option<HashMap<Key, Remembered>>> = const { RefCell::new(None) };
    static MEMORY: Cell<pg_sys::MemoryContext> = const { Cell::new(std::ptr::null_mut()) };
    static NEXT_HOOK: Cell<pg_sys::ExecutorStart_hook_type> = const { Cell::new(None) };
}

/// As long as one lives, statements that start are made ready here.
pub struct Writing {
    before: bool,
}

impl Writing {
    pub fn begin() -> Self {
        let before = WRITING.replace(true);
        // Inside of another one, a statement further up may be using what is remembered.
        if !before && STALE.get() {
            forget();
        }
        Self { before }
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        WRITING.set(self.before);
    }
}

/// Has Postgres call us when a statement starts, and when a function or type changes. Called once, when the library is
/// loaded.
pub fn watch() {
    // SAFETY: the library is never unloaded; the hook that was there before is called by ours, and the callback
    // touches one cell.
    unsafe {
        NEXT_HOOK.set(pg_sys::ExecutorStart_hook);
        pg_sys::ExecutorStart_hook = Some(at_start);
        for catalog in [
            pg_sys::SysCacheIdentifier::PROCOID,
            pg_sys::SysCacheIdentifier::TYPEOID,
        ] {
            pg_sys::CacheRegisterSyscacheCallback(
                catalog as i32,
                Some(at_change),
                pg_sys::Datum::from(0),
            );
        }
    }
}

unsafe extern "C-unwind" fn at_change(_: pg_sys::Datum, _: i32, _: u32) {
    STALE.set(true);
}

unsafe extern "C-unwind" {
    /// Postgres's own, without the guard that a call through `pg_sys` has.
    fn standard_ExecutorStart(query: *mut pg_sys::QueryDesc, flags: c_int);
}

/// Called by Postgres for every statement of the session, most of which are none of ours: these go straight on. An error
/// passes through this frame without unwinding it, so that it must hold nothing.
unsafe extern "C-unwind" fn at_start(query: *mut pg_sys::QueryDesc, flags: c_int) {
    // SAFETY: Postgres hands over a statement that is to be started, and it is after one of the two calls.
    unsafe {
        match NEXT_HOOK.get() {
            Some(next) => next(query, flags),
            None => standard_ExecutorStart(query, flags),
        }
        if WRITING.get() {
            started(query);
        }
    }
}

/// Makes ready a statement that was started under [`Writing`], if it writes. One that starts inside of another after
/// a change is left to Postgres: what is remembered is from before, and a statement further up may be using it.
#[pg_guard]
unsafe extern "C-unwind" fn started(query: *mut pg_sys::QueryDesc) {
    // SAFETY: the statement was started.
    unsafe {
        let writes = matches!(
            (*query).operation,
            pg_sys::CmdType::CMD_INSERT | pg_sys::CmdType::CMD_UPDATE
        );
        if writes && !STALE.get() && !(*query).estate.is_null() {
            make_ready(query);
        }
    }
}

/// Sets up the CHECKs and triggers of the tables that a statement writes to, and the indexes where it is an INSERT into
/// one table.
///
/// # Safety
/// `query` was started as a statement that writes, and has not run yet.
unsafe fn make_ready(query: *mut pg_sys::QueryDesc) {
    // SAFETY: by the contract; the list holds ResultRelInfo, and nodes made here live as long as the statement.
    unsafe {
        let state = (*query).estate;
        let tables = (*state).es_opened_result_relations;
        if tables.is_null() {
            return;
        }
        let before = pg_sys::MemoryContextSwitchTo((*state).es_query_cxt);
        let plan = (*(*query).plannedstmt).planTree;
        let insert = ((*query).operation == pg_sys::CmdType::CMD_INSERT
            && (*tables).length == 1
            && (*plan).type_ == pg_sys::NodeTag::T_ModifyTable)
            .then(|| &*plan.cast::<pg_sys::ModifyTable>());
        for at in 0..(*tables).length {
            let table = &mut *pg_sys::list_nth(tables, at).cast::<pg_sys::ResultRelInfo>();
            let relation = table.ri_RelationDesc;
            if relation.is_null() || (*(*relation).rd_rel).relkind as u8 != pg_sys::RELKIND_RELATION
            {
                continue;
            }
            set_up_checks(table);
            set_up_triggers(table, (*query).operation);
            if let Some(insert) = insert {
                open_indexes(table, insert);
            }
        }
        pg_sys::MemoryContextSwitchTo(before);
    }
}

/// Opens the indexes of the table that an INSERT goes to, as Postgres itself does at the first row, and sets up their
/// predicates and expressions. Postgres closes them with the statement.
///
/// # Safety
/// As for [`set_up_checks`]; `insert` is the node that inserts into the table.
unsafe fn open_indexes(table: &mut pg_sys::ResultRelInfo, insert: &pg_sys::ModifyTable) {
    // SAFETY: the table is open. After ExecOpenIndices there is an IndexInfo for each index that was opened, and what it
    // has of a predicate and of expressions is its own copy of what the relation cache simplified.
    unsafe {
        if !(*(*table.ri_RelationDesc).rd_rel).relhasindex || !table.ri_IndexRelationDescs.is_null()
        {
            return;
        }
        let speculative = insert.onConflictAction != pg_sys::OnConflictAction::ONCONFLICT_NONE;
        pg_sys::ExecOpenIndices(table, speculative);
        for at in 0..usize::try_from(table.ri_NumIndices).unwrap_or(0) {
            let opened = *table.ri_IndexRelationDescs.add(at);
            let index = &mut **table.ri_IndexRelationInfo.add(at);
            if !index.ii_Predicate.is_null() && index.ii_PredicateState.is_null() {
                let state = of_index(opened, Of::Predicate, index.ii_Predicate);
                index.ii_PredicateState = state.cast();
            }
            if !index.ii_Expressions.is_null() && index.ii_ExpressionsState.is_null() {
                let states = of_index(opened, Of::Expressions, index.ii_Expressions);
                index.ii_ExpressionsState = states.cast();
            }
        }
    }
}

/// The predicate or the expressions of an index, compiled.
///
/// # Safety
/// `index` is open, and `simplified` a copy of what the relation cache has of it.
unsafe fn of_index(index: pg_sys::Relation, of: Of, simplified: *mut pg_sys::List) -> Compiled {
    let column = match of {
        Of::Predicate => pg_sys::Anum_pg_index_indpred,
        _ => pg_sys::Anum_pg_index_indexprs,
    };
    // SAFETY: an open index has its row of the catalog; what is in a column is a text, of which the stored bytes are
    // looked at as they are.
    unsafe {
        let mut is_null = false;
        let definition = pg_sys::SysCacheGetAttr(
            pg_sys::SysCacheIdentifier::INDEXRELID as c_int,
            (*index).rd_indextuple,
            column as pg_sys::AttrNumber,
            &mut is_null,
        );
        if is_null {
            return compile(of, simplified.cast());
        }
        let stored = definition.cast_mut_ptr::<pg_sys::varlena>();
        let bytes = std::slice::from_raw_parts(stored.cast::<u8>(), pgrx::varsize_any(stored));
        let key = ((*index).rd_id, of, 0);
        remembered(key, bytes, || simplified.cast()).for_statement()
    }
}

/// Sets up the CHECKs of one table, as Postgres itself does when it meets the first row that is written. What is out of
/// the ordinary is left to Postgres.
///
/// # Safety
/// `table` is an ordinary, open one that a started statement writes to, and the current memory context is the statement's.
unsafe fn set_up_checks(table: &mut pg_sys::ResultRelInfo) {
    // SAFETY: a table that a statement writes to is open, and stays so until its end; so do its definitions.
    unsafe {
        let relation = table.ri_RelationDesc;
        let definitions = (*(*relation).rd_att).constr;
        let (id, row) = ((*relation).rd_id, &*(*relation).rd_rel);
        if definitions.is_null() || !place(table).is_null() {
            return;
        }
        let count = (*definitions).num_check;
        // Where they differ, the catalog is damaged, and Postgres says so.
        if count == 0 || i32::from(count) != i32::from(row.relchecks) || !ordinary(&*definitions) {
            return;
        }
        let size = usize::from(count) * size_of::<*mut pg_sys::ExprState>();
        let ready = pg_sys::palloc0(size).cast::<*mut pg_sys::ExprState>();
        for at in 0..count {
            let definition = (*(*definitions).check.add(usize::from(at))).ccbin;
            if definition.is_null() {
                return;
            }
            let key = (id, Of::Check, usize::from(at));
            let text = CStr::from_ptr(definition);
            let state = remembered(key, text.to_bytes(), || read_check(text)).for_statement();
            *ready.add(usize::from(at)) = state.cast();
        }
        *place(table) = ready;
    }
}

/// Sets up the WHEN of the triggers of one table that `operation` may fire, where that is remembered compiled.
/// The others are left to Postgres, which makes each ready when it comes to the trigger.
///
/// # Safety
/// As for [`set_up_checks`].
unsafe fn set_up_triggers(table: &mut pg_sys::ResultRelInfo, operation: pg_sys::CmdType::Type) {
    let event = match operation {
        pg_sys::CmdType::CMD_INSERT => pg_sys::TRIGGER_TYPE_INSERT,
        _ => pg_sys::TRIGGER_TYPE_UPDATE,
    };
    // SAFETY: a table with triggers has an array with a place for the WHEN of each.
    unsafe {
        let (relation, triggers) = (table.ri_RelationDesc, table.ri_TrigDesc);
        let definitions = (*(*relation).rd_att).constr;
        if triggers.is_null()
            || table.ri_TrigWhenExprs.is_null()
            || !(definitions.is_null() || ordinary(&*definitions))
        {
            return;
        }
        for at in 0..usize::try_from((*triggers).numtriggers).unwrap_or(0) {
            let trigger = &*(*triggers).triggers.add(at);
            let place = &mut *table.ri_TrigWhenExprs.add(at);
            if trigger.tgqual.is_null() || !place.is_null() || trigger.tgtype as u32 & event == 0 {
                continue;
            }
            let key = ((*relation).rd_id, Of::Trigger, at);
            let text = CStr::from_ptr(trigger.tgqual);
            if let Some(state) = remembered(key, text.to_bytes(), || read_when(text)).compiled {
                *place = state.cast();
            }
        }
    }
}

/// Where a statement keeps the CHECKs of a table once they are set up.
#[cfg(not(feature = "pg18"))]
fn place(table: &mut pg_sys::ResultRelInfo) -> &mut *mut *mut pg_sys::ExprState {
    &mut table.ri_ConstraintExprs
}

/// Where a statement keeps the CHECKs of a table once they are set up.
#[cfg(feature = "pg18")]
fn place(table: &mut pg_sys::ResultRelInfo) -> &mut *mut *mut pg_sys::ExprState {
    &mut table.ri_CheckConstraintExprs
}

/// Whether the CHECKs of a table are all enforced, and as they stand.
#[cfg(not(feature = "pg18"))]
unsafe fn ordinary(_: &pg_sys::TupleConstr) -> bool {
    true
}

/// Whether the CHECKs of a table are all enforced, and as they stand: not over virtual columns, which have to be
/// replaced by what they are computed from.
#[cfg(feature = "pg18")]
unsafe fn ordinary(definitions: &pg_sys::TupleConstr) -> bool {
    let checks = match usize::from(definitions.num_check) {
        0 => &[],
        // SAFETY: the caller's definitions have as many CHECKs.
        count => unsafe { std::slice::from_raw_parts(definitions.check, count) },
    };
    !definitions.has_generated_virtual && checks.iter().all(|check| check.ccenforced)
}

/// What is remembered of an expression with this definition, or is from now on: made by `make`, in the current memory
/// context.
///
/// # Safety
/// `make` gives what the definition says, simplified.
unsafe fn remembered(
    key: Key,
    definition: &[u8],
    make: impl FnOnce() -> *mut pg_sys::Expr,
) -> Ready {
    let known = REMEMBERED.with_borrow(|all| {
        let known = all.as_ref()?.get(&key)?;
        (*known.definition == *definition).then_some(known.ready)
    });
    if let Some(known) = known {
        return known;
    }
    // SAFETY: `make` gives a complete expression; what is kept of it is a copy in a context that only `forget` clears,
    // when no statement uses it.
    unsafe {
        // From here on a change makes stale what is made below.
        let made = make();
        let foreign = is_foreign(made.cast(), std::ptr::null_mut());
        let before = pg_sys::MemoryContextSwitchTo(memory());
        let expression: *mut pg_sys::Expr = pg_sys::copyObjectImpl(made.cast()).cast();
        let ready = Ready {
            of: key.1,
            expression,
            compiled: (!foreign).then(|| compile(key.1, expression)),
        };
        pg_sys::MemoryContextSwitchTo(before);
        REMEMBERED.with_borrow_mut(|all| {
            let all = all.get_or_insert_default();
            let definition = definition.into();
            all.insert(key, Remembered { definition, ready });
            if all.len() >= MOST {
                STALE.set(true);
            }
        });
        ready
    }
}

/// Makes an expression ready to be evaluated, in the current memory context.
///
/// # Safety
/// `expression` is complete, simplified, what `of` says, and lives as long as the result.
unsafe fn compile(of: Of, expression: *mut pg_sys::Expr) -> Compiled {
    let nobody = std::ptr::null_mut();
    // SAFETY: by the contract; without a plan that it belongs to, an expression refers to nothing but the rows.
    unsafe {
        match of {
            Of::Check => pg_sys::ExecInitExpr(expression, nobody).cast(),
            Of::Trigger | Of::Predicate => pg_sys::ExecInitQual(expression.cast(), nobody).cast(),
            Of::Expressions => pg_sys::ExecInitExprList(expression.cast(), nobody).cast(),
        }
    }
}

/// A CHECK read from the catalog's text and simplified, as Postgres does it.
///
/// # Safety
/// `definition` is what the catalog has of a CHECK.
unsafe fn read_check(definition: &CStr) -> *mut pg_sys::Expr {
    // SAFETY: by the contract.
    unsafe { pg_sys::expression_planner(pg_sys::stringToNode(definition.as_ptr()).cast()) }
}

/// The WHEN of a trigger read from the catalog's text and simplified, as Postgres does it: a list of conditions that all
/// have to hold.
///
/// # Safety
/// `definition` is what the catalog has of a WHEN.
unsafe fn read_when(definition: &CStr) -> *mut pg_sys::Expr {
    // SAFETY: by the contract; a WHEN refers to the rows by the two numbers of a rule, and its evaluation by those of
    // the two sides of a join.
    unsafe {
        let read: *mut pg_sys::Node = pg_sys::stringToNode(definition.as_ptr()).cast();
        for (from, to) in [
            (pg_sys::PRS2_OLD_VARNO, pg_sys::INNER_VAR),
            (pg_sys::PRS2_NEW_VARNO, pg_sys::OUTER_VAR),
        ] {
            pg_sys::ChangeVarNodes(read, from as c_int, to, 0);
        }
        let all = pg_sys::make_ands_implicit(read.cast());
        pg_sys::expression_planner(all.cast())
    }
}

/// Whether an expression holds something that may not be used again by another statement: anything but columns,
/// constants, and operators and functions of Postgres itself in C. Of others nobody knows whether they keep something of
/// the statement that they were made ready for, and of a whole row (`NEW.*`) and a hashed list the interpreter does.
#[pg_guard]
unsafe extern "C-unwind" fn is_foreign(node: *mut pg_sys::Node, nothing: *mut c_void) -> bool {
    use pg_sys::NodeTag::*;
    // SAFETY: Postgres hands over the parts of a complete expression, each of the type that its tag says.
    unsafe {
        if node.is_null() {
            return false;
        }
        let known = match (*node).type_ {
            T_Var => (*node.cast::<pg_sys::Var>()).varattno != 0,
            T_NullTest => !(*node.cast::<pg_sys::NullTest>()).argisrow,
            T_ScalarArrayOpExpr => {
                (*node.cast::<pg_sys::ScalarArrayOpExpr>()).hashfuncid == pg_sys::InvalidOid
            }
            // They compare by the operators of their type.
            T_MinMaxExpr => !is_later((*node.cast::<pg_sys::MinMaxExpr>()).minmaxtype),
            kind => matches!(
                kind,
                T_List
                    | T_Const
                    | T_FuncExpr
                    | T_OpExpr
                    | T_DistinctExpr
                    | T_NullIfExpr
                    | T_BoolExpr
                    | T_BooleanTest
                    | T_CaseExpr
                    | T_CaseWhen
                    | T_CaseTestExpr
                    | T_CoalesceExpr
                    | T_RelabelType
            ),
        };
        !known
            || pg_sys::check_functions_in_node(node, Some(is_foreign_function), nothing)
            || parts(node, nothing)
    }
}

/// Whether a function or a type came after Postgres itself.
fn is_later(id: pg_sys::Oid) -> bool {
    id.to_u32() >= pg_sys::FirstNormalObjectId
}

/// Whether a function is none of Postgres's own in C.
#[pg_guard]
unsafe extern "C-unwind" fn is_foreign_function(
    function: pg_sys::Oid,
    _nothing: *mut c_void,
) -> bool {
    if is_later(function) {
        return true;
    }
    // SAFETY: a catalog cache look-up; the row is given back after its column was read.
    unsafe {
        let cache = pg_sys::SysCacheIdentifier::PROCOID as c_int;
        let row = pg_sys::SearchSysCache1(cache, pg_sys::Datum::from(function));
        if row.is_null() {
            return true;
        }
        let mut is_null = false;
        let column = pg_sys::Anum_pg_proc_prolang as pg_sys::AttrNumber;
        let language = pg_sys::SysCacheGetAttr(cache, row, column, &mut is_null);
        pg_sys::ReleaseSysCache(row);
        is_null || language != pg_sys::Datum::from(INTERNAL_LANGUAGE)
    }
}

/// [`is_foreign`] for the parts of a node.
#[cfg(feature = "pg15")]
unsafe fn parts(node: *mut pg_sys::Node, nothing: *mut c_void) -> bool {
    // SAFETY: a complete expression, and a function of the type that is asked for.
    unsafe { pg_sys::expression_tree_walker(node, Some(is_foreign), nothing) }
}

/// [`is_foreign`] for the parts of a node.
#[cfg(not(feature = "pg15"))]
unsafe fn parts(node: *mut pg_sys::Node, nothing: *mut c_void) -> bool {
    // SAFETY: a complete expression, and a function of the type that is asked for.
    unsafe { pg_sys::expression_tree_walker_impl(node, Some(is_foreign), nothing) }
}

/// The memory context of what is remembered.
fn memory() -> pg_sys::MemoryContext {
    if MEMORY.get().is_null() {
        // SAFETY: a context of the backend's lifetime; the name is a constant.
        MEMORY.set(unsafe {
            pg_sys::AllocSetContextCreateInternal(
                pg_sys::TopMemoryContext,
                c"raptorflow_codex: conditions".as_ptr(),
                pg_sys::ALLOCSET_SMALL_MINSIZE as usize,
                pg_sys::ALLOCSET_SMALL_INITSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
            )
        });
    }
    MEMORY.get()
}

fn forget() {
    STALE.set(false);
    REMEMBERED.set(None);
    // SAFETY: no statement runs that uses it: the caller begins the outermost one.
    unsafe { pg_sys::MemoryContextReset(memory()) };
}
