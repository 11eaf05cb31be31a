"""The patterns of the style rules, and their matches in one text. Used by scripts/prose."""

import re
from dataclasses import dataclass

MAX_WORDS = 25

# Counted everywhere. A question may begin with `what`. Verbs of speech and thought may have `you`, `we` or people as subject.
PATTERNS = {
    "nominal what": r"\bwhat(ever)?\b",
    "speaking programs": r"(?<!you )(?<!we )(?<!users )(?<!people )\b(tells?|told|telling|says?|said|saying|asks?|asked|asking|"
    r"knows?|knew|knowing|wish(es)?|wished|wishing|believes?|believed|believing|wants?)\b",
    "nameless persons": r"\b(who(m)?ever|somebody|nobody|anybody)\b",
    "archaisms": r"\b(anew|besides|meanwhile)\b",
    "going on": r"\b(go(es)? on|going on|went on|gone away|comes? of|came of|read along|(is|are|was|were) at it)\b",
    "units": r"\bso (many|much|few|often|old|long)\b(?! as\b)",
}
# The first word of a doc comment or of a description.
RIDDLES = re.compile(r"(It|They|That|Those|These|Which|Whether|Who|Whose|How)\b")
DOUBLED = re.compile(r"\b([a-z]+) \1\b(?<!\bthat that)", re.IGNORECASE)
# Words of a test name that stand where its subject should.
NAMELESS = {"what", "whatever", "it", "its", "they", "them", "nobody", "nothing", "whoever", "somebody", "who"}

COMPILED = {name: re.compile(pattern, re.IGNORECASE) for name, pattern in PATTERNS.items()}
# A code span may be wrapped once.
CODE = re.compile(r"`[^`\n]*(?:\n[^`\n]+)?`|\{[^{}\n]*\}|<[^<>\n]*>|https?://\S+")
LINK = re.compile(r"\[([^\]\n]*)\]\([^)\n]*\)")
SENTENCE = re.compile(r"(?<=[.?!:;|])\s+|\n\s*\n")
WORD = re.compile(r"[\w'’][\w'’-]*")
# Code spans in a row are one word.
CODE_LIST = re.compile(r"\bX(?:,? (?:and |or )?X\b)+")


@dataclass(frozen=True)
class Text:
    """A paragraph or message, with the place it stands at."""

    group: str  # a crate, "docs", "scripts", "packaging", or "workspace" for other files of the root
    kind: str  # "comments", "help", "messages", "docs", "tests"
    path: str
    line: int
    lines: int
    text: str
    is_doc: bool = False
    key: str = ""  # the place inside a JSON document

    def place(self):
        return f"{self.path}:{self.key or self.line}"


@dataclass(frozen=True)
class Match:
    text: Text
    pattern: str
    words: str


def sentences(text):
    """The sentences of `text`, each on one line, without code spans, placeholders, addresses and the targets of links."""
    plain = CODE.sub("X", LINK.sub(r"\1", text))
    return [" ".join(sentence.split()) for sentence in SENTENCE.split(plain) if sentence.strip()]


def idioms(text):
    """Matches of the patterns in one text."""
    if text.kind == "tests":
        if NAMELESS & set(text.text.split("_")):
            yield Match(text, "test name without a subject", text.text)
        return
    found = sentences(text.text)
    for sentence in found:
        for name, pattern in COMPILED.items():
            if name == "nominal what" and sentence.endswith("?"):
                continue
            for mark in pattern.finditer(sentence):
                yield Match(text, name, excerpt(sentence, mark))
    if text.is_doc and found and (mark := RIDDLES.match(found[0])):
        yield Match(text, "riddle", excerpt(" ".join(found), mark))


def faults(text):
    """Doubled words and sentences that are too long: counted in public texts only."""
    for sentence in sentences(text.text):
        for mark in DOUBLED.finditer(sentence):
            if not mark.group(1).isupper():  # placeholders and SQL
                yield Match(text, "doubled word", excerpt(sentence, mark))
        words = WORD.findall(CODE_LIST.sub("X", sentence))
        if len(words) > MAX_WORDS:
            yield Match(text, f"sentence of {len(words)} words", " ".join(words[:12]) + " …")


def excerpt(sentence, mark):
    return " ".join(sentence[max(0, mark.start() - 30) : mark.end() + 30].split())
