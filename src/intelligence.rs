//! intelligence: to be written.
