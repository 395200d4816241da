-- `fold` of chat/words.py. Without JIT, which would take longer than the work.
CREATE OR REPLACE FUNCTION tally_folded(said text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET jit = off AS $$
SELECT left(normalize(
    replace(replace(replace(replace(
        translate(
            lower(regexp_replace(normalize(left(said, {most}), NFKD), '[{invisible}]', '', 'g'){collation}),
            '{letters}', '{plain}'
        ), 'ß', 'ss'), 'æ', 'ae'), 'œ', 'oe'), 'þ', 'th'),
    NFKC), {most})
$$

-- `words` of chat/words.py, each with its owner in front. A run without spaces is taken apart in one go: `substr` would
-- count its characters from the start for each pair.
CREATE OR REPLACE FUNCTION tally_words(said text, owner text) RETURNS tsvector
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET jit = off AS $$
WITH
lines AS MATERIALIZED (
    SELECT line FROM regexp_split_to_table(tally_folded(said), '[{separators}]+') AS line WHERE line <> ''
),
mixed AS MATERIALIZED (
    SELECT row_number() OVER () AS number, run[1] AS run
    FROM lines, regexp_matches(line, '[{unspaced}]+|[^{unspaced}]+', 'g') AS run
    WHERE line ~ '[{unspaced}]'
),
found AS (
    SELECT left(line, {longest}) AS word FROM lines WHERE line !~ '[{unspaced}]'
    UNION
    SELECT left(run, {longest}) FROM mixed WHERE run !~ '[{unspaced}]'
    UNION
    SELECT letter || coalesce(lead(letter) OVER (PARTITION BY number ORDER BY place), '')
    FROM mixed, string_to_table(run, NULL) WITH ORDINALITY AS letters (letter, place)
    WHERE run ~ '[{unspaced}]'
)
SELECT coalesce(array_to_tsvector(array_agg(owner || word)), '') FROM found
$$

ALTER TABLE chat_searchentry ADD COLUMN IF NOT EXISTS words tsvector

-- Written at once: what waits in the list of a GIN index is read through by every search.
CREATE INDEX IF NOT EXISTS chat_searchentry_words ON chat_searchentry USING gin (words) WITH (fastupdate = off)

CREATE OR REPLACE FUNCTION tally_search_message() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE owner text;
BEGIN
    IF TG_OP = 'DELETE' THEN
        DELETE FROM chat_searchentry WHERE message_id = OLD.id;
        RETURN NULL;
    ELSIF TG_OP = 'UPDATE' AND OLD.text IS NOT DISTINCT FROM NEW.text THEN
        RETURN NULL;
    END IF;
    SELECT owner_id || 'x' INTO owner FROM chat_conversation WHERE id = NEW.conversation_id;
    IF TG_OP = 'INSERT' THEN
        INSERT INTO chat_searchentry (conversation_id, message_id, words)
        VALUES (NEW.conversation_id, NEW.id, tally_words(NEW.text, owner));
    ELSE
        UPDATE chat_searchentry SET words = tally_words(NEW.text, owner) WHERE message_id = NEW.id;
    END IF;
    RETURN NULL;
END $$

CREATE OR REPLACE FUNCTION tally_search_title() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        DELETE FROM chat_searchentry WHERE conversation_id = OLD.id;
    ELSIF TG_OP = 'INSERT' THEN
        INSERT INTO chat_searchentry (conversation_id, words) VALUES (NEW.id, tally_words(NEW.title, NEW.owner_id || 't'));
    ELSIF OLD.title IS DISTINCT FROM NEW.title THEN
        UPDATE chat_searchentry SET words = tally_words(NEW.title, NEW.owner_id || 't')
        WHERE conversation_id = NEW.id AND message_id IS NULL;
    END IF;
    RETURN NULL;
END $$

-- Of every update: PostgreSQL alters no column that a trigger names.
CREATE OR REPLACE TRIGGER chat_message_search AFTER INSERT OR UPDATE OR DELETE ON chat_message
FOR EACH ROW EXECUTE FUNCTION tally_search_message()

CREATE OR REPLACE TRIGGER chat_conversation_search AFTER INSERT OR UPDATE OR DELETE ON chat_conversation
FOR EACH ROW EXECUTE FUNCTION tally_search_title()

-- What was there before the index was.
INSERT INTO chat_searchentry (conversation_id, words)
SELECT c.id, tally_words(c.title, c.owner_id || 't') FROM chat_conversation c
WHERE NOT EXISTS (SELECT 1 FROM chat_searchentry e WHERE e.conversation_id = c.id AND e.message_id IS NULL)
ORDER BY c.id

INSERT INTO chat_searchentry (conversation_id, message_id, words)
SELECT m.conversation_id, m.id, tally_words(m.text, c.owner_id || 'x')
FROM chat_message m JOIN chat_conversation c ON c.id = m.conversation_id
WHERE NOT EXISTS (SELECT 1 FROM chat_searchentry e WHERE e.message_id = m.id)
ORDER BY m.id
