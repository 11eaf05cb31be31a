"""The rate of idioms and faults in the texts for users, per kind and file. Used by scripts/prose --public."""

from collections import Counter

import prose_text

MAX_PER_1000 = 3
GENERATED = ("docs/config.md", "docs/metrics.md", "docs/openapi.json")
KINDS = ("README", "docs", "examples", "help", "messages", "generated references")


def kind_of(text):
    """The kind of a text for users, or None."""
    if text.kind in ("help", "messages"):
        return text.kind
    if text.kind != "docs":
        return None
    if text.path in GENERATED:
        return "generated references"
    if text.path == "README.md":
        return "README"
    return "examples" if text.path.startswith("examples/") else "docs"


def part_of(text):
    """The row of a text below its kind: the crate of messages and help, else the file."""
    return text.group if text.kind in ("help", "messages") else text.path


class Rates:
    """Lines and hits by kind, and by kind and part."""

    def __init__(self, texts):
        self.lines, self.hits = Counter(), Counter()
        self.matches = []
        for text in texts:
            kind = kind_of(text)
            if kind is None:
                continue
            found = [*prose_text.idioms(text), *prose_text.faults(text)]
            self.matches += found
            for key in ("total", kind, (kind, part_of(text))):
                self.lines[key] += text.lines
                self.hits[key] += len(found)

    def per_1000(self, key):
        return 1000 * self.hits[key] / max(1, self.lines[key])

    def row(self, title, key):
        return f"{title:44}{self.lines[key]:>8}{self.hits[key]:>8}{self.per_1000(key):>10.1f}"

    def table(self):
        """A row for each kind, for its parts with hits, and for all texts."""
        yield f"{'':44}{'lines':>8}{'hits':>8}{'per 1000':>10}"
        for kind in KINDS:
            yield self.row(kind, kind)
            for key in sorted(key for key in self.hits if key[0] == kind and self.hits[key]):
                yield self.row(f"  {key[1]}", key)
        yield self.row("total", "total")

    def above(self):
        """The kinds above the limit."""
        return [kind for kind in KINDS if self.per_1000(kind) > MAX_PER_1000]
