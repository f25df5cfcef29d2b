"""Checks a stream of the Responses API, read from standard input, against OpenAI's own description of its events.

Needs `openai==2.54.0` from PyPI. Reads server-sent events (or bare lines of JSON); ends with 1 at the first event
that the SDK's types do not take, that lacks the field names of its type, or whose sequence number does not rise.
"""

import json
import sys

from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter, ValidationError

EVENT = TypeAdapter(ResponseStreamEvent)


def events(lines):
    for line in lines:
        line = line.strip()
        if line.startswith("data:"):
            line = line[len("data:"):].strip()
        if line.startswith("{"):
            yield json.loads(line)


def problems(error):
    """What is wrong with the event as the type that it says it is; the union tries all others too."""
    others = {problem["loc"][0] for problem in error.errors() if problem["loc"][1:] == ("type",)}
    return [f"{problem['loc']}: {problem['msg']}" for problem in error.errors() if problem["loc"][0] not in others]


def main():
    count = 0
    last = -1
    for event in events(sys.stdin):
        try:
            parsed = EVENT.validate_python(event)
        except ValidationError as error:
            sys.exit(f"event {count}, {event.get('type')}: {problems(error)}")
        if event["sequence_number"] <= last:
            sys.exit(f"event {count}: sequence number {event['sequence_number']} after {last}")
        last = event["sequence_number"]
        unknown = set(parsed.__pydantic_extra__ or {})
        if unknown:
            sys.exit(f"event {count}: {event['type']} has unknown fields {sorted(unknown)}")
        count += 1
    if count == 0:
        sys.exit("there was no event")
    print(f"{count} events are as published")


main()
