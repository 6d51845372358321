"""What is refused says what was wrong; nothing reaches the log as an internal error."""

from uuid import uuid4

import pytest
from codex_api.errors import status_of
from conftest import As


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422),
        ({"name": ""}, 422),
        ({"name": "   "}, 422),  # the database's CHECK
        ({"name": "x" * 201}, 422),
        ({"name": "Nul \x00 byte"}, 422),
        ({"name": "Dates", "start_date": "2026-05-02", "end_date": "2026-05-01"}, 422),
        ({"name": "Money", "budget_allocation": -1}, 422),
        ({"name": "Money", "budget_allocation": "NaN"}, 422),
        ({"name": "More", "workspace_id": str(uuid4())}, 422),
    ],
)
def test_a_campaign_that_is_not_one(anna: As, body, status):
    anna("POST", "/campaigns", status, json=body)


def test_the_database_says_what_is_wrong(anna: As):
    refused = anna("POST", "/campaigns", 422, json={"name": "   "})
    assert refused["sqlstate"] == "23514"
    assert "campaigns_name_check" in refused["detail"]


def test_lists_have_bounds(anna: As):
    for limit in (0, -1, 201, "many"):
        anna("GET", "/campaigns", 422, params={"limit": limit})
    anna("GET", "/campaigns/not-a-uuid", 422)
    anna("PATCH", f"/campaigns/{uuid4()}", 422, json={})


def test_every_sqlstate_of_the_manual_has_a_status():
    assert status_of("22004") == 422
    assert status_of("42501") == 403
    assert status_of("P0002") == 404
    assert status_of("55P03") == 503
    assert status_of("23001") == 409
    assert status_of("XX000") == 500
    assert status_of(None) == 503
