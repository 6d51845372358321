//! What holds for any news.

use codex_fingerprint::{fingerprint, normalised};
use proptest::prelude::*;

fn title() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::collection::vec("[a-zA-ZäöüéßÉ0-9ﬁＡ]{1,8}", 0..9).prop_map(|words| words.join(" ")),
        any::<String>()
    ]
}

proptest! {
    #[test]
    fn normalising_again_changes_nothing(text in title()) {
        let once = normalised(&text);
        prop_assert_eq!(normalised(&once), once);
    }

    #[test]
    fn spaces_case_and_punctuation_do_not_matter(words in prop::collection::vec("[a-z0-9é]{1,8}", 4..9)) {
        let plain = words.join(" ");
        let loud = format!("  {}!! ", words.join(" - ").to_uppercase());
        prop_assert_eq!(fingerprint("c", &plain, "here"), fingerprint("c", &loud, "there"));
    }

    #[test]
    fn other_words_and_other_categories_are_other_news(words in prop::collection::vec("[a-z0-9]{1,8}", 4..9)) {
        let plain = words.join(" ");
        let seen = fingerprint("c", &plain, "here");
        prop_assert_ne!(&fingerprint("d", &plain, "here"), &seen);
        prop_assert_ne!(&fingerprint("c", &format!("{plain} more"), "here"), &seen);
        // Words do not run together.
        prop_assert_ne!(&fingerprint("c", &words.concat(), "here"), &seen);
    }

    #[test]
    fn a_short_title_is_news_of_its_source(title in "[a-z]{1,8}( [a-z]{1,8}){0,2}") {
        prop_assert_ne!(fingerprint("c", &title, "here"), fingerprint("c", &title, "there"));
        prop_assert_eq!(fingerprint("c", &title, "here"), fingerprint("c", &title, " HERE "));
    }

    #[test]
    fn a_fingerprint_is_a_version_and_32_digits(title in title(), source in title()) {
        let fingerprint = fingerprint("c", &title, &source);
        prop_assert_eq!(fingerprint.len(), 34);
        prop_assert!(fingerprint.starts_with("1:"));
        prop_assert!(fingerprint[2..].bytes().all(|b| b.is_ascii_hexdigit()));
    }
}

#[test]
fn the_same_letters_are_the_same_however_they_were_typed() {
    for (left, right) in [
        (
            "Caf\u{e9} prices rise again",
            "Cafe\u{301} PRICES rise again",
        ),
        ("Of\u{fb01}ce prices rise again", "Office prices rise again"),
        ("\u{ff32}ival cuts its prices", "rival cuts its prices"),
        ("Prices: up 10\u{a0}%, again", "prices up 10 % again"),
    ] {
        assert_eq!(normalised(left), normalised(right));
        assert_eq!(fingerprint("c", left, "a"), fingerprint("c", right, "b"));
    }
    assert_eq!(
        normalised(" \u{2014}Ünïted  \u{2019}Foods\u{2026}"),
        "ünïted foods"
    );
}

#[test]
fn a_title_of_signs_alone_stands_as_it_is() {
    assert_eq!(normalised("!!! ???"), "");
    assert_ne!(fingerprint("c", "!!!", "a"), fingerprint("c", "???", "a"));
}

#[test]
fn a_fingerprint_once_given_stays() {
    assert_eq!(
        fingerprint("industry_news", "Rival Co. cuts prices", "a"),
        fingerprint("industry_news", "rival co cuts prices", "b")
    );
    assert_eq!(
        fingerprint("industry_news", "Rival Co. cuts prices", "a"),
        "1:1a048905b3e3483275d519a8e48ad331"
    );
}
