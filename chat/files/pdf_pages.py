"""How many pages a PDF has, as a program of its own: what people send may make a reader run in circles, or unpack a few
kilobytes into gigabytes, and neither may hold up those who are reading answers.

Standard input is the PDF, the argument how many pages are enough; standard output a number or a word of
chat/files/pdfs.py.
"""

import io
import resource
import sys

SECONDS, BYTES = 10, 1_500_000_000


def main() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))

    from pypdf import PdfReader

    try:
        reader = PdfReader(io.BytesIO(sys.stdin.buffer.read()))
        if reader.is_encrypted:
            print("locked")
            return
        # What a PDF says of itself may be wrong, but one that says that it is too long is not read to its end.
        tree = reader.root_object["/Pages"]
        said = tree["/Count"] if isinstance(tree, dict) and "/Count" in tree else 0
        if isinstance(said, int) and said > int(sys.argv[1]):
            print(int(said))
            return
        for page in (pages := reader.pages):
            _ = page.mediabox
        print(len(pages))
    except Exception:
        print("broken")


if __name__ == "__main__":
    main()
