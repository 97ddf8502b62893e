"""Whole runs, in this process: what arrives, what is noted, and what another run makes of it."""

from __future__ import annotations

import asyncio
import errno
import gzip
import os
from pathlib import Path
from typing import Any

import orjson
import pytest

from rumbuffer import (
    Delivered,
    Failed,
    HoldScope,
    Limits,
    Misconfigured,
    Outcome,
    Rejected,
    RetryPolicy,
    SealedBatch,
    Session,
    Throttled,
)
from rumbuffer.cli.send import run as run_module
from rumbuffer.cli.send.journal import Journal, JournalError, Totals
from rumbuffer.cli.send.rejects import RejectFile
from tests.cli.send.helpers import came, journal, line_of, numbers, rejects, run_of, send, until, write
from tests.fakes import MONITOR, FakeSender, events_of, uuid_of


async def test_all_lines_arrive_in_full_batches(tmp_path: Path) -> None:
    """Interleaved sessions fill their batches; totals, journal and status say that all arrived."""
    file = write(tmp_path / "a", (line_of(number) for number in range(2_500)))
    sender = FakeSender(seconds=0.001)
    ended = await send(file, sender)
    assert numbers(sender.arrived) == list(range(2_500))
    assert len(sender.arrived) <= 5 * 6
    assert ended.totals == Totals(lines=2_500, delivered=2_500)
    assert ended.is_clean
    assert journal(file).done
    assert rejects(file) == []
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["a", "a.rumbuffer-journal"]


async def test_an_edited_input_of_every_kind_of_line(tmp_path: Path) -> None:
    """BOM, CRLF, blank and bad lines: what is right arrives, what is not is named by line and reason."""
    text = [
        b"\xef\xbb\xbf" + line_of(0) + b"\r",
        b"",
        b"   \r",
        b"{garbage",
        b"\xff\xfe",
        line_of(1, typo=1),
        b"  " + line_of(2) + b"\t",
        b"x" * (3 * 1024 * 1024),
        orjson.dumps(
            {
                "UserDetails": {"sessionId": uuid_of(1)},
                "RumEvents": [{"type": "a.b", "details": {"n": 3}}, {"type": "a.b", "details": 4}],
            }
        ),
        line_of(5),
    ]
    file = write(tmp_path / "a", text, end=b"")
    sender = FakeSender()
    ended = await send(file, sender)
    assert numbers(sender.arrived) == [0, 2, 3, 5]
    assert ended.totals == Totals(lines=10, blank=2, delivered=4, rejected=5)
    assert not ended.is_clean
    found = sorted(rejects(file), key=lambda entry: entry["line"])
    assert [entry["line"] for entry in found] == [4, 5, 6, 8, 9]
    assert [entry.get("event") for entry in found] == [None, None, None, None, 1]
    assert all(entry["outcome"] == "rejected" and "text" not in entry for entry in found)
    assert found[2]["reason"].startswith("typo: must not be there")
    assert found[3]["reason"] == "line: must not be longer than 2 MiB; got 3145729 bytes"
    assert found[4]["reason"].startswith("RumEvents[1].details: ")


async def test_rejects_with_lines(tmp_path: Path) -> None:
    """Asked to, the reject file holds the lines themselves, whatever bytes they are."""
    file = write(tmp_path / "a", [b"\xffabc"])
    await send(file, FakeSender(), rejects_with_lines=True, rejects=tmp_path / "r")
    (entry,) = [orjson.loads(line) for line in (tmp_path / "r").read_bytes().splitlines()]
    assert entry["text"] == "\ufffdabc"


async def test_dead_letters(tmp_path: Path) -> None:
    """What the service refuses for good is named by its line, id and reason; its neighbours arrive."""

    def answer(batch: SealedBatch) -> Outcome:
        return Rejected("bad") if any(b'\\"n\\":7}' in event for event in batch.events) else Delivered()

    file = write(tmp_path / "a", (line_of(number) for number in range(50)))
    sender = FakeSender(then=answer)
    ended = await send(file, sender)
    assert numbers(sender.arrived) == [number for number in range(50) if number != 7]
    assert ended.totals == Totals(lines=50, delivered=49, dead_lettered={"invalid": 1})
    (entry,) = rejects(file)
    assert (entry["line"], entry["outcome"], entry["reason"], entry["detail"]) == (
        8,
        "dead-lettered",
        "invalid",
        "bad",
    )
    assert not ended.is_clean


async def test_a_second_run_has_nothing_to_do(tmp_path: Path) -> None:
    """A file that is done is not sent again; losses were reported and are not the second run's."""
    file = write(tmp_path / "a", [line_of(1), b"garbage"])
    assert not (await send(file, FakeSender())).is_clean
    sender = FakeSender()
    ended = await send(file, sender)
    assert sender.requests == []
    assert ended.is_clean
    assert ended.totals == Totals(lines=2, delivered=1, rejected=1)
    assert len(rejects(file)) == 1


async def test_a_file_that_has_grown(tmp_path: Path) -> None:
    """Only what is new is sent, and line numbers go on; a half last line is left until it is whole."""
    file = write(tmp_path / "a", [line_of(0), line_of(1), line_of(2)[:20]], end=b"")
    sender = FakeSender()
    ended = await send(file, sender)
    assert numbers(sender.arrived) == [0, 1]
    assert not ended.is_clean
    assert ended.files[0].cut_short == "the last line has no newline, and cannot be read"
    assert [(entry["line"], entry["outcome"]) for entry in rejects(file)] == [(3, "left")]
    with file.open("ab") as output:
        output.write(line_of(2)[20:] + b"\n" + line_of(3))
    sender = FakeSender()
    ended = await send(file, sender)
    assert numbers(sender.arrived) == [2, 3]
    assert ended.is_clean
    assert ended.totals == Totals(lines=4, delivered=4)
    assert rejects(file) == []
    with file.open("ab") as output:  # the last line gets its newline
        output.write(b"\n" + line_of(4) + b"\nbad\n")
    sender = FakeSender()
    ended = await send(file, sender)
    assert numbers(sender.arrived) == [4]
    assert [entry["line"] for entry in rejects(file)] == [6]


async def test_ids_are_the_same_whatever_the_file_is_called_or_packed(tmp_path: Path) -> None:
    """Sent anew, renamed, compressed or with other line ends, its events are the same to the byte."""
    lines = [line_of(number) for number in range(20)]
    files = [
        write(tmp_path / "a", lines),
        write(tmp_path / "b", [line + b"\r" for line in lines]),
        tmp_path / "c.gz",
    ]
    files[2].write_bytes(gzip.compress(files[0].read_bytes()))
    for file in files:
        os.utime(file, (1_767_225_600, 1_767_225_600))
    seen = []
    for file in files:
        sender = FakeSender()
        await send(file, sender)
        seen.append(came(sender.arrived))
    assert seen[0] == seen[1] == seen[2]
    assert len(seen[0]) == 20
    assert {orjson.loads(event)["timestamp"] for event in seen[0]} == {1_767_225_600}
    sender = FakeSender()
    os.utime(files[0], (1, 1))
    await send(files[0], sender, restart=True)
    assert came(sender.arrived) == seen[0]


class Cut(FakeSender):
    """Takes so many batches, and then answers nothing."""

    def __init__(self, batches: int) -> None:
        super().__init__()
        self.batches = batches

    async def send(self, batch: SealedBatch) -> Outcome:
        """Take it, or keep silent."""
        if len(self.arrived) >= self.batches:
            await asyncio.get_running_loop().create_future()
        return await super().send(batch)


@pytest.mark.parametrize("batches", [0, 1, 7, 19])
async def test_stopped_and_gone_on(batches: int, tmp_path: Path) -> None:
    """After a stop nothing that is known to have arrived is sent again, and nothing is missing."""
    lines = [line_of(number, sessions=20) for number in range(2_000)]
    lines[5:5] = [b"bad"]
    file = write(tmp_path / "a", lines)
    first = Cut(batches)
    run = run_of([file], first)
    run.begin()
    task = asyncio.create_task(run.run())
    async with asyncio.timeout(30):
        await until(lambda: len(first.requests) >= batches and run._lines == 2_001)
        await asyncio.sleep(0.1)
        run.stop("Ctrl-C")
        run.stop("Ctrl-C")
        ended = await task
    assert ended.stopped == "Ctrl-C"
    assert not ended.is_clean
    assert ended.totals.delivered == sum(came(first.arrived).values())
    second = FakeSender()
    ended = await send(file, second)
    assert came(first.arrived) + came(second.arrived) == dict.fromkeys(
        came(first.arrived) | came(second.arrived), 1
    )
    assert numbers([*first.arrived, *second.arrived]) == list(range(2_000))
    assert ended.totals.delivered == 2_000
    assert ended.totals.rejected == 1
    assert ended.totals.repeated == len(came(second.arrived))
    assert [entry["line"] for entry in rejects(file)] == [6]


async def test_a_stop_waits_for_answers_that_are_on_their_way(tmp_path: Path) -> None:
    """What the service takes in the last moment is not sent again."""
    file = write(tmp_path / "a", (line_of(number, sessions=50) for number in range(300)))
    sender = FakeSender(seconds=0.3)
    run = run_of([file], sender, arguments={"limits": Limits(linger=0.01, max_in_flight=2)})
    run.begin()
    task = asyncio.create_task(run.run())
    async with asyncio.timeout(30):
        await until(lambda: len(sender.requests) == 2)  # as many as may be on their way
        run.stop("Ctrl-C")
        ended = await task
    assert len(sender.requests) == len(sender.arrived) == 2
    assert ended.totals.delivered == sum(came(sender.arrived).values()) > 0


async def test_a_reading_that_is_given_up_is_not_the_end(tmp_path: Path) -> None:
    """A stop that meets the reading half-way leaves the file unfinished."""
    file = write(tmp_path / "a", (line_of(number) for number in range(3_000)))
    run = run_of([file], FakeSender())
    run.begin()
    run._stopped = asyncio.get_running_loop().create_future()
    run.stop("Ctrl-C")
    async with run._buffer:
        await run._send(run._files[0])
    (sent,) = run._files
    assert 0 < sent.book.read < 3_000
    assert sent.book.is_settled
    assert not sent.is_settled
    assert sent.cut_short is None
    sent.close()


async def test_a_request_that_is_repeated_settles_its_lines_once(tmp_path: Path) -> None:
    """A batch that failed and goes again counts once."""
    file = write(tmp_path / "a", (line_of(number) for number in range(100)))
    sender = FakeSender(Failed("reset"), Failed("reset"))
    ended = await send(file, sender, arguments={"retry": RetryPolicy(base_delay=0.01)})
    assert ended.totals == Totals(lines=100, delivered=100)
    assert len(sender.requests) == len(sender.arrived) + 2


async def test_the_very_same_event_in_several_lines(tmp_path: Path) -> None:
    """Lines that are alike in everything, ids too, are all sent, and all counted."""
    same = line_of(1, id=uuid_of(1), timestamp=1)
    event = {"type": "a.b", "details": {"n": 1}, "id": uuid_of(1), "timestamp": 1}
    twice = {"UserDetails": {"sessionId": uuid_of(2)}, "RumEvents": [event, event]}
    file = write(tmp_path / "a", [same] * 250 + [orjson.dumps(twice)] + [same] * 5)
    sender = FakeSender()
    ended = await send(file, sender)
    assert came(sender.arrived).total() == 257
    assert ended.totals == Totals(lines=256, delivered=257)
    assert ended.is_clean


async def test_the_oldest_line_bounds_what_is_read_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the first line waits, reading goes no further than the bound, and on when it is settled."""
    monkeypatch.setattr(run_module, "_AHEAD", 100)
    file = write(tmp_path / "a", (line_of(number, sessions=3) for number in range(1_000)))
    seen: list[int] = []
    sender = FakeSender()
    limits = {"limits": Limits(linger=0.01)}
    run = run_of([file], sender, show=lambda moment: seen.append(moment.lines), arguments=limits)
    sender.pause()
    run.begin()
    task = asyncio.create_task(run.run())
    async with asyncio.timeout(30):
        await until(lambda: len(seen) >= 4)
        assert set(seen[1:]) == {100}
        sender.resume()
        ended = await task
    assert ended.totals.delivered == 1_000


async def test_small_files_share_batches(tmp_path: Path) -> None:
    """Many small files of the same sessions fill batches together; each has its own journal."""
    files = [write(tmp_path / f"{number}", [line_of(number, sessions=1)]) for number in range(50)]
    sender = FakeSender()
    ended = await send(files, sender)
    assert numbers(sender.arrived) == list(range(50))
    assert len(sender.arrived) < 10
    assert all(journal(file).done for file in files)
    assert ended.totals == Totals(lines=50, delivered=50)


async def test_one_of_several_files_cannot_be_sent(tmp_path: Path) -> None:
    """A file that was changed is left out and named; the others are sent."""
    files = [write(tmp_path / name, [line_of(number)]) for number, name in enumerate("abc")]
    await send(files, FakeSender())
    for changed in files[:2]:
        write(changed, [line_of(9)])
    with files[2].open("ab") as output:
        output.write(line_of(3) + b"\n")
    sender = FakeSender()
    ended = await send(files, sender)
    assert numbers(sender.arrived) == [3]
    assert not ended.is_clean
    assert [file.name for file in ended.files] == [str(files[2])]
    assert ["--restart" in why for why in ended.refused] == [True, True]
    assert (ended.not_begun, ended.stopped) == (0, None)


async def test_empty_files(tmp_path: Path) -> None:
    """A file without a line is sent whole, and may be filled later."""
    file = write(tmp_path / "a", [], end=b"")
    ended = await send(file, FakeSender())
    assert ended.is_clean
    assert ended.totals == Totals()
    write(file, [line_of(1)])
    sender = FakeSender()
    await send(file, sender)
    assert numbers(sender.arrived) == [1]


@pytest.mark.parametrize("cut", [-3, -30])
async def test_truncated_gzip(cut: int, tmp_path: Path) -> None:
    """What can be read of it arrives, and it is said where it ends; mended, the rest follows."""
    text = b"".join(line_of(number) + b"\n" for number in range(3_000))
    file = tmp_path / "a.gz"
    packed = gzip.compress(text)
    file.write_bytes(packed[:cut])
    first = FakeSender()
    ended = await send(file, first)
    assert not ended.is_clean
    assert ended.files[0].cut_short == "the gzip data ends early"
    assert rejects(file)[-1]["outcome"] == "left"
    file.write_bytes(packed)
    second = FakeSender()
    assert (await send(file, second)).is_clean
    assert numbers([*first.arrived, *second.arrived]) == list(range(3_000))


@pytest.mark.parametrize("place", [12, 200])
async def test_damaged_gzip(place: int, tmp_path: Path) -> None:
    """Damage is told wherever it is, from the first line on; nothing is taken for done."""
    packed = bytearray(gzip.compress(b"".join(line_of(number) + b"\n" for number in range(3_000))))
    packed[place : place + 10] = b"\xff" * 10
    file = tmp_path / "a.gz"
    file.write_bytes(packed)
    ended = await send(file, FakeSender())
    assert not ended.is_clean
    assert ended.files[0].cut_short == "the gzip data is damaged"
    assert not journal(file).done
    file.write_bytes(packed[:10])
    ended = await send(file, FakeSender(), restart=True)
    assert ended.files[0].cut_short == "the gzip data ends early"


@pytest.mark.parametrize(
    "changed",
    [[line_of(9), line_of(1), line_of(2)], [line_of(0), line_of(9), line_of(2)], [line_of(0)]],
    ids=["another beginning", "another line", "shorter"],
)
async def test_a_file_that_has_changed_is_not_sent(changed: list[bytes], tmp_path: Path) -> None:
    """What was sent cannot be told from what was not, so the user must say."""
    file = write(tmp_path / "a", [line_of(0), line_of(1)])
    await send(file, FakeSender())
    write(file, changed)
    with pytest.raises(JournalError, match="--restart"):
        run_of([file], FakeSender()).begin()
    sender = FakeSender()
    await send(file, sender, restart=True)
    assert len(came(sender.arrived)) == len(changed)
    assert journal(file).totals.lines == len(changed)


@pytest.mark.parametrize(
    "wishes",
    [{"app_monitor": None}, {"session": Session(uuid_of(2))}, {"new_session": True}, {"timestamp": 5.0}],
)
async def test_what_was_filled_in_must_stay(wishes: dict[str, Any], tmp_path: Path) -> None:
    """Other defaults would make other events of lines that may have been sent."""
    file = write(tmp_path / "a", [line_of(0)])
    await send(file, FakeSender())
    with pytest.raises(JournalError, match="same options"):
        run_of([file], FakeSender(), **wishes).begin()


async def test_new_session(tmp_path: Path) -> None:
    """Events without a session get one of the file's, the same each time."""
    file = write(tmp_path / "a", [orjson.dumps({"type": "a.b", "details": {"n": 1}}), line_of(2)])
    sessions = []
    for _ in range(2):
        sender = FakeSender()
        await send(file, sender, new_session=True, restart=True, timestamp=7.5)
        sessions.append(sorted(batch.session_id for batch in sender.arrived))
        assert {event["timestamp"] for event in events_of(sender.arrived)} == {7.5}
    assert sessions[0] == sessions[1]
    assert len(set(sessions[0])) == 2


async def test_a_second_send_of_a_file_is_refused(tmp_path: Path) -> None:
    """While one is at work on it."""
    file = write(tmp_path / "a", [line_of(0)])
    run = run_of([file], FakeSender())
    run.begin()
    with pytest.raises(JournalError, match="another rumbuffer send"):
        run_of([file], FakeSender()).begin()
    await run.run()
    run_of([file], FakeSender()).begin()


def full(*_: object) -> None:
    """A disk that has no room."""
    raise OSError(errno.ENOSPC, "No space left on device")


async def test_full_disk_under_the_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stops and says why; nothing was sent that the journal did not allow for; later it goes on."""
    monkeypatch.setattr(run_module, "_REACH", 500)
    file = write(tmp_path / "a", (line_of(number) for number in range(2_000)))
    saves = 0
    real = Journal.save

    def save(journal: Journal, bookmark: Any) -> None:
        nonlocal saves
        saves += 1
        if saves > 2:
            full()
        real(journal, bookmark)

    first = FakeSender()
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "save", save)
        ended = await send(file, first)
    assert ended.stopped == "cannot write beside the input: No space left on device"
    assert not ended.is_clean
    assert max(numbers(first.arrived), default=0) < 1_000
    second = FakeSender()
    ended = await send(file, second)
    assert set(numbers([*first.arrived, *second.arrived])) == set(range(2_000))
    assert len(came([*first.arrived, *second.arrived])) == 2_000  # repeats are the same
    assert ended.totals.delivered == 2_000


def test_a_full_disk_names_the_file() -> None:
    """The operating system does not say what it had no room for."""
    rejects = RejectFile(Path("/dev/full"), 0o600, 0)
    with pytest.raises(OSError, match="/dev/full") as caught:
        rejects.write({"line": 1})
    rejects.close()
    assert caught.value.errno == errno.ENOSPC


async def test_full_disk_under_the_reject_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line whose reason cannot be written down is not taken for settled: another run rejects it again."""
    file = write(tmp_path / "a", [line_of(0), b"bad", *(line_of(number) for number in range(1, 100))])
    sender = FakeSender()
    sender.pause()
    with monkeypatch.context() as patch:
        patch.setattr(RejectFile, "write", full)
        ended = await send(file, sender)
    assert ended.stopped == "cannot write beside the input: No space left on device"
    ended = await send(file, FakeSender())
    assert ended.totals == Totals(lines=101, delivered=100, rejected=1, repeated=100)
    assert [entry["line"] for entry in rejects(file)] == [2]


async def test_a_killed_run_leaves_no_reject_twice(tmp_path: Path) -> None:
    """What was written behind what the journal knows is cut off, for those lines are read again."""
    file = write(tmp_path / "a", [b"bad 1", line_of(0)])
    await send(file, FakeSender())
    with file.open("ab") as output:
        output.write(b"bad 2\n")
    beside = tmp_path / "a.rumbuffer-rejects"
    with beside.open("ab") as output:
        output.write(b'{"line":3}\n{"half')
    await send(file, FakeSender())
    assert [entry["line"] for entry in rejects(file)] == [1, 3]


@pytest.mark.parametrize(
    "outcome", [Misconfigured(HoldScope.SENDER, "AccessDenied"), Failed("refused"), Throttled()]
)
async def test_it_gives_up_on_a_service_that_takes_nothing(outcome: Outcome, tmp_path: Path) -> None:
    """After the given time it stops, to go on later."""
    file = write(tmp_path / "a", (line_of(number, sessions=40) for number in range(100)))
    retry = RetryPolicy(base_delay=0.01, max_delay=0.02)
    ended = await send(file, FakeSender(then=outcome), give_up=0.5, arguments={"retry": retry})
    assert ended.stopped == "nothing was delivered for 0.5 s"
    sender = FakeSender()
    assert (await send(file, sender)).is_clean
    assert numbers(sender.arrived) == list(range(100))


async def test_more_app_monitors_than_fit_at_once(tmp_path: Path) -> None:
    """The buffer takes 256 at a time; the others wait for their turn."""
    lines = [line_of(number, app_monitor=f"00000000-0000-4000-9000-{number:012x}") for number in range(600)]
    sender = FakeSender()
    ended = await send(write(tmp_path / "a", lines), sender)
    assert numbers(sender.arrived) == list(range(600))
    assert ended.is_clean


async def test_without_a_journal(tmp_path: Path) -> None:
    """Nothing is written beside the file, and each run sends all of it, the same events."""
    file = write(tmp_path / "a", [line_of(number) for number in range(10)])
    seen = []
    for _ in range(2):
        sender = FakeSender()
        await send(file, sender, keeps_journal=False)
        seen.append(came(sender.arrived))
    assert seen[0] == seen[1]
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["a"]


async def test_event_that_no_batch_can_hold(tmp_path: Path) -> None:
    """What exceeds a limit of the buffer is rejected with that limit's name."""
    limits = Limits(max_batch_bytes=2_000, linger=0.01)
    file = write(tmp_path / "a", [line_of(1, metadata={"x": "y" * 3_000}), line_of(2)])
    sender = FakeSender()
    ended = await send(file, sender, arguments={"limits": limits})
    assert numbers(sender.arrived) == [2]
    assert ended.totals == Totals(lines=2, delivered=1, rejected=1)
    assert "max_batch_bytes" in rejects(file)[0]["reason"]


async def test_the_share_that_is_done_grows_to_the_whole(tmp_path: Path) -> None:
    """Progress is told from nothing to all, never above it."""
    file = write(tmp_path / "a", (line_of(number, sessions=100) for number in range(20_000)))
    shares = []
    await send(file, FakeSender(seconds=0.05), show=lambda moment: shares.append(moment.share))
    known = [share for share in shares if share is not None]
    assert known == sorted(known)
    assert all(0 <= share <= 1 for share in known)


async def test_sampling_does_not_touch_it(tmp_path: Path) -> None:
    """A sample rate that is set for servers thins out nothing here."""
    file = write(tmp_path / "a", (line_of(number, sessions=50) for number in range(50)))
    sender = FakeSender()
    await send(file, sender, arguments={"sample_rate": 0.0})
    assert numbers(sender.arrived) == list(range(50))
    assert MONITOR in {batch.app_monitor for batch in sender.arrived}
