//! A sketch as bytes, and back.
//!
//! All numbers are little-endian; a varint has 7 bits a byte, lowest first.
//!
//! ```text
//! 1         version: 1
//! 4         checksum of all bytes but these four
//! varint    how many samples are zero
//! varint    how many samples are collapsed
//! 2         the highest collapsed group; only if samples are collapsed
//!           the rest only if any sample is positive:
//! 8         the smallest positive sample (f64)
//! 8         the largest sample (f64)
//! 2         the number of the first group
//!           for each group, ascending:
//! 1           lower six bits: w, the bits of its largest count (1 to 53)
//!             upper two bits: how many groups are skipped before it: 0, 1, 2, or 3 for "a varint follows"
//! (varint)    how many more than 3 are skipped
//! w           its eight counts, w bits each, lowest first
//! ```
//!
//! A sketch has one such form only, and [`Sketch::from_bytes`] accepts no other: equal sketches are
//! equal bytes. The checksum finds damage, it does not keep out a forger; the rest is checked as
//! strictly as if there were none. No allocation exceeds 80 kB, whatever the bytes.

use crate::bucket::{self, GROUP, GROUP_NUMBERS};
use crate::error::CorruptSketch;
use crate::group::Group;
use crate::{MAX_COUNT, Sketch};

/// The most bytes that [`Sketch::to_bytes`] returns: a quarter of a Postgres page.
pub const MAX_BYTES: usize = 2048;

const VERSION: u8 = 1;

/// Room for the groups. It is a constant, so that the collapse does not depend on the length of the
/// header (41 bytes at most), see the crate documentation.
const MAX_GROUP_BYTES: usize = 2000;

const MAX_VARINT_BYTES: usize = 8;
const MAX_HEADER_BYTES: usize = 1 + 4 + MAX_VARINT_BYTES + MAX_VARINT_BYTES + 2 + 8 + 8 + 2;
const _: () = assert!(MAX_HEADER_BYTES + MAX_GROUP_BYTES <= MAX_BYTES);

const AFTER_CHECKSUM: usize = 5;
const WIDTH_MASK: u8 = 0x3f;
const SKIP_SHIFT: u32 = 6;
const LONG_SKIP: u16 = 3;
const MAX_WIDTH: u32 = u64::BITS - MAX_COUNT.leading_zeros();

impl Sketch {
    /// The sketch as bytes: at most [`MAX_BYTES`], the first of which is the version of the format.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.put(&[VERSION]);
        writer.put(&[0; 4]);
        writer.put_varint(self.zeros);
        writer.put_varint(self.collapsed);
        if self.collapsed > 0 {
            writer.put(&self.collapsed_through.to_le_bytes());
        }
        if let Some(first) = self.groups.first() {
            writer.put(&self.smallest_positive.to_le_bytes());
            writer.put(&self.largest.to_le_bytes());
            writer.put(&first.number.to_le_bytes());
            let mut expected = first.number;
            for group in &self.groups {
                writer.put_group(group, (group.number - expected) as u16);
                expected = group.number + 1;
            }
        }
        writer.finish()
    }

    /// The sketch that [`to_bytes`](Self::to_bytes) gave.
    ///
    /// # Errors
    /// Bytes that are damaged or of another make, see [`CorruptSketch`]. Nothing in them makes this function
    /// panic, or allocate more than in proportion to their number.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CorruptSketch> {
        let mut reader = Reader::new(bytes)?;
        let [version] = reader.take("the version")?;
        if version != VERSION {
            return Err(CorruptSketch::UnknownVersion { version });
        }
        let stored = u32::from_le_bytes(reader.take("the checksum")?);
        let computed = checksum(&bytes[AFTER_CHECKSUM..]);
        if stored != computed {
            return Err(CorruptSketch::WrongChecksum { stored, computed });
        }

        let mut sketch = Self::new();
        sketch.zeros = reader.take_count("the count of zeros")?;
        sketch.collapsed = reader.take_count("the count of collapsed samples")?;
        sketch.count = total(sketch.zeros, sketch.collapsed)?;
        if sketch.collapsed > 0 {
            sketch.collapsed_through = reader.take_group_number("the highest collapsed group")?;
        } else if reader.is_at_end() {
            return Ok(sketch);
        }
        sketch.smallest_positive = f64::from_le_bytes(reader.take("the smallest positive sample")?);
        sketch.largest = f64::from_le_bytes(reader.take("the largest sample")?);
        let mut number = i32::from(reader.take_group_number("the number of the first group")?);
        if number <= i32::from(sketch.collapsed_through) {
            return Err(CorruptSketch::NotCanonical {
                part: "the first group (it is a collapsed one)",
            });
        }
        sketch.groups.reserve_exact(reader.groups_at_most());
        loop {
            let group = reader.take_group(&mut number, sketch.groups.is_empty())?;
            sketch.count = total(sketch.count, group.samples())?;
            sketch.groups.push(group);
            if reader.is_at_end() {
                break;
            }
            number += 1;
        }
        if first_group_that_fits(&sketch.groups) > 0 {
            return Err(CorruptSketch::NotCanonical {
                part: "the list of groups (it is too long)",
            });
        }
        if !extremes_belong(&sketch) {
            return Err(CorruptSketch::WrongExtremes {
                smallest_positive: sketch.smallest_positive.to_bits(),
                largest: sketch.largest.to_bits(),
            });
        }
        Ok(sketch)
    }
}

/// The place of the lowest group from which on all groups fit into the room for them.
pub(crate) fn first_group_that_fits(groups: &[Group]) -> usize {
    let mut size = 0;
    for (at, group) in groups.iter().enumerate().rev() {
        size += 1 + group.bits() as usize;
        if size > MAX_GROUP_BYTES {
            return at + 1;
        }
        // What tells of the skipped groups below this one is written only if there is a group below.
        if let Some(lower) = at.checked_sub(1).map(|below| &groups[below]) {
            size += long_skip_bytes((group.number - lower.number - 1) as u16);
        }
    }
    0
}

/// How many bytes a skip takes apart from the two bits in the first byte of the group.
fn long_skip_bytes(skipped: u16) -> usize {
    match skipped.checked_sub(LONG_SKIP) {
        None => 0,
        Some(more) => varint_bytes(u64::from(more)),
    }
}

fn varint_bytes(value: u64) -> usize {
    (u64::BITS - (value | 1).leading_zeros()).div_ceil(7) as usize
}

fn total(left: u64, right: u64) -> Result<u64, CorruptSketch> {
    left.checked_add(right)
        .filter(|&sum| sum <= MAX_COUNT)
        .ok_or(CorruptSketch::TooManySamples)
}

/// Whether the smallest and the largest sample are counted where the sketch's buckets begin and end.
fn extremes_belong(sketch: &Sketch) -> bool {
    let positive = |x: f64| x.is_finite() && x > 0.0;
    let (smallest, largest) = (sketch.smallest_positive, sketch.largest);
    let (Some(first), Some(last)) = (sketch.groups.first(), sketch.groups.last()) else {
        return false;
    };
    if !positive(smallest) || !positive(largest) || smallest > largest {
        return false;
    }
    // One sample is its own smallest and largest.
    if sketch.count - sketch.zeros == 1 && smallest != largest {
        return false;
    }
    let lowest = first.counts.iter().position(|&count| count > 0);
    let highest = last.counts.iter().rposition(|&count| count > 0);
    let (group, place) = bucket::of(smallest);
    let smallest_belongs = if sketch.collapsed > 0 {
        group <= sketch.collapsed_through
    } else {
        group == first.number && Some(place) == lowest
    };
    let (group, place) = bucket::of(largest);
    smallest_belongs && group == last.number && Some(place) == highest
}

/// A 32-bit checksum that takes eight bytes a step, so that it costs a small part of the decoding.
///
/// Each step maps the 64-bit state one to one, so damage within eight bytes always changes the state;
/// the upper half of the last state misses it with a chance of 2^-32. The length comes first, which
/// tells padding from data. The multiplier is 2^64 divided by the golden ratio, made odd (Knuth, *The Art of
/// Computer Programming* 3, 6.4).
fn checksum(bytes: &[u8]) -> u32 {
    let step = |state: u64, word: [u8; 8]| {
        let mixed = (state ^ u64::from_le_bytes(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^ (mixed >> 32)
    };
    let (words, rest) = bytes.as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let state = words.iter().fold(
        step(0, (bytes.len() as u64).to_le_bytes()),
        |state, &word| step(state, word),
    );
    (step(step(state, last), [0; 8]) >> 32) as u32
}

/// Writes into an array that is large enough for every sketch, with room to write whole words.
struct Writer {
    buffer: [u8; MAX_BYTES + 8],
    length: usize,
}

impl Writer {
    fn new() -> Self {
        Self {
            buffer: [0; MAX_BYTES + 8],
            length: 0,
        }
    }

    fn put(&mut self, bytes: &[u8]) {
        self.buffer[self.length..self.length + bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
    }

    fn put_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.put(&[value as u8 | 0x80]);
            value >>= 7;
        }
        self.put(&[value as u8]);
    }

    fn put_group(&mut self, group: &Group, skipped: u16) {
        let width = group.bits();
        self.put(&[(skipped.min(LONG_SKIP) as u8) << SKIP_SHIFT | width as u8]);
        if let Some(more) = skipped.checked_sub(LONG_SKIP) {
            self.put_varint(u64::from(more));
        }
        self.put_counts(&group.counts, width);
    }

    fn put_counts(&mut self, counts: &[u64; GROUP], width: u32) {
        let end = self.length + width as usize;
        let (mut word, mut filled) = (0_u64, 0);
        for &count in counts {
            word |= count << filled;
            filled += width;
            if filled >= u64::BITS {
                self.put(&word.to_le_bytes());
                filled -= u64::BITS;
                // What of the count did not fit into the word. Its width is less than 64, so that the
                // shift is, too.
                word = if filled == 0 {
                    0
                } else {
                    count >> (width - filled)
                };
            }
        }
        self.buffer[self.length..self.length + 8].copy_from_slice(&word.to_le_bytes());
        self.length = end;
    }

    fn finish(mut self) -> Vec<u8> {
        let checksum = checksum(&self.buffer[AFTER_CHECKSUM..self.length]);
        self.buffer[1..AFTER_CHECKSUM].copy_from_slice(&checksum.to_le_bytes());
        self.buffer[..self.length].to_vec()
    }
}

/// Reads a copy of the bytes that is followed by zeros, so that whole words can be read at the end.
struct Reader {
    buffer: [u8; MAX_BYTES + 8],
    length: usize,
    at: usize,
}

impl Reader {
    fn new(bytes: &[u8]) -> Result<Self, CorruptSketch> {
        let length = bytes.len();
        if length > MAX_BYTES {
            return Err(CorruptSketch::TooLong { length });
        }
        let mut buffer = [0; MAX_BYTES + 8];
        buffer[..length].copy_from_slice(bytes);
        Ok(Self {
            buffer,
            length,
            at: 0,
        })
    }

    fn is_at_end(&self) -> bool {
        self.at == self.length
    }

    /// A group takes two bytes at least.
    fn groups_at_most(&self) -> usize {
        (self.length - self.at) / 2
    }

    fn take<const N: usize>(&mut self, part: &'static str) -> Result<[u8; N], CorruptSketch> {
        let taken = self.buffer[..self.length][self.at..]
            .first_chunk()
            .ok_or(CorruptSketch::Truncated { part })?;
        self.at += N;
        Ok(*taken)
    }

    fn take_varint(&mut self, part: &'static str) -> Result<u64, CorruptSketch> {
        let mut value = 0;
        for place in 0..MAX_VARINT_BYTES {
            let [byte] = self.take(part)?;
            value |= u64::from(byte & 0x7f) << (7 * place);
            if byte < 0x80 {
                return if byte == 0 && place > 0 {
                    Err(CorruptSketch::NotCanonical { part })
                } else {
                    Ok(value)
                };
            }
        }
        Err(CorruptSketch::NotCanonical { part })
    }

    fn take_count(&mut self, part: &'static str) -> Result<u64, CorruptSketch> {
        self.take_varint(part).and_then(|count| total(count, 0))
    }

    fn take_group_number(&mut self, part: &'static str) -> Result<i16, CorruptSketch> {
        let number = i16::from_le_bytes(self.take(part)?);
        if GROUP_NUMBERS.contains(&number) {
            Ok(number)
        } else {
            Err(CorruptSketch::BucketOutOfRange)
        }
    }

    /// Reads a group; `number` is the lowest that it can have, and becomes the one it has.
    fn take_group(&mut self, number: &mut i32, first: bool) -> Result<Group, CorruptSketch> {
        let [head] = self.take("a group")?;
        let mut skipped = u64::from(head >> SKIP_SHIFT);
        if skipped == u64::from(LONG_SKIP) {
            skipped += self.take_varint("the count of skipped groups")?;
        }
        if first && skipped > 0 {
            return Err(CorruptSketch::NotCanonical {
                part: "the count of skipped groups",
            });
        }
        // A varint has 56 bits.
        let found = i64::from(*number) + skipped as i64;
        let found = i16::try_from(found)
            .ok()
            .filter(|found| GROUP_NUMBERS.contains(found));
        let found = found.ok_or(CorruptSketch::BucketOutOfRange)?;
        *number = i32::from(found);

        let width = u32::from(head & WIDTH_MASK);
        if !(1..=MAX_WIDTH).contains(&width) {
            return Err(CorruptSketch::NotCanonical {
                part: "the width of the counts",
            });
        }
        let group = Group {
            number: found,
            counts: self.take_counts(width)?,
        };
        if group.bits() != width {
            return Err(CorruptSketch::NotCanonical {
                part: "the width of the counts",
            });
        }
        Ok(group)
    }

    fn take_counts(&mut self, width: u32) -> Result<[u64; GROUP], CorruptSketch> {
        let end = self.at + width as usize;
        if end > self.length {
            return Err(CorruptSketch::Truncated {
                part: "the counts of a group",
            });
        }
        let mask = (1 << width) - 1;
        let mut counts = [0; GROUP];
        for (place, count) in counts.iter_mut().enumerate() {
            // A count begins within the eight bits of a byte and has 53 bits at most: one word holds it.
            let bit = place * width as usize;
            let word = self.buffer[self.at + bit / 8..]
                .first_chunk()
                .map_or(0, |word| u64::from_le_bytes(*word));
            *count = word >> (bit % 8) & mask;
        }
        self.at = end;
        Ok(counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The bytes with the version and the checksum that they need to be looked at.
    fn mended(mut bytes: Vec<u8>) -> Vec<u8> {
        if bytes.len() >= AFTER_CHECKSUM {
            let checksum = checksum(&bytes[AFTER_CHECKSUM..]);
            bytes[0] = VERSION;
            bytes[1..AFTER_CHECKSUM].copy_from_slice(&checksum.to_le_bytes());
        }
        bytes
    }

    fn with_body(body: &[&[u8]]) -> Vec<u8> {
        mended([&[0; AFTER_CHECKSUM], body.concat().as_slice()].concat())
    }

    fn read(body: &[&[u8]]) -> Result<Sketch, CorruptSketch> {
        Sketch::from_bytes(&with_body(body))
    }

    /// Whatever is accepted is written as the same bytes and answers without a panic.
    fn accepted_is_sound(bytes: &[u8]) -> Result<(), TestCaseError> {
        let Ok(mut sketch) = Sketch::from_bytes(bytes) else {
            return Ok(());
        };
        prop_assert_eq!(sketch.to_bytes(), bytes);
        let counted: u64 = sketch.groups.iter().map(Group::samples).sum();
        prop_assert_eq!(sketch.zeros + sketch.collapsed + counted, sketch.count());
        for q in [0.0, 0.5, 0.95, 0.99, 1.0] {
            let estimate = sketch.quantile(q);
            prop_assert!(estimate >= sketch.min() && estimate <= sketch.max());
        }
        let same = sketch.clone();
        let doubled = sketch.merge(&same);
        prop_assert_eq!(doubled.is_ok(), 2 * same.count() <= MAX_COUNT);
        let _ = sketch.add(0.5);
        let stored = sketch.to_bytes();
        prop_assert!(stored.len() <= MAX_BYTES);
        prop_assert_eq!(Sketch::from_bytes(&stored), Ok(sketch));
        Ok(())
    }

    fn sketch() -> impl Strategy<Value = Sketch> {
        let sample = prop_oneof![
            Just(0.0),
            1e-3..1e3,
            (0..f64::INFINITY.to_bits()).prop_map(f64::from_bits)
        ];
        (prop::collection::vec(sample, 0..700), 0..45_u32).prop_map(|(samples, doublings)| {
            let mut sketch = Sketch::new();
            for sample in samples {
                sketch.add(sample).expect("in range");
            }
            for _ in 0..doublings {
                let same = sketch.clone();
                let _ = sketch.merge(&same);
            }
            sketch
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_changed_byte_behind_the_checksum_is_refused_or_sound(
            sketch in sketch(), changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)
        ) {
            let mut bytes = sketch.to_bytes();
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            accepted_is_sound(&mended(bytes))?;
        }

        #[test]
        fn a_cut_behind_the_checksum_is_refused_or_sound(sketch in sketch(), at in any::<prop::sample::Index>()) {
            let mut bytes = sketch.to_bytes();
            bytes.truncate(at.index(bytes.len()));
            accepted_is_sound(&mended(bytes))?;
        }

        #[test]
        fn random_bytes_behind_the_checksum_are_refused_or_sound(
            bytes in prop::collection::vec(any::<u8>(), 0..MAX_BYTES)
        ) {
            accepted_is_sound(&mended(bytes))?;
        }

        #[test]
        fn counts_of_every_width_are_read_as_written(
            counts in prop::array::uniform8(any::<u64>()), width in 1..=MAX_WIDTH
        ) {
            let counts = counts.map(|count| count >> (u64::BITS - width));
            let mut writer = Writer::new();
            writer.put_counts(&counts, width);
            prop_assert_eq!(writer.length, width as usize);
            let mut reader = Reader::new(&writer.buffer[..writer.length]).unwrap();
            prop_assert_eq!(reader.take_counts(width), Ok(counts));
        }
    }

    const ONE: [u8; 8] = 1.0_f64.to_le_bytes();
    const TWO: [u8; 8] = 2.0_f64.to_le_bytes();

    #[test]
    fn a_written_body_is_read() {
        let mut one = Sketch::new();
        one.add(1.0).unwrap();
        assert_eq!(read(&[&[0, 0], &ONE, &ONE, &[0, 0, 1, 1]]), Ok(one));
    }

    #[test]
    fn each_check_refuses_what_it_is_for() {
        let not_canonical = |part| Err(CorruptSketch::NotCanonical { part });
        let extremes = |low: f64, high: f64| {
            Err(CorruptSketch::WrongExtremes {
                smallest_positive: low.to_bits(),
                largest: high.to_bits(),
            })
        };
        assert_eq!(read(&[&[0x80, 0, 0]]), not_canonical("the count of zeros"));
        assert_eq!(read(&[&[0xff; 9]]), not_canonical("the count of zeros"));
        assert_eq!(
            read(&[&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0]]),
            Err(CorruptSketch::TooManySamples)
        );
        assert_eq!(
            read(&[&[0]]),
            Err(CorruptSketch::Truncated {
                part: "the count of collapsed samples"
            })
        );
        assert_eq!(
            read(&[&[0, 1]]),
            Err(CorruptSketch::Truncated {
                part: "the highest collapsed group"
            })
        );
        assert_eq!(
            read(&[&[0, 1, 0xff, 0x7f]]),
            Err(CorruptSketch::BucketOutOfRange)
        );
        assert_eq!(
            read(&[&[0, 1, 0, 0], &ONE, &ONE, &[0, 0, 1, 1]]),
            not_canonical("the first group (it is a collapsed one)")
        );
        assert_eq!(
            read(&[&[0, 0], &ONE]),
            Err(CorruptSketch::Truncated {
                part: "the largest sample"
            })
        );
        assert_eq!(
            read(&[&[0, 0], &ONE, &ONE, &[0, 0]]),
            Err(CorruptSketch::Truncated { part: "a group" })
        );
        assert_eq!(
            read(&[&[0, 0], &ONE, &ONE, &[0, 0, 2, 1]]),
            Err(CorruptSketch::Truncated {
                part: "the counts of a group"
            })
        );
        assert_eq!(
            read(&[&[0, 0], &ONE, &ONE, &[0, 0x80, 1, 1]]),
            Err(CorruptSketch::BucketOutOfRange)
        );
        assert_eq!(
            read(&[&[0, 0], &ONE, &ONE, &[0, 0, 0x41, 1]]),
            not_canonical("the count of skipped groups")
        );
        for width in [0, 54, 63] {
            assert_eq!(
                read(&[&[0, 0], &ONE, &ONE, &[0, 0, width], &[1; 63]]),
                not_canonical("the width of the counts")
            );
        }
        assert_eq!(
            read(&[&[0, 0], &ONE, &ONE, &[0, 0, 1, 0]]),
            not_canonical("the width of the counts")
        );
        assert_eq!(
            read(&[&[0, 0], &ONE, &ONE, &[0, 0, 2, 1, 0]]),
            not_canonical("the width of the counts")
        );
        assert_eq!(
            read(&[&[0, 0], &ONE, &TWO, &[0, 0, 1, 1]]),
            extremes(1.0, 2.0)
        );
        assert_eq!(
            read(&[&[0, 0], &TWO, &ONE, &[0, 0, 1, 1]]),
            extremes(2.0, 1.0)
        );
        assert_eq!(
            read(&[&[0, 0], &ONE, &ONE, &[0, 0, 1, 2]]),
            extremes(1.0, 1.0)
        );
        for bad in [f64::NAN, -1.0, 0.0, f64::INFINITY] {
            assert!(read(&[&[0, 0], &bad.to_le_bytes(), &ONE, &[0, 0, 1, 1]]).is_err());
            assert!(read(&[&[0, 0], &ONE, &bad.to_le_bytes(), &[0, 0, 1, 1]]).is_err());
        }
        let full = [&[53][..], &[0xff; 53]].concat();
        assert_eq!(
            read(&[&[0, 0], &ONE, &ONE, &[0, 0], &full]),
            Err(CorruptSketch::TooManySamples)
        );
        // One more group than fits: 1001 of two bytes each.
        let groups = [1; 2 * 1001];
        assert_eq!(
            read(&[&[0, 0], &ONE, &ONE, &[0, 0], &groups]),
            not_canonical("the list of groups (it is too long)")
        );
        let far = [1, 1, 0xc1, 0xff, 0xff, 0x7f, 1];
        assert_eq!(
            read(&[&[0, 0], &ONE, &ONE, &[0, 0], &far]),
            Err(CorruptSketch::BucketOutOfRange)
        );
    }

    #[test]
    fn the_space_that_is_reckoned_is_the_space_that_is_taken() {
        let mut sketch = Sketch::new();
        let mut sample = f64::MAX;
        while sample > 0.0 {
            sketch.add(sample).unwrap();
            // Skips of 0 to some hundred groups.
            sample *= 0.9 / (1.0 + sample.ln().abs() * sample.ln().abs());
        }
        let lengths: Vec<usize> = (0..sketch.groups.len())
            .map(|at| {
                let part = Sketch {
                    groups: sketch.groups[at..].to_vec(),
                    ..sketch.clone()
                };
                part.to_bytes().len()
            })
            .collect();
        for (at, pair) in lengths.windows(2).enumerate() {
            let (group, next) = (&sketch.groups[at], &sketch.groups[at + 1]);
            let skip = long_skip_bytes((next.number - group.number - 1) as u16);
            assert_eq!(pair[0] - pair[1], 1 + group.bits() as usize + skip);
        }
        assert!(sketch.groups.len() > 10);
    }

    #[test]
    fn varints_have_the_reckoned_length() {
        for value in [0, 1, 127, 128, 16_383, 16_384, MAX_COUNT] {
            let mut writer = Writer::new();
            writer.put_varint(value);
            assert_eq!(writer.length, varint_bytes(value));
            assert_eq!(
                Reader::new(&writer.buffer[..writer.length])
                    .unwrap()
                    .take_varint(""),
                Ok(value)
            );
        }
        assert_eq!(varint_bytes(MAX_COUNT), MAX_VARINT_BYTES);
    }
}
