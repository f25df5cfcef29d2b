import { expect, test } from "vitest";
import { backoffMs, type Connection, follow, type Message, parser } from "./sse";

test("events_are_read_in_any_pieces", () => {
  const wire =
    ': hello\r\n\r\nid: 1\r\nevent: a\r\ndata: {"x":\r\ndata: 1}\r\n\r\nid: 2\ndata:two\n\ndata: cut';
  const whole = [
    { event: "a", id: "1", data: '{"x":\n1}' },
    { event: "message", id: "2", data: "two" },
  ];
  for (const size of [1, 2, 3, 7, wire.length]) {
    const parse = parser();
    const got: Message[] = [];
    for (let at = 0; at < wire.length; at += size) got.push(...parse(wire.slice(at, at + size)));
    expect(got).toEqual(whole);
  }
});

function streamOf(text: string): Response {
  return new Response(text, { status: 200, headers: { "content-type": "text/event-stream" } });
}

/** Follows the answers one after the other, until they run out. */
async function followed(answers: (Response | Error)[]) {
  const ended = new AbortController();
  const asked: string[] = [];
  const waits: number[] = [];
  const connections: Connection["is"][] = [];
  let last = 0;
  await follow(
    {
      url: () => `/events?after=${last}`,
      onMessages: (messages) => {
        last = Number(messages.at(-1)?.id ?? last);
      },
      onConnection: ({ is }) => connections.push(is),
      fetch: async (input) => {
        asked.push(String(input));
        const answer = answers.shift();
        if (answer instanceof Error) throw answer;
        return answer ?? new Response(null, { status: 404 });
      },
      wait: async (ms) => {
        waits.push(ms);
      },
    },
    ended.signal,
  );
  return { asked, waits, connections };
}

test("a_lost_stream_is_taken_up_behind_the_last_event", async () => {
  const { asked, waits } = await followed([
    streamOf("id: 1\ndata: a\n\nid: 2\ndata: b\n\n"),
    new TypeError("network"),
    streamOf("id: 3\ndata: c\n\n"),
  ]);

  expect(asked).toEqual(["/events?after=0", "/events?after=2", "/events?after=2", "/events?after=3"]);
  expect(waits).toEqual([500, 1000, 500]);
});

test("a_refusal_is_final_and_a_server_in_trouble_is_not", async () => {
  const { asked, connections } = await followed([
    new Response(null, { status: 503 }),
    Response.json({ title: "not signed in", status: 401, detail: "" }, { status: 401 }),
    streamOf(""),
  ]);

  expect(asked).toHaveLength(2);
  expect(connections).toEqual(["connecting", "waiting", "connecting", "refused"]);
});

test("waiting_grows_and_has_an_end", () => {
  expect([1, 2, 3, 20].map(backoffMs)).toEqual([500, 1000, 2000, 15_000]);
});
