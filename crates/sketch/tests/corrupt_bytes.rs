//! Bytes that are no sketch give an error that says why; none gives a panic.
//! What the checksum would hide is tested next to the decoder, where the checksum can be mended.

mod support;

use codex_sketch::{CorruptSketch, MAX_BYTES, Sketch};
use proptest::prelude::*;
use support::{DISTRIBUTIONS, draw, sketch_of};

fn examples() -> Vec<Vec<u8>> {
    let mut examples: Vec<Vec<u8>> = DISTRIBUTIONS
        .iter()
        .map(|&distribution| sketch_of(&draw(distribution, 300)).to_bytes())
        .collect();
    examples.push(Sketch::new().to_bytes());
    examples
}

#[test]
fn every_truncation_is_an_error() {
    for bytes in examples() {
        for length in 0..bytes.len() {
            assert!(
                Sketch::from_bytes(&bytes[..length]).is_err(),
                "{length} of {} bytes",
                bytes.len()
            );
        }
    }
}

#[test]
fn every_flipped_bit_is_an_error() {
    for mut bytes in examples() {
        for bit in 0..8 * bytes.len() {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Sketch::from_bytes(&bytes).is_err(), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

#[test]
fn trailing_bytes_are_an_error() {
    for bytes in examples() {
        for trailing in [&[0][..], &[1], &[255; 9]] {
            assert!(Sketch::from_bytes(&[&bytes, trailing].concat()).is_err());
        }
    }
}

#[test]
fn the_error_says_what_is_wrong() {
    assert_eq!(
        Sketch::from_bytes(&[]),
        Err(CorruptSketch::Truncated {
            part: "the version"
        })
    );
    assert_eq!(
        Sketch::from_bytes(&[1, 0]),
        Err(CorruptSketch::Truncated {
            part: "the checksum"
        })
    );
    assert_eq!(
        Sketch::from_bytes(&[9, 0, 0]),
        Err(CorruptSketch::UnknownVersion { version: 9 })
    );
    let long = vec![1; MAX_BYTES + 1];
    assert_eq!(
        Sketch::from_bytes(&long),
        Err(CorruptSketch::TooLong { length: 2049 })
    );
    let mut bytes = sketch_of(&[1.0]).to_bytes();
    *bytes.last_mut().unwrap() ^= 2;
    assert!(matches!(
        Sketch::from_bytes(&bytes),
        Err(CorruptSketch::WrongChecksum { .. })
    ));
    assert_eq!(
        CorruptSketch::UnknownVersion { version: 9 }.to_string(),
        "corrupt sketch: version 9 is unknown, this release reads version 1"
    );
}

/// The stored form is a promise to data that exists: a change of it needs a new version.
#[test]
fn the_format_of_version_1_does_not_change() {
    let sketch = sketch_of(&[0.0, 0.25, 1.0, 1.0, 1.5, 1e12]);
    let hex: String = sketch
        .to_bytes()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let expected = [
        "01",               // version
        "56985bf4",         // checksum
        "01",               // zeros
        "00",               // collapsed
        "000000000000d03f", // 0.25
        "000000a2941a6d42", // 1e12
        "f6ff",             // group -10
        "01",               // 1 bit a count
        "01",               // bucket 0 has 1
        "c206",             // group 0, 3 + 6 skipped, 2 bits a count
        "0200",             // bucket 0 has 2
        "41",               // group 2, 1 skipped, 1 bit a count
        "80",               // bucket 7 has 1
        "c1c101",           // group 199, 3 + 193 skipped, 1 bit a count
        "04",               // bucket 2 has 1
    ];
    assert_eq!(hex, expected.concat());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_are_an_error(bytes in prop::collection::vec(any::<u8>(), 0..MAX_BYTES + 100)) {
        prop_assert!(Sketch::from_bytes(&bytes).is_err());
        prop_assert!(Sketch::from_bytes(&[&[1], &bytes[..]].concat()).is_err());
    }
}
