import { expect, test } from "vitest";
import { allowableIn } from "./allowable";
import { readEvent } from "./events";
import { append, EMPTY_LOG } from "./log";

const AGENT = "evil.example is not allowed by the environment `api` (agent phase)";

function wire(seq: number, data: object) {
  const whole = {
    host: "evil.example",
    port: 443,
    method: "CONNECT",
    allowed: false,
    reason: AGENT,
    count: 1,
  };
  const event = { seq, at: "2026-11-22T12:00:00Z", attempt_id: "a1", type: "network.decided" };
  const read = readEvent(JSON.stringify({ ...event, data: { ...whole, ...data } }));
  if (read === undefined) throw new Error("an event was made");
  return read;
}

function allowable(data: object) {
  const { body } = wire(1, data);
  if (body?.type !== "network.decided") throw new Error("a decision was made");
  return allowableIn(body);
}

test("a_refused_host_can_be_allowed_in_the_phase_that_refused_it", () => {
  expect(allowable({})).toEqual({ host: "evil.example", phase: "agent" });
  expect(allowable({ port: 80, reason: AGENT.replace("agent", "setup") })).toEqual({
    host: "evil.example",
    phase: "setup",
  });
});

test("what_allowing_the_host_would_not_lift_is_not_offered", () => {
  for (const data of [
    { allowed: true },
    { port: 8080 },
    { port: 0 },
    { reason: "cannot resolve evil.example: no such name" },
    {
      host: "10.0.0.1",
      reason:
        "10.0.0.1 is an address, and rules are about names; the environment `api` (agent phase) does not allow it",
    },
    {
      reason:
        "POST to evil.example is not allowed by the environment `api` (agent phase), which lets requests only read",
    },
    { reason: `${AGENT}, which lets requests only read` },
    { host: "other.example" },
    { host: "", reason: AGENT.replace("evil.example", "") },
  ]) {
    expect(allowable(data), JSON.stringify(data)).toBeUndefined();
  }
});

test("each_host_is_offered_once_in_a_phase_and_every_refusal_is_shown", () => {
  const first = append(EMPTY_LOG, [wire(1, {}), wire(2, { port: 80 })]);

  const log = append(first, [
    wire(3, {}),
    wire(4, { reason: AGENT.replace("agent", "setup") }),
    wire(5, { host: "b.example", reason: AGENT.replace("evil", "b") }),
  ]);

  const entries = log.attempts.get("a1")?.entries ?? [];
  expect(entries.map(({ is }) => is)).toEqual(["blocked", "note", "note", "blocked", "blocked"]);
  expect(entries[1]).toMatchObject({ tone: "refused", text: expect.stringContaining("evil.example:80") });
});
