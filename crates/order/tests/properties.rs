//! What holds for any references.

use codex_order::{Order, Reference, order};
use proptest::prelude::*;

fn references(tables: usize) -> impl Strategy<Value = Vec<Reference>> {
    prop::collection::vec(
        (0..tables, 0..tables, any::<bool>()).prop_map(|(from, to, optional)| Reference {
            from,
            to,
            optional,
        }),
        0..40,
    )
}

fn places(order: &Order) -> Vec<usize> {
    let mut places = vec![usize::MAX; order.sequence.len()];
    for (place, &table) in order.sequence.iter().enumerate() {
        places[table] = place;
    }
    places
}

proptest! {
    #[test]
    fn every_table_comes_once_and_after_what_it_refers_to(references in references(9)) {
        let order = order(9, &references);
        let mut sorted = order.sequence.clone();
        sorted.sort_unstable();
        prop_assert_eq!(sorted, (0..9).collect::<Vec<_>>());
        let places = places(&order);
        for (number, reference) in references.iter().enumerate() {
            let forward = places[reference.from] < places[reference.to];
            prop_assert_eq!(forward, order.broken.contains(&number), "{:?}", reference);
        }
    }

    #[test]
    fn nothing_is_broken_where_nothing_goes_in_a_circle(references in references(9)) {
        let downwards: Vec<Reference> = references.into_iter().filter(|r| r.from >= r.to).collect();
        prop_assert!(order(9, &downwards).broken.is_empty());
    }

    #[test]
    fn a_required_reference_is_broken_only_where_required_ones_go_in_a_circle(references in references(9)) {
        let tamed: Vec<Reference> = references
            .into_iter()
            .map(|r| Reference { optional: r.optional || r.from < r.to, ..r })
            .collect();
        for number in order(9, &tamed).broken {
            prop_assert!(tamed[number].optional, "{:?}", tamed[number]);
        }
    }

    #[test]
    fn only_references_inside_a_circle_are_broken(references in references(7)) {
        for number in order(7, &references).broken {
            let Reference { from, to, .. } = references[number];
            // From `to` one comes back to `from`.
            let mut reached = [false; 7];
            let mut open = vec![to];
            while let Some(at) = open.pop() {
                for r in references.iter().filter(|r| r.from == at) {
                    if !reached[r.to] {
                        reached[r.to] = true;
                        open.push(r.to);
                    }
                }
            }
            prop_assert!(reached[from], "{from} refers to {to}");
        }
    }
}

#[test]
fn among_free_tables_the_first_comes_first() {
    assert_eq!(order(3, &[]).sequence, [0, 1, 2]);
    assert_eq!(order(0, &[]), Order::default());
}

#[test]
fn a_table_that_refers_to_itself_is_no_circle() {
    let order = order(2, &[Reference::required(0, 0), Reference::required(0, 1)]);
    assert_eq!(order.sequence, [1, 0]);
    assert!(order.broken.is_empty());
}

#[test]
fn a_circle_is_broken_at_its_optional_reference_and_what_stands_behind_it_is_not() {
    // 0 and 1 in a circle, 2 behind it.
    let references = [
        Reference::required(0, 1),
        Reference::optional(1, 0),
        Reference::required(2, 0),
    ];
    let order = order(3, &references);
    assert_eq!(order.sequence, [1, 0, 2]);
    assert_eq!(order.broken, [1]);
}

#[test]
fn numbers_out_of_range_are_ignored() {
    let order = order(1, &[Reference::required(0, 7), Reference::required(7, 0)]);
    assert_eq!(order.sequence, [0]);
    assert!(order.broken.is_empty());
}
