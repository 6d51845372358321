//! notifications: to be written.
