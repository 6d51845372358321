//! Unlocking achievements, and the points, level and rates of a user.

use codex_pg_test::postgres::{Client, IsolationLevel};
use codex_pg_test::{Database, Uuid, fails_with, member, user, value, workspace};

/// A workspace with one member, in a database of its own.
struct Scene {
    db: Database,
    admin: Client,
    workspace: Uuid,
    user: Uuid,
}

/// What `unlock_achievement` answers.
type Answer = (bool, String, i32);

const UNLOCKED: &str = "Achievement unlocked successfully";
const ALREADY: &str = "Achievement already unlocked";

impl Scene {
    fn new() -> Self {
        let db = Database::migrated();
        let mut admin = db.admin();
        let workspace = workspace(&mut admin, "Acme");
        let user = member(&mut admin, workspace, "anna@acme.example");
        Self {
            db,
            admin,
            workspace,
            user,
        }
    }

    /// A new achievement of the workspace; `more` is further columns and values, such as `is_active = false`.
    fn achievement(&mut self, points: Option<i32>) -> Uuid {
        achievement(&mut self.admin, self.workspace, points)
    }

    fn unlock(&mut self, achievement: Uuid) -> Answer {
        let (user, workspace) = (self.user, self.workspace);
        unlock(&mut self.admin, user, achievement, workspace)
    }

    /// Points, level, percentage and unlocked achievements of the user; None without a stats row.
    fn stats(&mut self) -> Option<(i32, i32, f64, i32)> {
        let row = self
            .admin
            .query_opt(
                "SELECT total_points, experience_level, experience_percentage::float8, achievements_unlocked
                 FROM public.user_stats
                 WHERE workspace_id = $1 AND user_id = $2",
                &[&self.workspace, &self.user],
            )
            .unwrap()?;
        Some((row.get(0), row.get(1), row.get(2), row.get(3)))
    }

    fn set(&mut self, achievement: Uuid, assignment: &str) {
        let sql = format!("UPDATE public.achievements SET {assignment} WHERE id = $1");
        assert_eq!(self.admin.execute(&sql, &[&achievement]).unwrap(), 1);
    }
}

fn achievement(client: &mut Client, workspace: Uuid, points: Option<i32>) -> Uuid {
    value(
        client,
        "INSERT INTO public.achievements (workspace_id, name, badge_type, condition_type, points_reward)
         VALUES ($1, 'First campaign', 'milestone', 'count', $2)
         RETURNING id",
        &[&workspace, &points],
    )
}

fn unlock(client: &mut Client, user: Uuid, achievement: Uuid, workspace: Uuid) -> Answer {
    let row = client
        .query_one(
            "SELECT success, message, points_awarded FROM codex.unlock_achievement($1, $2, $3)",
            &[&user, &achievement, &workspace],
        )
        .unwrap_or_else(|error| panic!("{}", codex_pg_test::Failure::from(&error)));
    (row.get(0), row.get(1), row.get(2))
}

fn refused(message: &str) -> Answer {
    (false, message.to_owned(), 0)
}

fn unlocked(points: i32) -> Answer {
    (true, UNLOCKED.to_owned(), points)
}

#[test]
fn an_unlock_fills_the_row_and_the_stats() {
    let mut scene = Scene::new();
    let first = scene.achievement(Some(1345));
    scene.set(
        first,
        "badge_unlocks = ARRAY['starter', 'runner', NULL, 'starter']",
    );
    let row = scene
        .admin
        .query_one(
            "SELECT success, message, points_awarded
             FROM codex.unlock_achievement(
                 p_user_id => $1, p_achievement_id => $2, p_workspace_id => $3, p_event_type => 'campaign.finished'
             )",
            &[&scene.user, &first, &scene.workspace],
        )
        .unwrap();
    let columns: Vec<(&str, &str)> = (row.columns().iter())
        .map(|column| (column.name(), column.type_().name()))
        .collect();
    assert_eq!(
        columns,
        [
            ("success", "bool"),
            ("message", "text"),
            ("points_awarded", "int4")
        ]
    );
    assert!(row.get::<_, bool>(0));
    assert_eq!(scene.stats(), Some((1345, 2, 34.5, 1)));

    let row = scene
        .admin
        .query_one(
            "SELECT is_locked, progress_percentage, unlocked_by_event, unlocked_at IS NOT NULL
             FROM public.user_achievements
             WHERE user_id = $1 AND achievement_id = $2",
            &[&scene.user, &first],
        )
        .unwrap();
    assert!(!row.get::<_, bool>(0));
    assert_eq!(row.get::<_, i32>(1), 100);
    assert_eq!(row.get::<_, String>(2), "campaign.finished");
    assert!(row.get::<_, bool>(3));

    // The next one pays on top, and a badge that is there does not come twice.
    let second = scene.achievement(Some(655));
    scene.set(second, "badge_unlocks = ARRAY['runner', 'finisher']");
    assert_eq!(scene.unlock(second), unlocked(655));
    assert_eq!(scene.stats(), Some((2000, 3, 0.0, 2)));
    let badges: Vec<String> = value(
        &mut scene.admin,
        "SELECT badges_earned FROM public.user_stats WHERE user_id = $1",
        &[&scene.user],
    );
    assert_eq!(badges, ["starter", "runner", "finisher"]);
    // Whatever shape the array has.
    scene
        .admin
        .batch_execute(
            "UPDATE public.user_stats SET badges_earned = '{{starter,runner},{finisher,NULL}}'",
        )
        .unwrap();
    let third = scene.achievement(Some(1));
    scene.set(
        third,
        "badge_unlocks = (SELECT array_agg('badge ' || i % 5000) FROM generate_series(0, 9999) AS i)",
    );
    assert_eq!(scene.unlock(third), unlocked(1));
    let badges: Vec<String> = value(
        &mut scene.admin,
        "SELECT badges_earned FROM public.user_stats WHERE user_id = $1",
        &[&scene.user],
    );
    assert_eq!(badges.len(), 5003);
    assert_eq!(badges[..4], ["starter", "runner", "finisher", "badge 0"]);
    assert_eq!(badges[5002], "badge 4999");
}

#[test]
fn the_event_is_manual_unless_it_is_told() {
    let mut scene = Scene::new();
    let achievement = scene.achievement(Some(1));
    scene.unlock(achievement);
    let event: String = value(
        &mut scene.admin,
        "SELECT unlocked_by_event FROM public.user_achievements",
        &[],
    );
    assert_eq!(event, "manual");
}

#[test]
fn hard_case_01_unlock_without_a_row_pays_once() {
    let mut scene = Scene::new();
    let achievement = scene.achievement(Some(50));
    assert_eq!(scene.unlock(achievement), unlocked(50));
    for _ in 0..3 {
        assert_eq!(scene.unlock(achievement), refused(ALREADY));
    }
    assert_eq!(scene.stats(), Some((50, 1, 5.0, 1)));
    assert_eq!(
        value::<i64>(
            &mut scene.admin,
            "SELECT count(*) FROM public.user_achievements",
            &[]
        ),
        1
    );
}

#[test]
fn hard_case_02_unlock_without_a_stats_row_makes_it() {
    let mut scene = Scene::new();
    assert_eq!(scene.stats(), None);
    let achievement = scene.achievement(Some(120));
    assert_eq!(scene.unlock(achievement), unlocked(120));
    assert_eq!(scene.stats(), Some((120, 1, 12.0, 1)));
}

#[test]
fn hard_case_02_unlock_for_a_user_that_does_not_exist() {
    let mut scene = Scene::new();
    let achievement = scene.achievement(Some(120));
    scene.user = Uuid::new_v4();
    assert_eq!(
        scene.unlock(achievement),
        refused("User is not a member of the workspace")
    );
    // A member whom the table of users does not know cannot have rows.
    scene
        .admin
        .batch_execute("ALTER TABLE public.workspace_members DISABLE TRIGGER ALL")
        .unwrap();
    scene
        .admin
        .execute(
            "INSERT INTO public.workspace_members (workspace_id, user_id) VALUES ($1, $2)",
            &[&scene.workspace, &scene.user],
        )
        .unwrap();
    let failure = fails_with(
        scene.admin.query(
            "SELECT * FROM codex.unlock_achievement($1, $2, $3)",
            &[&scene.user, &achievement, &scene.workspace],
        ),
        "23503",
    );
    assert!(
        failure.message.contains("p_user_id") && failure.message.contains(&scene.user.to_string()),
        "{failure}"
    );
    assert_eq!(scene.stats(), None);
}

#[test]
fn hard_case_03_two_sessions_unlock_at_once() {
    let mut scene = Scene::new();
    let achievement = scene.achievement(Some(100));
    let (user, workspace) = (scene.user, scene.workspace);
    let mut one = scene.db.admin();
    let mut transaction = one.transaction().unwrap();
    let row = transaction
        .query_one(
            "SELECT success FROM codex.unlock_achievement($1, $2, $3)",
            &[&user, &achievement, &workspace],
        )
        .unwrap();
    assert!(row.get::<_, bool>(0));
    let other = std::thread::scope(|scope| {
        let db = &scene.db;
        let other = scope.spawn(move || unlock(&mut db.admin(), user, achievement, workspace));
        wait_for_a_lock(&mut scene.admin);
        transaction.commit().unwrap();
        other.join().unwrap()
    });
    assert_eq!(other, refused(ALREADY));
    assert_eq!(scene.stats(), Some((100, 1, 10.0, 1)));
}

#[test]
fn hard_case_03_the_second_session_is_paid_when_the_first_gives_up() {
    let mut scene = Scene::new();
    let achievement = scene.achievement(Some(100));
    let (user, workspace) = (scene.user, scene.workspace);
    let mut one = scene.db.admin();
    let mut transaction = one.transaction().unwrap();
    transaction
        .query_one(
            "SELECT success FROM codex.unlock_achievement($1, $2, $3)",
            &[&user, &achievement, &workspace],
        )
        .unwrap();
    let other = std::thread::scope(|scope| {
        let db = &scene.db;
        let other = scope.spawn(move || unlock(&mut db.admin(), user, achievement, workspace));
        wait_for_a_lock(&mut scene.admin);
        transaction.rollback().unwrap();
        other.join().unwrap()
    });
    assert_eq!(other, unlocked(100));
    assert_eq!(scene.stats(), Some((100, 1, 10.0, 1)));
}

#[test]
fn hard_case_03_twenty_sessions_unlock_at_once() {
    let mut scene = Scene::new();
    let achievement = scene.achievement(Some(100));
    let (user, workspace) = (scene.user, scene.workspace);
    let answers = scene
        .db
        .parallel(20, |_, client| unlock(client, user, achievement, workspace));
    let paid = answers.iter().filter(|answer| **answer == unlocked(100));
    assert_eq!(paid.count(), 1, "{answers:?}");
    let told = answers.iter().filter(|answer| **answer == refused(ALREADY));
    assert_eq!(told.count(), 19, "{answers:?}");
    assert_eq!(scene.stats(), Some((100, 1, 10.0, 1)));
}

#[test]
fn hard_case_03_twenty_sessions_unlock_twenty_achievements_of_one_user() {
    let mut scene = Scene::new();
    let all: Vec<Uuid> = (1..=20).map(|i| scene.achievement(Some(i * 10))).collect();
    let (user, workspace) = (scene.user, scene.workspace);
    scene.db.parallel(20, |number, client| {
        // Each session begins elsewhere, so that the same rows are met from all sides.
        for step in 0..20 {
            unlock(client, user, all[(number + step) % 20], workspace);
        }
    });
    assert_eq!(scene.stats(), Some((2100, 3, 10.0, 20)));
}

#[test]
fn hard_case_03_transactions_that_unlock_several_in_opposite_order_do_not_deadlock() {
    let mut scene = Scene::new();
    let first = scene.achievement(Some(1));
    scene.unlock(first);
    let all: Vec<Uuid> = (0..10).map(|_| scene.achievement(Some(10))).collect();
    let (user, workspace) = (scene.user, scene.workspace);
    scene.db.parallel(6, |number, client| {
        let mut order = all.clone();
        if number % 2 == 1 {
            order.reverse();
        }
        client
            .execute(
                "SELECT codex.unlock_achievement($1, achievement, $2) FROM unnest($3::uuid[]) AS achievement",
                &[&user, &workspace, &order],
            )
            .unwrap();
    });
    assert_eq!(scene.stats(), Some((101, 1, 10.1, 11)));
}

#[test]
fn hard_case_03_transactions_that_unlock_the_first_ones_do_not_deadlock() {
    for _ in 0..5 {
        let mut scene = Scene::new();
        let all: Vec<Uuid> = (0..6).map(|_| scene.achievement(Some(10))).collect();
        let (user, workspace) = (scene.user, scene.workspace);
        scene.db.parallel(8, |number, client| {
            let mut order = all.clone();
            order.rotate_left(number % 6);
            client
                .execute(
                    "SELECT codex.unlock_achievement($1, achievement, $2) FROM unnest($3::uuid[]) AS achievement",
                    &[&user, &workspace, &order],
                )
                .unwrap();
        });
        assert_eq!(scene.stats(), Some((60, 1, 6.0, 6)));
    }
}

#[test]
fn hard_case_03_in_repeatable_read_nobody_is_paid_twice() {
    let mut scene = Scene::new();
    let achievement = scene.achievement(Some(100));
    let (user, workspace) = (scene.user, scene.workspace);
    let outcomes = scene.db.parallel(8, |_, client| {
        let mut transaction = (client.build_transaction())
            .isolation_level(IsolationLevel::RepeatableRead)
            .start()
            .unwrap();
        let outcome = transaction
            .query_one(
                "SELECT success FROM codex.unlock_achievement($1, $2, $3)",
                &[&user, &achievement, &workspace],
            )
            .map(|row| row.get::<_, bool>(0));
        let committed = transaction.commit();
        match outcome {
            Ok(success) => {
                committed.unwrap();
                success.to_string()
            }
            Err(error) => codex_pg_test::sqlstate(&error),
        }
    });
    assert_eq!(
        outcomes.iter().filter(|o| *o == "true").count(),
        1,
        "{outcomes:?}"
    );
    assert!(
        (outcomes.iter()).all(|o| ["true", "false", "40001"].contains(&o.as_str())),
        "{outcomes:?}"
    );
    assert_eq!(scene.stats(), Some((100, 1, 10.0, 1)));
}

#[test]
fn hard_case_04_an_inactive_achievement_does_not_unlock() {
    let mut scene = Scene::new();
    for state in ["false", "NULL"] {
        let achievement = scene.achievement(Some(10));
        scene.set(achievement, &format!("is_active = {state}"));
        assert_eq!(
            scene.unlock(achievement),
            refused("Achievement is not active")
        );
    }
    assert_eq!(scene.stats(), None);
}

#[test]
fn hard_case_05_an_unmet_prerequisite() {
    let mut scene = Scene::new();
    let first = scene.achievement(Some(10));
    let second = scene.achievement(Some(20));
    scene.set(
        second,
        &format!("required_previous_achievement_id = '{first}'"),
    );
    let unmet = refused("Required achievement is not unlocked");
    assert_eq!(scene.unlock(second), unmet);
    // Begun is not unlocked.
    scene
        .admin
        .execute(
            "INSERT INTO public.user_achievements (workspace_id, user_id, achievement_id, progress_percentage)
             VALUES ($1, $2, $3, 90)",
            &[&scene.workspace, &scene.user, &first],
        )
        .unwrap();
    assert_eq!(scene.unlock(second), unmet);
    assert_eq!(scene.unlock(first), unlocked(10));
    assert_eq!(scene.unlock(second), unlocked(20));
}

#[test]
fn hard_case_05_a_neighbours_unlock_meets_no_prerequisite() {
    let mut scene = Scene::new();
    let first = scene.achievement(Some(10));
    let second = scene.achievement(Some(20));
    scene.set(
        second,
        &format!("required_previous_achievement_id = '{first}'"),
    );
    let neighbour = member(&mut scene.admin, scene.workspace, "ben@acme.example");
    assert_eq!(
        unlock(&mut scene.admin, neighbour, first, scene.workspace),
        unlocked(10)
    );
    assert_eq!(
        scene.unlock(second),
        refused("Required achievement is not unlocked")
    );
}

#[test]
fn hard_case_05_self_and_cyclic_prerequisites_are_refused() {
    let mut scene = Scene::new();
    let chain: Vec<Uuid> = (0..4).map(|_| scene.achievement(Some(1))).collect();
    let prerequisite =
        "UPDATE public.achievements SET required_previous_achievement_id = $2 WHERE id = $1";
    let own = scene.admin.execute(prerequisite, &[&chain[0], &chain[0]]);
    fails_with(own, "23514");
    for pair in chain.windows(2) {
        scene
            .admin
            .execute(prerequisite, &[&pair[1], &pair[0]])
            .unwrap();
    }
    let failure = fails_with(
        scene.admin.execute(prerequisite, &[&chain[0], &chain[3]]),
        "22023",
    );
    assert_eq!(
        failure.message,
        format!(
            "required_previous_achievement_id of {} cannot be {}, which is below it",
            chain[0], chain[3]
        )
    );
    assert_eq!(
        failure.detail,
        format!(
            "The way up would be: {}, {}, {}, {}, {}.",
            chain[0], chain[3], chain[2], chain[1], chain[0]
        )
    );
}

#[test]
fn hard_case_06_a_non_member_does_not_unlock() {
    let mut scene = Scene::new();
    let achievement = scene.achievement(Some(10));
    let stranger = user(&mut scene.admin, "mallory@other.example");
    assert_eq!(
        unlock(&mut scene.admin, stranger, achievement, scene.workspace),
        refused("User is not a member of the workspace")
    );
    assert_eq!(
        value::<i64>(
            &mut scene.admin,
            "SELECT (SELECT count(*) FROM public.user_achievements) + (SELECT count(*) FROM public.user_stats)",
            &[]
        ),
        0
    );
}

#[test]
fn hard_case_07_a_null_reward_counts_as_nothing() {
    let mut scene = Scene::new();
    let without = scene.achievement(None);
    assert_eq!(scene.unlock(without), unlocked(0));
    assert_eq!(scene.stats(), Some((0, 1, 0.0, 1)));
    // Nor does a NULL that somebody left in the totals spread.
    scene
        .admin
        .batch_execute(
            "UPDATE public.user_stats
             SET total_points = NULL, achievements_unlocked = NULL, badges_earned = NULL,
                 experience_level = NULL, experience_percentage = NULL",
        )
        .unwrap();
    let with = scene.achievement(Some(70));
    assert_eq!(scene.unlock(with), unlocked(70));
    assert_eq!(scene.stats(), Some((70, 1, 7.0, 1)));
}

#[test]
fn hard_case_08_a_negative_reward_is_refused() {
    let mut scene = Scene::new();
    let achievement = scene.achievement(Some(10));
    for (table, assignment) in [
        ("achievements", "points_reward = -1"),
        ("achievements", "points_reward = -2147483648"),
    ] {
        let sql = format!("UPDATE public.{table} SET {assignment} WHERE id = $1");
        fails_with(scene.admin.execute(&sql, &[&achievement]), "23514");
    }
    scene.unlock(achievement);
    let negative = (scene.admin).batch_execute("UPDATE public.user_stats SET total_points = -3001");
    fails_with(negative, "23514");
    assert_eq!(scene.stats(), Some((10, 1, 1.0, 1)));
}

#[test]
fn hard_case_08_no_counter_of_a_user_is_negative() {
    let mut scene = Scene::new();
    scene
        .admin
        .execute(
            "INSERT INTO public.user_stats (workspace_id, user_id) VALUES ($1, $2)",
            &[&scene.workspace, &scene.user],
        )
        .unwrap();
    let counters: Vec<String> = value(
        &mut scene.admin,
        "SELECT array_agg(column_name::text)
         FROM information_schema.columns
         WHERE table_schema = 'public' AND table_name = 'user_stats'
           AND data_type IN ('integer', 'bigint') AND column_name <> 'experience_level'",
        &[],
    );
    assert_eq!(counters.len(), 17);
    for counter in counters {
        for wrong in ["-1", "-2147483648"] {
            let sql = format!("UPDATE public.user_stats SET {counter} = {wrong}");
            fails_with(scene.admin.batch_execute(&sql), "23514");
        }
    }
}

#[test]
fn hard_case_09_totals_near_two_to_the_31() {
    let mut scene = Scene::new();
    let most = scene.achievement(Some(i32::MAX - 5));
    assert_eq!(scene.unlock(most), unlocked(2_147_483_642));
    let fits = scene.achievement(Some(3));
    assert_eq!(scene.unlock(fits), unlocked(3));
    // What does not fit any more is left out, and the answer says how much was added.
    let over = scene.achievement(Some(1000));
    assert_eq!(scene.unlock(over), unlocked(2));
    let none = scene.achievement(Some(i32::MAX));
    assert_eq!(scene.unlock(none), unlocked(0));
    assert_eq!(scene.stats(), Some((i32::MAX, 2_147_484, 64.7, 4)));
    // Neither does the count of achievements overflow.
    scene
        .admin
        .batch_execute("UPDATE public.user_stats SET achievements_unlocked = 2147483647")
        .unwrap();
    let last = scene.achievement(Some(0));
    assert_eq!(scene.unlock(last), unlocked(0));
    assert_eq!(scene.stats().map(|stats| stats.3), Some(i32::MAX));
}

#[test]
fn hard_case_10_an_achievement_of_another_workspace() {
    let mut scene = Scene::new();
    let elsewhere = workspace(&mut scene.admin, "Elsewhere");
    let foreign = achievement(&mut scene.admin, elsewhere, Some(10));
    let not_found = refused("Achievement not found");
    assert_eq!(scene.unlock(foreign), not_found);
    assert_eq!(scene.unlock(Uuid::new_v4()), not_found);
    // Nor does the table take such a row.
    let row = scene.admin.execute(
        "INSERT INTO public.user_achievements (workspace_id, user_id, achievement_id) VALUES ($1, $2, $3)",
        &[&scene.workspace, &scene.user, &foreign],
    );
    fails_with(row, "23503");
}

#[test]
fn hard_case_11_progress_is_complete_after_the_unlock_and_never_beyond() {
    let mut scene = Scene::new();
    let achievement = scene.achievement(Some(10));
    let row = "INSERT INTO public.user_achievements (workspace_id, user_id, achievement_id, progress_percentage)
               VALUES ($1, $2, $3, $4)";
    for wrong in [999, 101, -1] {
        fails_with(
            scene
                .admin
                .execute(row, &[&scene.workspace, &scene.user, &achievement, &wrong]),
            "23514",
        );
    }
    let begun = [&scene.workspace, &scene.user, &achievement];
    scene
        .admin
        .execute(row, &[begun[0], begun[1], begun[2], &40])
        .unwrap();
    assert_eq!(scene.unlock(achievement), unlocked(10));
    let progress: i32 = value(
        &mut scene.admin,
        "SELECT progress_percentage FROM public.user_achievements",
        &[],
    );
    assert_eq!(progress, 100);
}

#[test]
fn hard_case_12_the_level_is_set_on_insert_and_cannot_be_chosen() {
    let mut scene = Scene::new();
    scene
        .admin
        .execute(
            "INSERT INTO public.user_stats (workspace_id, user_id, total_points, experience_level, experience_percentage)
             VALUES ($1, $2, 4321, 99, 99)",
            &[&scene.workspace, &scene.user],
        )
        .unwrap();
    assert_eq!(scene.stats(), Some((4321, 5, 32.1, 0)));
    for (points, level, percentage) in [
        (0, 1, 0.0),
        (999, 1, 99.9),
        (1000, 2, 0.0),
        (i32::MAX, 2_147_484, 64.7),
    ] {
        scene
            .admin
            .execute(
                "UPDATE public.user_stats SET total_points = $1, experience_level = 7",
                &[&points],
            )
            .unwrap();
        assert_eq!(scene.stats(), Some((points, level, percentage, 0)));
    }
}

#[test]
fn hard_case_13_the_success_rate_follows_the_moves_of_one_row() {
    let mut scene = Scene::new();
    let neighbour = member(&mut scene.admin, scene.workspace, "ben@acme.example");
    for user in [scene.user, neighbour] {
        scene
            .admin
            .execute(
                "INSERT INTO public.user_stats (workspace_id, user_id, moves_executed, moves_successful)
                 VALUES ($1, $2, 4, 3)",
                &[&scene.workspace, &user],
            )
            .unwrap();
    }
    let rates =
        "SELECT array_agg(round(success_rate_percentage, 4)::float8 ORDER BY user_id = $1 DESC)
                 FROM public.user_stats";
    assert_eq!(
        value::<Vec<f64>>(&mut scene.admin, rates, &[&scene.user]),
        [75.0, 75.0]
    );
    let mut update = |assignment: &str, expected: f64| {
        let sql = format!("UPDATE public.user_stats SET {assignment} WHERE user_id = $1");
        scene.admin.execute(&sql, &[&scene.user]).unwrap();
        assert_eq!(
            value::<Vec<f64>>(&mut scene.admin, rates, &[&scene.user]),
            [expected, 75.0],
            "{assignment}"
        );
    };
    update("moves_executed = 3, moves_successful = 2", 66.6667);
    update("success_rate_percentage = 12", 66.6667);
    update("moves_executed = 0, moves_successful = 0", 0.0);
    update("moves_executed = NULL, moves_successful = NULL", 0.0);
    update(
        "moves_executed = 2147483647, moves_successful = 2147483647",
        100.0,
    );
    fails_with(
        scene
            .admin
            .batch_execute("UPDATE public.user_stats SET moves_executed = 3, moves_successful = 4"),
        "23514",
    );
}

#[test]
fn hard_case_14_a_member_does_not_raise_the_own_points() {
    let mut scene = Scene::new();
    let role = scene.db.role("member");
    scene
        .admin
        .execute(
            "SELECT codex.grant_member_role($1::text::regrole)",
            &[&role],
        )
        .unwrap();
    let achievement = scene.achievement(Some(10));
    scene
        .admin
        .execute(
            "INSERT INTO public.user_stats (workspace_id, user_id, total_points) VALUES ($1, $2, 5)",
            &[&scene.workspace, &scene.user],
        )
        .unwrap();
    let (user, workspace) = (scene.user, scene.workspace);
    let mut session = scene.db.login("member");
    for attempt in [
        "UPDATE public.user_stats SET total_points = 1000000".to_owned(),
        "DELETE FROM public.user_stats".to_owned(),
        "TRUNCATE public.user_stats".to_owned(),
        format!(
            "INSERT INTO public.user_achievements (workspace_id, user_id, achievement_id, is_locked) VALUES ('{workspace}', '{user}', '{achievement}', false)"
        ),
        "UPDATE public.achievements SET points_reward = 1000000".to_owned(),
        format!("SELECT * FROM codex.unlock_achievement('{user}', '{achievement}', '{workspace}')"),
    ] {
        let mut transaction = session.transaction().unwrap();
        transaction
            .execute("SELECT codex.enter_workspace($1, $2)", &[&workspace, &user])
            .unwrap();
        // Reading is what a member may do.
        let points: i32 = value(
            &mut transaction,
            "SELECT total_points FROM public.user_stats",
            &[],
        );
        assert_eq!(points, 5);
        fails_with(transaction.batch_execute(&attempt), "42501");
    }
    let points: i32 = value(
        &mut scene.admin,
        "SELECT total_points FROM public.user_stats",
        &[],
    );
    assert_eq!(points, 5);
}

#[test]
fn columns_of_an_older_table_that_round_keep_rounding() {
    let mut scene = Scene::new();
    scene
        .admin
        .batch_execute(
            "ALTER TABLE public.user_stats
                 ALTER COLUMN success_rate_percentage TYPE numeric(5, 2),
                 ALTER COLUMN experience_percentage TYPE numeric(5, 0)",
        )
        .unwrap();
    scene
        .admin
        .execute(
            "INSERT INTO public.user_stats (workspace_id, user_id, moves_executed, moves_successful, total_points)
             VALUES ($1, $2, 3, 2, 126)",
            &[&scene.workspace, &scene.user],
        )
        .unwrap();
    let kept: String = value(
        &mut scene.admin,
        "SELECT concat_ws(' ', success_rate_percentage, experience_percentage) FROM public.user_stats",
        &[],
    );
    assert_eq!(kept, "66.67 13");
}

#[test]
fn a_required_argument_that_is_null_is_an_error_that_names_it() {
    let mut scene = Scene::new();
    let achievement = scene.achievement(Some(1));
    let ids = [
        format!("'{}'", scene.user),
        format!("'{achievement}'"),
        format!("'{}'", scene.workspace),
        "'manual'".to_owned(),
    ];
    let names = [
        "p_user_id",
        "p_achievement_id",
        "p_workspace_id",
        "p_event_type",
    ];
    for (position, name) in names.into_iter().enumerate() {
        let mut arguments = ids.clone();
        arguments[position] = "NULL".to_owned();
        let sql = format!(
            "SELECT * FROM codex.unlock_achievement({})",
            arguments.join(", ")
        );
        let failure = fails_with(scene.admin.batch_execute(&sql), "22004");
        assert_eq!(failure.message, format!("{name} must not be NULL"));
    }
    assert_eq!(scene.stats(), None);
}

#[test]
fn a_megabyte_of_event_is_kept() {
    let mut scene = Scene::new();
    let achievement = scene.achievement(Some(1));
    let event = "é".repeat(512 * 1024);
    scene
        .admin
        .query_one(
            "SELECT * FROM codex.unlock_achievement($1, $2, $3, $4)",
            &[&scene.user, &achievement, &scene.workspace, &event],
        )
        .unwrap();
    let kept: String = value(
        &mut scene.admin,
        "SELECT unlocked_by_event FROM public.user_achievements",
        &[],
    );
    assert!(kept == event);
}

#[test]
fn an_answer_that_is_known_costs_no_transaction_id() {
    let mut scene = Scene::new();
    let achievement = scene.achievement(Some(1));
    scene.unlock(achievement);
    let mut transaction = scene.admin.transaction().unwrap();
    for (achievement, message) in [
        (achievement, ALREADY),
        (Uuid::new_v4(), "Achievement not found"),
    ] {
        let row = transaction
            .query_one(
                "SELECT message FROM codex.unlock_achievement($1, $2, $3)",
                &[&scene.user, &achievement, &scene.workspace],
            )
            .unwrap();
        assert_eq!(row.get::<_, String>(0), message);
        let id: Option<String> = value(
            &mut transaction,
            "SELECT pg_catalog.pg_current_xact_id_if_assigned()::text",
            &[],
        );
        assert_eq!(id, None);
    }
}

/// Returns once some session of this database waits for a lock.
fn wait_for_a_lock(client: &mut Client) {
    for _ in 0..1000 {
        let waiting: bool = value(
            client,
            "SELECT EXISTS (
                 SELECT FROM pg_catalog.pg_stat_activity
                 WHERE datname = current_database() AND wait_event_type = 'Lock'
             )",
            &[],
        );
        if waiting {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("no session came to wait for a lock");
}
