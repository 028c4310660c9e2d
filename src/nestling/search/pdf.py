"""The text of a PDF, a form feed between its pages, through pypdf."""

import logging
from pathlib import Path

from nestling.search.decode import Unreadable

_SILENT = logging.NullHandler()  # pypdf logs each oddity of a file, on stderr where nobody listens.
# What pypdf lets through when a file is damaged:
_DAMAGE = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


def pdf_text(path: Path) -> str:
    """The pages of a PDF, joined by form feeds. Raises Unreadable where that cannot be done."""
    try:
        import pypdf
    except ImportError as error:
        raise Unreadable("PDF needs the package pypdf, of the extra [pdf]: pip install --upgrade pypdf") from error
    logging.getLogger("pypdf").addHandler(_SILENT)
    try:
        text = "\f".join(page.extract_text().replace("\f", " ") for page in pypdf.PdfReader(path).pages)
        return text.encode("utf-8", "replace").decode()  # a font can spell half a character
    except (pypdf.errors.PyPdfError, *_DAMAGE) as error:
        raise Unreadable(f"damaged or locked PDF: {str(error) or type(error).__name__}") from error
