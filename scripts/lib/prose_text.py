"""The patterns of the style rules, and the texts they are counted in. Used by scripts/prose."""

import json
import re
from dataclasses import dataclass

import rust_text

MAX_WORDS = 25

# Counted everywhere. A question may begin with "what", and people may ask, know and want.
PATTERNS = {
    "nominal what": r"\bwhat(ever)?\b",
    "speaking programs": r"(?<!you )(?<!we )(?<!users )(?<!people )\b(tells?|told|says?|said|asks?|asked|knows?|knew|wish(es)?|believes?|wants?)\b",
    "nameless persons": r"\b(who(m)?ever|somebody|nobody|anybody)\b",
    "archaisms": r"\b(anew|besides|meanwhile)\b",
    "going on": r"\b(go(es)? on|going on|went on|gone away|comes? of|came of|read along)\b",
    "units": r"\bso (many|much|few|often|old|long)\b(?! as\b)",
}
# The first word of a doc comment or of a description.
RIDDLES = re.compile(r"(It|They|That|Those|These|Which|Whether|Who|Whose|How)\b")
DOUBLED = re.compile(r"\b([a-z]+) \1\b(?<!\bthat that)", re.IGNORECASE)
# Words of a test name that stand where its subject should.
NAMELESS = {"what", "whatever", "it", "its", "they", "them", "nobody", "nothing", "whoever", "somebody", "who"}

COMPILED = {name: re.compile(pattern, re.IGNORECASE) for name, pattern in PATTERNS.items()}
CODE = re.compile(r"`[^`\n]*`|\{[^{}\n]*\}|<[^<>\n]*>|https?://\S+")
LINK = re.compile(r"\[([^\]\n]*)\]\([^)\n]*\)")
SENTENCE = re.compile(r"(?<=[.?!:;|])\s+|\n\s*\n")
TEST = re.compile(r"#\[(?:tokio::)?test\b[^\]]*\](?:\s*#\[[^\]]*\])*\s*(?:async\s+)?fn\s+(\w+)")
SCENARIO = re.compile(r"::\w+ as (\w+)\s*[,}]")
COMMAND_LINE = re.compile(r"#\[derive\([^)]*\b(Args|Parser|Subcommand|ValueEnum)\b")


@dataclass(frozen=True)
class Text:
    """A paragraph or message, with the place it stands at."""

    group: str  # a crate, or "docs"
    kind: str  # "comments", "help", "messages", "docs", "tests"
    path: str
    line: int
    lines: int
    text: str
    is_doc: bool = False


@dataclass(frozen=True)
class Match:
    text: Text
    pattern: str
    words: str


def plain(text):
    """`text` without code spans, placeholders, addresses and the targets of links."""
    return CODE.sub("X", LINK.sub(r"\1", text))


def idioms(text):
    """Matches of the patterns in one text."""
    shown = plain(text.text)
    if text.kind == "tests":
        if NAMELESS & set(shown.split("_")):
            yield Match(text, "test name without a subject", shown)
        return
    for sentence in SENTENCE.split(shown):
        for name, pattern in COMPILED.items():
            if name == "nominal what" and sentence.rstrip().endswith("?"):
                continue
            for mark in pattern.finditer(sentence):
                yield Match(text, name, excerpt(sentence, mark))
    if text.is_doc and (mark := RIDDLES.match(shown.lstrip())):
        yield Match(text, "riddle", excerpt(shown.lstrip(), mark))


def faults(text):
    """Doubled words and sentences that are too long: counted in public texts only."""
    shown = plain(text.text)
    for mark in DOUBLED.finditer(shown):
        yield Match(text, "doubled word", excerpt(shown, mark))
    for sentence in SENTENCE.split(shown):
        words = re.findall(r"[\w'’-]+", sentence)
        if len(words) > MAX_WORDS:
            yield Match(text, f"sentence of {len(words)} words", " ".join(words[:12]) + " …")


def excerpt(sentence, mark):
    return " ".join(sentence[max(0, mark.start() - 30) : mark.end() + 30].split())


# ----------------------------------------------------------------------------------------------------------------------


def rust_texts(path, source):
    group = rust_text.crate_of(path)
    found = rust_text.tokens(source)
    structure = rust_text.blanked(source, found)
    tests = [(0, len(source))] if rust_text.is_test_file(path) else rust_text.test_spans(structure)
    helps = command_line_spans(structure)

    def within(spans, offset):
        return any(start <= offset < end for start, end in spans)

    for line, mark, text, offset in comment_paragraphs(source, found):
        is_help = mark == "///" and within(helps, offset) and not within(tests, offset)
        yield Text(group, "help" if is_help else "comments", path, line, text.count("\n") + 1, text, mark != "//")
    for token in found:
        if token.kind == "string" and not within(tests, token.start) and is_message(token.text):
            line = source.count("\n", 0, token.start) + 1
            yield Text(group, "messages", path, line, 1, token.text)
    names = [*TEST.finditer(structure), *(SCENARIO.finditer(structure) if path.startswith("tests/") else ())]
    for mark in names:
        yield Text(group, "tests", path, structure.count("\n", 0, mark.start(1)) + 1, 1, mark.group(1))


def command_line_spans(structure):
    """Spans of the types whose doc comments clap shows as help, with the comments before them."""
    spans = []
    for mark in COMMAND_LINE.finditer(structure):
        end = rust_text.closing_brace(structure, structure.find("]", mark.end()) + 1)
        before = len(structure[: mark.start()].rstrip())
        spans.append((before, end or mark.end()))
    return spans


def comment_paragraphs(source, found):
    """Line, mark, text and offset of each paragraph of comments, without code blocks."""
    paragraph = []
    fenced = False
    last = None

    def flush():
        nonlocal paragraph
        if paragraph:
            line, mark, offset = paragraph[0][:3]
            yield line, mark, "\n".join(part[3] for part in paragraph), offset
        paragraph = []

    for token in found:
        if token.kind == "code" and token.text.strip():
            yield from flush()
            fenced = False
        if token.kind != "comment" or not token.text.startswith("//"):
            continue
        line = source.count("\n", 0, token.start) + 1
        mark = token.text[:3] if token.text[:3] in ("///", "//!") else "//"
        text = token.text[len(mark) :].strip()
        if paragraph and (last != line - 1 or paragraph[0][1] != mark):
            yield from flush()
        last = line
        if text.startswith("```"):
            fenced = not fenced
            yield from flush()
        elif not text or text.startswith("#"):
            yield from flush()
        elif not fenced:
            paragraph.append((line, mark, token.start, text))
    yield from flush()


def is_message(text):
    """Whether a string literal is read by people: at least three words, two of them of letters only."""
    words = text.split()
    letters = [word for word in words if re.fullmatch(r"[A-Za-z][a-z']+[.,:;]?", word)]
    return len(words) >= 3 and len(letters) >= 2 and not re.match(r"\s*(SELECT|INSERT|UPDATE|CREATE|DELETE|WITH|[<{])", text)


def markdown_texts(path, source):
    fenced = False
    paragraph = []
    start = 0
    for number, line in enumerate([*source.split("\n"), ""], 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
            line = ""
        if fenced or not line.strip() or line.lstrip().startswith(("|", "#", "- ", "* ", "<!--")):
            if paragraph:
                yield Text("docs", "docs", path, start, len(paragraph), "\n".join(paragraph))
                paragraph = []
            if fenced or not line.strip():
                continue
        if not paragraph:
            start = number
        paragraph.append(line.lstrip("|#-* "))


def description_texts(path, source):
    """The summaries and descriptions of a JSON document."""

    def walk(value):
        if isinstance(value, dict):
            for key, inner in value.items():
                if key in ("description", "summary") and isinstance(inner, str):
                    yield Text("docs", "docs", path, 1, inner.count("\n") + 1, inner, True)
                else:
                    yield from walk(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from walk(inner)

    yield from walk(json.loads(source))


def comment_lines_texts(path, source):
    """The comments of a file in which they begin with `#`."""
    lines = [line.lstrip("# ") if line.lstrip().startswith("#") else "" for line in source.split("\n")]
    yield from markdown_texts(path, "\n".join(lines))


READERS = {
    "*.rs": rust_texts,
    "*.md": markdown_texts,
    "docs/*.json": description_texts,
    "examples/*.toml": comment_lines_texts,
}


def texts():
    """All texts of the project."""
    for pattern, reader in READERS.items():
        for path in rust_text.tracked(pattern):
            yield from reader(path, (rust_text.ROOT / path).read_text())
