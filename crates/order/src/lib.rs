//! The order in which tables are written so that each comes after those it refers to; backwards, the order in which
//! their rows are deleted.
//!
//! ```
//! use codex_order::{Reference, order};
//!
//! // 0 quests refer to 1 campaigns, campaigns to 2 workspaces.
//! let references = [Reference::required(0, 1), Reference::required(1, 2)];
//! assert_eq!(order(3, &references).sequence, [2, 1, 0]);
//! ```
//!
//! # The rules
//!
//! - A table comes after every table that it refers to (Kahn, *Topological sorting of large networks*, 1962); among
//!   those that may come next, the one with the smallest number does. The same references give the same order.
//! - A reference of a table to itself orders nothing: it is about its rows.
//! - Where tables refer to each other in a circle there is no such order. Then references are *broken*: they point
//!   forward, and whoever writes or deletes in this order has to see to them. Only references inside a circle
//!   are broken, and only optional ones as long as the required ones alone do not form a circle.

/// A reference of one table to another, both by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The table that refers.
    pub from: usize,
    /// The table that is referred to.
    pub to: usize,
    /// Whether a row need not refer to anything, so that the reference can be filled in later.
    pub optional: bool,
}

impl Reference {
    /// A reference that every row has.
    #[must_use]
    pub const fn required(from: usize, to: usize) -> Self {
        Self {
            from,
            to,
            optional: false,
        }
    }

    /// A reference that a row may be without.
    #[must_use]
    pub const fn optional(from: usize, to: usize) -> Self {
        Self {
            from,
            to,
            optional: true,
        }
    }
}

/// An order of the tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// All tables, each once, those that are referred to first.
    pub sequence: Vec<usize>,
    /// The references, by their place in the list that was given, that point forward.
    pub broken: Vec<usize>,
}

/// Orders the tables `0..tables`. References to or from other numbers are ignored.
#[must_use]
pub fn order(tables: usize, references: &[Reference]) -> Order {
    let mut placed = vec![false; tables];
    let mut result = Order::default();
    while result.sequence.len() < tables {
        let waits_for = |table: usize| {
            let placed = &placed;
            references.iter().enumerate().filter(move |(_, r)| {
                r.from == table && r.to != table && r.to < tables && !placed[r.to]
            })
        };
        let next = match (0..tables).find(|&t| !placed[t] && waits_for(t).next().is_none()) {
            Some(free) => free,
            None => {
                // Every table that is left waits for another: some of them in circles, the others behind those.
                let mut best = None;
                for table in in_first_circles(&placed, references) {
                    let required = waits_for(table).filter(|(_, r)| !r.optional).count();
                    if best.is_none_or(|(fewest, _)| required < fewest) {
                        best = Some((required, table));
                    }
                }
                let Some((_, table)) = best else { break };
                result
                    .broken
                    .extend(waits_for(table).map(|(place, _)| place));
                table
            }
        };
        placed[next] = true;
        result.sequence.push(next);
    }
    result.broken.sort_unstable();
    result
}

/// The tables that wait only for tables which wait for them: the circles that stand behind nothing.
fn in_first_circles(placed: &[bool], references: &[Reference]) -> Vec<usize> {
    let awaited: Vec<Vec<bool>> = (0..placed.len())
        .map(|table| awaited_by(table, placed, references))
        .collect();
    (0..placed.len())
        .filter(|&table| {
            !placed[table]
                && awaited[table]
                    .iter()
                    .enumerate()
                    .all(|(other, waits)| !waits || awaited[other][table])
        })
        .collect()
}

/// What `table` waits for, directly or through others.
fn awaited_by(table: usize, placed: &[bool], references: &[Reference]) -> Vec<bool> {
    let mut reached = vec![false; placed.len()];
    let mut open = vec![table];
    while let Some(at) = open.pop() {
        for reference in references.iter().filter(|r| r.from == at && r.to != at) {
            let to = reference.to;
            if to < placed.len() && !placed[to] && !reached[to] {
                reached[to] = true;
                open.push(to);
            }
        }
    }
    reached
}
