"""Many people's messages with their words in the index, written as the triggers would write them, only all at once."""

import random
import uuid
from collections import Counter

from django.db import connection

from chat import catalogue, search_index, words
from chat.models import User

WORDS_OF_A_MESSAGE = 40
TEXTS = 4_000
VOCABULARY = 30_000
PEOPLE = 1_000
SHARE_OF_THE_FIRST = 20  # a twentieth of everything is one person's

_TABLE = "CREATE TEMPORARY TABLE bench_text (number integer PRIMARY KEY, text text, words text)"
_MESSAGES = {
    "sqlite": """INSERT INTO chat_message
(id, conversation_id, role, content, text, rendered, rendered_with, created_at)
WITH RECURSIVE numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < %(count)s)
SELECT printf('%%032x', %(start)s + n), %(conversation)s, 'user', '[]', t.text, '', 0, %(now)s
FROM numbers JOIN bench_text t ON t.number = (%(start)s + n) * 613 %% %(texts)s""",
    "postgresql": """INSERT INTO chat_message
(id, conversation_id, role, content, text, rendered, rendered_with, created_at)
SELECT lpad(to_hex(%(start)s + n), 32, '0')::uuid, %(conversation)s::uuid, 'user', '[]', t.text, '', 0,
%(now)s::timestamptz
FROM generate_series(0, %(count)s - 1) AS n JOIN bench_text t ON t.number = (%(start)s + n) * 613 %% %(texts)s""",
}
_INDEX = {
    "sqlite": [
        "INSERT INTO chat_searchentry (conversation_id, message_id) SELECT conversation_id, id FROM chat_message m "
        "WHERE NOT EXISTS (SELECT 1 FROM chat_searchentry e WHERE e.message_id = m.id) ORDER BY id",
        "INSERT INTO chat_searchindex (rowid, words) "
        "SELECT e.id, c.owner_id || 'x' || replace(t.words, ' ', ' ' || c.owner_id || 'x') "
        "FROM chat_searchentry e JOIN chat_message m ON m.id = e.message_id "
        "JOIN bench_text t ON t.text = m.text JOIN chat_conversation c ON c.id = e.conversation_id",
    ],
    "postgresql": [
        "DROP INDEX chat_searchentry_words",
        "INSERT INTO chat_searchentry (conversation_id, message_id, words) SELECT m.conversation_id, m.id, "
        "(c.owner_id || 'x' || replace(t.words, ' ', ' ' || c.owner_id || 'x'))::tsvector "
        "FROM chat_message m JOIN bench_text t ON t.text = m.text "
        "JOIN chat_conversation c ON c.id = m.conversation_id ORDER BY m.id",
    ],
}


def fill(messages: int) -> User:
    """So many messages of a thousand people. Gives the first of them, who wrote a twentieth."""
    people = User.objects.bulk_create(User(username=f"writer-{number}") for number in range(PEOPLE))
    model = catalogue.default().id
    places = [person.conversations.create(model=model, title=f"Notes of {person.username}") for person in people]
    vendor = connection.vendor
    with connection.cursor() as cursor:
        if vendor == "sqlite":
            search_index.suspend(connection)
        else:
            cursor.execute("ALTER TABLE chat_message DISABLE TRIGGER chat_message_search")
        cursor.execute(_TABLE)
        rows = [(number, text, " ".join(words.words(text))) for number, text in enumerate(_texts())]
        cursor.executemany("INSERT INTO bench_text VALUES (%s, %s, %s)", rows)
        cursor.execute("CREATE INDEX bench_text_text ON bench_text (text)")
        start = 1
        for number, place in enumerate(places):
            first = messages // SHARE_OF_THE_FIRST
            count = first if number == 0 else (messages - first) // (PEOPLE - 1)
            conversation = place.id.hex if vendor == "sqlite" else str(place.id)
            values = {"start": start, "count": count, "conversation": conversation, "texts": TEXTS}
            cursor.execute(_MESSAGES[vendor], {**values, "now": "2026-11-23 12:00:00+00:00"})
            start += count
        for statement in _INDEX[vendor]:
            cursor.execute(statement)
        if vendor == "postgresql":
            cursor.execute("ALTER TABLE chat_message ENABLE TRIGGER chat_message_search")
        cursor.execute("DROP TABLE bench_text")
    search_index.install(connection)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    return people[0]


def _texts() -> list[str]:
    """Some words are in half of all texts and most in very few, as in what people write. Each text is another one."""
    luck = random.Random(1)  # noqa: S311  the same texts in each run
    syllables = [first + second for first in "bdfgklmnprstvz" for second in "aeiou"]
    vocabulary = ["".join(luck.choices(syllables, k=luck.randint(2, 4))) for _ in range(VOCABULARY)]
    common = [1 / (rank + 1) for rank in range(VOCABULARY)]
    chosen = [luck.choices(vocabulary, common, k=WORDS_OF_A_MESSAGE) for _ in range(TEXTS)]
    return [f"{uuid.UUID(int=number).hex[-6:]} {' '.join(words)}" for number, words in enumerate(chosen)]


def queries() -> list[str]:
    """A common word, a rare one, beginnings, several at once, a phrase, and what nobody has written."""
    texts = [text.split() for text in _texts()]
    ranked = [word for word, _ in Counter(word for text in texts for word in text[1:]).most_common()]
    common, rare = ranked[0], ranked[-1]
    several, phrase = " ".join(texts[1][3:6]), " ".join(texts[2][4:6])
    return [common, rare, common[:2], rare[:3], f"{common} {rare}", several, f'"{phrase}"', "qwxqwx"]
