//! Row-level security: what the protection of a table is, and making it so.
