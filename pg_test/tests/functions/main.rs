//! The functions, from outside: what they answer, what they refuse, and what they do with many sessions at once.
//!
//! Tests called `hard_case_NN_…` are the cases that a first version gets wrong.

mod achievements;
mod agents;
mod alerts;
mod arguments;
mod callers;
mod campaigns;
mod expose;
mod insights;
mod notifications;
mod postgrest;
mod reading;
mod scene;
mod statements;
