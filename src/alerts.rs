//! alerts: to be written.
