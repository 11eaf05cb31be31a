"""Splits Rust source text into code, comments and string literals. Used by scripts/shape and scripts/prose."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent

RAW = re.compile(r'[bc]?r(#*)"')
CHARACTER = re.compile(r"b?'(\\x[0-9a-fA-F]{2}|\\u\{[^}]*\}|\\.|[^\\'\n])'")
CONTINUATION = re.compile(r"\\\n\s*")
TEST_ATTRIBUTE = re.compile(r"#\[cfg\((?:all\()?test\b")
FUNCTION = re.compile(r"\bfn\s+(\w+)")


@dataclass(frozen=True)
class Token:
    """A comment, a string literal (without quotes) or, between them, code."""

    kind: str  # "comment", "string" or "code"
    start: int  # offset into the source text
    end: int
    text: str


def tracked(pattern):
    """Paths of the files that git tracks or would add, relative to the root."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", pattern]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return sorted({path for path in listed.splitlines() if (ROOT / path).is_file()})


def tokens(source):
    """The tokens of `source`, in order and without gaps."""
    position = begin = 0
    found = []

    def emit(kind, start, end, text):
        nonlocal begin
        if begin < start:
            found.append(Token("code", begin, start, source[begin:start]))
        if start < end:
            found.append(Token(kind, start, end, text))
        begin = end

    while position < len(source):
        if source.startswith("//", position):
            end = source.find("\n", position)
            end = len(source) if end < 0 else end
            emit("comment", position, end, source[position:end])
        elif source.startswith("/*", position):
            end = block_end(source, position)
            emit("comment", position, end, source[position:end])
        elif (raw := RAW.match(source, position)) and not is_word(source, position - 1):
            closing = '"' + raw.group(1)
            end = source.find(closing, raw.end()) + len(closing)
            emit("string", position, end, source[raw.end() : end - len(closing)])
        elif source[position] == '"':
            end = position + 1
            while source[end] != '"':
                end += 2 if source[end] == "\\" else 1
            end += 1
            emit("string", position, end, CONTINUATION.sub("", source[position + 1 : end - 1]))
        else:
            character = CHARACTER.match(source, position)
            position = character.end() if character else position + 1
            continue
        position = end
    emit("code", len(source), len(source), "")
    return found


def is_word(source, position):
    return position >= 0 and (source[position].isalnum() or source[position] == "_")


def block_end(source, position):
    depth = 0
    for mark in re.finditer(r"/\*|\*/", source[position:]):
        depth += 1 if mark.group() == "/*" else -1
        if depth == 0:
            return position + mark.end()
    return len(source)


def blanked(source, found=None):
    """`source` with comments, strings and characters replaced by spaces: only its structure is left."""
    parts = []
    for token in tokens(source) if found is None else found:
        text = source[token.start : token.end]
        if token.kind == "code":
            parts.append(CHARACTER.sub(lambda match: " " * len(match.group()), text))
        else:
            parts.append(re.sub(r"[^\n]", " ", text))
    return "".join(parts)


def closing_brace(structure, start):
    """Offset behind the block that opens first at or after `start`; None if a `;` ends the item before."""
    depth = 0
    for mark in re.finditer(r"[{};(\[\])]", structure[start:]):
        character = mark.group()
        if character == ";" and depth == 0:
            return None
        depth += {"{": 1, "(": 1, "[": 1, "}": -1, ")": -1, "]": -1}.get(character, 0)
        if character == "}" and depth == 0:
            return start + mark.end()
    return None


def test_spans(structure):
    """Spans of the items behind `#[cfg(test)]`."""
    spans = []
    for mark in TEST_ATTRIBUTE.finditer(structure):
        if spans and mark.start() < spans[-1][1]:
            continue
        item = structure.find("]", mark.end()) + 1
        end = closing_brace(structure, item)
        spans.append((mark.start(), end or structure.find(";", item) + 1))
    return spans


def crate_of(path):
    parts = path.split("/")
    return parts[1] if parts[0] == "crates" else parts[0]


def is_test_file(path):
    """True if all of the file is test code."""
    name = path.rsplit("/", 1)[-1]
    in_tests = path.startswith("tests/") or "/tests/" in path or "/testing/" in path
    return in_tests or name in ("tests.rs", "testing.rs") or name.endswith("_tests.rs")
