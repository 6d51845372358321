//! The life of campaigns: steps and their conditions, the tree of quests, shares and money, also with many sessions at
//! once.

use crate::scene::{Scene, campaign, rows};
use codex_pg_test::postgres::{Client, Error, IsolationLevel};
use codex_pg_test::{Database, Failure, Uuid, fails_with, member, sqlstate, value};

/// A campaign that may become active, still in planning.
fn ready(client: &mut Client, workspace: Uuid, budget: i64) -> Uuid {
    let id: Uuid = value(
        client,
        "INSERT INTO public.campaigns (workspace_id, name, status, start_date, end_date, allocated_budget_amount)
         VALUES ($1, 'Spring', 'planning', current_date, current_date + 30, $2::bigint) RETURNING id",
        &[&workspace, &budget],
    );
    quest(client, workspace, id, None);
    id
}

fn quest(client: &mut Client, workspace: Uuid, campaign: Uuid, parent: Option<Uuid>) -> Uuid {
    value(
        client,
        "INSERT INTO public.campaign_quests (workspace_id, campaign_id, name, parent_quest_id)
         VALUES ($1, $2, 'Quest', $3) RETURNING id",
        &[&workspace, &campaign, &parent],
    )
}

fn step(client: &mut Client, campaign: Uuid, to: &str) -> Result<u64, Error> {
    client.execute(
        "SELECT codex.transition_campaign($1, $2)",
        &[&campaign, &to],
    )
}

fn spend(client: &mut Client, campaign: Uuid, amount: i64) -> Result<u64, Error> {
    client.execute(
        "SELECT codex.spend_campaign_budget($1, $2::bigint, 'Ads')",
        &[&campaign, &amount],
    )
}

fn spent(client: &mut Client, campaign: Uuid) -> i64 {
    let (sum, ledger): (i64, i64) = {
        let row = client
            .query_one(
                "SELECT spent::bigint, (SELECT coalesce(sum(amount), 0)::bigint FROM codex.campaign_spending WHERE campaign_id = $1)
                 FROM codex.campaign_state($1)",
                &[&campaign],
            )
            .unwrap();
        (row.get(0), row.get(1))
    };
    assert_eq!(sum, ledger, "the sum is that of the ledger");
    sum
}

fn progress(client: &mut Client, campaign: Uuid) -> Option<String> {
    value(
        client,
        "SELECT codex.campaign_progress($1)::text",
        &[&campaign],
    )
}

#[test]
fn a_whole_life_is_kept_with_who_and_why() {
    let mut scene = Scene::new();
    let (acme, anna) = (scene.acme, scene.anna);
    let admin = &mut scene.admin;
    let id = campaign(admin, acme);
    let row = admin
        .query_one(
            "SELECT previous_status, status, version FROM codex.transition_campaign($1, 'planning', $2, 'Approved', 1)",
            &[&id, &anna],
        )
        .unwrap();
    assert_eq!(
        (row.get(0), row.get(1), row.get(2)),
        ("draft".to_string(), "planning".to_string(), 2)
    );
    let failure = fails_with(step(admin, id, "active"), "55000");
    assert_eq!(
        failure.message,
        format!(
            "campaign {id} cannot become active: start_date is not set, end_date is not set, it has no quest, allocated_budget_amount is not set"
        )
    );
    admin
        .execute(
            "UPDATE public.campaigns SET start_date = current_date + 1, end_date = current_date + 2, allocated_budget_amount = 0 WHERE id = $1",
            &[&id],
        )
        .unwrap();
    quest(admin, acme, id, None);
    step(admin, id, "active").unwrap();
    let failure = fails_with(step(admin, id, "completed"), "55000");
    assert_eq!(
        failure.message,
        format!("campaign {id} cannot become completed: start_date is still to come")
    );
    admin
        .execute(
            "UPDATE public.campaigns SET start_date = current_date - 3, end_date = current_date - 1 WHERE id = $1",
            &[&id],
        )
        .unwrap();
    step(admin, id, "paused").unwrap();
    let failure = fails_with(step(admin, id, "active"), "55000");
    assert!(
        failure.message.ends_with("end_date is over"),
        "{}",
        failure.message
    );
    step(admin, id, "completed").unwrap();
    step(admin, id, "archived").unwrap();
    let failure = fails_with(step(admin, id, "draft"), "55000");
    assert_eq!(
        failure.message,
        format!("campaign {id} is archived and cannot become draft")
    );
    let history: Vec<(i32, String, Option<Uuid>, Option<String>)> = admin
        .query(
            "SELECT version, from_status || ' > ' || to_status, user_id, reason FROM codex.campaign_history WHERE campaign_id = $1 ORDER BY version",
            &[&id],
        )
        .unwrap()
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2), row.get(3)))
        .collect();
    let change = |version, change: &str| (version, change.to_string(), None, None);
    assert_eq!(
        history,
        [
            (
                2,
                "draft > planning".to_string(),
                Some(anna),
                Some("Approved".to_string())
            ),
            change(3, "planning > active"),
            change(4, "active > paused"),
            change(5, "paused > completed"),
            change(6, "completed > archived"),
        ]
    );
}

#[test]
fn who_has_seen_an_older_version_is_refused() {
    let mut scene = Scene::new();
    let admin = &mut scene.admin;
    let id = ready(admin, scene.acme, 0);
    let go = |client: &mut Client, to: &str, version: i32| {
        client.execute(
            "SELECT codex.transition_campaign($1, $2, expected_version => $3)",
            &[&id, &to, &version],
        )
    };
    go(admin, "active", 1).unwrap();
    let failure = fails_with(go(admin, "paused", 1), "55000");
    assert_eq!(
        failure.message,
        format!("campaign {id} is not at version 1 any more: it is active, at version 2")
    );
    fails_with(go(admin, "paused", 0), "22023");
    go(admin, "paused", 2).unwrap();
    let version: i32 = value(
        admin,
        "SELECT version FROM codex.campaign_state($1)",
        &[&id],
    );
    assert_eq!(version, 3);
}

#[test]
fn a_call_with_a_key_is_done_once() {
    let mut scene = Scene::new();
    let admin = &mut scene.admin;
    let id = ready(admin, scene.acme, 100);
    for _ in 0..3 {
        let version: i32 = value(
            admin,
            "SELECT version FROM codex.transition_campaign($1, 'active', idempotency_key => 'go')",
            &[&id],
        );
        assert_eq!(version, 2);
    }
    let mut seen = Vec::new();
    for _ in 0..3 {
        let row = admin
            .query_one(
                "SELECT spending_id, spent::text, remaining::text FROM codex.spend_campaign_budget($1, 2.50, 'Ads', idempotency_key => 'a')",
                &[&id],
            )
            .unwrap();
        seen.push((
            row.get::<_, Uuid>(0),
            row.get::<_, String>(1),
            row.get::<_, String>(2),
        ));
    }
    seen.dedup();
    assert_eq!(seen.len(), 1);
    assert_eq!((seen[0].1.as_str(), seen[0].2.as_str()), ("2.50", "97.50"));
    assert_eq!(rows(admin, "codex.campaign_spending"), 1);
    let other = admin.execute(
        "SELECT codex.spend_campaign_budget($1, 3, 'Ads', idempotency_key => 'a')",
        &[&id],
    );
    fails_with(other, "22023");
    let (top, part) = (
        quest(admin, scene.acme, id, None),
        quest(admin, scene.acme, id, None),
    );
    let under = "SELECT codex.reparent_quest($1, $2, idempotency_key => 'under')";
    assert!(value::<bool>(admin, under, &[&part, &top]));
    assert!(value::<bool>(
        admin,
        "SELECT codex.reparent_quest($1)",
        &[&part]
    ));
    // Sent again, it does not undo what came after it.
    assert!(value::<bool>(admin, under, &[&part, &top]));
    let parent: Option<Uuid> = value(
        admin,
        "SELECT parent_quest_id FROM public.campaign_quests WHERE id = $1",
        &[&part],
    );
    assert_eq!(parent, None);
}

#[test]
fn a_plain_update_is_recorded_and_judged_where_a_policy_says_so() {
    let mut scene = Scene::new();
    let admin = &mut scene.admin;
    let id = campaign(admin, scene.acme);
    let set = "UPDATE public.campaigns SET status = $2 WHERE id = $1";
    admin.execute(set, &[&id, &"completed"]).unwrap();
    admin
        .execute(
            "INSERT INTO codex.campaign_policies (workspace_id) VALUES ($1)",
            &[&scene.acme],
        )
        .unwrap();
    fails_with(admin.execute(set, &[&id, &"active"]), "55000");
    admin.execute(set, &[&id, &"archived"]).unwrap();
    let history: Vec<(String, bool)> = admin
        .query(
            "SELECT to_status, guarded FROM codex.campaign_history WHERE campaign_id = $1 ORDER BY version",
            &[&id],
        )
        .unwrap()
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect();
    assert_eq!(
        history,
        [
            ("completed".to_string(), false),
            ("archived".to_string(), true)
        ]
    );
}

#[test]
fn progress_is_that_of_the_leaves_and_null_without_any() {
    let mut scene = Scene::new();
    let acme = scene.acme;
    let admin = &mut scene.admin;
    let id = campaign(admin, acme);
    assert_eq!(progress(admin, id), None);
    let top = quest(admin, acme, id, None);
    assert_eq!(progress(admin, id).as_deref(), Some("0.00"));
    let done = "UPDATE public.campaign_quests SET status = 'completed' WHERE id = $1";
    admin.execute(done, &[&top]).unwrap();
    assert_eq!(progress(admin, id).as_deref(), Some("100.00"));
    let parts: Vec<Uuid> = (0..3).map(|_| quest(admin, acme, id, Some(top))).collect();
    // What the top says of itself does not count any more.
    assert_eq!(progress(admin, id).as_deref(), Some("0.00"));
    admin.execute(done, &[&parts[0]]).unwrap();
    assert_eq!(progress(admin, id).as_deref(), Some("33.33"));
    admin.execute(done, &[&parts[1]]).unwrap();
    assert_eq!(progress(admin, id).as_deref(), Some("66.66"));
    admin
        .execute(
            "INSERT INTO public.campaign_quests (workspace_id, campaign_id, name, status)
             SELECT $1, $2, 'Quest', 'completed' FROM generate_series(1, 20000)",
            &[&acme, &id],
        )
        .unwrap();
    // All but one of 20003: never rounded up to all.
    assert_eq!(progress(admin, id).as_deref(), Some("99.99"));
}

#[test]
fn the_tree_stays_in_its_campaign_and_within_its_depth() {
    let mut scene = Scene::new();
    let acme = scene.acme;
    let admin = &mut scene.admin;
    let (one, two) = (campaign(admin, acme), campaign(admin, acme));
    let (top, part, other) = (
        quest(admin, acme, one, None),
        quest(admin, acme, one, None),
        quest(admin, acme, two, None),
    );
    let under = |client: &mut Client, quest: Uuid, parent: Uuid| {
        client.execute("SELECT codex.reparent_quest($1, $2)", &[&quest, &parent])
    };
    under(admin, part, top).unwrap();
    fails_with(under(admin, top, part), "22023");
    fails_with(under(admin, top, top), "22023");
    fails_with(under(admin, top, Uuid::new_v4()), "23503");
    fails_with(under(admin, Uuid::new_v4(), top), "P0002");
    let failure = fails_with(under(admin, top, other), "22023");
    assert_eq!(
        failure.message,
        format!(
            "parent_quest_id of quest {top} cannot be {other}, which belongs to another campaign"
        )
    );
    let insert = admin.execute(
        "INSERT INTO public.campaign_quests (workspace_id, campaign_id, name, parent_quest_id) VALUES ($1, $2, 'Quest', $3)",
        &[&acme, &two, &top],
    );
    fails_with(insert, "22023");
    // A quest cannot leave its parts or its parent behind; together they can go.
    let elsewhere = "UPDATE public.campaign_quests SET campaign_id = $2 WHERE id = ANY ($1)";
    fails_with(admin.execute(elsewhere, &[&vec![top], &two]), "22023");
    fails_with(admin.execute(elsewhere, &[&vec![part], &two]), "22023");
    admin.execute(elsewhere, &[&vec![part, top], &two]).unwrap();

    // A chain of 600 below another of 600: each is well within the bound, the two together are not.
    let chain = |admin: &mut Client, campaign: Uuid| -> (Uuid, Uuid) {
        let row = admin
            .query_one(
                "WITH ids AS (SELECT n, gen_random_uuid() AS id FROM generate_series(1, 600) AS n),
                 made AS (
                     INSERT INTO public.campaign_quests (id, workspace_id, campaign_id, name, parent_quest_id)
                     SELECT i.id, $1, $2, 'Quest', above.id
                     FROM ids AS i LEFT JOIN ids AS above ON above.n = i.n - 1
                     ORDER BY i.n
                 )
                 SELECT (SELECT id FROM ids WHERE n = 1), (SELECT id FROM ids WHERE n = 600)",
                &[&acme, &campaign],
            )
            .unwrap();
        (row.get(0), row.get(1))
    };
    let (_, bottom) = chain(admin, one);
    let (head, _) = chain(admin, one);
    let failure = fails_with(under(admin, head, bottom), "22023");
    assert!(
        failure
            .message
            .ends_with("would have more than 1000 quests above it"),
        "{}",
        failure.message
    );
}

#[test]
fn shares_are_judged_at_the_end_of_a_statement_and_may_always_fall() {
    let mut scene = Scene::new();
    let acme = scene.acme;
    let admin = &mut scene.admin;
    let id = campaign(admin, acme);
    let share = "INSERT INTO public.campaign_cohorts (workspace_id, campaign_id, cohort_id, allocation_percentage) VALUES ($1, $2, $3, $4::text::numeric)";
    let cohorts: Vec<Uuid> = (0..3)
        .map(|n| {
            value(
                admin,
                "INSERT INTO public.cohorts (workspace_id, name) VALUES ($1, $2) RETURNING id",
                &[&acme, &format!("Cohort {n}")],
            )
        })
        .collect();
    admin
        .execute(share, &[&acme, &id, &cohorts[0], &"60"])
        .unwrap();
    let failure = fails_with(
        admin.execute(share, &[&acme, &id, &cohorts[1], &"40.01"]),
        "22023",
    );
    assert_eq!(
        failure.message,
        format!(
            "allocation_percentage of the cohorts of campaign {id} would be 100.01 in all; at most 100 can be allocated"
        )
    );
    admin
        .execute(share, &[&acme, &id, &cohorts[1], &"40"])
        .unwrap();
    // One goes up while the other comes down.
    admin
        .batch_execute("UPDATE public.campaign_cohorts SET allocation_percentage = 100 - allocation_percentage")
        .unwrap();
    // A campaign that was over 100 before: as if the triggers had not been there.
    admin
        .batch_execute(
            "ALTER TABLE public.campaign_cohorts DISABLE TRIGGER USER;
             UPDATE public.campaign_cohorts SET allocation_percentage = 90;
             ALTER TABLE public.campaign_cohorts ENABLE TRIGGER USER;
             UPDATE public.campaign_cohorts SET allocation_percentage = 85, reached_count = 1",
        )
        .unwrap();
    let rise = admin.execute(
        "UPDATE public.campaign_cohorts SET allocation_percentage = 86 WHERE cohort_id = $1",
        &[&cohorts[0]],
    );
    fails_with(rise, "22023");
}

#[test]
fn the_ledger_and_the_budget_hold_each_other() {
    let mut scene = Scene::new();
    let (acme, anna) = (scene.acme, scene.anna);
    let admin = &mut scene.admin;
    let id = campaign(admin, acme);
    let failure = fails_with(spend(admin, id, 1), "55000");
    assert_eq!(
        failure.message,
        format!("campaign {id} has no allocated budget, and cannot spend 1")
    );
    let budget = |client: &mut Client, budget: Option<i64>| {
        client.execute(
            "UPDATE public.campaigns SET allocated_budget_amount = $2::bigint WHERE id = $1",
            &[&id, &budget],
        )
    };
    budget(admin, Some(100)).unwrap();
    spend(admin, id, 70).unwrap();
    let failure = fails_with(spend(admin, id, 31), "55000");
    assert_eq!(
        failure.message,
        format!("campaign {id} cannot spend 31: 70 of its allocated budget of 100 is spent")
    );
    spend(admin, id, 30).unwrap();
    for below in [Some(99), Some(0), None] {
        fails_with(budget(admin, below), "55000");
    }
    fails_with(spend(admin, id, -101), "22023");
    spend(admin, id, -50).unwrap();
    budget(admin, Some(50)).unwrap();
    // Nor can it be gone around.
    let insert = admin.execute(
        "INSERT INTO codex.campaign_spending (workspace_id, campaign_id, amount, description) VALUES ($1, $2, 0.01, 'Ads')",
        &[&acme, &id],
    );
    fails_with(insert, "55000");
    let update = admin.execute("UPDATE codex.campaign_spending SET amount = 1", &[]);
    fails_with(update, "55000");
    let delete = admin.execute("DELETE FROM codex.campaign_spending WHERE amount < 0", &[]);
    fails_with(delete, "55000");
    assert_eq!(spent(admin, id), 50);
    admin
        .execute(
            "UPDATE public.campaigns SET status = 'archived' WHERE id = $1",
            &[&id],
        )
        .unwrap();
    budget(admin, Some(1000)).unwrap();
    fails_with(spend(admin, id, 1), "55000");
    spend(admin, id, -1).unwrap();
    assert_eq!(spent(admin, id), 49);
    // A user who leaves leaves the ledger as it is; a campaign takes it along.
    admin
        .execute(
            "UPDATE codex.campaign_spending SET recorded_by = $1",
            &[&anna],
        )
        .unwrap();
    admin
        .execute("SELECT * FROM codex.erase_user($1, true)", &[&anna])
        .unwrap();
    assert_eq!(spent(admin, id), 49);
    admin
        .execute("DELETE FROM public.campaigns WHERE id = $1", &[&id])
        .unwrap();
    assert_eq!(rows(admin, "codex.campaign_spending"), 0);
    assert_eq!(rows(admin, "codex.campaign_life"), 0);
}

#[test]
fn eight_who_spend_at_once_spend_the_budget_and_no_more() {
    let mut scene = Scene::new();
    let acme = scene.acme;
    let id = ready(&mut scene.admin, acme, 100);
    let done = scene.db.parallel(8, |_, client| {
        let mut done = 0;
        for _ in 0..10 {
            match spend(client, id, 3) {
                Ok(_) => done += 1,
                Err(error) => assert_eq!(sqlstate(&error), "55000"),
            }
        }
        done
    });
    assert_eq!(done.iter().sum::<i32>(), 33, "{done:?}");
    assert_eq!(spent(&mut scene.admin, id), 99);
}

#[test]
fn a_budget_that_falls_while_others_spend_is_never_below_what_is_spent() {
    let mut scene = Scene::new();
    let acme = scene.acme;
    for isolation in [
        IsolationLevel::ReadCommitted,
        IsolationLevel::RepeatableRead,
        IsolationLevel::Serializable,
    ] {
        let id = ready(&mut scene.admin, acme, 100);
        scene.db.parallel(6, |number, client| {
            for round in 0..15_i64 {
                let mut transaction = client
                    .build_transaction()
                    .isolation_level(isolation)
                    .start()
                    .unwrap();
                // A picture from before whatever the others are doing.
                transaction.execute("SELECT 1", &[]).unwrap();
                let done = if number < 4 {
                    transaction.execute(
                        "SELECT codex.spend_campaign_budget($1, 4, 'Ads')",
                        &[&id],
                    )
                } else {
                    transaction.execute(
                        "UPDATE public.campaigns SET allocated_budget_amount = $2::bigint WHERE id = $1",
                        &[&id, &(100 - 5 * round)],
                    )
                };
                let ended = done.and_then(|_| transaction.commit());
                if let Err(error) = ended {
                    let state = sqlstate(&error);
                    assert!(
                        state == "55000"
                            || state == "40001" && !matches!(isolation, IsolationLevel::ReadCommitted),
                        "{}",
                        Failure::from(&error)
                    );
                }
            }
        });
        let budget: i64 = value(
            &mut scene.admin,
            "SELECT allocated::bigint FROM codex.campaign_state($1)",
            &[&id],
        );
        let spent = spent(&mut scene.admin, id);
        assert!(
            (4..=budget).contains(&spent),
            "{isolation:?}: {spent} of {budget}"
        );
    }
}

#[test]
fn shares_that_are_raised_at_once_are_100_at_most() {
    let mut scene = Scene::new();
    let acme = scene.acme;
    let admin = &mut scene.admin;
    for isolation in [
        IsolationLevel::ReadCommitted,
        IsolationLevel::RepeatableRead,
    ] {
        let id = campaign(admin, acme);
        let cohorts: Vec<Uuid> = (0..8)
            .map(|n| {
                value(
                    admin,
                    "INSERT INTO public.cohorts (workspace_id, name) VALUES ($1, $2) RETURNING id",
                    &[&acme, &format!("Cohort {n}")],
                )
            })
            .collect();
        let cohorts = &cohorts;
        let done = scene.db.parallel(8, |number, client| {
            let mut transaction = client
                .build_transaction()
                .isolation_level(isolation)
                .start()
                .unwrap();
            transaction.execute("SELECT 1", &[]).unwrap();
            let added = transaction.execute(
                "INSERT INTO public.campaign_cohorts (workspace_id, campaign_id, cohort_id, allocation_percentage) VALUES ($1, $2, $3, 30)",
                &[&acme, &id, &cohorts[number]],
            );
            match added.and_then(|_| transaction.commit()) {
                Ok(()) => 1,
                Err(error) => {
                    let state = sqlstate(&error);
                    assert!(state == "22023" || state == "40001", "{state}");
                    0
                }
            }
        });
        let sum: i64 = value(
            admin,
            "SELECT sum(allocation_percentage)::bigint FROM public.campaign_cohorts WHERE campaign_id = $1",
            &[&id],
        );
        let done: i64 = done.iter().sum();
        assert_eq!(sum, done * 30);
        if matches!(isolation, IsolationLevel::ReadCommitted) {
            assert_eq!(sum, 90);
        }
        assert!((30..=90).contains(&sum), "{sum}");
    }
}

#[test]
fn of_many_who_step_at_once_with_one_version_one_does() {
    let mut scene = Scene::new();
    let acme = scene.acme;
    for _ in 0..5 {
        let id = ready(&mut scene.admin, acme, 0);
        let done = scene.db.parallel(8, |_, client| {
            let stepped = client.execute(
                "SELECT codex.transition_campaign($1, 'active', expected_version => 1)",
                &[&id],
            );
            match stepped {
                Ok(_) => true,
                Err(error) => {
                    assert_eq!(sqlstate(&error), "55000");
                    false
                }
            }
        });
        assert_eq!(done.iter().filter(|done| **done).count(), 1);
        let versions: Vec<i32> = scene
            .admin
            .query(
                "SELECT version FROM codex.campaign_history WHERE campaign_id = $1",
                &[&id],
            )
            .unwrap()
            .iter()
            .map(|row| row.get(0))
            .collect();
        assert_eq!(versions, [2]);
    }
}

#[test]
fn quests_that_are_moved_at_once_stay_a_tree() {
    let mut scene = Scene::new();
    let acme = scene.acme;
    let id = campaign(&mut scene.admin, acme);
    let quests: Vec<Uuid> = (0..12)
        .map(|_| quest(&mut scene.admin, acme, id, None))
        .collect();
    let quests = &quests;
    scene.db.parallel(6, |number, client| {
        for round in 0..20 {
            let (one, two) = (
                quests[(number * 5 + round * 7) % 12],
                quests[(number * 3 + round + 1) % 12],
            );
            if one == two {
                continue;
            }
            let moved = client.execute("SELECT codex.reparent_quest($1, $2)", &[&one, &two]);
            if let Err(error) = moved {
                assert_eq!(sqlstate(&error), "22023", "{}", Failure::from(&error));
            }
            quest(client, acme, id, Some(one));
        }
    });
    let reached: i64 = value(
        &mut scene.admin,
        "WITH RECURSIVE tree AS (
             SELECT q.id FROM public.campaign_quests AS q WHERE q.parent_quest_id IS NULL
             UNION ALL
             SELECT q.id FROM tree AS t JOIN public.campaign_quests AS q ON q.parent_quest_id = t.id
         )
         SELECT count(*) FROM tree",
        &[],
    );
    assert_eq!(
        reached,
        rows(&mut scene.admin, "public.campaign_quests"),
        "every quest is reached from the top"
    );
}

#[test]
fn a_quest_added_at_the_bottom_waits_for_the_top_that_moves() {
    let mut scene = Scene::new();
    let acme = scene.acme;
    let admin = &mut scene.admin;
    let id = campaign(admin, acme);
    let mut line = |length: usize| -> (Uuid, Uuid) {
        let head = quest(admin, acme, id, None);
        let mut at = head;
        for _ in 1..length {
            at = quest(admin, acme, id, Some(at));
        }
        (head, at)
    };
    let (_, upper_bottom) = line(500);
    let (head, bottom) = line(501);
    let (mut mover, mut adder) = (scene.db.admin(), scene.db.admin());
    let mut moving = mover.transaction().unwrap();
    moving
        .execute(
            "SELECT codex.reparent_quest($1, $2)",
            &[&head, &upper_bottom],
        )
        .unwrap();
    let backend: i32 = value(&mut adder, "SELECT pg_backend_pid()", &[]);
    std::thread::scope(|scope| {
        let added = scope.spawn(move || {
            adder.execute(
                "INSERT INTO public.campaign_quests (workspace_id, campaign_id, name, parent_quest_id) VALUES ($1, $2, 'Quest', $3)",
                &[&acme, &id, &bottom],
            )
        });
        let waits = "SELECT count(*) FROM pg_catalog.pg_locks WHERE pid = $1 AND NOT granted";
        while value::<i64>(admin, waits, &[&backend]) == 0 {
            std::thread::yield_now();
        }
        moving.commit().unwrap();
        fails_with(added.join().unwrap(), "22023");
    });
}

/// Anna of Acme, as a role of the product's API.
fn member_of(db: &Database, admin: &mut Client, workspace: Uuid, user: Uuid) -> Client {
    let role = db.role("member");
    admin
        .batch_execute(&format!("SELECT codex.grant_member_role('{role}')"))
        .unwrap();
    let mut client = db.login(&role);
    client
        .batch_execute(&format!(
            "SET app.current_workspace_id = '{workspace}'; SET app.current_user_id = '{user}'"
        ))
        .unwrap();
    client
}

#[test]
fn a_member_steps_in_the_own_name_and_reads_and_cannot_forge_or_spend() {
    let mut scene = Scene::new();
    let (acme, anna, bolt) = (scene.acme, scene.anna, scene.bolt);
    let abe = member(&mut scene.admin, acme, "abe@acme.example");
    let theirs = ready(&mut scene.admin, bolt, 100);
    let their_quest = quest(&mut scene.admin, bolt, theirs, None);
    spend(&mut scene.admin, theirs, 1).unwrap();
    step(&mut scene.admin, theirs, "active").unwrap();
    let own = ready(&mut scene.admin, acme, 100);
    let own_quest = quest(&mut scene.admin, acme, own, None);
    let mut client = member_of(&scene.db, &mut scene.admin, acme, anna);

    let by = |client: &mut Client, to: &str, actor: Uuid| {
        client.execute(
            "SELECT codex.transition_campaign($1, $2, $3)",
            &[&own, &to, &actor],
        )
    };
    fails_with(by(&mut client, "active", abe), "42501");
    fails_with(by(&mut client, "active", scene.bob), "42501");
    by(&mut client, "active", anna).unwrap();
    step(&mut client, own, "paused").unwrap();
    let users: Vec<Option<Uuid>> = client
        .query(
            "SELECT user_id FROM codex.campaign_history ORDER BY version",
            &[],
        )
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(users, [Some(anna), Some(anna)]);
    assert_eq!(progress(&mut client, own).as_deref(), Some("0.00"));

    // Of Bolt nothing is to be seen, and nothing to be done.
    for table in ["campaign_life", "campaign_history", "campaign_spending"] {
        let seen: i64 = value(
            &mut client,
            &format!("SELECT count(*) FROM codex.{table} WHERE workspace_id = $1"),
            &[&bolt],
        );
        assert_eq!(seen, 0, "{table}");
    }
    fails_with(step(&mut client, theirs, "paused"), "P0002");
    for call in [
        "SELECT codex.campaign_progress($1)",
        "SELECT * FROM codex.campaign_state($1)",
        "SELECT * FROM codex.campaign_transitions($1)",
    ] {
        fails_with(client.query(call, &[&theirs]), "P0002");
    }
    let moves = "SELECT codex.reparent_quest($1, $2)";
    fails_with(
        client.execute(moves, &[&their_quest, &None::<Uuid>]),
        "P0002",
    );
    fails_with(client.execute(moves, &[&own_quest, &their_quest]), "23503");

    for forged in [
        "UPDATE codex.campaign_life SET spent_amount = 0",
        "DELETE FROM codex.campaign_history",
        "UPDATE codex.campaign_history SET reason = 'It was not me'",
        "DELETE FROM codex.campaign_spending",
        "INSERT INTO codex.campaign_policies (workspace_id, guard_updates) SELECT codex.current_workspace_id(), false",
    ] {
        fails_with(client.execute(forged, &[]), "42501");
    }
    fails_with(spend(&mut client, own, 1), "42501");

    let service = scene.db.role("service");
    scene
        .admin
        .batch_execute(&format!("SELECT codex.grant_service_role('{service}')"))
        .unwrap();
    let mut service = scene.db.login(&service);
    service
        .batch_execute(&format!("SET app.current_workspace_id = '{acme}'"))
        .unwrap();
    spend(&mut service, own, 40).unwrap();
    fails_with(spend(&mut service, own, 61), "55000");
    fails_with(spend(&mut service, theirs, 1), "P0002");
    fails_with(
        service.execute("DELETE FROM codex.campaign_spending", &[]),
        "42501",
    );
    assert_eq!(spent(&mut service, own), 40);
}
