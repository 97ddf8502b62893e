"""The shorthand syntax, by example and against the AWS CLI's own parser."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rumbuffer.cli.put_rum_events import values
from rumbuffer.cli.put_rum_events.shorthand import ShorthandError, parse
from tests.cli.awscli import drive


def as_it_is(word: str) -> str:
    """Read no file."""
    return word


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("id=1,name=shop", {"id": "1", "name": "shop"}),
        ("name=the shop , id=1", {"name": "the shop", "id": "1"}),
        ("name=", {"name": ""}),
        ('details="{\\"total\\": 42}"', {"details": '{"total": 42}'}),
        ('details=\'{"total": 42, "by": "it\\\'s"}\'', {"details": '{"total": 42, "by": "it\'s"}'}),
        (r"name=a\,b", {"name": "a,b"}),
        ("name=a,b,id=1", {"name": ["a", "b"], "id": "1"}),
        ("name=[a,[b,c],{d=e}],id=1", {"name": ["a", ["b", "c"], {"d": "e"}], "id": "1"}),
        ("name={first={second=1},third=x=y}", {"name": {"first": {"second": "1"}, "third": "x=y"}}),
        ("name=[]", {"name": []}),
        ("name=a=b", {"name": "a=b"}),
        ("name=\N{BELL}", {"name": "\N{BELL}"}),  # the AWS CLI refuses what is beyond 16 bits
    ],
)
def test_examples(text: str, expected: dict[str, Any]) -> None:
    """Quotes, escapes, lists and nested structures are read as AWS's documentation shows them."""
    assert parse(text, as_it_is) == expected


@pytest.mark.parametrize(
    ("text", "expected", "column"),
    [
        ("id", "'=', received: 'EOF'", 2),
        ("id==1", "',', received: '='", 3),
        ("id=[1", "',', received: 'EOF'", 5),
        ("id={1}", "'=', received: '}'", 5),
        ('id="1', "'<double quoted>', received: '<none>'", 3),
        ("id=1,\nid2==", "',', received: '='", 4),
        ("id=1,id=2", 'Second instance of key "id"', 5),
    ],
)
def test_mistakes_are_shown_where_they_are(text: str, expected: str, column: int) -> None:
    """An error says what was expected, and a mark stands under the place."""
    with pytest.raises(ShorthandError) as caught:
        parse(text, as_it_is)
    lines = str(caught.value).splitlines()
    assert expected in lines[0]
    assert " " * column + "^" in lines


def test_words_after_a_reference_are_loaded() -> None:
    """After `@=` words are handed to the loader, each by itself; after `=` they are not."""
    loaded = parse("a@=x,y,b=z,c@=[q,{d=e,f@=g}]", str.upper)
    assert loaded == {"a": ["X", "Y"], "b": "z", "c": ["Q", {"d": "e", "f": "G"}]}


@given(st.dictionaries(st.from_regex(r"\A[a-zA-Z]+\Z"), st.text(), min_size=1))
def test_quoted_text_comes_back(content: dict[str, str]) -> None:
    """Whatever text is quoted as the syntax says is read as it was."""
    content = {key: value.replace("\\", "/") for key, value in content.items()}
    text = ",".join("{}='{}'".format(key, value.replace("'", "\\'")) for key, value in content.items())
    assert parse(text, as_it_is) == content


def made_up(seed: int, count: int) -> list[str]:
    """Texts of the syntax's own characters, most of which are almost right."""
    source = random.Random(seed)
    pieces = [
        *"abk=,=,'\"[]{}\\ \n1.#:é~|-!\x7f\xa0",
        "a=",
        "b=",
        ",c=",
        "'x, y'",
        '"q"',
        "{d=",
        "[e,",
        "}",
        "]",
    ]
    return [
        source.choice(["", "a=", "a=b,c="]) + "".join(source.choices(pieces, k=source.randint(0, 12)))
        for _ in range(count)
    ]


def said(text: str) -> Any:
    """What the text says, or the first line of the error."""
    try:
        return parse(text, values._loaded)
    except ShorthandError as error:
        return str(error).splitlines()[0]


@pytest.mark.external
def test_it_is_the_aws_cli_s_syntax() -> None:
    """10,000 made-up texts mean the same to the AWS CLI's own parser, or break the same rule."""
    texts = made_up(6, 10_000)
    theirs = [
        found if isinstance(found, dict) else found.splitlines()[0]
        for found in drive("shorthand_driver", texts)
    ]
    different = [
        (text, ours, other)
        for text, other in zip(texts, theirs, strict=True)
        if (ours := said(text)) != other
    ]
    assert different == []
    assert sum(isinstance(found, dict) for found in theirs) > 1_000


@pytest.mark.external
def test_files_are_referred_to_as_the_aws_cli_does(tmp_path: Path) -> None:
    """`@=` puts a file's text where the reference stands, in words and in lists."""
    (tmp_path / "text").write_text("from the file")
    texts = [
        f"a@=file://{tmp_path}/text,b=file://x",
        f"a@=[file://{tmp_path}/text,b]",
        "a@=b",
        "a@b",
        "a @ = c",
    ]
    theirs = [
        found if isinstance(found, dict) else found.splitlines()[0]
        for found in drive("shorthand_driver", texts)
    ]
    assert [said(text) for text in texts] == theirs
    assert theirs[0] == {"a": "from the file", "b": "file://x"}
