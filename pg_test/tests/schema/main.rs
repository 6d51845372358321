//! The schema from outside: migrate, verify, rollback, and what the tables are.

mod adoption;
mod at_once;
mod columns;
mod habits;
mod locks;
mod migrate;
mod moment;
mod ownership;
mod printed;
mod product;
mod releases;
mod rollback;
mod structure;
mod support;
mod verify;
