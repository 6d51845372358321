//! Which conditions are taken, and what is said of the others.

use codex_rules::{Clause, DEEPEST, MOST_CLAUSES};

fn problem(kind: &str, value: &str) -> String {
    Clause::parse(kind, value).unwrap_err().to_string()
}

#[test]
fn each_type_has_its_form() {
    let metric = || "moves".to_string();
    let parse = |kind, value| Clause::parse(kind, value).unwrap();
    assert_eq!(
        parse("count", r#"{"metric": "moves", "threshold": 5}"#),
        Clause::Count {
            metric: metric(),
            times: 5
        }
    );
    assert_eq!(
        parse("milestone", r#"{"metric": "moves", "threshold": 2.5}"#),
        Clause::Milestone {
            metric: metric(),
            threshold: 2.5
        }
    );
    assert_eq!(
        parse(
            "time_based",
            r#"{"metric": "moves", "threshold": 20, "window": {"days": 7}}"#
        ),
        Clause::Window {
            metric: metric(),
            threshold: 20.0,
            days: 7
        }
    );
    assert_eq!(
        parse(
            "time_based",
            r#"{"metric": "moves", "streak": {"days": 5}}"#
        ),
        Clause::Streak {
            metric: metric(),
            threshold: None,
            days: 5
        }
    );
    let nested = parse(
        "combination",
        r#"{"all": [{"count": {"metric": "a", "threshold": 1}},
                    {"any": [{"milestone": {"metric": "b", "threshold": 1}},
                             {"time_based": {"metric": "c", "threshold": 2, "streak": {"days": 3}}}]}]}"#,
    );
    assert_eq!(
        nested.metrics().into_iter().collect::<Vec<_>>(),
        ["a", "b", "c"]
    );
    assert_eq!(
        nested.daily_metrics().into_iter().collect::<Vec<_>>(),
        ["c"]
    );
}

#[test]
fn what_is_not_in_the_grammar_is_refused_and_named() {
    for (kind, value, words) in [
        ("count", r#"{"campaigns": 5}"#, "unknown field `campaigns`"),
        (
            "count",
            r#"{"metric": "a", "threshold": 1, "extra": 1}"#,
            "unknown field `extra`",
        ),
        ("count", r#"{"metric": "a"}"#, "missing field `threshold`"),
        (
            "count",
            r#"{"metric": "a", "threshold": 0}"#,
            "whole number",
        ),
        (
            "count",
            r#"{"metric": "a", "threshold": 1.5}"#,
            "whole number",
        ),
        (
            "count",
            r#"{"metric": "a", "threshold": "1"}"#,
            "invalid type",
        ),
        ("count", r#"["a", 1]"#, "expected a map"),
        (
            "time_based",
            r#"{"metric": "a", "streak": [5]}"#,
            "expected a map",
        ),
        ("count", "null", "invalid type: null"),
        (
            "milestone",
            r#"{"metric": "a", "threshold": -1}"#,
            "more than 0",
        ),
        (
            "milestone",
            r#"{"metric": "a", "threshold": 1e16}"#,
            "at most",
        ),
        (
            "milestone",
            r#"{"metric": "a", "threshold": 1e400}"#,
            "number out of range",
        ),
        (
            "milestone",
            r#"{"metric": "", "threshold": 1}"#,
            "no name of a metric",
        ),
        (
            "milestone",
            r#"{"metric": "a b", "threshold": 1}"#,
            "no name of a metric",
        ),
        (
            "time_based",
            r#"{"metric": "a", "threshold": 1}"#,
            "either a \"window\" or a \"streak\"",
        ),
        (
            "time_based",
            r#"{"metric": "a", "threshold": 1, "window": {"days": 1}, "streak": {"days": 1}}"#,
            "either",
        ),
        (
            "time_based",
            r#"{"metric": "a", "window": {"days": 1}}"#,
            "needs a \"threshold\"",
        ),
        (
            "time_based",
            r#"{"metric": "a", "threshold": 1, "window": {"hours": 1}}"#,
            "unknown field `hours`",
        ),
        (
            "time_based",
            r#"{"metric": "a", "streak": {"days": 367}}"#,
            "1 to 366",
        ),
        (
            "time_based",
            r#"{"metric": "a", "streak": {"days": -1}}"#,
            "invalid value",
        ),
        ("combination", r#"{"all": []}"#, "no clauses"),
        ("combination", "{}", "one key"),
        ("combination", r#"{"all": [], "any": []}"#, "one key"),
        (
            "combination",
            r#"{"all": [{"none": []}]}"#,
            "unknown variant `none`",
        ),
        ("perfection", "{}", "no condition of type"),
    ] {
        let said = problem(kind, value);
        assert!(said.contains(words), "{kind} {value}: {said}");
    }
}

#[test]
fn depth_and_size_are_bounded() {
    let leaf = r#"{"count": {"metric": "a", "threshold": 1}}"#;
    let nested = |depth: usize| {
        let mut value = leaf.to_string();
        for _ in 1..depth {
            value = format!(r#"{{"any": [{value}]}}"#);
        }
        format!(r#"{{"all": [{value}]}}"#)
    };
    assert!(Clause::parse("combination", &nested(DEEPEST)).is_ok());
    assert!(problem("combination", &nested(DEEPEST + 1)).contains("nested deeper"));
    assert!(problem("combination", &nested(200)).contains("recursion limit"));
    let wide = |count: usize| format!(r#"{{"all": [{}]}}"#, vec![leaf; count].join(","));
    assert!(Clause::parse("combination", &wide(MOST_CLAUSES - 1)).is_ok());
    assert!(problem("combination", &wide(MOST_CLAUSES)).contains("more than 50 clauses"));
    assert!(problem("combination", &wide(1000)).contains("bytes"));
}
