"""A prepared query gives what the plain one gives, whatever it is asked with and in whichever thread."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import Group
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from chat.models import Budget, User
from chat.prepared import Prepared
from tests.books import at_once

named = Prepared(lambda name: User.objects.filter(username=name), User._meta.get_field("username"))
any_of = Prepared(
    lambda names: User.objects.filter(username__in=names).order_by("id"), User._meta.get_field("username")
)
applying = Prepared(
    lambda at, user: (
        Budget.objects.annotate(now=Now())
        .filter(Q(valid_until=None) | Q(valid_until__gt=at), Q(user=user) | Q(user=None))
        .select_related("group")
        .order_by("id")
    ),
    Budget._meta.get_field("valid_until"),
    User._meta.pk,
)


@pytest.mark.django_db
def test_it_gives_each_time_what_is_asked_for(alice, bob):
    assert [named("alice"), named("bob"), named("nobody"), named("alice")] == [[alice], [bob], [], [alice]]


@pytest.mark.django_db
def test_a_list_may_have_any_length(alice, bob, ada):
    assert any_of(["bob", "alice"]) == [alice, bob]
    assert any_of(["ada"]) == [ada]
    assert any_of(["alice", "bob", "ada"]) == [alice, bob, ada]


@pytest.mark.django_db
def test_an_empty_list_finds_what_it_finds_without_it(limit, alice):
    of_a_team = Prepared(
        lambda user, groups: Budget.objects.filter(Q(user=user) | Q(group__id__in=groups)).order_by("id"),
        User._meta.pk,
        Group._meta.pk,
    )
    mine = limit(alice, "5")
    team = Group.objects.create(name="Designers")
    of_team = Budget.objects.create(kind="pot", limit=7, group=team)

    assert of_a_team(alice.pk, []) == [mine]
    assert of_a_team(alice.pk, [team.pk]) == [mine, of_team]


@pytest.mark.django_db
def test_rows_come_with_their_relations_annotations_and_types(alice, limit, django_assert_num_queries):
    limit(alice, "5", valid_until=timezone.now() + timedelta(hours=1))
    limit(alice, "6", valid_until=timezone.now() - timedelta(hours=1))
    Budget.objects.filter(user=None).delete()
    pot = Budget.objects.create(kind="pot", limit=7, group=Group.objects.create(name="Designers"))

    applying(timezone.now(), alice.pk)
    with django_assert_num_queries(1):
        mine, of_all = applying(timezone.now(), alice.pk)
        assert (of_all.pk, of_all.group.name) == (pot.pk, "Designers")
        assert mine.limit == 5 * 10**9
        assert mine.valid_until > mine.now


@pytest.mark.django_db
def test_what_it_gives_can_be_saved(alice):
    [found] = named("alice")
    found.first_name = "Alice"

    found.save(update_fields=["first_name"])

    assert User.objects.get(pk=alice.pk).first_name == "Alice"


@pytest.mark.django_db(transaction=True)
def test_threads_do_not_mix_up_their_values(alice, bob):
    names = ["alice", "bob"]

    found = at_once(16, lambda number: [named(names[number % 2]) for _ in range(50)])

    for number, answers in enumerate(found):
        assert answers == [[[alice, bob][number % 2]]] * 50
