"""Checks that the tests and binaries named by the filters of .config/nextest.toml exist. Used by scripts/shape.

nextest accepts a filter that matches nothing: a renamed test would lose its weight without notice.
"""

import fnmatch
import re
import tomllib

import rust_text

CONFIG = ".config/nextest.toml"

CALL = re.compile(r"\b(test|binary)\(")
# Names of functions, of modules, and of the tests that a macro creates from `path::function as name`.
NAME = re.compile(r"\b(?:fn|mod)\s+(\w+)|::\w+\s+as\s+(\w+)\s*[,}]")
LINE_COMMENT = re.compile(r"//[^\n]*")
TARGET = re.compile(r"^name = \"([^\"]+)\"", re.MULTILINE)


def filters(value):
    """The filter expressions anywhere in the configuration."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in ("filter", "default-filter") and isinstance(inner, str):
                yield inner
            else:
                yield from filters(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from filters(inner)


def calls(expression):
    """Each `test(…)` and `binary(…)` of a filter: its name and argument. Parentheses inside are balanced."""
    for mark in CALL.finditer(expression):
        depth, end = 1, mark.end()
        while end < len(expression) and depth:
            depth += {"(": 1, ")": -1}.get(expression[end], 0)
            end += 1
        yield mark.group(1), expression[mark.end() : end - 1].strip()


def split(pattern, separator):
    """The parts of a regular expression between separators outside of parentheses."""
    depth, parts, position = 0, [""], 0
    while position < len(pattern):
        character = pattern[position]
        depth += {"(": 1, ")": -1}.get(character, 0)
        if not depth and pattern.startswith(separator, position):
            parts.append("")
            position += len(separator)
        else:
            parts[-1] += character
            position += 1
    return parts


def wanted(call, argument):
    """Each alternative of a filter's argument, with the patterns of the names that it needs.

    `a::b` needs a module that ends with `a`, and a test or module that begins with `b`.
    """
    if call == "binary" and not argument.startswith("/"):
        yield argument, [re.compile(fnmatch.translate(argument.lstrip("=#")))]
        return
    is_regex = argument.startswith("/")
    for alternative in split(argument.strip("/"), "|") if is_regex else [re.escape(argument.lstrip("=~"))]:
        segments = split(alternative.replace("(^|::)", "^").replace("::|", ""), "::")
        last = len(segments) - 1
        if argument.startswith("="):
            segments = [f"^{segment}$" for segment in segments]
        patterns = [("^" if number else "") + segment + ("$" if number < last else "") for number, segment in enumerate(segments)]
        yield alternative, [re.compile(pattern) for pattern in patterns]


def test_names(sources):
    """Names of functions and modules in Rust sources: those of all tests are among them."""
    return {name for source in sources for found in NAME.findall(LINE_COMMENT.sub("", source)) for name in found if name}


def binary_names():
    """Names of packages and targets, and of the files in the `tests` folders of crates."""
    files = {path.rsplit("/", 1)[1].removesuffix(".rs") for path in rust_text.tracked(":(glob)crates/*/tests/*.rs")}
    manifests = ((rust_text.ROOT / path).read_text() for path in rust_text.tracked("*Cargo.toml"))
    return files.union(*(TARGET.findall(manifest) for manifest in manifests))


def missing(config, known):
    """A message for each alternative of the filters that fits no name. `known`: names of tests, names of binaries."""
    for expression in filters(config):
        for call, argument in calls(expression):
            for alternative, patterns in wanted(call, argument):
                if not all(any(pattern.search(name) for name in known[call]) for pattern in patterns):
                    yield f"{CONFIG}: no {call} has the name `{alternative}` of the filter {call}({argument})"


def check():
    """Messages about the filters of this project."""
    config = tomllib.loads((rust_text.ROOT / CONFIG).read_text())
    sources = ((rust_text.ROOT / path).read_text() for path in rust_text.tracked("*.rs"))
    return list(missing(config, {"test": test_names(sources), "binary": binary_names()}))
