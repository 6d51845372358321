//! Nothing is ever lost: dumps, crashes, cancelled statements, and calls that no sane caller makes.

mod dump_and_restore;
mod picture;
mod story;
