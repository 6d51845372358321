//! expose: to be written.
