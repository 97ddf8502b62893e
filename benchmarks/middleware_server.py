"""The application that uvicorn serves for `benchmarks.middleware`; the environment names the case."""

from __future__ import annotations

import logging
import os

from benchmarks.middleware_cases import CASES, App


def make() -> App:
    logging.disable(logging.WARNING)  # what is left at the end is left
    make_app, wrap, _ = CASES[os.environ["MIDDLEWARE_CASE"]]
    return wrap(make_app())
