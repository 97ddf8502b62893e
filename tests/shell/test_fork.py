"""Forks: ids never repeat, a buffer made before works in the child, a started one says that it cannot."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")

HEAD = """
import asyncio, json, logging, os, sys, threading, warnings
from rumbuffer import *
from rumbuffer.ids import new_id
from tests.fakes import FakeSender, assert_laws, buffer_of, event_of, session_of

logging.basicConfig(stream=sys.stderr, format="%(message)s")

def in_child(work):
    '''Do the work in a forked child and return what it returned, through a pipe.'''
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 warns of threads
        child = os.fork()
    if not child:
        status = 1
        try:
            os.write(writing, json.dumps(work()).encode())
            status = 0
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    os.close(writing)
    with open(reading) as pipe:
        text = pipe.read()
    assert os.waitpid(child, 0)[1] == 0
    return json.loads(text)
"""


def python(script: str) -> tuple[Any, str]:
    """Run a script in a process of its own; return what it printed as JSON, and its log."""
    command = [sys.executable, "-c", HEAD + textwrap.dedent(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


def test_children_never_give_the_same_id() -> None:
    """Ids that were made ready before a fork are given by neither child, nor again by the parent."""
    ids, _ = python(
        """
        before = [new_id() for _ in range(10)]
        children = [in_child(lambda: [new_id() for _ in range(1000)]) for _ in range(3)]
        grandchild = in_child(lambda: in_child(lambda: [new_id() for _ in range(1000)]))
        after = [new_id() for _ in range(1000)]
        print(json.dumps(sum([before, *children, grandchild, after], [])))
        """
    )
    assert len(ids) == len(set(ids)) == 5010


def test_events_and_batches_of_children_have_ids_of_their_own() -> None:
    """Two children that record the same through the same buffer share no event id and no batch id."""
    ids, _ = python(
        """
        sender = FakeSender()
        buffer = buffer_of(sender)
        new_id()

        def work():
            async def main():
                async with buffer:
                    for number in range(300):
                        assert buffer.record("a", {"n": number}, session=session_of(number))
                assert_laws(buffer.stats(), closed=True)
                assert buffer.stats().delivered == 300
            asyncio.run(main())
            batches = sender.arrived
            return [b.id for b in batches] + [json.loads(e)["id"] for b in batches for e in b.events]

        first, second = in_child(work), in_child(work)
        print(json.dumps(first + second + work()))
        """
    )
    assert len(ids) == len(set(ids)) == 1800


def test_a_started_buffer_says_so_in_a_child() -> None:
    """In a forked child every call on a buffer that the parent started names the fork and the remedy."""
    answers, log = python(
        """
        def work():
            said = {}
            admission = None
            for _ in range(3):
                admission = buffer.record("a", {}, session=session_of())
            said["record"] = [bool(admission), admission.reason]
            try:
                buffer.put_nowait(event_of(1), session=session_of())
            except BufferClosed as error:
                said["put_nowait"] = [error.state, str(error)]

            async def main():
                calls = {
                    "put": lambda: buffer.put(event_of(1), session=session_of()),
                    "deliver": lambda: buffer.deliver(event_of(1), session=session_of()),
                    "flush": buffer.flush,
                    "start": buffer.start,
                }
                for name, call in calls.items():
                    try:
                        await call()
                    except BufferClosed as error:
                        said[name] = [error.state, str(error)]
                said["aclose"] = (await buffer.aclose()).lossless

            asyncio.run(main())
            said["refused"] = dict(buffer.stats().refused_by_reason)
            said["repr"] = repr(buffer)
            return said

        sender = FakeSender()
        buffer = buffer_of(sender)

        async def main():
            async with buffer:
                assert buffer.put_nowait(event_of(1), session=session_of())
                answers = in_child_between_loops()
                await buffer.flush()
                assert buffer.record("a", {}, session=session_of())
            assert buffer.stats().delivered == 2
            return answers

        def in_child_between_loops():
            def without_loop():
                asyncio._set_running_loop(None)
                return work()
            return in_child(without_loop)

        print(json.dumps(asyncio.run(main())))
        """
    )
    assert answers["record"] == [False, "forked"]
    for call in ("put_nowait", "put", "deliver", "flush", "start"):
        state, text = answers[call]
        assert state == "forked"
        assert "started in the parent process" in text
        assert "start one in each child" in text
    assert answers["aclose"] is True
    assert answers["refused"]["forked"] >= 4
    assert "forked" in answers["repr"]
    assert log.count("started in the parent process") == 1
    assert "unclosed" not in log


def test_a_fork_while_another_thread_is_inside() -> None:
    """A child that was forked while another thread held the buffer's lock does not hang."""
    answer, _ = python(
        """
        sender = FakeSender()
        buffer = buffer_of(sender)
        inside, leave = threading.Event(), threading.Event()

        def hold():
            with buffer._intake.guard:
                inside.set()
                leave.wait()

        async def main():
            async with buffer:
                thread = threading.Thread(target=hold)
                thread.start()
                inside.wait()
                answer = in_child(lambda: [
                    buffer.record("a", {}, session=session_of()).reason, buffer.stats().refused
                ])
                leave.set()
                thread.join()
            return answer

        print(json.dumps(asyncio.run(main())))
        """
    )
    assert answer == ["forked", 1]


def test_a_buffer_made_in_a_child_beside_the_parents() -> None:
    """A child may make and run a buffer of its own, though its parent's is forked with it."""
    answer, _ = python(
        """
        def work():
            asyncio._set_running_loop(None)
            sender = FakeSender()

            async def main():
                async with buffer_of(sender) as own:
                    await own.deliver(event_of(5), session=session_of())

            asyncio.run(main())
            return sender.numbers()

        async def main():
            async with buffer_of(FakeSender()):
                return in_child(work)

        print(json.dumps(asyncio.run(main())))
        """
    )
    assert answer == [5]
