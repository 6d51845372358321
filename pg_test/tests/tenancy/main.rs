//! The attack suite: what a tenant tries to get at another tenant's data, by real sessions of real login roles.
//!
//! | module | attacks |
//! |---|---|
//! | `context` | forging, keeping, confusing who one is |
//! | `membership` | being taken for a member, and staying one |
//! | `rows` | reading and writing by every verb |
//! | `references` | foreign keys, unique keys, arrays of ids |
//! | `code` | functions, views, search path, leaky operators |
//! | `catalog` | statistics, plans, notifications, cursors |
//! | `operations` | owners, partitions, new tables, dumps; the report and the self test that find them |
//! | `privileges` | role × object × privilege, against a committed file |
//! | `differential` | random data and queries: a member sees what a superuser sees with the filter written out |
//! | `linter` | the rules of the linter that Supabase runs on its users' databases |
//! | `page` | the page docs/security.md says what is so |
//! | `plans` | once a statement, by index, in parallel, without a transaction id |

mod catalog;
mod code;
mod context;
mod differential;
mod linter;
mod membership;
mod operations;
mod page;
mod plans;
mod privileges;
mod references;
mod rows;
mod scene;
