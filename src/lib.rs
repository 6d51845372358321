//! x
use pgrx::prelude::*;
pgrx::pg_module_magic!(name = c"raptorflow_codex", version = c"0.1.0");
#[pg_extern]
fn hello() -> i32 { 1 }
