"""What a browser loads for a page: one style sheet and one script."""

import re
from pathlib import Path

import pytest
from django.conf import settings
from django.contrib.staticfiles.storage import staticfiles_storage
from django.core.management import call_command

from config.bundles import BUNDLES, bundled

SOURCES = Path(settings.BASE_DIR) / "static"
IMPORT = re.compile(r'^(?:@import url\("|import "\./)([^"]+)"', re.MULTILINE)


def collected(name: str) -> str:
    return Path(staticfiles_storage.path(staticfiles_storage.stored_name(name))).read_text()


@pytest.mark.parametrize("name", BUNDLES)
def test_a_bundle_has_every_file_that_its_source_imports_in_that_order(name):
    source = SOURCES / name
    imported = [(source.parent / path).read_text() for path in IMPORT.findall(source.read_text())]
    assert imported, "a bundle that imports nothing would prove nothing"

    bundle = collected(name)

    places = [bundle.find(text) for text in imported]
    assert -1 not in places
    assert places == sorted(places)
    assert not IMPORT.search(bundle)


def test_each_style_stays_in_its_layer():
    files = {
        "css/app.css": '@layer low, high;\n@import url("a.css") layer(high);\n@import url("b/c.css") layer(low);\n',
        "css/a.css": "p { color: red; }\n",
        "css/b/c.css": "p { color: blue; }\n",
    }

    bundle = bundled("css/app.css", files.__getitem__)

    assert bundle == "@layer low, high;\n@layer high {\np { color: red; }\n}\n@layer low {\np { color: blue; }\n}\n"


def test_each_script_keeps_its_names_to_itself():
    files = {
        "js/app.js": 'import "./a.js";\nimport "./b.js";\n',
        "js/a.js": "const page = 1;\n",
        "js/b.js": "const page = 2;\n",
    }

    bundle = bundled("js/app.js", files.__getitem__)

    assert bundle == "{\nconst page = 1;\n}\n{\nconst page = 2;\n}\n"


@pytest.mark.parametrize(
    "text",
    ['import { page } from "./b.js";\n', "export const page = 1;\n", 'p { background: url("paper.png"); }\n'],
)
def test_a_file_that_cannot_be_moved_is_refused(text):
    files = {
        "css/app.css": '@import url("part") layer(a);',
        "css/part": text,
        "js/app.js": 'import "./part";',
        "js/part": text,
    }
    name = "css/app.css" if "url(" in text else "js/app.js"

    with pytest.raises(ValueError, match="cannot be bundled"):
        bundled(name, files.__getitem__)


def test_collecting_again_after_one_file_changed_brings_the_change(tmp_path, settings):
    static = tmp_path / "static"
    (static / "css").mkdir(parents=True)
    (static / "css/app.css").write_text('@layer a;\n@import url("one.css") layer(a);\n')
    (static / "css/one.css").write_text("p { color: red; }\n")
    settings.STATICFILES_DIRS = [str(static)]
    settings.STATIC_ROOT = str(tmp_path / "collected")
    call_command("collectstatic", interactive=False, verbosity=0)

    (static / "css/one.css").write_text("p { color: green; }\n")
    call_command("collectstatic", interactive=False, verbosity=0)

    bundles = list((tmp_path / "collected/css").glob("app.*.css"))
    assert any("green" in bundle.read_text() for bundle in bundles)
