//! Whether two pieces of news are the same one: by a fingerprint of what they say, whatever way they say it.
//!
//! ```
//! use codex_fingerprint::fingerprint;
//!
//! let seen = fingerprint("competitor_activity", "Rival Co. cuts prices by 10 %", "rival.example");
//! let again = fingerprint("competitor_activity", "  RIVAL CO cuts prices by 10%!", "a-blog.example");
//! assert_eq!(seen, again);
//! ```
//!
//! # Normalisation, version 1
//!
//! 1. Unicode NFKC (UAX 15), then lower case: `ﬁ` is `fi`, `Ｘ` is `x`, `É` is `é` in one or two characters.
//! 2. Letters, marks on letters, and digits stay; each run of anything else is one space; none at the ends.
//! 3. The fingerprint is `1:` and the first 32 hexadecimal digits of SHA-256 over category, a zero byte, and the title.
//! 4. A title that identifies little on its own, one of fewer than [`FEW_WORDS`] words ("Price change"), takes the
//!    source in, after another zero byte: normalised in the same way. So does a title without any letter or digit,
//!    which then stands as it is.
//!
//! The number in front is the version: should the rules change, old fingerprints stay what they were.

use sha2::{Digest, Sha256};
use std::fmt::Write;
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// A title of fewer words than this does not stand for itself.
pub const FEW_WORDS: usize = 4;

/// The fingerprint of a piece of news of a category, with its title and where it was found.
#[must_use]
pub fn fingerprint(category: &str, title: &str, source: &str) -> String {
    let words = normalised(title);
    let mut hash = Sha256::new();
    hash.update(category.as_bytes());
    hash.update([0]);
    hash.update(if words.is_empty() { title } else { &words });
    if words.split(' ').filter(|word| !word.is_empty()).count() < FEW_WORDS {
        hash.update([0]);
        hash.update(normalised(source));
    }
    let mut text = String::from("1:");
    for byte in &hash.finalize()[..16] {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// A text as it is compared: rules 1 and 2.
#[must_use]
pub fn normalised(text: &str) -> String {
    let mut words = String::with_capacity(text.len());
    let mut between = false;
    // Lower case can undo the composition (and the other way round), so it is composed once more.
    let lower = text.nfkc().flat_map(char::to_lowercase).collect::<String>();
    for letter in lower.nfkc() {
        let part_of_a_word =
            letter.is_alphanumeric() || is_combining_mark(letter) && !between && !words.is_empty();
        if part_of_a_word {
            if between && !words.is_empty() {
                words.push(' ');
            }
            words.push(letter);
            between = false;
        } else {
            between = true;
        }
    }
    words
}
