"""The database itself refuses to change or delete what is written once."""

TABLES = ("chat_ledgerentry", "chat_price")

_SQLITE = """CREATE TRIGGER IF NOT EXISTS {table}_keeps_{verb} BEFORE {verb} ON {table}
BEGIN SELECT RAISE(ABORT, '{table} is written once'); END"""

_POSTGRES_FUNCTION = """CREATE OR REPLACE FUNCTION tally_written_once() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION '% is written once', TG_TABLE_NAME USING ERRCODE = 'integrity_constraint_violation'; END $$"""

_POSTGRES = """CREATE OR REPLACE TRIGGER {table}_keeps BEFORE UPDATE OR DELETE ON {table}
FOR EACH ROW EXECUTE FUNCTION tally_written_once()"""


def install(connection) -> None:
    """Put the triggers in place; again does no harm."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(_POSTGRES_FUNCTION)
            for table in TABLES:
                cursor.execute(_POSTGRES.format(table=table))
        else:
            for table in TABLES:
                for verb in ("UPDATE", "DELETE"):
                    cursor.execute(_SQLITE.format(table=table, verb=verb))


def remove(connection) -> None:
    """For a test database that is emptied between tests."""
    with connection.cursor() as cursor:
        for table in TABLES:
            if connection.vendor == "postgresql":
                cursor.execute(f"DROP TRIGGER IF EXISTS {table}_keeps ON {table}")
            else:
                for verb in ("UPDATE", "DELETE"):
                    cursor.execute(f"DROP TRIGGER IF EXISTS {table}_keeps_{verb}")
