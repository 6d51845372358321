//! The page `docs/security.md` says what is so: the tests it names exist. (`tests/examples` runs its statements.)

const PAGE: &str = include_str!("../../../docs/security.md");

#[test]
fn every_test_that_the_page_names_is_here() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tenancy");
    let mut named = 0;
    for word in PAGE.split('`') {
        let Some((module, test)) = word.split_once("::") else {
            continue;
        };
        let is_name = |text: &str| {
            !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
        };
        if !is_name(module) || !is_name(test) {
            continue;
        }
        let source = std::fs::read_to_string(format!("{folder}/{module}.rs"))
            .unwrap_or_else(|error| panic!("{module}: {error}"));
        assert!(source.contains(&format!("fn {test}()")), "{word}");
        named += 1;
    }
    assert!(named > 40, "{named}");
}
