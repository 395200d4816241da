"""Who has a turn: the attempt number that a claim gave, whatever happened in between."""

import threading
import uuid

import pytest
from django.db import connection

from chat import doorbell, turns
from chat.models import Turn
from chat.models.turn import TurnQuerySet
from chat.sweeper import recover
from tests.test_crashes import expire


@pytest.mark.django_db(transaction=True)
def test_a_worker_that_hangs_while_it_claims_does_not_take_its_successors_number(conversation, monkeypatch):
    turn = conversation.start_turn("Hello", uuid.uuid4())
    carried, others = [], []
    monkeypatch.setattr(doorbell, "ring", lambda turn_id: True)
    monkeypatch.setattr(turns, "_to_its_end", lambda turn, run: carried.append(turn.attempt))

    def another_worker_takes_it() -> None:
        try:
            expire(turn)
            recover(Turn.objects.get(id=turn.id))
            others.append(Turn.objects.claim(turn.id).attempt)
        finally:
            connection.close()

    beside = threading.Thread(target=another_worker_takes_it)
    look = TurnQuerySet.select_related

    def hang_before_the_look(self, *names):
        if beside.ident is None:
            beside.start()
            beside.join(0.5)  # as long as it likes, if nothing keeps it out
        return look(self, *names)

    monkeypatch.setattr(TurnQuerySet, "select_related", hang_before_the_look)
    turns.run(turn.id)
    beside.join(20)

    Turn.objects.filter(id=turn.id).update(state=Turn.State.STOPPED, lease_until=None)
    assert (carried, others) == ([1], [2])
