"""Write web/shelf.txt, the demo's starting text: passages of books in the public domain, from the corpus.

    python web/shelf.py

A line `# TITLE, AUTHOR` begins a book; its passages follow, one a line. The corpus is ../shared/corpus or
NESTLING_DATA/corpus; its books come from github.com/mlschmitt/classic-books-markdown.
"""

from pathlib import Path

import pyarrow.parquet as pq

from nestling.make.recipe import data_folder

LEAST, MOST, PASSAGES = 170, 460, 32
BOOKS = {  # title and author: words that are found in no other book of the corpus
    "Alice's Adventures in Wonderland, Lewis Carroll": "leant against a buttercup",
    "Moby-Dick, Herman Melville": "have these naked Nantucketers, these sea hermits",
    "Meditations, Marcus Aurelius": "What kind of people are those whom men wish to please",
    "A Christmas Carol, Charles Dickens": "If I was to stop half-a-crown for it",
    "From the Earth to the Moon, Jules Verne": "when an American has an idea",
    "Treasure Island, Robert Louis Stevenson": "Would that be respectful like, from me to you, squire",
    "The Picture of Dorian Gray, Oscar Wilde": "The lad muttered something to himself and drummed on the window-pane",
    "The Republic, Plato": "thus arose the distinction of the visible and the intelligible",
}


def main() -> None:
    texts = (
        pq.read_table(data_folder() / "corpus/long.parquet", filters=[("source", "=", "books")])
        .column("text")
        .to_pylist()
    )
    lines = []
    for book, words in BOOKS.items():
        excerpt = max((text for text in texts if words in text), key=len)
        lines += [f"# {book}", *evenly(passages(excerpt), PASSAGES)]
    Path(__file__).with_name("shelf.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def passages(text: str) -> list[str]:
    """Paragraphs that are neither short nor long, and hold more telling than talking."""
    found = [" ".join(part.split()).replace("--", "—") for part in text.split("\n\n")]
    return [part for part in found if LEAST <= len(part) <= MOST and part[0].isalpha() and part[-1] in ".!?"]


def evenly(values: list[str], count: int) -> list[str]:
    count = min(count, len(values))
    return [values[i * len(values) // count] for i in range(count)]


if __name__ == "__main__":
    main()
