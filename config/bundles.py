"""One style sheet and one script on the wire, however many files they are written in.

`collectstatic` puts into css/app.css and js/app.js what they import. Served from the sources, as DEBUG does
it, browsers follow the imports themselves, and see the same.
"""

import re
from pathlib import PurePosixPath

from django.core.files.base import ContentFile
from servestatic.storage import CompressedManifestStaticFilesStorage  # type: ignore[import-untyped]

BUNDLES = ("css/app.css", "js/app.js")

_CSS_IMPORT = re.compile(r'^@import url\("(?P<path>[^"]+)"\) layer\((?P<layer>[\w-]+)\);$', re.MULTILINE)
_JS_IMPORT = re.compile(r'^import "(?P<path>\./[^"]+)";$', re.MULTILINE)
# Relative to a file that would no longer be where it was; or names of a module that is none any more.
_BOUND_TO_ITS_FILE = re.compile(r"@import|url\((?!['\"]?data:)|^\s*(?:import|export)\b", re.MULTILINE)


class BundlingStorage(CompressedManifestStaticFilesStorage):
    """Django's manifest and servestatic's compression, of bundles."""

    def post_process(self, paths: dict, dry_run: bool = False, **options):
        if not dry_run:
            for name in BUNDLES:
                if name in paths:
                    bundle = bundled(name, lambda path: _read(paths, path))
                    self.delete(name)
                    self._save(name, ContentFile(bundle.encode()))
                    paths[name] = (self, name)
        yield from super().post_process(paths, dry_run, **options)


def bundled(name: str, read) -> str:
    """The file with what it imports in place of the imports. `read(path)` gives a file's text.

    Raises ValueError for a file that cannot be moved: one with imports, exports or relative URLs of its own.
    """
    folder = PurePosixPath(name).parent

    def css(match: re.Match) -> str:
        return f"@layer {match['layer']} {{\n{_movable(match['path'], folder, read)}}}"

    def js(match: re.Match) -> str:
        # A block keeps the names of each file to itself, as modules do.
        return f"{{\n{_movable(match['path'], folder, read)}}}"

    return _CSS_IMPORT.sub(css, read(name)) if name.endswith(".css") else _JS_IMPORT.sub(js, read(name))


def _movable(path: str, folder: PurePosixPath, read) -> str:
    text = read(str(folder / path))
    if _BOUND_TO_ITS_FILE.search(text):
        raise ValueError(f"{path} cannot be bundled: it imports, exports, or names another file.")
    return text


def _read(paths: dict, name: str) -> str:
    storage, path = paths[name]
    with storage.open(path) as file:
        return file.read().decode()
