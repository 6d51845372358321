//! Where this transaction left the rows that it writes again and again.
//!
//! Every UPDATE leaves the old version of its row behind, and as long as the transaction runs nobody can clear them
//! up. One that records thousands of executions of an agent would, by an index, look through all the versions that
//! it has made itself, each time: the square of their number. So it remembers where the last one is.
//!
//! A place is a hint. Whoever uses it asks for the row's key as well, and looks the row up where there is no
//! such row at that place any more (after ROLLBACK TO SAVEPOINT, or when something else in the transaction wrote it).

use pgrx::pg_sys;
use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::Hash;

/// Where a version of a row is in its table.
pub type Place = pg_sys::ItemPointerData;

/// The places of one transaction by the key of the row.
pub struct Places<Key>(RefCell<Option<Remembered<Key>>>);

struct Remembered<Key> {
    transaction: pg_sys::TransactionId,
    places: HashMap<Key, Place>,
}

/// How many rows are remembered at once; beyond that the memory starts anew.
const MOST: usize = 1000;

impl<Key: Eq + Hash> Places<Key> {
    /// Nothing remembered.
    pub const fn new() -> Self {
        Self(RefCell::new(None))
    }

    /// Where this transaction left the row.
    pub fn get(&self, key: &Key) -> Option<Place> {
        let remembered = self.0.borrow();
        let remembered = remembered.as_ref()?;
        if remembered.transaction != this_transaction() {
            return None;
        }
        remembered.places.get(key).copied()
    }

    /// Remembers where this transaction left the row.
    pub fn keep(&self, key: Key, place: Place) {
        let transaction = this_transaction();
        let mut remembered = self.0.borrow_mut();
        match remembered.as_mut() {
            Some(kept) if kept.transaction == transaction && kept.places.len() < MOST => {
                kept.places.insert(key, place);
            }
            _ => {
                *remembered = Some(Remembered {
                    transaction,
                    places: HashMap::from([(key, place)]),
                });
            }
        }
    }
}

/// The id of the transaction (not of a subtransaction), if it has written yet.
fn this_transaction() -> pg_sys::TransactionId {
    // SAFETY: looks at this backend's own state.
    unsafe { pg_sys::GetTopTransactionIdIfAny() }
}
