//! As PostgREST calls it: one login role that has no rights of its own, the role and the claims of each request set for its
//! transaction alone, functions by their named arguments in a schema that is exposed, answers as JSON.

use codex_pg_test::postgres::{Client, Error};
use codex_pg_test::{Database, Failure, Uuid, member, value, workspace};
use serde_json::{Value, json};

/// A database behind PostgREST: two workspaces, the roles of its requests, and the session of its login role.
struct Api {
    _db: Database,
    admin: Client,
    session: Client,
    anon: String,
    authenticated: String,
    service: String,
    acme: Uuid,
    anna: Uuid,
    other: Uuid,
    olga: Uuid,
}

impl Api {
    fn new() -> Self {
        let db = Database::migrated();
        let mut admin = db.admin();
        let acme = workspace(&mut admin, "Acme");
        let anna = member(&mut admin, acme, "anna@acme.example");
        let other = workspace(&mut admin, "Other");
        let olga = member(&mut admin, other, "olga@other.example");
        let [authenticator, anon, authenticated, service] =
            ["authenticator", "anon", "authenticated", "service_role"].map(|role| db.role(role));
        admin
            .batch_execute(&format!(
                "ALTER ROLE {authenticator} NOINHERIT;
                 GRANT {anon}, {authenticated}, {service} TO {authenticator};
                 SELECT codex.grant_member_role('{authenticated}');
                 SELECT codex.grant_service_role('{service}');
                 CREATE SCHEMA api;
                 GRANT USAGE ON SCHEMA api TO {anon}, {authenticated}, {service};
                 SELECT codex.expose('api');"
            ))
            .unwrap_or_else(|error| panic!("{error:?}"));
        let session = db.login("authenticator");
        Self {
            _db: db,
            admin,
            session,
            anon,
            authenticated,
            service,
            acme,
            anna,
            other,
            olga,
        }
    }

    /// What a request is preceded by.
    fn begin(&mut self, role: &str, claims: &Value) -> Result<(), Error> {
        self.session.batch_execute("BEGIN")?;
        self.session.execute(
            "SELECT pg_catalog.set_config('search_path', '\"api\", \"public\"', true),
                    pg_catalog.set_config('role', $1, true),
                    pg_catalog.set_config('request.jwt.claims', $2, true),
                    pg_catalog.set_config('request.method', 'POST', true)",
            &[&role, &claims.to_string()],
        )?;
        Ok(())
    }

    fn end<T>(&mut self, answer: Result<T, Error>) -> Result<T, Failure> {
        let end = if answer.is_ok() { "COMMIT" } else { "ROLLBACK" };
        self.session.batch_execute(end).expect("the request ends");
        answer.map_err(|error| Failure::from(&error))
    }

    /// POST /rpc/function: the arguments come as JSON, and the answer goes as JSON.
    fn rpc(
        &mut self,
        role: &str,
        claims: &Value,
        function: &str,
        arguments: &[(&str, &str)],
        body: &Value,
    ) -> Result<Value, Failure> {
        let columns: Vec<String> = arguments
            .iter()
            .map(|(name, kind)| format!("\"{name}\" {kind}"))
            .collect();
        let named: Vec<String> = arguments
            .iter()
            .map(|(name, _)| format!("\"{name}\" := pgrst_body.\"{name}\""))
            .collect();
        let sql = format!(
            "WITH pgrst_source AS (
                 SELECT pgrst_call.*
                 FROM (SELECT * FROM pg_catalog.json_to_record($1::json) AS _ ({})) AS pgrst_body,
                      LATERAL \"api\".\"{function}\"({}) AS pgrst_call
             )
             SELECT coalesce(pg_catalog.json_agg(_postgrest_t), '[]')::text
             FROM (SELECT * FROM pgrst_source) AS _postgrest_t",
            columns.join(", "),
            named.join(", ")
        );
        let answer = self.begin(role, claims).and_then(|()| {
            self.session
                .query_one(&sql, &[body])
                .map(|row| row.get::<_, String>(0))
        });
        self.end(answer)
            .map(|text| serde_json::from_str(&text).expect("JSON"))
    }

    /// GET /table?select=column
    fn get(
        &mut self,
        role: &str,
        claims: &Value,
        table: &str,
        column: &str,
    ) -> Result<Value, Failure> {
        let sql = format!(
            "WITH pgrst_source AS (SELECT \"public\".\"{table}\".\"{column}\" FROM \"public\".\"{table}\")
             SELECT coalesce(pg_catalog.json_agg(_postgrest_t), '[]')::text
             FROM (SELECT * FROM pgrst_source) AS _postgrest_t"
        );
        let answer = self.begin(role, claims).and_then(|()| {
            self.session
                .query_one(&sql, &[])
                .map(|row| row.get::<_, String>(0))
        });
        self.end(answer)
            .map(|text| serde_json::from_str(&text).expect("JSON"))
    }
}

fn claims(workspace: Uuid, user: Uuid) -> Value {
    json!({ "role": "authenticated", "sub": user, "workspace_id": workspace })
}

const ALERT: &[(&str, &str)] = &[
    ("p_workspace_id", "uuid"),
    ("p_alert_type", "text"),
    ("p_severity", "text"),
    ("p_title", "text"),
    ("p_description", "text"),
];

fn alert(workspace: Uuid) -> Value {
    json!({
        "p_workspace_id": workspace, "p_alert_type": "error", "p_severity": "critical",
        "p_title": "Down", "p_description": "The feed is down"
    })
}

#[test]
fn a_person_works_in_the_workspace_of_the_token() {
    let mut api = Api::new();
    let (role, mine) = (api.authenticated.clone(), claims(api.acme, api.anna));
    let made = api
        .rpc(&role, &mine, "create_system_alert", ALERT, &alert(api.acme))
        .expect("an alert");
    let id = made[0]["pgrst_call"].as_str().expect("its id").to_string();
    let seen = api
        .rpc(
            &role,
            &mine,
            "get_critical_alerts",
            &[("p_workspace_id", "uuid")],
            &json!({ "p_workspace_id": api.acme }),
        )
        .expect("the alerts");
    assert_eq!(seen[0]["id"], json!(id));
    assert_eq!(seen[0]["title"], json!("Down"));
    let acknowledged = api.rpc(
        &role,
        &mine,
        "acknowledge_alert",
        &[("p_alert_id", "uuid"), ("p_user_id", "uuid")],
        &json!({ "p_alert_id": id, "p_user_id": api.anna }),
    );
    assert!(acknowledged.is_ok(), "{acknowledged:?}");
    assert_eq!(
        api.get(&role, &mine, "system_alerts", "status"),
        Ok(json!([{ "status": "acknowledged" }]))
    );
}

#[test]
fn another_workspace_is_neither_read_nor_written_whatever_the_request_says() {
    let mut api = Api::new();
    let (role, theirs) = (api.authenticated.clone(), claims(api.other, api.olga));
    api.rpc(
        &role,
        &theirs,
        "create_system_alert",
        ALERT,
        &alert(api.other),
    )
    .expect("an alert of theirs");
    let mine = claims(api.acme, api.anna);
    assert_eq!(api.get(&role, &mine, "system_alerts", "id"), Ok(json!([])));
    let refused = api
        .rpc(
            &role,
            &mine,
            "create_system_alert",
            ALERT,
            &alert(api.other),
        )
        .expect_err("in a workspace that is not the token's");
    assert_eq!(refused.sqlstate, "42501");
    // A token that names a workspace without being a member there counts as none.
    let forged = claims(api.other, api.anna);
    assert_eq!(
        api.get(&role, &forged, "system_alerts", "id"),
        Ok(json!([]))
    );
    let refused = api
        .rpc(
            &role,
            &forged,
            "create_system_alert",
            ALERT,
            &alert(api.other),
        )
        .expect_err("not a member");
    assert_eq!(refused.sqlstate, "42501");
    for broken in [json!({}), json!({ "sub": "me" }), json!([1]), json!("text")] {
        assert_eq!(
            api.get(&role, &broken, "system_alerts", "id"),
            Ok(json!([])),
            "{broken}"
        );
    }
    let alerts: i64 = value(
        &mut api.admin,
        "SELECT count(*) FROM public.system_alerts",
        &[],
    );
    assert_eq!(alerts, 1);
}

#[test]
fn without_a_token_there_is_nothing() {
    let mut api = Api::new();
    let anon = api.anon.clone();
    let nobody = json!({ "role": "anon" });
    for table in ["campaigns", "user_notifications", "agent_registry"] {
        let refused = api
            .get(&anon, &nobody, table, "id")
            .expect_err("no privilege");
        assert_eq!(refused.sqlstate, "42501", "{table}");
    }
    let refused = api
        .rpc(
            &anon,
            &nobody,
            "create_system_alert",
            ALERT,
            &alert(api.acme),
        )
        .expect_err("no privilege");
    assert_eq!(refused.sqlstate, "42501");
    // Claims do not make a person of somebody who was not let in as one.
    let dressed_up = claims(api.acme, api.anna);
    let refused = api
        .get(&anon, &dressed_up, "campaigns", "id")
        .expect_err("still no privilege");
    assert_eq!(refused.sqlstate, "42501");
}

#[test]
fn a_service_sends_and_unlocks_for_the_workspace_of_its_token() {
    let mut api = Api::new();
    let service = api.service.clone();
    let of_acme = json!({ "role": "service_role", "workspace_id": api.acme });
    let send: &[(&str, &str)] = &[
        ("p_workspace_id", "uuid"),
        ("p_user_id", "uuid"),
        ("p_notification_type", "text"),
        ("p_title", "text"),
        ("p_message", "text"),
        ("p_idempotency_key", "text"),
    ];
    let body = json!({
        "p_workspace_id": api.acme, "p_user_id": api.anna, "p_notification_type": "message",
        "p_title": "Hello", "p_message": "Welcome", "p_idempotency_key": "welcome"
    });
    let first = api
        .rpc(&service, &of_acme, "send_user_notification", send, &body)
        .expect("is sent");
    let again = api
        .rpc(&service, &of_acme, "send_user_notification", send, &body)
        .expect("is not sent again");
    assert_eq!(first, again);
    let (role, mine) = (api.authenticated.clone(), claims(api.acme, api.anna));
    assert_eq!(
        api.get(&role, &mine, "user_notifications", "title"),
        Ok(json!([{ "title": "Hello" }]))
    );
    // A person may not send, and a service not elsewhere.
    let refused = api
        .rpc(&role, &mine, "send_user_notification", send, &body)
        .expect_err("people do not send");
    assert_eq!(refused.sqlstate, "42501");
    let elsewhere = json!({ "role": "service_role", "workspace_id": api.other });
    let refused = api
        .rpc(&service, &elsewhere, "send_user_notification", send, &body)
        .expect_err("not the workspace of the token");
    assert_eq!(refused.sqlstate, "42501");
}

#[test]
fn one_connection_serves_tenant_after_tenant_without_a_trace() {
    let mut api = Api::new();
    let (anon, role) = (api.anon.clone(), api.authenticated.clone());
    let (mine, theirs) = (claims(api.acme, api.anna), claims(api.other, api.olga));
    for (token, workspace) in [(&mine, api.acme), (&theirs, api.other)] {
        api.rpc(
            &role,
            token,
            "create_system_alert",
            ALERT,
            &alert(workspace),
        )
        .expect("an alert each");
    }
    for _ in 0..10 {
        for (token, workspace) in [(&mine, api.acme), (&theirs, api.other)] {
            assert_eq!(
                api.get(&role, token, "system_alerts", "workspace_id"),
                Ok(json!([{ "workspace_id": workspace }]))
            );
        }
        api.get(&anon, &json!({}), "system_alerts", "id")
            .expect_err("nothing of the request before is left");
    }
}
