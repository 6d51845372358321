//! The schema: migrate, rollback, verify, the ledger.

/// Defines the settings that this room reads.
pub fn define_settings() {}
