"""For code that was written for aiobotocore's `rum` client.

    exceptions.py   the service's five errors, as botocore's `ClientError`s
    checks.py       boto3's checks of a call, and what becomes of it
    stand_in.py     the object with the client's face
    waiting.py      a call of it that waits, and what it raises

    async with rumbuffer.compat.client(buffer) as client:
        await client.put_rum_events(Id=..., BatchId=..., ...)

The types of the arguments are in `rumbuffer.shapes`.
"""

from rumbuffer.compat.exceptions import (
    AccessDeniedException,
    Exceptions,
    InternalServerException,
    ResourceNotFoundException,
    ThrottlingException,
    ValidationException,
)
from rumbuffer.compat.stand_in import Client, ClientMeta, client

__all__ = [
    "AccessDeniedException",
    "Client",
    "ClientMeta",
    "Exceptions",
    "InternalServerException",
    "ResourceNotFoundException",
    "ThrottlingException",
    "ValidationException",
    "client",
]
