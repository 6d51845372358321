//! achievements: to be written.
