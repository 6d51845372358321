//! `updated_at` of every row, that of a campaign after its quests and cohorts, and quests that form a tree.

use codex_pg_test::postgres::{Client, IsolationLevel};
use codex_pg_test::{Database, Uuid, fails_with, member, sqlstate, value, workspace};

/// A workspace in a database of its own, where every update of a campaign is counted.
struct Scene {
    db: Database,
    admin: Client,
    workspace: Uuid,
}

/// Counts updates of campaigns one by one; the counting itself is no part of what is tested.
const COUNT_UPDATES: &str = "
    CREATE TABLE public.updates_of_campaigns (campaign_id uuid);
    CREATE FUNCTION public.count_update() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
    BEGIN
        INSERT INTO public.updates_of_campaigns VALUES (new.id);
        RETURN NULL;
    END $$;
    CREATE TRIGGER count_update AFTER UPDATE ON public.campaigns
        FOR EACH ROW EXECUTE FUNCTION public.count_update();";

impl Scene {
    fn new() -> Self {
        let db = Database::migrated();
        let mut admin = db.admin();
        admin.batch_execute(COUNT_UPDATES).unwrap();
        let workspace = workspace(&mut admin, "Acme");
        Self {
            db,
            admin,
            workspace,
        }
    }

    fn campaign(&mut self, name: &str) -> Uuid {
        value(
            &mut self.admin,
            "INSERT INTO public.campaigns (workspace_id, name) VALUES ($1, $2) RETURNING id",
            &[&self.workspace, &name],
        )
    }

    fn quest(&mut self, campaign: Uuid) -> Uuid {
        quest(&mut self.admin, self.workspace, campaign, None).unwrap()
    }

    fn cohort(&mut self) -> Uuid {
        value(
            &mut self.admin,
            "INSERT INTO public.cohorts (workspace_id, name) VALUES ($1, 'Founders') RETURNING id",
            &[&self.workspace],
        )
    }

    /// Runs `sql` ($1 is the workspace), and gives how often each campaign was updated by it. A campaign that was
    /// updated has the time of the statement as its `updated_at`.
    fn updates_by(&mut self, sql: &str, campaigns: &[Uuid]) -> Vec<i64> {
        self.admin
            .batch_execute("TRUNCATE public.updates_of_campaigns")
            .unwrap();
        let before: i64 = value(
            &mut self.admin,
            "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint",
            &[],
        );
        self.admin.batch_execute(sql).unwrap();
        campaigns
            .iter()
            .map(|campaign| {
                let count: i64 = value(
                    &mut self.admin,
                    "SELECT count(*) FROM public.updates_of_campaigns WHERE campaign_id = $1",
                    &[campaign],
                );
                let is_new: bool = value(
                    &mut self.admin,
                    "SELECT extract(epoch FROM updated_at) * 1000000 > $2::bigint FROM public.campaigns WHERE id = $1",
                    &[campaign, &before],
                );
                assert_eq!(is_new, count > 0, "updated_at after: {sql}");
                count
            })
            .collect()
    }
}

fn quest(
    client: &mut Client,
    workspace: Uuid,
    campaign: Uuid,
    parent: Option<Uuid>,
) -> Result<Uuid, codex_pg_test::postgres::Error> {
    client
        .query_one(
            "INSERT INTO public.campaign_quests (workspace_id, campaign_id, name, parent_quest_id)
             VALUES ($1, $2, 'Write', $3)
             RETURNING id",
            &[&workspace, &campaign, &parent],
        )
        .map(|row| row.get(0))
}

const SET_PARENT: &str = "UPDATE public.campaign_quests SET parent_quest_id = $2 WHERE id = $1";

#[test]
fn hard_case_49_updated_at_is_kept_on_every_table_that_has_it() {
    let mut scene = Scene::new();
    let missing: Vec<String> = scene
        .admin
        .query(
            "SELECT c.table_name::text
             FROM information_schema.columns AS c
             JOIN information_schema.tables AS t USING (table_schema, table_name)
             WHERE c.table_schema = 'public' AND c.column_name = 'updated_at' AND t.table_type = 'BASE TABLE'
               AND c.table_name NOT IN ('users', 'workspaces', 'workspace_members', 'cohorts', 'moves')
               AND NOT EXISTS (
                   SELECT FROM pg_catalog.pg_trigger AS g
                   WHERE g.tgrelid = format('%I.%I', c.table_schema, c.table_name)::regclass
                     AND g.tgfoid = 'codex.set_updated_at'::regproc AND g.tgenabled = 'O'
               )",
            &[],
        )
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(missing, Vec::<String>::new());

    let campaign = scene.campaign("Spring");
    let kept: bool = value(
        &mut scene.admin,
        "UPDATE public.campaigns SET name = 'Summer', updated_at = '2001-01-01' WHERE id = $1
         RETURNING updated_at = now()",
        &[&campaign],
    );
    assert!(kept, "what the statement says itself is overwritten");
    // A column that is dropped, or comes later, does not move it.
    scene
        .admin
        .batch_execute(
            "ALTER TABLE public.campaigns DROP COLUMN target_geographies, ADD COLUMN mood text DEFAULT 'fine'",
        )
        .unwrap();
    let row = scene
        .admin
        .query_one(
            "UPDATE public.campaigns SET objective = 'More' WHERE id = $1
             RETURNING name, objective, mood, updated_at = now()",
            &[&campaign],
        )
        .unwrap();
    assert_eq!(
        (
            row.get::<_, String>(0).as_str(),
            row.get::<_, String>(1).as_str(),
            row.get::<_, String>(2).as_str(),
            row.get::<_, bool>(3)
        ),
        ("Summer", "More", "fine", true)
    );
}

#[test]
fn hard_case_49_a_campaign_follows_its_quests_and_cohorts() {
    let mut scene = Scene::new();
    let (first, second, third) = (
        scene.campaign("First"),
        scene.campaign("Second"),
        scene.campaign("Third"),
    );
    let all = [first, second, third];
    let workspace = scene.workspace;
    let quest = scene.quest(first);
    let cohort = scene.cohort();
    for (sql, expected) in [
        (
            format!("UPDATE public.campaign_quests SET name = 'Read' WHERE id = '{quest}'"),
            [1, 0, 0],
        ),
        // A move concerns the campaign that it leaves, too.
        (
            format!(
                "UPDATE public.campaign_quests SET campaign_id = '{second}' WHERE id = '{quest}'"
            ),
            [1, 1, 0],
        ),
        (
            format!("DELETE FROM public.campaign_quests WHERE id = '{quest}'"),
            [0, 1, 0],
        ),
        (
            format!(
                "INSERT INTO public.campaign_cohorts (workspace_id, campaign_id, cohort_id)
                 VALUES ('{workspace}', '{third}', '{cohort}')"
            ),
            [0, 0, 1],
        ),
        (
            "UPDATE public.campaign_cohorts SET reached_count = 5".to_owned(),
            [0, 0, 1],
        ),
        (
            format!("UPDATE public.campaign_cohorts SET campaign_id = '{first}'"),
            [1, 0, 1],
        ),
        (
            format!("DELETE FROM public.cohorts WHERE id = '{cohort}'"),
            [1, 0, 0],
        ),
        // A statement that touches no row updates nothing.
        (
            "UPDATE public.campaign_quests SET name = 'Read'".to_owned(),
            [0, 0, 0],
        ),
        ("DELETE FROM public.campaign_cohorts".to_owned(), [0, 0, 0]),
    ] {
        assert_eq!(scene.updates_by(&sql, &all), expected, "{sql}");
    }
}

#[test]
fn hard_case_49_a_thousand_quests_are_one_update_of_their_campaign() {
    let mut scene = Scene::new();
    let (first, second) = (scene.campaign("First"), scene.campaign("Second"));
    let workspace = scene.workspace;
    let insert = |campaign: Uuid| {
        format!(
            "INSERT INTO public.campaign_quests (workspace_id, campaign_id, name)
             SELECT '{workspace}', '{campaign}', 'Quest ' || number FROM generate_series(1, 1000) AS number"
        )
    };
    assert_eq!(scene.updates_by(&insert(first), &[first, second]), [1, 0]);
    assert_eq!(scene.updates_by(&insert(second), &[first, second]), [0, 1]);
    for sql in [
        "UPDATE public.campaign_quests SET status = 'completed'",
        "DELETE FROM public.campaign_quests",
    ] {
        assert_eq!(scene.updates_by(sql, &[first, second]), [1, 1], "{sql}");
    }
}

#[test]
fn hard_case_49_every_kind_of_statement_counts_once() {
    let mut scene = Scene::new();
    let (first, second) = (scene.campaign("First"), scene.campaign("Second"));
    let both = [first, second];
    let workspace = scene.workspace;
    let (one, two) = (scene.quest(first), scene.quest(second));
    for (sql, expected) in [
        // Inserts nothing but a change of a row that is there.
        (
            format!(
                "INSERT INTO public.campaign_quests (id, workspace_id, campaign_id, name)
                 VALUES ('{one}', '{workspace}', '{first}', 'Again')
                 ON CONFLICT (id) DO UPDATE SET name = excluded.name"
            ),
            [1, 0],
        ),
        (
            format!(
                "INSERT INTO public.campaign_quests (id, workspace_id, campaign_id, name)
                 VALUES ('{one}', '{workspace}', '{first}', 'Again')
                 ON CONFLICT DO NOTHING"
            ),
            [0, 0],
        ),
        // Deletes one, changes the other, adds a third.
        (
            format!(
                "MERGE INTO public.campaign_quests AS q
                 USING (VALUES ('{one}'::uuid), ('{two}'), (gen_random_uuid())) AS v (id) ON q.id = v.id
                 WHEN MATCHED AND q.id = '{one}' THEN DELETE
                 WHEN MATCHED THEN UPDATE SET name = 'Merged'
                 WHEN NOT MATCHED THEN
                     INSERT (id, workspace_id, campaign_id, name) VALUES (v.id, '{workspace}', '{second}', 'New')"
            ),
            [1, 1],
        ),
        (
            format!(
                "WITH added AS (
                     INSERT INTO public.campaign_quests (workspace_id, campaign_id, name)
                     VALUES ('{workspace}', '{first}', 'By a CTE') RETURNING id
                 )
                 SELECT count(*) FROM added"
            ),
            [1, 0],
        ),
        // More rows than fit into memory.
        (
            format!(
                "SET work_mem = '64kB';
                 INSERT INTO public.campaign_quests (workspace_id, campaign_id, name, description)
                 SELECT '{workspace}', CASE WHEN number = 4000 THEN '{second}'::uuid ELSE '{first}' END, 'Many', repeat('x', 500)
                 FROM generate_series(1, 4000) AS number"
            ),
            [1, 1],
        ),
    ] {
        assert_eq!(scene.updates_by(&sql, &both), expected, "{sql}");
    }
}

#[test]
fn hard_case_49_statements_of_one_transaction_update_a_campaign_once() {
    let mut scene = Scene::new();
    let campaign = scene.campaign("First");
    let workspace = scene.workspace;
    let statement = format!(
        "INSERT INTO public.campaign_quests (workspace_id, campaign_id, name) VALUES ('{workspace}', '{campaign}', 'Write');"
    );
    let transaction = format!("BEGIN; {} COMMIT;", statement.repeat(20));
    assert_eq!(scene.updates_by(&transaction, &[campaign]), [1]);
    // What a savepoint takes back is done again after it.
    let transaction =
        format!("BEGIN; SAVEPOINT s; {statement} ROLLBACK TO SAVEPOINT s; {statement} COMMIT;");
    assert_eq!(scene.updates_by(&transaction, &[campaign]), [1]);
}

#[test]
fn hard_case_49_deleting_a_campaign_takes_its_quests_along() {
    let mut scene = Scene::new();
    let (first, second) = (scene.campaign("First"), scene.campaign("Second"));
    for campaign in [first, second] {
        let parent = scene.quest(campaign);
        quest(&mut scene.admin, scene.workspace, campaign, Some(parent)).unwrap();
    }
    let deleted = format!("DELETE FROM public.campaigns WHERE id = '{first}'");
    assert_eq!(scene.updates_by(&deleted, &[second]), [0]);
    let left: i64 = value(
        &mut scene.admin,
        "SELECT count(*) FROM public.campaign_quests",
        &[],
    );
    assert_eq!(left, 2);
}

#[test]
fn hard_case_49_two_sessions_over_the_same_campaigns_do_not_deadlock() {
    let mut scene = Scene::new();
    let campaigns: Vec<Uuid> = (0..20).map(|i| scene.campaign(&format!("C{i}"))).collect();
    let workspace = scene.workspace;
    scene.db.parallel(4, |number, client| {
        for round in 0..15 {
            // Each session writes its rows in an order of its own.
            let mut order = campaigns.clone();
            order.rotate_left((number * 5 + round) % 20);
            if number % 2 == 1 {
                order.reverse();
            }
            client
                .execute(
                    "INSERT INTO public.campaign_quests (workspace_id, campaign_id, name)
                     SELECT $1, campaign, 'Write' FROM unnest($2::uuid[]) AS campaign",
                    &[&workspace, &order],
                )
                .unwrap();
        }
    });
    let quests: i64 = value(
        &mut scene.admin,
        "SELECT count(*) FROM public.campaign_quests",
        &[],
    );
    assert_eq!(quests, 4 * 15 * 20);
}

#[test]
fn a_member_who_writes_quests_moves_the_time_of_the_campaign() {
    let mut scene = Scene::new();
    let campaign = scene.campaign("Spring");
    let anna = member(&mut scene.admin, scene.workspace, "anna@acme.example");
    let role = scene.db.role("member");
    scene
        .admin
        .execute(
            "SELECT codex.grant_member_role($1::text::regrole)",
            &[&role],
        )
        .unwrap();
    let mut session = scene.db.login("member");
    let mut transaction = session.transaction().unwrap();
    transaction
        .execute(
            "SELECT codex.enter_workspace($1, $2)",
            &[&scene.workspace, &anna],
        )
        .unwrap();
    let first: Uuid = value(
        &mut transaction,
        "INSERT INTO public.campaign_quests (workspace_id, campaign_id, name) VALUES ($1, $2, 'Write') RETURNING id",
        &[&scene.workspace, &campaign],
    );
    let second: Uuid = value(
        &mut transaction,
        "INSERT INTO public.campaign_quests (workspace_id, campaign_id, name, parent_quest_id)
         VALUES ($1, $2, 'Write', $3)
         RETURNING id",
        &[&scene.workspace, &campaign, &first],
    );
    let moved: bool = value(
        &mut transaction,
        "SELECT updated_at = now() FROM public.campaigns WHERE id = $1",
        &[&campaign],
    );
    assert!(moved);
    fails_with(transaction.execute(SET_PARENT, &[&first, &second]), "22023");
}

#[test]
fn a_quest_is_never_above_itself() {
    let mut scene = Scene::new();
    let campaign = scene.campaign("Spring");
    let workspace = scene.workspace;
    let mut chain = vec![scene.quest(campaign)];
    for _ in 0..4 {
        let parent = chain.last().copied();
        chain.push(quest(&mut scene.admin, workspace, campaign, parent).unwrap());
    }
    let own = scene.admin.execute(SET_PARENT, &[&chain[0], &chain[0]]);
    fails_with(own, "23514");
    for below in &chain[1..] {
        let failure = fails_with(
            scene.admin.execute(SET_PARENT, &[&chain[0], below]),
            "22023",
        );
        assert_eq!(
            failure.message,
            format!(
                "parent_quest_id of {} cannot be {below}, which is below it",
                chain[0]
            )
        );
    }
    // Sideways and upwards is fine, and so is a change of anything else.
    scene
        .admin
        .execute(SET_PARENT, &[&chain[4], &chain[1]])
        .unwrap();
    scene
        .admin
        .execute(SET_PARENT, &[&chain[3], &None::<Uuid>])
        .unwrap();
    scene
        .admin
        .execute(SET_PARENT, &[&chain[0], &chain[3]])
        .unwrap();
    scene
        .admin
        .batch_execute(
            "UPDATE public.campaign_quests SET parent_quest_id = parent_quest_id, name = 'x'",
        )
        .unwrap();
    // Not even within one statement, where each row is fine by what was there before.
    let (one, two) = (Uuid::new_v4(), Uuid::new_v4());
    let circle = scene.admin.execute(
        "INSERT INTO public.campaign_quests (id, workspace_id, campaign_id, name, parent_quest_id)
         VALUES ($1, $3, $4, 'One', $2), ($2, $3, $4, 'Two', $1)",
        &[&one, &two, &workspace, &campaign],
    );
    fails_with(circle, "22023");
    let swap = scene.admin.execute(
        "UPDATE public.campaign_quests AS q
         SET parent_quest_id = CASE q.id WHEN $1 THEN $2::uuid ELSE $1::uuid END
         WHERE q.id IN ($1, $2)",
        &[&chain[1], &chain[2]],
    );
    fails_with(swap, "22023");
}

#[test]
fn a_parent_of_another_workspace_is_refused_like_one_that_is_not_there() {
    let mut scene = Scene::new();
    let campaign = scene.campaign("Spring");
    let own = scene.quest(campaign);
    let elsewhere = workspace(&mut scene.admin, "Elsewhere");
    let theirs: Uuid = value(
        &mut scene.admin,
        "INSERT INTO public.campaigns (workspace_id, name) VALUES ($1, 'Theirs') RETURNING id",
        &[&elsewhere],
    );
    let upper = quest(&mut scene.admin, elsewhere, theirs, None).unwrap();
    let lower = quest(&mut scene.admin, elsewhere, theirs, Some(upper)).unwrap();
    for parent in [upper, lower, Uuid::new_v4()] {
        fails_with(scene.admin.execute(SET_PARENT, &[&own, &parent]), "23503");
        let insert = quest(&mut scene.admin, scene.workspace, campaign, Some(parent));
        fails_with(insert, "23503");
    }
    // Nor does the shape of their tree show to somebody who guesses an id of it.
    let guess = scene.admin.execute(
        "INSERT INTO public.campaign_quests (id, workspace_id, campaign_id, name, parent_quest_id)
         VALUES ($1, $2, $3, 'Guess', $4)",
        &[&upper, &scene.workspace, &campaign, &lower],
    );
    fails_with(guess, "23505");
}

#[test]
fn a_thousand_levels_and_no_more() {
    let mut scene = Scene::new();
    let campaign = scene.campaign("Deep");
    let mut parent = None;
    let mut ids = Vec::new();
    for _ in 0..1001 {
        let id = quest(&mut scene.admin, scene.workspace, campaign, parent).unwrap();
        ids.push(id);
        parent = Some(id);
    }
    let failure = fails_with(
        quest(&mut scene.admin, scene.workspace, campaign, parent),
        "22023",
    );
    assert!(
        (failure.message).ends_with(&format!(
            "cannot be {}, which has 1000 rows or more above it",
            ids[1000]
        )),
        "{failure}"
    );
}

#[test]
fn two_sessions_do_not_close_a_circle_together() {
    for isolation in [
        IsolationLevel::ReadCommitted,
        IsolationLevel::RepeatableRead,
        IsolationLevel::Serializable,
    ] {
        let mut scene = Scene::new();
        let campaign = scene.campaign("Spring");
        let (one, two) = (scene.quest(campaign), scene.quest(campaign));
        let (mut first, mut second) = (scene.db.admin(), scene.db.admin());
        let mut begin = first
            .build_transaction()
            .isolation_level(isolation)
            .start()
            .unwrap();
        // Both have their snapshots before either writes.
        value::<i64>(
            &mut begin,
            "SELECT count(*) FROM public.campaign_quests",
            &[],
        );
        let outcome = std::thread::scope(|scope| {
            let (ready, wait) = std::sync::mpsc::channel();
            let (go, told) = std::sync::mpsc::channel();
            let other = scope.spawn(move || {
                let mut transaction = second
                    .build_transaction()
                    .isolation_level(isolation)
                    .start()
                    .unwrap();
                value::<i64>(
                    &mut transaction,
                    "SELECT count(*) FROM public.campaign_quests",
                    &[],
                );
                ready.send(()).unwrap();
                told.recv().unwrap();
                let outcome = transaction.execute(SET_PARENT, &[&two, &one]);
                let outcome = outcome.map_err(|error| sqlstate(&error));
                let committed = transaction.commit().map_err(|error| sqlstate(&error));
                outcome.and(committed)
            });
            wait.recv().unwrap();
            begin.execute(SET_PARENT, &[&one, &two]).unwrap();
            go.send(()).unwrap();
            // The other one waits for the lock of the workspace.
            let mut waiting = false;
            while !waiting && !other.is_finished() {
                waiting = value(
                    &mut scene.admin,
                    "SELECT EXISTS (SELECT FROM pg_catalog.pg_locks WHERE locktype = 'advisory' AND NOT granted
                                    AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()))",
                    &[],
                );
            }
            assert!(waiting, "{isolation:?}");
            begin.commit().unwrap();
            other.join().unwrap()
        });
        assert_eq!(outcome, Err("22023".to_owned()), "{isolation:?}");
        let parents: i64 = value(
            &mut scene.admin,
            "SELECT count(*) FROM public.campaign_quests WHERE parent_quest_id IS NOT NULL",
            &[],
        );
        assert_eq!(parents, 1);
    }
}

#[test]
fn many_sessions_that_move_quests_at_random_leave_a_tree() {
    let mut scene = Scene::new();
    let campaign = scene.campaign("Spring");
    let quests: Vec<Uuid> = (0..12).map(|_| scene.quest(campaign)).collect();
    let refused: usize = scene
        .db
        .parallel(6, |number, client| {
            let mut state = 17 + number as u64;
            let mut pick = || {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                quests[(state >> 33) as usize % quests.len()]
            };
            let mut refused = 0;
            for _ in 0..60 {
                let (quest, parent) = (pick(), pick());
                match client.execute(SET_PARENT, &[&quest, &parent]) {
                    Ok(_) => {}
                    Err(error) if ["22023", "23514"].contains(&sqlstate(&error).as_str()) => {
                        refused += 1;
                    }
                    Err(error) => panic!("{error:?}"),
                }
            }
            refused
        })
        .into_iter()
        .sum();
    assert!(refused > 0, "no circle was tried");
    // Every quest reaches the top.
    let reached: i64 = value(
        &mut scene.admin,
        "WITH RECURSIVE tree AS (
             SELECT id FROM public.campaign_quests WHERE parent_quest_id IS NULL
             UNION
             SELECT q.id FROM public.campaign_quests AS q JOIN tree ON q.parent_quest_id = tree.id
         )
         SELECT count(*) FROM tree",
        &[],
    );
    assert_eq!(reached, 12);
}

#[test]
fn trigger_functions_say_what_they_are_for() {
    let mut scene = Scene::new();
    for function in [
        "set_updated_at",
        "refuse_cycle",
        "update_campaign_timestamp",
        "update_experience_level",
        "calculate_move_success_rate",
    ] {
        let called = scene
            .admin
            .batch_execute(&format!("SELECT codex.{function}()"));
        fails_with(called, "0A000");
        scene
            .admin
            .batch_execute(&format!(
                "CREATE TABLE public.unfit (a integer);
                 CREATE TRIGGER wrong BEFORE INSERT OR UPDATE ON public.unfit
                     FOR EACH ROW EXECUTE FUNCTION codex.{function}()"
            ))
            .unwrap();
        let fired = scene
            .admin
            .batch_execute("INSERT INTO public.unfit VALUES (1)");
        let failure = fails_with(fired, "55000");
        assert!(!failure.message.is_empty());
        scene
            .admin
            .batch_execute(&format!(
                "DROP TRIGGER wrong ON public.unfit;
                 CREATE TRIGGER wrong AFTER INSERT ON public.unfit
                     FOR EACH STATEMENT EXECUTE FUNCTION codex.{function}()"
            ))
            .unwrap();
        let fired = scene
            .admin
            .batch_execute("INSERT INTO public.unfit VALUES (1)");
        fails_with(fired, "55000");
        scene
            .admin
            .batch_execute("DROP TABLE public.unfit")
            .unwrap();
    }
}
