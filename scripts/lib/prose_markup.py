"""Paragraphs of Markdown and of `#` comments, without code, commands, tables of a crontab and rulers. Used by scripts/prose."""

import re

# Indentation that marks code: in Markdown beyond the text of a list item, in a comment behind its `# `.
MARKDOWN_CODE = 4
COMMENT_CODE = 2

LIST_ITEM = re.compile(r"\s*(?:[-*+]|\d+[.)])\s+")
FENCE = re.compile(r"\s*(?:```|~~~)")
RULER = re.compile(r"[-=─*_~]{4,}")
TABLE_RULE = re.compile(r"\s*\|?[\s:|-]*-[\s:|-]*\|[\s:|-]*$")
CRONTAB = re.compile(r"(?:[*\d][\d*/,-]*\s+){5}\S|@(?:hourly|daily|weekly|monthly|yearly|reboot)\s+\S")
TOML_TABLE = re.compile(r"\[\[?[\w.\"'-]+\]\]?\s*(?:#.*)?$")
TOML_VALUE = re.compile(r"[\w\"'-]+(?:\.[\w\"'-]+)*\s*=\s*(?:[\"'\[{\d+-]|true\b|false\b)|[A-Z][A-Z0-9_]*=\S")
PROMPT = re.compile(r"\$ \S")
OPTION = re.compile(r"\s--?[a-zA-Z]|\\$")
PROGRAM = re.compile(
    r"(?:sudo\s+)?(?:backupd?|borg|cargo|cp|curl|docker|git|install|kubectl|mkdir|mongosh|pip|podman|psql|redis-cli|restic|rm|"
    r"systemctl|useradd|(?:\.{0,2}/)?(?:[\w.-]+/)+[\w.-]+)(?=\s|$)"
)
SENTENCE_WORD = re.compile(r"\b(?:the|an?|of|is|are|and|that|which)\b|[\w-]: ")
COMMENT = re.compile(r"\s*#+(?:\s|$)")
DIRECTIVE = re.compile(r"noqa|shellcheck |fmt: |type: ")


def is_code(line):
    """True for a row of a crontab, TOML, a variable, or a command with options."""
    return is_data(line) or (bool(OPTION.search(line)) and is_command(line))


def is_data(line):
    """True for a row of a crontab, TOML, a variable, or a command behind a prompt."""
    return any(pattern.match(line) for pattern in (CRONTAB, TOML_TABLE, TOML_VALUE, PROMPT))


def is_command(text):
    """True for a known program or a path without the words of a sentence behind it."""
    return bool(PROGRAM.match(text)) and not SENTENCE_WORD.search(text)


def bare(text):
    """`text` without the mark of a list item, a table row or a heading."""
    mark = LIST_ITEM.match(text)
    return text[mark.end() :] if mark else text.lstrip("|# ")


def paragraphs(parts):
    """Groups parts (line, text, whether it begins a paragraph) into (line, lines, text). An empty text ends a paragraph."""
    group = []
    for number, text, begins in parts:
        if group and (begins or not text):
            yield group[0][0], len(group), "\n".join(part for _, part in group)
            group = []
        if text:
            group.append((number, text))
    if group:
        yield group[0][0], len(group), "\n".join(part for _, part in group)


def markdown(source):
    """Paragraphs, headings, list items and table rows of a Markdown document."""
    return paragraphs(markdown_parts(source))


def markdown_parts(source):
    fenced = in_text = False
    column = 0  # where the text of the current list item begins
    for number, line in enumerate(source.split("\n"), 1):
        text = line.strip()
        indent = len(line) - len(line.lstrip())
        if FENCE.match(line):
            fenced = not fenced
            text = ""
        if not fenced and text and not in_text and indent < column and not LIST_ITEM.match(line):
            column = 0
        is_item = LIST_ITEM.match(line) if indent < column + MARKDOWN_CODE else None
        is_block = not in_text and indent >= column + MARKDOWN_CODE
        if fenced or is_block or TABLE_RULE.match(line) or RULER.fullmatch(text) or is_code(text):
            text = ""
        if text and is_item:
            column = is_item.end()
        in_text = bool(text)
        begins = bool(is_item) or text.startswith(("|", "#", "<!--"))
        yield number, bare(text), begins


def comments(source):
    """Paragraphs of the comments of a file in which `#` begins one, also behind code."""
    return paragraphs(comment_parts(source))


def comment_parts(source):
    for number, line in enumerate(source.split("\n"), 1):
        mark = COMMENT.match(line)
        if mark:
            yield from usage_parts(number, line[mark.end() :].rstrip())
            continue
        yield number, "", True
        behind = comment_behind(line)
        if behind:
            yield from usage_parts(number, behind)
            yield number, "", True


def comment_behind(line):
    """The comment behind the code of a line, or an empty text."""
    quote = None
    for position, character in enumerate(line):
        if quote:
            quote = None if character == quote else quote
        elif character in "\"'`":
            quote = character
        elif character == "#" and position and line[position - 1].isspace() and line[position + 1 : position + 2] == " ":
            return line[position + 1 :].strip()
    return ""


def usage_parts(number, line):
    """Parts of a comment line. An indented line is a command, a row of a crontab, or columns whose last is prose."""
    text = line.strip()
    indented = line.startswith(" " * COMMENT_CODE) and not LIST_ITEM.match(line)
    titles = [part.strip() for part in RULER.split(text)]
    if len(titles) > 1:
        yield from ((number, part, True) for part in ("", *filter(None, titles), ""))
    elif is_data(text) or (is_code(text) and not indented):
        yield number, comment_behind(text), True
    elif DIRECTIVE.match(text):
        yield number, "", True
    elif indented:
        cells = re.split(r"\s{2,}", text)
        prose = [cell for cell in cells if not (is_command(cell) or cell.startswith("-"))]
        begins = len(prose) < len(cells) or len(cells) > 1
        yield number, " | ".join(prose), begins
    else:
        begins = bool(LIST_ITEM.match(line)) or text.startswith("|")
        yield number, bare(text), begins


def message(text):
    """A message without its indented commands; paragraphs stay apart."""
    if "\n" not in text:
        return text
    return "\n\n".join(part for _, _, part in paragraphs(message_parts(text)))


def message_parts(text):
    for number, line in enumerate(text.split("\n"), 1):
        if line.startswith(" " * COMMENT_CODE):
            yield from usage_parts(number, line)
        else:
            yield number, line.strip(), False
