"""Finds the texts of the project in files of each kind: comments, help, messages, documentation. Used by scripts/prose."""

import ast
import io
import json
import re
import tokenize
from fnmatch import fnmatchcase
from functools import partial

import prose_markup
import rust_text
from prose_text import Text

TEST = re.compile(r"#\[(?:tokio::)?test\b[^\]]*\](?:\s*#\[[^\]]*\])*\s*(?:async\s+)?fn\s+(\w+)")
SCENARIO = re.compile(r"::\w+ as (\w+)\s*[,}]")
COMMAND_LINE = re.compile(r"#\[derive\([^)]*\b(Args|Parser|Subcommand|ValueEnum)\b")
# Literals in another language: SQL, markup, JSON, shell, pg_hba.conf.
NO_PROSE = re.compile(r"\s*(SELECT|INSERT|UPDATE|CREATE|DELETE|WITH|START TRANSACTION|cd |local all |[<{])")
SHEBANG = re.compile(r"#!.*\b(python3?|bash|sh)\b")
# The doc comment that a block comment is the same as.
BLOCKS = {"/**": "///", "/*!": "//!"}


def group_of(path):
    first = path.split("/", 1)[0]
    return rust_text.crate_of(path) if "/" in path and not first.startswith(".") else "workspace"


# ---- Rust ------------------------------------------------------------------------------------------------------------


def rust_texts(path, source):
    group = group_of(path)
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
            yield Text(group, "messages", path, line, 1, prose_markup.message(token.text.replace("\\n", "\n")))
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


def comment_lines(source, found):
    """Line, mark, offset and text of each line of a comment; None for code between comments."""
    for token in found:
        if token.kind == "code" and token.text.strip():
            yield None
        if token.kind != "comment":
            continue
        line = source.count("\n", 0, token.start) + 1
        if token.text.startswith("//"):
            mark = token.text[:3] if token.text[:3] in ("///", "//!") else "//"
            yield line, mark, token.start, token.text[len(mark) :].strip()
            continue
        mark = BLOCKS.get(token.text[:3], "//") if len(token.text) > 4 else "//"
        inner = token.text[2 if mark == "//" else 3 :].removesuffix("*/")
        for number, text in enumerate(inner.split("\n"), line):
            yield number, mark, token.start, text.strip().removeprefix("* ").strip("*")


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

    for part in comment_lines(source, found):
        if part is None:
            yield from flush()
            fenced = False
            continue
        line, mark, _, text = part
        if paragraph and (last != line - 1 or paragraph[0][1] != mark):
            yield from flush()
        last = line
        if text.startswith("```"):
            fenced = not fenced
            yield from flush()
        elif not text or text.startswith("#"):
            yield from flush()
        elif not fenced:
            paragraph.append(part)
    yield from flush()


def is_message(text):
    """True for string literals for people: at least three words, two of them of letters only."""
    words = text.split()
    letters = [word for word in words if re.fullmatch(r"[A-Za-z][a-z']+[.,:;]?", word)]
    return len(words) >= 3 and len(letters) >= 2 and not NO_PROSE.match(text)


# ---- Markdown and JSON -----------------------------------------------------------------------------------------------


def markdown_texts(path, source):
    for line, lines, text in prose_markup.markdown(source):
        yield Text("docs", "docs", path, line, lines, text)


def description_texts(path, source):
    """The summaries and descriptions of a JSON document."""

    def walk(value, key):
        if isinstance(value, list):
            value = dict(enumerate(value))
        if not isinstance(value, dict):
            return
        for name, inner in value.items():
            place = f"{key}.{name}" if key else str(name)
            if name in ("description", "summary") and isinstance(inner, str):
                shown = (key or place) if name == "description" else place
                for number, (_, lines, text) in enumerate(prose_markup.markdown(inner)):
                    yield Text("docs", "docs", path, 1, lines, text, number == 0, shown)
            else:
                yield from walk(inner, place)

    yield from walk(json.loads(source), "")


# ---- Files with `#` comments -----------------------------------------------------------------------------------------


def hash_texts(path, source, of=None):
    """The comments of a file in which `#` begins one; `of` is the group and kind, unless they are comments."""
    group, kind = of or (group_of(path), "comments")
    for line, lines, text in prose_markup.comments(source):
        yield Text(group, kind, path, line, lines, text)


def python_texts(path, source):
    """The comments and docstrings of a program in Python."""
    group = group_of(path)
    marks = [""] * (source.count("\n") + 1)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            marks[token.start[0] - 1] = token.string
    yield from hash_texts(path, "\n".join(marks))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and ast.get_docstring(node):
            first = node.body[0].lineno
            lines = "\n".join("# " + line for line in ast.get_docstring(node).split("\n"))
            for number, (line, count, text) in enumerate(prose_markup.comments(lines)):
                yield Text(group, "comments", path, first + line - 1, count, text, number == 0)


def script_texts(path, source):
    """The comments of a program that names its interpreter in the first line."""
    interpreter = SHEBANG.match(source)
    if interpreter:
        yield from (python_texts if interpreter.group(1).startswith("python") else hash_texts)(path, source)


# The first pattern that fits a path decides; `*` also stands for `/`.
READERS = {
    "*.rs": rust_texts,
    "*.md": markdown_texts,
    "docs/*.json": description_texts,
    "examples/*.toml": partial(hash_texts, of=("docs", "docs")),
    "*.toml": hash_texts,
    "*.yaml": hash_texts,
    "*.yml": hash_texts,
    "*.service": hash_texts,
    "*.timer": hash_texts,
    "*Containerfile": hash_texts,
    "scripts/*-constraints.txt": hash_texts,
    "scripts/debian-*": hash_texts,
    "*.py": python_texts,
    "*.sh": hash_texts,
    "scripts/*": script_texts,
    ".ci/*": script_texts,
}


def reader_of(path):
    """The reader of a file, or None."""
    return next((reader for pattern, reader in READERS.items() if fnmatchcase(path, pattern)), None)


def texts():
    """All texts of the project."""
    for path in rust_text.tracked("*"):
        reader = reader_of(path)
        if reader:
            yield from reader(path, (rust_text.ROOT / path).read_text(errors="replace"))
