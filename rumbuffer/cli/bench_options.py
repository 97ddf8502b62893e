"""The options of `rumbuffer bench`: their sections, their values, and the buffer's own settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import click

from rumbuffer.settings import Limits, Overflow, Pacing, RetryPolicy

__all__ = ["BUFFER_OPTIONS", "Between", "BufferOption", "Section", "SectionedCommand", "buffer_settings"]

if TYPE_CHECKING:
    _PairType: TypeAlias = click.ParamType[tuple[float, float]]
    _QuotaType: TypeAlias = click.ParamType[float | str]
else:  # generic since click 8.4
    _PairType = _QuotaType = click.ParamType

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


class _Option(click.Option):
    """An option that knows its section of the help."""

    def __init__(self, *arguments: Any, section: Section, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.section = section


class Section(Enum):
    """The parts of the help."""

    LOAD = "The load"
    BUFFER = "The buffer"
    SERVICE = "The service"
    EMULATOR = "The emulator, if none is named"
    REPORT = "What comes of it"

    def option(self, *flags: str, **settings: Any) -> Callable[[Decorated], Decorated]:
        """`click.option` in this section."""
        return click.option(*flags, cls=_Option, section=self, **settings)


class SectionedCommand(click.Command):
    """Shows its options by section; those that have none are the emulator's faults."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options."""
        for section in Section:
            rows = [
                record
                for parameter in self.get_params(ctx)
                if self._section(parameter) is section and (record := parameter.get_help_record(ctx))
            ]
            with formatter.section(section.value):
                formatter.write_dl(rows)

    @staticmethod
    def _section(parameter: click.Parameter) -> Section:
        if isinstance(parameter, _Option):
            return parameter.section
        return Section.REPORT if "--help" in parameter.opts else Section.EMULATOR


class Between(_PairType):
    """A number, or two of them: ``A..B``. Gives a pair."""

    def __init__(self, name: str, unit: str, *, lowest: float, whole: bool = False) -> None:
        self.name = name
        self._unit = unit
        self._lowest = lowest
        self._number: type[int | float] = int if whole else float

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """As the help shows it."""
        return f"{self.name}[..{self.name}]"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, float]:
        """Read it."""
        if isinstance(value, tuple):
            return value
        first, dots, last = str(value).partition("..")
        kind = "a whole number" if self._number is int else "a number"
        try:
            pair = self._number(first), self._number(last if dots else first)
        except ValueError:
            self.fail(f"{value!r} is not {kind} of {self._unit}, nor two of them (A..B).", param, ctx)
        for number in pair:
            if not self._lowest <= number < 1e9:
                self.fail(f"{number:g} is not {kind} of {self._unit} from {self._lowest:g} on.", param, ctx)
        return pair


class Quota(_QuotaType):
    """A rate, or ``none``."""

    name = "RATE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | str:
        """Read it; ``none`` stays, for click takes None for an option that was not given."""
        if isinstance(value, float) or str(value).lower() in ("none", "unknown"):
            return value if isinstance(value, float) else "none"
        try:
            return float(value)
        except ValueError:
            self.fail(f"{value!r} is neither a number of requests a second nor none.", param, ctx)


@dataclass(frozen=True, slots=True)
class BufferOption:
    """A setting of the buffer as an option; `group` is its class, or None for an argument of RumBuffer."""

    flag: str
    group: type | None
    field: str
    kind: Any
    metavar: str | None
    help: str
    default: Any = None

    @property
    def parameter(self) -> str:
        """The name that its value comes under."""
        return self.flag.removeprefix("--").replace("-", "_")

    def decorate(self, command: Decorated) -> Decorated:
        """Give a command this option."""
        default = self.default if self.group is None else getattr(self.group(), self.field)
        shown: dict[str, Any] = {} if self.metavar is None else {"metavar": self.metavar}
        option = Section.BUFFER.option(
            self.flag,
            self.parameter,
            type=self.kind,
            default=default,
            show_default=True,
            help=self.help,
            **shown,
        )
        return option(command)


BUFFER_OPTIONS: tuple[BufferOption, ...] = (
    BufferOption(
        "--quota",
        Pacing,
        "quota",
        Quota(),
        None,
        "Quota that it knows of, requests a second; none to find it.",
    ),
    BufferOption("--use", Pacing, "use", float, "SHARE", "Share of the quota that it takes."),
    BufferOption("--burst", Pacing, "burst", int, "N", "Requests that may go at once at the start."),
    BufferOption("--group", Pacing, "group", str, "NAME", "Which processes share a pace, with --share."),
    BufferOption(
        "--linger", Limits, "linger", float, "SECONDS", "The longest that an open batch waits for more."
    ),
    BufferOption("--max-batch-events", Limits, "max_batch_events", int, "N", "Events in a batch."),
    BufferOption("--max-batch-bytes", Limits, "max_batch_bytes", int, "BYTES", "A request's whole body."),
    BufferOption("--max-pending-bytes", Limits, "max_pending_bytes", int, "BYTES", "The bound on memory."),
    BufferOption(
        "--max-event-bytes", Limits, "max_event_bytes", int, "BYTES", "Details and metadata of an event."
    ),
    BufferOption(
        "--oversize",
        Limits,
        "oversize",
        click.Choice(["refuse", "send"]),
        None,
        "What becomes of larger events.",
    ),
    BufferOption("--max-in-flight", Limits, "max_in_flight", int, "N", "Batches on the way at once."),
    BufferOption(
        "--max-failures", RetryPolicy, "max_failures", int, "N", "Failures until a batch is given up."
    ),
    BufferOption(
        "--base-delay",
        RetryPolicy,
        "base_delay",
        float,
        "SECONDS",
        "The first retry comes after at most this.",
    ),
    BufferOption(
        "--max-delay", RetryPolicy, "max_delay", float, "SECONDS", "The longest delay before a retry."
    ),
    BufferOption(
        "--retry-budget", RetryPolicy, "budget", float, "SHARE", "Retries as a share of first tries."
    ),
    BufferOption(
        "--overflow",
        None,
        "overflow",
        click.Choice([str(policy) for policy in Overflow]),
        None,
        "What happens at the memory limit.",
        str(Overflow.DROP_OLDEST),
    ),
    BufferOption(
        "--sample-rate", None, "sample_rate", float, "SHARE", "Share of sessions that is kept.", 1.0
    ),
    BufferOption(
        "--compression", None, "compression", click.Choice(["gzip"]), None, "Send compressed requests."
    ),
)


def buffer_settings(options: dict[str, Any], *, share: bool) -> dict[str, Any]:
    """Return RumBuffer's settings as arguments by name. Raises `InvalidSetting`."""
    grouped: dict[type, dict[str, Any]] = {Limits: {}, Pacing: {}, RetryPolicy: {}}
    plain: dict[str, Any] = {}
    for option in BUFFER_OPTIONS:
        value = options[option.parameter]
        (plain if option.group is None else grouped[option.group])[option.field] = value
    pacing = grouped[Pacing]
    if pacing["quota"] == "none":
        pacing["quota"] = None
    return {
        "limits": Limits(**grouped[Limits]),
        "pacing": Pacing(**pacing, share="host" if share else None),
        "retry": RetryPolicy(**grouped[RetryPolicy]),
        "overflow": Overflow(plain.pop("overflow")),
        **plain,
    }
