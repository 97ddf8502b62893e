"""CloudWatch RUM through aiobotocore: `AwsSender`.

    sender.py    the sender, one call, and the hooks that tie them together
    client.py    a client made without stalling the loop
    answers.py   what an answer means, as a table
    errors.py    what an exception means, as a table

Importing this imports neither aiobotocore nor botocore.
"""

from rumbuffer.aws.sender import AwsSender

__all__ = ["AwsSender"]
