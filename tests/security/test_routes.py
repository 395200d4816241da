"""Who gets what where (S10 to S17, S35, S38; ASVS V8.2.1 to V8.3.1): a matrix that no new route can slip past."""

import pytest

from tests.security.conftest import SECRETS, rows
from tests.security.routes import ADMIN, PEOPLE, ROUTES, every_route, expected, model_of

pytestmark = pytest.mark.django_db

PER_MODEL = [route for route in every_route() if model_of(route)]
NOBODYS = "00000000-0000-7000-8000-000000000000"
OWNED = [route for route in ROUTES if "<uuid:" in route]


@pytest.mark.parametrize("route", every_route())
def test_everybody_gets_what_is_theirs_and_nothing_else(route, people, address):
    assert expected(route), (
        f"Nobody has said who may open {route!r}. Add a row for it to tests/security/routes.py: to ROUTES the statuses "
        "that anonymous, Alice (whose it is), Bob (a stranger) and Ada (the admin) get for GET and for POST, or for "
        "a model in the admin what Ada may do with it to ADMIN."
    )
    path = address(route)

    for method, statuses in expected(route).items():
        # The owner comes after the strangers: their POST may delete what the others tried to reach.
        found = {name: getattr(people[name], method)(path).status_code for name in ("anonymous", "bob", "ada", "alice")}
        assert all(found[name] in statuses[name] for name in PEOPLE), f"{method} {path}: {found}, not {statuses}"


def test_the_budgets_in_the_admin_use_nothing_that_django_is_about_to_drop(people):
    assert people["ada"].get("/admin/chat/budget/").status_code == 200


def test_no_row_is_left_over_from_a_route_that_is_gone():
    assert set(ROUTES) == {route for route in every_route() if not model_of(route)}
    assert set(ADMIN) == {model_of(route) for route in PER_MODEL}


def test_staff_without_permissions_get_nothing_from_the_admin(people, address):
    clerk = people["clerk"]

    for route in [*PER_MODEL, "admin/spend/"]:
        path = address(route)
        answers = [clerk.get(path), clerk.post(path), clerk.head(path), clerk.get(path, headers={"HX-Request": "true"})]
        # Django sends an address without `change/` on before it asks; what it sends to is in this list too.
        refused = 302 if route.endswith("/<path:object_id>/") else 403
        assert {answer.status_code for answer in answers} == {refused}, path


def test_asking_in_another_way_gives_the_same_answer(people, address):
    # Django's sign-in page sends those who are signed in away only when they GET it; else they see an empty form.
    for path in (address(route) for route in ROUTES if route != "admin/login/"):
        for name in PEOPLE:
            plain = people[name].get(path)
            head, script = people[name].head(path), people[name].get(path, headers={"HX-Request": "true"})
            for response in [head] if script.status_code == 401 else [head, script]:
                assert response.status_code == plain.status_code, (name, path)
                assert response.get("Location") == plain.get("Location"), (name, path)
            # A script is not sent on to the sign-in page, whose form it would put into its own page.
            is_to_sign_in = "/accounts/login/?next=" in plain.get("Location", "") or plain.status_code == 404
            assert (script.status_code == 401) == (name == "anonymous" and is_to_sign_in), (name, path)


@pytest.mark.parametrize(
    "vary",
    [
        lambda path: path.rstrip("/"),
        lambda path: path.upper(),
        lambda path: f"/{path}",
        lambda path: f"{path}/",
        lambda path: path.replace("/", "/./", 1),
        lambda path: path.replace("/", "/%2e/", 1),
        lambda path: f"/accounts/login/..{path}",
        lambda path: f"{path}%00",
        lambda path: f"{path}?user=1&owner=1&bypass=true&id=1",
    ],
    ids=["no slash", "capitals", "two slashes", "two slashes behind", "dot", "%2e", "dots", "NUL", "query"],
)
def test_no_spelling_of_an_address_opens_it_to_a_stranger(vary, people, address):
    for path in (vary(address(route)) for route in OWNED):
        for client in (people["anonymous"], people["bob"]):
            response = client.get(path)
            # A missing slash is added for everybody, whether the thing is there or not.
            assert response.status_code in {301, 302, 404, 405}, path
            assert not any(secret.encode() in response.content for secret in SECRETS.values()), path


def test_a_stranger_cannot_tell_what_is_there_from_what_is_not(people, address, answered):
    for route in OWNED:
        path = address(route)
        nothing = path.replace(str(answered.id), NOBODYS).replace(str(answered.conversation_id), NOBODYS)
        for method in ("get", "post", "options"):
            there, not_there = (getattr(people["bob"], method)(address) for address in (path, nothing))
            assert (there.status_code, there.content) == (not_there.status_code, not_there.content)


def test_a_get_changes_nothing(people, address):
    """S38, ASVS V3.5.3. Whoever looks, every table stays as it is."""
    paths = [address(route) for route in every_route()]
    # allauth copies one's own address into its table when one looks at the page of addresses.
    before = rows(but=("account_emailaddress",))

    for path in paths:
        for name in ("anonymous", "alice", "ada"):
            people[name].get(path)
        assert rows(but=("account_emailaddress",)) == before, path
