"""Checks the patterns and readers against scripts/lib/prose_examples.txt. Used by scripts/prose."""

from dataclasses import dataclass, field
from pathlib import Path

import prose_readers
import prose_text

EXAMPLES = Path(__file__).resolve().parent / "prose_examples.txt"
# Kinds of text; any other heading is the name of a file that a reader takes apart.
KINDS = {
    "doc": ("comments", True),
    "comment": ("comments", False),
    "help": ("help", True),
    "message": ("messages", False),
    "test": ("tests", False),
}


@dataclass
class Example:
    """Lines that the lint flags together, and lines that it passes."""

    heading: str
    line: int
    before: list = field(default_factory=list)
    after: list = field(default_factory=list)


def examples(source):
    """The examples of the file: blocks of `- ` and `+ ` lines below a heading in brackets."""
    heading = example = None
    for number, line in enumerate(source.split("\n"), 1):
        if line.startswith("["):
            heading = line.strip("[]")
        if line[:1] not in ("-", "+"):
            if example:
                yield example
            example = None
            continue
        example = example or Example(heading, number)
        (example.before if line[0] == "-" else example.after).append(line[2:])
    if example:
        yield example


def matches(heading, lines):
    """Idioms and faults in the lines of one side of an example."""
    if heading in KINDS:
        kind, is_doc = KINDS[heading]
        # Each name of a test is a text of its own.
        parts = lines if kind == "tests" else ["\n".join(lines)]
        texts = [prose_text.Text("", kind, "", 1, 1, part, is_doc) for part in parts]
    else:
        texts = list(prose_readers.reader_of(heading)(heading, "\n".join(lines) + "\n"))
    return [match for text in texts for match in (*prose_text.idioms(text), *prose_text.faults(text))]


def failures():
    """A message for each example that the lint gets wrong."""
    found = list(examples(EXAMPLES.read_text()))
    if not found:
        yield f"{EXAMPLES.name}: no examples"
    for example in found:
        place = f"{EXAMPLES.name}:{example.line}: [{example.heading}]"
        if example.before and not matches(example.heading, example.before):
            yield f"{place}: not flagged: {' / '.join(example.before)}"
        for match in matches(example.heading, example.after) if example.after else ():
            yield f"{place}: flagged as {match.pattern}: {match.words}"
