"""From bytes to lines: compression, line ends, lengths, and finding the place again."""

from __future__ import annotations

import gzip
import os
import tracemalloc
import zlib
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rumbuffer.cli.send.journal import Mark
from rumbuffer.cli.send.reading import LONGEST_LINE, Damaged, LineCutter, RawLine, Source


def cut(chunks: Iterable[bytes]) -> list[RawLine]:
    """All lines of some chunks."""
    cutter = LineCutter()
    lines = [line for chunk in chunks for line in cutter.feed(chunk)]
    last = cutter.end()
    return lines if last is None else [*lines, last]


def read_all(source: Source) -> bytes:
    """What is left in it."""
    return b"".join(iter(source.read, b""))


@given(st.lists(st.binary(max_size=8).map(lambda text: text.replace(b"x", b"\n")), max_size=20))
def test_chunks_do_not_matter(chunks: list[bytes]) -> None:
    """Lines are those of the whole, however it is cut; lengths add up, checksums are the contents'."""
    whole = b"".join(chunks)
    lines = cut(chunks)
    expected = whole.split(b"\n")
    if not expected[-1]:
        expected.pop()
    assert [line.content for line in lines] == expected
    assert sum(line.length for line in lines) == len(whole)
    assert [line.crc for line in lines] == [zlib.crc32(line) for line in expected]
    assert [line.complete for line in lines] == [True] * whole.count(b"\n") + [False] * (
        not whole.endswith(b"\n") and whole != b""
    )


@pytest.mark.parametrize("end", [b"\n", b""])
def test_line_that_is_too_long_is_passed_over(end: bytes) -> None:
    """It takes no more memory than the longest line that is kept, and its neighbours are whole."""
    piece, count = b"x" * 65_536, 1600
    tracemalloc.start()
    cutter = LineCutter()
    lines = list(cutter.feed(b"before\n"))
    for _ in range(count):
        lines += cutter.feed(piece)
    lines += cutter.feed(b"yz" + end)
    if end:
        lines += cutter.feed(b"after\n")
    else:
        last = cutter.end()
        assert last is not None
        lines.append(last)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * LONGEST_LINE
    long = lines[1]
    assert (long.content, long.length, long.complete) == (None, len(piece) * count + 2 + len(end), end != b"")
    assert long.crc == zlib.crc32(piece * count + b"yz")
    assert [line.content for line in lines if line is not long] == [b"before", b"after"][: 1 + bool(end)]


def test_line_of_exactly_the_longest() -> None:
    """The limit is inclusive."""
    assert [line.content is None for line in cut([b"x" * LONGEST_LINE + b"\n"])] == [False]
    assert [line.content is None for line in cut([b"x" * LONGEST_LINE + b"x\n"])] == [True]
    assert [line.content is None for line in cut([b"x" * LONGEST_LINE, b"x", b"\ny\n"])] == [True, False]


def test_gzip_is_told_by_its_content(tmp_path: Path) -> None:
    """A plain file may be called .gz, a compressed one anything; members in a row and padding are read."""
    plain, packed = tmp_path / "plain.gz", tmp_path / "packed.ndjson"
    text = os.urandom(100_000).hex().encode() + b"\n"
    plain.write_bytes(text)
    packed.write_bytes(gzip.compress(text) + gzip.compress(b"") + gzip.compress(text) + b"\0" * 100)
    assert read_all(Source(plain)) == text
    assert read_all(Source(packed)) == text + text


def test_small_gzip_that_holds_much_is_read_in_pieces(tmp_path: Path) -> None:
    """What is handed over at once is bounded however well it was compressed."""
    packed = tmp_path / "x.gz"
    packed.write_bytes(gzip.compress(b"\n" * 50_000_000))
    source = Source(packed)
    sizes = [len(chunk) for chunk in iter(source.read, b"")]
    assert sum(sizes) == 50_000_000
    assert max(sizes) <= 65_536


@pytest.mark.parametrize("damage", ["cut", "cut in the trailer", "flipped", "followed by text"])
def test_damaged_gzip(damage: str, tmp_path: Path) -> None:
    """What can be read is read; then it is said that the rest cannot."""
    text = b"".join(b"%d\n" % number for number in range(100_000))
    packed = bytearray(gzip.compress(text))
    if damage == "cut":
        del packed[len(packed) // 2 :]
    elif damage == "cut in the trailer":
        del packed[-3:]
    elif damage == "flipped":
        packed[len(packed) // 2 : len(packed) // 2 + 100] = b"\xff" * 100
    else:
        packed += b"garbage"
    file = tmp_path / "x.gz"
    file.write_bytes(packed)
    source = Source(file)
    read = b""
    said = ""
    try:
        while chunk := source.read():
            read += chunk
    except Damaged as error:
        said = str(error)
    assert "gzip" in said
    if damage != "flipped":
        assert text.startswith(read)
    assert len(read) > 10_000


IDENTICAL = [b'{"a":1}\n2\n', b'{"a":1}', b'\xef\xbb\xbf{"a":1}\r\n3\r\n', b' {"a":1} \n' + b"x" * 100_000]


def test_identity_is_of_the_first_line(tmp_path: Path) -> None:
    """Renaming, compressing, other line ends and growth keep it; another first line changes it."""
    seen = set()
    for number, text in enumerate(IDENTICAL):
        for packed in (text, gzip.compress(text)):
            file = tmp_path / f"{number}{len(packed)}"
            file.write_bytes(packed)
            source = Source(file)
            seen.add(source.identity())
            assert read_all(source) == text
    assert len(seen) == 1
    other = tmp_path / "other"
    other.write_bytes(b'{"a":2}\n2\n')
    assert Source(other).identity() not in seen


def lines_of(count: int) -> list[bytes]:
    """Lines of different lengths."""
    return [b"%d" % number * (number % 50) for number in range(count)]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("line", [1, 7, 3_000, 9_999, 10_000])
def test_skipping_finds_the_place(packed: bool, line: int, tmp_path: Path) -> None:
    """Reading goes on behind the mark, in a plain and in a compressed file."""
    lines = lines_of(10_000)
    text = b"".join(each + b"\n" for each in lines)
    before = b"".join(each + b"\n" for each in lines[:line])
    file = tmp_path / "x"
    file.write_bytes(gzip.compress(text) if packed else text)
    source = Source(file)
    source.identity()
    last = lines[line - 1]
    assert source.skip_to(Mark(line, len(before), len(last) + 1, zlib.crc32(last)))
    assert read_all(source) == text[len(before) :]


@pytest.mark.parametrize("packed", [False, True])
def test_skipping_notices_another_file(packed: bool, tmp_path: Path) -> None:
    """A line before the mark that differs, or a file that is shorter, is noticed."""
    text = b"first\nsecond\nthird\n"
    mark = Mark(2, 13, 7, zlib.crc32(b"second"))
    file = tmp_path / "x"
    for changed in (b"first\nSecond\nthird\n", b"first\nseco", b"first\n", b"first\nsecondthird\n"):
        file.write_bytes(gzip.compress(changed) if packed else changed)
        source = Source(file)
        source.identity()
        assert not source.skip_to(mark)
    file.write_bytes(gzip.compress(text) if packed else text)
    assert Source(file).skip_to(mark)
    if packed:
        file.write_bytes(gzip.compress(text)[:-15])
        assert not Source(file).skip_to(Mark(3, 19, 6, zlib.crc32(b"third")))


def test_skipping_a_line_that_was_too_long(tmp_path: Path) -> None:
    """Its checksum was taken without its being kept."""
    long = b"x" * (3 * LONGEST_LINE)
    (line,) = cut([long + b"\n"])
    file = tmp_path / "x"
    file.write_bytes(long + b"\nnext\n")
    source = Source(file)
    assert source.skip_to(Mark(1, line.length, line.length, line.crc))
    assert read_all(source) == b"next\n"


def test_waiting_for_input_can_be_given_up(tmp_path: Path) -> None:
    """A pipe into which nobody writes does not hold the program."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = os.open(fifo, os.O_RDWR)
    try:
        os.write(writer, b"abcd")
        source = Source(fifo)
        assert (source.is_regular, source.size) == (False, None)
        assert source.read() == b"abcd"
        source.give_up()
        assert source.read() == b""
    finally:
        os.close(writer)


def test_padding_between_gzip_members(tmp_path: Path) -> None:
    """Zero bytes between two members, however many, do not end the file."""
    file = tmp_path / "padded"
    file.write_bytes(gzip.compress(b"one\n") + bytes(300_000) + gzip.compress(b"two\n") + bytes(300_000))
    source = Source(file)
    assert read_all(source) == b"one\ntwo\n"
    source.close()
