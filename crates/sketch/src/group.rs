//! Eight neighbouring buckets, and ascending lists of such groups.

use std::cmp::Ordering;

use crate::bucket::{self, GROUP};

/// Lower than the number of any group.
pub(crate) const NONE: i16 = i16::MIN;

/// The counts of eight neighbouring buckets, at least one of which is not zero.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Group {
    /// Bucket `8 * number + i` has `counts[i]`.
    pub(crate) number: i16,
    pub(crate) counts: [u64; GROUP],
}

impl Group {
    /// How many samples the group has. At most [`crate::MAX_COUNT`] each, eight counts cannot overflow.
    pub(crate) fn samples(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How many bits the largest count needs: 1 to 53.
    pub(crate) fn bits(&self) -> u32 {
        // The leading bit of a bitwise or is that of the largest count.
        u64::BITS
            - self
                .counts
                .iter()
                .fold(0, |all, count| all | count)
                .leading_zeros()
    }
}

/// What became of a sample that was to be counted in a list of groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Added {
    /// Its group is at or below the floor: it is not in the list.
    BelowFloor,
    /// Counted, and the list takes as much space as before.
    SameSize,
    /// Counted, and the list takes more space now.
    Grown,
}

/// Counts a positive sample if its group is above `floor`.
pub(crate) fn add(groups: &mut Vec<Group>, floor: i16, sample: f64) -> Added {
    let (number, place) = bucket::of(sample);
    if number <= floor {
        return Added::BelowFloor;
    }
    match groups.binary_search_by_key(&number, |group| group.number) {
        Ok(at) => {
            let group = &mut groups[at];
            let bits = group.bits();
            group.counts[place] += 1;
            if group.bits() == bits {
                Added::SameSize
            } else {
                Added::Grown
            }
        }
        Err(at) => {
            let mut counts = [0; GROUP];
            counts[place] = 1;
            groups.insert(at, Group { number, counts });
            Added::Grown
        }
    }
}

/// The groups of both lists, with the sum of the counts where a group is in both.
pub(crate) fn merge(left: &[Group], right: &[Group]) -> Vec<Group> {
    let mut merged = Vec::with_capacity(left.len().max(right.len()));
    let (mut left, mut right) = (left.iter().peekable(), right.iter().peekable());
    loop {
        let order = match (left.peek(), right.peek()) {
            (None, None) => return merged,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(l), Some(r)) => l.number.cmp(&r.number),
        };
        if order == Ordering::Equal {
            let (l, r) = (left.next(), right.next());
            merged.extend(l.zip(r).map(|(l, r)| Group {
                number: l.number,
                counts: std::array::from_fn(|place| l.counts[place] + r.counts[place]),
            }));
        } else {
            let lower = if order == Ordering::Less {
                left.next()
            } else {
                right.next()
            };
            merged.extend(lower.cloned());
        }
    }
}
