"""A first look at a whole file, at the speed of memory: is it text, in this encoding, with lines?"""

import codecs
from io import BufferedReader
from typing import Final

from tieline.connectors.files.part import BLOCK, LONGEST_LINE, UnreadableFile

_MARKS: Final = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    b"PK\x03\x04": "a ZIP archive, or an Excel workbook",
    b"\x1f\x8b": "a gzip archive",
}


def keeps_ascii(encoding: str) -> bool:
    """Whether a line end is one byte in this encoding, so that a broken character spoils one row only."""
    return "\n\x00;".encode(encoding) == b"\n\x00;"


def is_clean(file: BufferedReader, shown: str, encoding: str) -> bool:
    """Whether every byte of the file is a character of `encoding`, and none is NUL; leaves it at its start.

    Raises:
        UnreadableFile: for another kind of file, for a line without an end, and for a broken character
            in an encoding in which nothing after it can be trusted.
    """
    _refuse_other_kinds(file.peek(4)[:4], shown, encoding)
    decoder = codecs.getincrementaldecoder(encoding)()
    lines = _LineLengths(shown)
    clean = True
    bytewise = keeps_ascii(encoding)
    while block := file.read(BLOCK):
        if bytewise:
            lines.add(block)
        if bytewise and block.isascii() and not decoder.getstate()[0]:
            clean = clean and b"\0" not in block
            continue
        try:
            text = decoder.decode(block)
        except UnicodeDecodeError as error:
            clean = _unsound(error, shown, encoding)
            decoder.reset()
            continue
        clean = clean and "\0" not in text
        if not bytewise:
            lines.add(text.encode("utf-8", "replace"))
    try:
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        clean = _unsound(error, shown, encoding)
    file.seek(0)
    return clean


def _unsound(error: UnicodeDecodeError, shown: str, encoding: str) -> bool:
    """A broken character spoils its row, or in an encoding of two bytes and more the file."""
    if keeps_ascii(encoding):
        return False
    remedy = "save it again, or name its encoding in the adapter"
    raise UnreadableFile(shown, f"is not {encoding}: {error.reason}", remedy)


class _LineLengths:
    def __init__(self, shown: str) -> None:
        self._shown = shown
        self._open = 0

    def add(self, block: bytes) -> None:
        """Measure; only a line longer than a block can be too long."""
        last = max(block.rfind(b"\n"), block.rfind(b"\r"))
        if last < 0:
            self._open += len(block)
        else:
            first = min(end for end in (block.find(b"\n"), block.find(b"\r")) if end >= 0)
            self._open += first
        if self._open > LONGEST_LINE:
            raise UnreadableFile(
                self._shown, f"has a line of more than {LONGEST_LINE:,} bytes", "look at its line ends"
            )
        if last >= 0:
            self._open = len(block) - last - 1


def _refuse_other_kinds(start: bytes, shown: str, encoding: str) -> None:
    # The mark of UTF-16 begins that of UTF-32, which stands first.
    kind = next((kind for mark, kind in _MARKS.items() if start.startswith(mark)), "")
    if kind and not codecs.lookup(encoding).name.startswith(kind):
        remedy = f'say encoding="{kind}"' if kind.startswith("utf") else "export it as text"
        raise UnreadableFile(shown, f"is {kind}, not {encoding}", remedy)
