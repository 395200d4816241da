-- The index only knows whether a word is in a text: no positions (detail), no sizes. `ascii` takes each character beyond
-- ASCII as part of a word, so what chat/words.py has made is not taken apart again.
CREATE VIRTUAL TABLE IF NOT EXISTS chat_searchindex
USING fts5(words, tokenize = 'ascii', detail = none, columnsize = 0)

CREATE TRIGGER IF NOT EXISTS chat_message_search_insert AFTER INSERT ON chat_message BEGIN
    INSERT INTO chat_searchentry (conversation_id, message_id) VALUES (NEW.conversation_id, NEW.id);
    INSERT INTO chat_searchindex (rowid, words)
    SELECT e.id, tally_words(NEW.text, c.owner_id || 'x')
    FROM chat_searchentry e JOIN chat_conversation c ON c.id = e.conversation_id WHERE e.message_id = NEW.id;
END

CREATE TRIGGER IF NOT EXISTS chat_message_search_update AFTER UPDATE OF text ON chat_message
WHEN OLD.text IS NOT NEW.text BEGIN
    UPDATE chat_searchindex SET words = (
        SELECT tally_words(NEW.text, owner_id || 'x') FROM chat_conversation WHERE id = NEW.conversation_id
    )
    WHERE rowid = (SELECT id FROM chat_searchentry WHERE message_id = NEW.id);
END

CREATE TRIGGER IF NOT EXISTS chat_message_search_delete AFTER DELETE ON chat_message BEGIN
    DELETE FROM chat_searchentry WHERE message_id = OLD.id;
END

CREATE TRIGGER IF NOT EXISTS chat_conversation_search_insert AFTER INSERT ON chat_conversation BEGIN
    INSERT INTO chat_searchentry (conversation_id) VALUES (NEW.id);
    INSERT INTO chat_searchindex (rowid, words)
    SELECT id, tally_words(NEW.title, NEW.owner_id || 't')
    FROM chat_searchentry WHERE conversation_id = NEW.id AND message_id IS NULL;
END

CREATE TRIGGER IF NOT EXISTS chat_conversation_search_update AFTER UPDATE OF title ON chat_conversation
WHEN OLD.title IS NOT NEW.title BEGIN
    UPDATE chat_searchindex SET words = tally_words(NEW.title, NEW.owner_id || 't')
    WHERE rowid = (SELECT id FROM chat_searchentry WHERE conversation_id = NEW.id AND message_id IS NULL);
END

CREATE TRIGGER IF NOT EXISTS chat_conversation_search_delete AFTER DELETE ON chat_conversation BEGIN
    DELETE FROM chat_searchentry WHERE conversation_id = OLD.id;
END

CREATE TRIGGER IF NOT EXISTS chat_searchentry_delete AFTER DELETE ON chat_searchentry BEGIN
    DELETE FROM chat_searchindex WHERE rowid = OLD.id;
END

-- What was there before the index was.
INSERT INTO chat_searchentry (conversation_id)
SELECT c.id FROM chat_conversation c
WHERE NOT EXISTS (SELECT 1 FROM chat_searchentry e WHERE e.conversation_id = c.id AND e.message_id IS NULL)
ORDER BY c.id

INSERT INTO chat_searchentry (conversation_id, message_id)
SELECT m.conversation_id, m.id FROM chat_message m
WHERE NOT EXISTS (SELECT 1 FROM chat_searchentry e WHERE e.message_id = m.id)
ORDER BY m.id

INSERT INTO chat_searchindex (rowid, words)
SELECT e.id, CASE
    WHEN e.message_id IS NULL THEN tally_words(c.title, c.owner_id || 't')
    ELSE tally_words(m.text, c.owner_id || 'x')
END
FROM chat_searchentry e
JOIN chat_conversation c ON c.id = e.conversation_id
LEFT JOIN chat_message m ON m.id = e.message_id
WHERE NOT EXISTS (SELECT 1 FROM chat_searchindex_content i WHERE i.id = e.id)
