// Everything that the chat's page does by itself, one file per behaviour.

import "./branches.js";
import "./chips.js";
import "./clock.js";
import "./composer.js";
import "./copy.js";
import "./edit.js";
import "./files.js";
import "./focus.js";
import "./fold.js";
import "./paste.js";
import "./scroll.js";
import "./shortcuts.js";
import "./sidebar.js";
import "./status.js";
import "./draft.js";
import "./anew.js";
import "./elsewhere.js";
import "./next.js";
import "./websearch.js";
import "./foresight.js";
import "./session.js";
import "./settings.js";
