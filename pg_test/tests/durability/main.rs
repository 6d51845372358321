//! Nothing is ever lost: dumps, crashes, cancelled statements, and calls that no sane caller makes.

mod cancel;
mod crash;
mod dice;
mod drop_extension;
mod dump_and_restore;
mod fuzz;
mod live;
mod pg_upgrade;
mod picture;
mod private_server;
mod soak;
mod story;
mod upgrade;
mod valgrind;
