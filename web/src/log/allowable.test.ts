import { expect, test } from "vitest";
import { allowableIn } from "./allowable";
import { readEvent } from "./events";
import { append, EMPTY_LOG } from "./log";

const AGENT = "carrel environment edit api --allow-domain evil.example";
const SETUP = "carrel environment edit api --setup-allow-domain evil.example";

function wire(seq: number, data: object) {
  const reason = "evil.example is not allowed by the environment `api` (agent phase)";
  const whole = { host: "evil.example", port: 443, method: "CONNECT", allowed: false, reason, count: 1 };
  const event = { seq, at: "2026-11-22T12:00:00Z", attempt_id: "a1", type: "network.decided" };
  const read = readEvent(JSON.stringify({ ...event, data: { ...whole, way_out: AGENT, ...data } }));
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
  expect(allowable({ port: 80, way_out: SETUP })).toEqual({ host: "evil.example", phase: "setup" });
});

test("what_allowing_the_host_would_not_lift_is_not_offered", () => {
  for (const data of [
    { allowed: true },
    { port: 8080 },
    { port: 0 },
    { way_out: undefined },
    { way_out: null },
    { way_out: "carrel environment edit api --methods all" },
    { way_out: "an administrator lists `evil.example:8080` in CARREL_PRIVATE_HOSTS" },
    { way_out: `${AGENT} --internet all` },
    { host: "other.example" },
    { host: "" },
  ]) {
    expect(allowable(data), JSON.stringify(data)).toBeUndefined();
  }
});

test("each_host_is_offered_once_in_a_phase_and_every_refusal_is_shown", () => {
  const first = append(EMPTY_LOG, [wire(1, {}), wire(2, { port: 80 })]);

  const log = append(first, [
    wire(3, {}),
    wire(4, { way_out: SETUP }),
    wire(5, { host: "b.example", way_out: AGENT.replace("evil", "b") }),
  ]);

  const entries = log.attempts.get("a1")?.entries ?? [];
  expect(entries.map(({ is }) => is)).toEqual(["blocked", "note", "note", "blocked", "blocked"]);
  expect(entries[1]).toMatchObject({ tone: "refused", text: expect.stringContaining("evil.example:80") });
});

test("a_way_out_that_no_click_takes_is_said", () => {
  const log = append(EMPTY_LOG, [wire(1, { way_out: "carrel environment edit api --methods all" })]);

  expect(log.attempts.get("a1")?.entries[0]).toMatchObject({
    is: "note",
    text: expect.stringMatching(/; to allow it: carrel environment edit api --methods all$/),
  });
});
