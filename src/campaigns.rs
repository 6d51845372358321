//! campaigns: to be written.
