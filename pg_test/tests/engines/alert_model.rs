//! Random calls and plain UPDATEs on alerts, against a list in memory that says what has to come of them.

use crate::alerts::{events, raise, step};
use crate::dice::{Dice, seed, setting};
use crate::scene::Scene;
use codex_pg_test::postgres::Client;
use codex_pg_test::{Uuid, sqlstate, value};
use std::collections::BTreeMap;

const KEYS: [&str; 4] = ["a1", "a2", "b1", "b2"];
const STATUSES: [&str; 4] = ["active", "acknowledged", "resolved", "dismissed"];
const MAX_LEVEL: i32 = 2;

/// An alert, as it has to be.
#[derive(Clone, Debug)]
struct Alert {
    key: &'static str,
    status: &'static str,
    level: i32,
    silenced: bool,
    due: bool,
    events: Vec<&'static str>,
    in_app: i64,
    email: i64,
}

impl Alert {
    fn is_open(&self) -> bool {
        matches!(self.status, "active" | "acknowledged")
    }

    fn tell(&mut self) {
        self.in_app += 1;
        self.email += i64::from(self.level >= 1);
    }

    /// The status changes; `event` as it is called.
    fn become_(&mut self, status: &'static str, event: &'static str, silence: bool) {
        let was_open = self.is_open();
        self.status = status;
        self.events.push(event);
        let covered = silence && self.key.starts_with('a');
        self.due = self.is_open();
        self.silenced = self.is_open() && covered;
        if self.is_open() && !was_open {
            self.level = 0;
            if covered {
                self.events.push("silenced");
            } else {
                self.tell();
            }
        }
    }

    /// It is looked at when its time has come.
    fn tick(&mut self, silence: bool) {
        if !self.is_open() || !self.due || (silence && self.key.starts_with('a')) {
            return;
        }
        if self.status == "acknowledged" {
            self.status = "active";
            self.events.push("unacknowledged");
        }
        if self.level >= MAX_LEVEL {
            self.due = false;
            return;
        }
        self.level += 1;
        self.events.push("escalated");
        self.tell();
    }
}

fn is_open_elsewhere(model: &BTreeMap<Uuid, Alert>, id: Uuid) -> bool {
    let key = model[&id].key;
    model
        .iter()
        .any(|(other, alert)| *other != id && alert.key == key && alert.is_open())
}

fn check(admin: &mut Client, model: &BTreeMap<Uuid, Alert>) {
    for (id, alert) in model {
        assert_eq!(events(admin, *id), alert.events, "{id} {alert:?}");
        if alert.status == "deleted" {
            continue;
        }
        let row = admin
            .query_one(
                "SELECT a.status, l.escalation_level, l.silenced_by IS NOT NULL, l.due_at IS NOT NULL, l.closed_at IS NULL,
                        (SELECT count(*) FROM public.user_notifications AS n WHERE n.related_alert_id = a.id AND n.channel = 'in_app'),
                        (SELECT count(*) FROM public.user_notifications AS n WHERE n.related_alert_id = a.id AND n.channel = 'email')
                 FROM public.system_alerts AS a JOIN codex.alert_life AS l ON l.alert_id = a.id WHERE a.id = $1",
                &[id],
            )
            .unwrap();
        let is = (
            row.get::<_, String>(0),
            row.get::<_, i32>(1),
            row.get::<_, bool>(2),
            row.get::<_, bool>(3),
            row.get::<_, bool>(4),
            row.get::<_, i64>(5),
            row.get::<_, i64>(6),
        );
        let has_to_be = (
            alert.status.to_string(),
            alert.level,
            alert.silenced,
            alert.due,
            alert.is_open(),
            alert.in_app,
            alert.email,
        );
        assert_eq!(is, has_to_be, "{id} {alert:?}");
    }
}

#[test]
fn random_calls_do_what_the_model_says() {
    let mut dice = Dice::new(seed("alert model"), 0);
    let mut scene = Scene::new();
    let (acme, anna) = (scene.acme, scene.anna);
    let admin = &mut scene.admin;
    admin
        .batch_execute(&format!(
            "INSERT INTO codex.alert_policies (workspace_id, severity_level, acknowledge_within, resolve_within, max_level) VALUES ('{acme}', 'high', '1 hour', '1 hour', {MAX_LEVEL});
             INSERT INTO codex.alert_fan_out (workspace_id, severity_level) VALUES ('{acme}', 'high');
             INSERT INTO codex.alert_fan_out (workspace_id, severity_level, user_id, channel, from_level) VALUES ('{acme}', 'high', '{anna}', 'email', 1)"
        ))
        .unwrap();
    let mut model: BTreeMap<Uuid, Alert> = BTreeMap::new();
    let mut silence: Option<Uuid> = None;
    for _ in 0..setting("CODEX_TEST_STEPS", 400) {
        let ids: Vec<Uuid> = model
            .iter()
            .filter(|(_, alert)| alert.status != "deleted")
            .map(|(id, _)| *id)
            .collect();
        if ids.is_empty() || dice.once_in(4) {
            let key = *dice.pick(&KEYS);
            let id = raise(admin, acme, "high", key);
            let open = model
                .iter()
                .find(|(_, alert)| alert.key == key && alert.is_open());
            match open {
                Some((known, _)) => assert_eq!(*known, id),
                None => {
                    let mut alert = Alert {
                        key,
                        status: "none",
                        level: 0,
                        silenced: false,
                        due: false,
                        events: Vec::new(),
                        in_app: 0,
                        email: 0,
                    };
                    alert.become_("active", "opened", silence.is_some());
                    assert!(model.insert(id, alert).is_none());
                }
            }
            check(admin, &model);
            continue;
        }
        let id = *dice.pick(&ids);
        let elsewhere = is_open_elsewhere(&model, id);
        let alert = model.get_mut(&id).unwrap();
        match dice.below(12) {
            made @ 0..6 => {
                let (name, target) = [
                    ("acknowledge", "acknowledged"),
                    ("acknowledge", "acknowledged"),
                    ("resolve", "resolved"),
                    ("dismiss", "dismissed"),
                    ("reopen", "active"),
                    ("reopen", "active"),
                ][made];
                let answer = step(admin, name, id, anna);
                let may = match (name, alert.status) {
                    ("reopen", _) => !elsewhere || alert.is_open(),
                    (_, status) if status == target => true,
                    ("acknowledge", status) => status == "active",
                    (_, status) => status == "active" || status == "acknowledged",
                };
                if !may {
                    assert_eq!(sqlstate(&answer.unwrap_err()), "55000");
                    continue;
                }
                answer.unwrap();
                if name == "reopen" && !alert.is_open() {
                    alert.become_("active", "reopened", silence.is_some());
                } else if name != "reopen" && alert.status != target {
                    alert.become_(target, target, silence.is_some());
                }
            }
            6 => {
                let target = *dice.pick(&STATUSES);
                let answer = admin.execute(
                    "UPDATE public.system_alerts SET status = $2 WHERE id = $1",
                    &[&id, &target],
                );
                let opens = matches!(target, "active" | "acknowledged");
                if opens && elsewhere {
                    assert_eq!(sqlstate(&answer.unwrap_err()), "23505");
                } else {
                    answer.unwrap();
                    let event = match (alert.status, target) {
                        (from, to) if from == to => continue,
                        (_, "resolved") => "resolved",
                        (_, "dismissed") => "dismissed",
                        ("resolved" | "dismissed", _) => "reopened",
                        (_, "acknowledged") => "acknowledged",
                        _ => "unacknowledged",
                    };
                    alert.become_(target, event, silence.is_some());
                }
            }
            7 | 8 => {
                admin
                    .batch_execute("UPDATE codex.alert_life SET due_at = now() - interval '1 second' WHERE due_at IS NOT NULL")
                    .unwrap();
                admin.execute("SELECT codex.upkeep_alerts()", &[]).unwrap();
                for alert in model.values_mut() {
                    alert.tick(silence.is_some());
                }
            }
            9 => match silence.take() {
                None => {
                    silence = Some(value(
                        admin,
                        "SELECT codex.silence_alerts($1, 'We know', now() + interval '1 hour', dedup_glob => 'a*')",
                        &[&acme],
                    ));
                    for alert in model.values_mut() {
                        if alert.is_open() && alert.key.starts_with('a') {
                            alert.silenced = true;
                            alert.due = true;
                            alert.events.push("silenced");
                        }
                    }
                }
                Some(quiet) => {
                    admin
                        .execute("SELECT codex.lift_silence($1, $2)", &[&acme, &quiet])
                        .unwrap();
                    for alert in model.values_mut() {
                        if alert.silenced {
                            alert.silenced = false;
                            alert.due = true;
                            alert.events.push("unsilenced");
                            alert.tell();
                        }
                    }
                }
            },
            10 => {
                admin
                    .execute("UPDATE public.system_alerts SET expiry_date = now() - interval '1 second' WHERE id = $1", &[&id])
                    .unwrap();
                admin.execute("SELECT codex.upkeep_alerts()", &[]).unwrap();
                if alert.is_open() {
                    alert.become_("dismissed", "expired", silence.is_some());
                }
                admin
                    .execute(
                        "UPDATE public.system_alerts SET expiry_date = NULL WHERE id = $1",
                        &[&id],
                    )
                    .unwrap();
            }
            _ => {
                admin
                    .execute("DELETE FROM public.system_alerts WHERE id = $1", &[&id])
                    .unwrap();
                alert.status = "deleted";
                (alert.due, alert.silenced) = (false, false);
                alert.events.push("deleted");
            }
        }
        check(admin, &model);
    }
}
