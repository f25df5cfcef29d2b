"""Checks events against the models of the vendors' own packages: one JSON document a line, `[name, event]`."""

import json
import sys

sys.path.insert(0, sys.argv[1])

from anthropic.types import Message, RawMessageStreamEvent  # noqa: E402
from openai.types.chat import ChatCompletion, ChatCompletionChunk  # noqa: E402
from openai.types.responses import Response, ResponseStreamEvent  # noqa: E402
from pydantic import TypeAdapter, ValidationError  # noqa: E402

TYPES = {
    "responses": TypeAdapter(ResponseStreamEvent),
    "responses whole": TypeAdapter(Response),
    "chat": TypeAdapter(ChatCompletionChunk),
    "chat whole": TypeAdapter(ChatCompletion),
    "messages": TypeAdapter(RawMessageStreamEvent),
    "messages whole": TypeAdapter(Message),
}

checked = 0
for line in sys.stdin:
    name, event = json.loads(line)
    try:
        TYPES[name].validate_python(event)
    except ValidationError as error:
        sys.exit(f"{name}: {json.dumps(event)}\n{error}")
    checked += 1
print(checked)
