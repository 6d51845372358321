"""Each endpoint, in the order of a day's work."""

from uuid import uuid4

from conftest import As, World


def test_health_needs_no_token_and_tells_the_version(app):
    answer = app.get("/health").json()
    assert answer["status"] == "ok"
    assert answer["codex"].count(".") == 2


def test_a_campaign_with_quests(anna: As):
    campaign = anna("POST", "/campaigns", 201, json={"name": "Winter launch", "budget_allocation": "1200.50"})
    assert campaign["status"] == "draft"
    path = f"/campaigns/{campaign['id']}"
    quest = anna("POST", f"{path}/quests", 201, json={"name": "Write the copy", "quest_order": 1})
    below = anna("POST", f"{path}/quests", 201, json={"name": "Proofread", "parent_quest_id": quest["id"], "quest_order": 2})
    assert [q["name"] for q in anna("GET", f"{path}/quests")] == ["Write the copy", "Proofread"]
    assert anna("PATCH", f"/quests/{quest['id']}", json={"status": "completed"})["status"] == "completed"
    # A quest that is below another one cannot become its parent.
    refused = anna("PATCH", f"/quests/{quest['id']}", 422, json={"parent_quest_id": below["id"]})
    assert refused["sqlstate"] == "22023"
    assert anna("PATCH", path, json={"description": "Skis"})["description"] == "Skis"
    assert anna("GET", path)["name"] == "Winter launch"
    anna("DELETE", path, 204)
    anna("GET", path, 404)
    anna("GET", f"{path}/quests", 404)


def test_campaigns_are_read_page_by_page(anna: As):
    made = [anna("POST", "/campaigns", 201, json={"name": f"Page {n}"})["id"] for n in range(5)]
    seen, after = [], None
    while page := anna("GET", "/campaigns", params={"limit": 2, "status": "draft"} | ({"after": after} if after else {})):
        assert len(page) <= 2
        seen += [campaign["id"] for campaign in page]
        after = seen[-1]
    assert [i for i in seen if i in made] == made
    for campaign in made:
        anna("DELETE", f"/campaigns/{campaign}", 204)


def test_an_achievement_pays_once(anna: As, service: As, world: World):
    place = world.alpenglow
    path = f"/achievements/{place.achievement}/unlock"
    before = anna("GET", "/me/achievements")["total_points"]
    first = service("POST", path, json={"user_id": str(place.anna)})
    assert (first["success"], first["points_awarded"]) == (True, 150)
    second = service("POST", path, json={"user_id": str(place.anna)})
    assert (second["success"], second["message"]) == (False, "Achievement already unlocked")
    mine = anna("GET", "/me/achievements")
    assert mine["total_points"] == before + 150
    assert [unlocked["name"] for unlocked in mine["unlocked"]] == ["First campaign"]
    anna("POST", path, 403, json={"user_id": str(place.ben)})
    assert [a["name"] for a in anna("GET", "/achievements")] == ["First campaign"]


def test_an_execution_that_is_sent_twice_counts_once(anna: As, service: As, world: World):
    execution = {"execution_id": str(uuid4()), "seconds": "2.5", "input_tokens": 900, "cost": "0.02", "success": True}
    for _ in range(2):
        service("POST", f"/agents/{world.agent}/executions", 204, json=execution)
    [row] = anna("GET", "/agents/performance")
    assert (row["agent_id"], row["executions"], row["tokens"]) == (str(world.agent), 1, 900)
    assert [agent["agent_name"] for agent in anna("GET", "/agents")] == ["Herald"]
    service("POST", f"/agents/{uuid4()}/executions", 404, json=execution | {"execution_id": str(uuid4())})


def test_signals_become_an_insight(anna: As, service: As):
    signals = [
        service(
            "POST",
            "/signals",
            201,
            json={
                "source_type": "market",
                "signal_category": "market_trend",
                "signal_title": f"Signal {n}",
                "data_source": f"source {n}",
                "confidence_score": 70 + n,
            },
        )["id"]
        for n in (8, 20, 25)
    ]
    ranked = anna("GET", "/signals/priority", params={"min_confidence": 80})
    assert {row["id"] for row in ranked} == set(signals[1:])
    insight = {"signal_ids": signals, "title": "Snow sells", "insight_type": "trend", "conclusions": ["Go early"]}
    made = anna("POST", "/insights", 201, json=insight)["id"]
    [active] = anna("GET", "/insights/active")
    assert (active["id"], active["signal_count"]) == (made, 3)
    anna("POST", "/insights", 404, json=insight | {"signal_ids": [*signals, str(uuid4())]})
    assert len(anna("GET", "/insights/active")) == 1, "nothing is half written"


def test_an_alert_is_raised_once_and_answered(anna: As, service: As):
    alert = {"alert_type": "error", "severity": "critical", "title": "Feed is down", "dedup_key": "feed", "data_points": {"n": 1}}
    first = service("POST", "/alerts", 201, json=alert)["id"]
    assert service("POST", "/alerts", 201, json=alert)["id"] == first
    assert [a["title"] for a in anna("GET", "/alerts/critical")] == ["Feed is down"]
    anna("POST", f"/alerts/{first}/acknowledge", 204)
    anna("POST", f"/alerts/{first}/resolve", 204, json={"action_taken": "Restarted"})
    assert anna("GET", "/alerts/critical") == []
    anna("POST", f"/alerts/{uuid4()}/dismiss", 404)


def test_a_notification_reaches_its_reader_once(anna: As, ben: As, service: As, world: World):
    place = world.alpenglow
    message = {"user_ids": [str(place.anna), str(place.ben)], "title": "Hello", "message": "Welcome"}
    headers = {"Idempotency-Key": "welcome"}
    assert service("POST", "/notifications", 201, json=message, headers=headers) == {"sent": 2}
    assert service("POST", "/notifications", 201, json=message, headers=headers) == {"sent": 2}, "the first answer"
    [mine] = anna("GET", "/me/notifications")
    anna("POST", f"/me/notifications/{mine['id']}/read", 204)
    assert anna("GET", "/me/notifications") == []
    assert len(ben("GET", "/me/notifications")) == 1, "once"
    assert ben("POST", "/me/notifications/read-all") == {"marked": 1}
    service(
        "POST", "/notifications", 403, json=message | {"user_ids": [str(place.anna), str(world.stranger)]}
    )
    assert anna("GET", "/me/notifications") == [], "to all or to none"
