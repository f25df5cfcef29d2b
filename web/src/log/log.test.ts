import { expect, test } from "vitest";
import { type LogEvent, readEvent } from "./events";
import { append, EMPTY_LOG, extend, HEAD_CHARS, type Log, TAIL_CHARS } from "./log";

/** Events as the wire has them, numbered from `first`. */
function events(first: number, ...bodies: [string, object][]): LogEvent[] {
  return bodies.map(([type, data], index) => {
    const wire = { seq: first + index, at: "2026-11-22T12:00:00Z", attempt_id: "a1", type, data };
    const event = readEvent(JSON.stringify(wire));
    if (event === undefined) throw new Error(`not an event: ${type}`);
    return event;
  });
}

function entriesOf(log: Log) {
  return log.attempts.get("a1")?.entries ?? [];
}

const started: [string, object] = [
  "command.started",
  { command_id: "c", command: "make", directory: "/workspace/x" },
];

test("what_a_person_says_is_one_entry_that_knows_whether_it_was_heard", () => {
  const said = append(EMPTY_LOG, events(1, ["message.sent", { message_id: "m", text: "faster" }]));
  const heard = append(said, events(2, ["message.delivered", { message_id: "m" }]));
  const elsewhere = append(EMPTY_LOG, events(1, ["message.delivered", { message_id: "m" }]));

  expect(entriesOf(said)).toEqual([
    { is: "said", seq: 1, at: expect.any(Number), text: "faster", heard: false },
  ]);
  expect(entriesOf(heard)).toEqual([
    { is: "said", seq: 1, at: expect.any(Number), text: "faster", heard: true },
  ]);
  expect(entriesOf(elsewhere)[0]?.is).toBe("note");
});

test("a_command_and_its_output_are_one_entry", () => {
  const log = append(
    EMPTY_LOG,
    events(
      1,
      started,
      ["command.output", { command_id: "c", text: "one\n" }],
      ["agent.message", { text: "meanwhile" }],
      ["command.output", { command_id: "c", text: "two\n" }],
      [
        "command.ended",
        {
          command_id: "c",
          end: { how: "exited", code: 2 },
          duration_ms: 12,
          output_bytes: 8,
          dropped_bytes: 0,
        },
      ],
    ),
  );

  expect(entriesOf(log).map(({ is }) => is)).toEqual(["command", "message"]);
  expect(entriesOf(log)[0]).toMatchObject({
    command: "make",
    output: { head: "one\ntwo\n", tail: "", omitted: 0 },
    end: { how: "exited", code: 2 },
    durationMs: 12,
  });
});

test("a_batch_that_overlaps_adds_only_what_is_new", () => {
  const all = events(
    1,
    started,
    ["command.output", { command_id: "c", text: "x" }],
    ["agent.message", { text: "hi" }],
  );

  const log = append(append(EMPTY_LOG, all.slice(0, 2)), all);

  expect(log.lastSeq).toBe(3);
  expect(entriesOf(log)).toHaveLength(2);
  expect(entriesOf(log)[0]).toMatchObject({ output: { head: "x" } });
  expect(append(log, all)).toBe(log);
});

test("entries_that_did_not_change_stay_the_same_objects", () => {
  const before = append(EMPTY_LOG, events(1, ["agent.message", { text: "hi" }], started));

  const after = append(before, events(3, ["command.output", { command_id: "c", text: "x" }]));

  expect(entriesOf(after)[0]).toBe(entriesOf(before)[0]);
  expect(entriesOf(after)[1]).not.toBe(entriesOf(before)[1]);
  expect(entriesOf(before)[1]).toMatchObject({ output: { head: "" } });
});

test("a_command_id_names_another_command_in_another_attempt", () => {
  const [first] = events(1, started);
  if (first === undefined) throw new Error("one event was made");
  const second = { ...first, seq: 2, attemptId: "a2" };

  const log = append(EMPTY_LOG, [first, second]);

  expect([...log.attempts.values()].map(({ entries }) => entries.length)).toEqual([1, 1]);
});

test("a_plan_replaces_the_one_before", () => {
  const log = append(
    EMPTY_LOG,
    events(
      1,
      ["plan.updated", { explanation: null, steps: [{ step: "a", status: "pending" }] }],
      ["plan.updated", { explanation: null, steps: [{ step: "a", status: "completed" }] }],
    ),
  );

  expect(log.attempts.get("a1")?.plan).toEqual([{ step: "a", status: "completed" }]);
  expect(entriesOf(log)).toEqual([]);
});

test("unknown_kinds_and_broken_data_move_the_log_on_and_show_nothing", () => {
  const log = append(
    EMPTY_LOG,
    events(
      1,
      ["conversation.item", { item: {} }],
      ["something.new", {}],
      ["attempt.state", { state: "dreaming" }],
    ),
  );

  expect(log.lastSeq).toBe(3);
  expect(entriesOf(log)).toEqual([]);
  expect(readEvent("{")).toBeUndefined();
  expect(readEvent('{"seq":"1","type":"x"}')).toBeUndefined();
});

test("output_keeps_its_beginning_and_its_end", () => {
  let output = { head: "", tail: "", omitted: 0 };
  for (let piece = 0; piece < 400; piece += 1) output = extend(output, `${piece}`.padStart(1024, "."));

  expect(output.head).toHaveLength(HEAD_CHARS);
  expect(output.tail).toHaveLength(TAIL_CHARS);
  expect(output.omitted).toBe(400 * 1024 - HEAD_CHARS - TAIL_CHARS);
  expect(output.tail.endsWith("399")).toBe(true);
});

test("an_attached_file_is_an_entry_and_counted", () => {
  const log = append(
    EMPTY_LOG,
    events(
      1,
      ["image.viewed", { path: "/workspace/x/a.png", width: 640, height: 480 }],
      ["artifact.attached", { name: "a.png", size_bytes: 7, description: "The page" }],
    ),
  );

  expect(log.attempts.get("a1")?.attached).toBe(1);
  expect(entriesOf(log).map(({ is }) => is)).toEqual(["note", "artifact"]);
  expect(entriesOf(log)[1]).toMatchObject({ name: "a.png", sizeBytes: 7, description: "The page" });
});

test("a_wait_for_the_model_says_how_often_and_until_when_and_ends_with_what_comes_next", () => {
  const retrying: [string, object] = [
    "model.retrying",
    { reason: "overloaded", wait_ms: 12_000, retry: 3, retries: 8 },
  ];
  const waiting = append(EMPTY_LOG, events(1, retrying));
  const answered = append(waiting, events(2, ["agent.message", { text: "Done." }]));

  expect(entriesOf(waiting)[0]).toMatchObject({
    text: "Waiting for the model: retry 3 of 8 in 12 s (overloaded)",
  });
  expect(waiting.attempts.get("a1")?.waitsUntil).toBe(Date.parse("2026-11-22T12:00:12Z"));
  expect(answered.attempts.get("a1")?.waitsUntil).toBeUndefined();
});

test("citations_that_were_checked_are_an_entry_with_those_that_do_not_hold", () => {
  const failing = [{ citation: "a.rs:9", reason: "the file has 3 lines" }];
  const log = append(
    EMPTY_LOG,
    events(
      1,
      ["citations.checked", { holding: 2, failing, unchecked: 0 }],
      ["citations.checked", { holding: 3, failing: [], unchecked: 0 }],
      ["citations.checked", { holding: 0, failing: [], unchecked: 0 }],
    ),
  );

  expect(entriesOf(log)).toMatchObject([
    { is: "note", tone: "warning", text: expect.stringMatching(/2 hold, 1 does not hold\na.rs:9: the file/) },
    { is: "note", tone: "step", text: expect.stringContaining("3 hold") },
  ]);
});

test("local_changes_and_diffs_of_the_prompt_are_told", () => {
  const log = append(
    EMPTY_LOG,
    events(
      1,
      [
        "local_changes.applied",
        { base: "a", commit: "b", patch: { files: [{}, {}], additions: 3, deletions: 1 } },
      ],
      ["diff.provided", { source: "https://x.example/a/b/pulls/1.diff", path: "/attachments/pulls-1.diff" }],
      ["diff.provided", { source: "https://x.example/a/b/pulls/2.diff", problem: "404" }],
    ),
  );

  expect(entriesOf(log)).toMatchObject([
    { text: "Starts from local changes: 2 files, +3 −1" },
    { text: "The diff of https://x.example/a/b/pulls/1.diff is at /attachments/pulls-1.diff" },
    { tone: "warning", text: "The diff of https://x.example/a/b/pulls/2.diff could not be had: 404" },
  ]);
});
