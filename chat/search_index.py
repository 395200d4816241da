"""The index behind the search, which the database keeps itself: whoever writes a message or a title, and however, it
is found from the same transaction on, and with the row it is gone. chat/data/search/ has the triggers.

Each word begins with its owner: `12xhello` is "hello" in a message of person 12, `12thello` in a title of theirs. So a
search reads only what is theirs, however many others use the same word, and finds nobody else's by any mistake in it.
SQLite asks Python for the words (`register`); PostgreSQL makes them itself, by the same rules (chat/words.py).
"""

import re
from pathlib import Path

from chat import words

MESSAGE, TITLE = "x", "t"
_DIRECTORY = Path(__file__).parent / "data" / "search"


def register(connection) -> None:
    """Give a new connection of SQLite the function that its triggers call."""
    connection.create_function("tally_words", 2, _keys, deterministic=True)


def install(connection) -> None:
    """Put the index in place and fill in what is not in it yet; again does no harm."""
    if "chat_searchentry" not in connection.introspection.table_names():
        return  # the database stands at a migration before the search
    with connection.cursor() as cursor:
        for statement in _statements(connection, cursor):
            cursor.execute(statement)


def suspend(connection) -> None:
    """Before a migration: SQLite cannot rebuild a table that a trigger of another one names."""
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            for name in re.findall(r"CREATE TRIGGER IF NOT EXISTS (\w+)", _sql("sqlite")):
                cursor.execute(f"DROP TRIGGER IF EXISTS {name}")


def remove(connection) -> None:
    """Everything that `install` has made, but for the column."""
    suspend(connection)
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("DROP TABLE IF EXISTS chat_searchindex")
        else:
            cursor.execute("DROP FUNCTION IF EXISTS tally_search_message, tally_search_title CASCADE")
            cursor.execute("DROP FUNCTION IF EXISTS tally_words, tally_folded")


def _keys(text: str, owner: str) -> str:
    """What the index of SQLite has of a text. `owner` is a number and MESSAGE or TITLE."""
    return " ".join(owner + word for word in words.words(text or ""))


def _statements(connection, cursor) -> list[str]:
    sql = _sql(connection.vendor)
    if connection.vendor == "postgresql":
        # Without it a database in the C locale knows the capitals of ASCII alone.
        cursor.execute("SELECT EXISTS (SELECT 1 FROM pg_collation WHERE collname = 'und-x-icu')")
        one_to_one = {letter: plain for letter, plain in words.LETTERS.items() if len(plain) == 1}
        values = {
            "collation": ' COLLATE "und-x-icu"' if cursor.fetchone()[0] else "",
            "separators": words.SEPARATORS,
            "unspaced": words.UNSPACED,
            "invisible": words.INVISIBLE,
            "letters": "".join(one_to_one),
            "plain": "".join(one_to_one.values()),
            "most": str(words.MOST_CHARACTERS),
            "longest": str(words.LONGEST_WORD),
        }
        for name, value in values.items():
            sql = sql.replace(f"{{{name}}}", value)
    return sql.split("\n\n")


def _sql(vendor: str) -> str:
    return (_DIRECTORY / f"{vendor}.sql").read_text()
