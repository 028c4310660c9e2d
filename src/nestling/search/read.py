"""One file -> its sections, by the kind that the end of its name tells."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from nestling.search.decode import Unreadable, decode
from nestling.search.definitions import BY_KEYWORD, BY_KEYWORD_OR_BRACE, definitions
from nestling.search.markup import html
from nestling.search.outline import Section, markdown, rst, sections
from nestling.search.pdf import pdf_text
from nestling.search.table import TABLES

_BY_KEYWORD = frozenset({
    ".ex", ".exs", ".hs", ".jl", ".lua", ".ml", ".nim", ".pl", ".pm", ".py", ".pyi", ".r", ".rb", ".vb",
})  # fmt: skip
_BY_BRACE = frozenset({
    ".bash", ".c", ".cc", ".cpp", ".cs", ".cu", ".cxx", ".d", ".dart", ".go", ".groovy", ".h", ".hh", ".hpp",
    ".hxx", ".java", ".js", ".jsx", ".kt", ".kts", ".m", ".mjs", ".mm", ".php", ".ps1", ".rs", ".scala",
    ".sh", ".swift", ".ts", ".tsx", ".zig", ".zsh",
})  # fmt: skip


def read(path: Path, columns: Sequence[str] | None = None) -> list[Section]:
    """The sections of a file. columns: of tables, the columns to read; None: all that hold words.

    Raises Unreadable with the reason; of its kinds, Binary for what is no text, WrongColumns for a table without them.
    """
    try:
        if path.suffix.lower() == ".pdf":
            return [Section(pdf_text(path), kind="page")]
        return list(_sections(decode(path.read_bytes()), path, columns))
    except OSError as error:
        raise Unreadable(error.strerror or str(error)) from error
    except (ValueError, RecursionError) as error:  # &# and 5,000 digits in HTML; JSON nested a thousand deep.
        raise Unreadable(f"damaged {path.suffix} file: {error}") from error


def _sections(text: str, path: Path, columns: Sequence[str] | None) -> Iterable[Section]:
    match path.suffix.lower():
        case ".md" | ".markdown" | ".mdx" | ".qmd" | ".rmd":
            return sections(text, markdown(text))
        case ".rst":
            return sections(text, rst(text))
        case ".html" | ".htm" | ".xhtml" | ".svg":
            return sections(*html(text))
        case suffix if suffix in TABLES:
            return TABLES[suffix](text, columns)
        case suffix if suffix in _BY_BRACE:
            return sections(text, definitions(text, BY_KEYWORD_OR_BRACE), kind="code")
        case suffix if suffix in _BY_KEYWORD:
            return sections(text, definitions(text, BY_KEYWORD), kind="code")
        case _:
            return sections(text, [])
