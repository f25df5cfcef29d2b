import { expect, test } from "vitest";
import type { Attempt, Task, Turn } from "../api/types";
import { draftFrom, missingIn, readPrefill, requestOf } from "./form";
import { NO_CHOICE } from "./models";
import { goesOnFrom, readView, shownAttempt, shownTab } from "./view";

function attempt(id: string, state: Attempt["state"], patch = false): Attempt {
  const result =
    state === "ready"
      ? { answer: "done", patch: patch ? { files: [], additions: 1, deletions: 0, size_bytes: 9 } : null }
      : null;
  return {
    id,
    number: 1,
    state,
    base_commit: null,
    environment: { id: "e", name: "default", version: 1, image: "host" },
    model: "m",
    usage: { input_tokens: 0, cached_input_tokens: 0, output_tokens: 0, reasoning_tokens: 0, requests: 0 },
    result,
    failure: null,
    cancel_requested: false,
    created_at: "2026-11-22T12:00:00Z",
    started_at: null,
    ended_at: null,
    publications: [],
  };
}

test("the_address_is_read_and_what_makes_no_sense_in_it_passed_over", () => {
  expect(readView({ attempt: "a", tab: "diff", layout: "split", other: "x" })).toEqual({
    attempt: "a",
    tab: "diff",
    layout: "split",
  });
  expect(readView({ attempt: 3, tab: "settings", layout: "up" })).toEqual({});
});

test("the_chosen_attempt_is_shown_else_the_first_ready_one", () => {
  const turn = {
    attempts: [attempt("a", "failed"), attempt("b", "ready"), attempt("c", "ready")],
  } as unknown as Turn;

  expect([undefined, "c", "gone"].map((chosen) => shownAttempt(turn, chosen)?.id)).toEqual(["b", "c", "b"]);
});

test("the_suggested_attempt_is_shown_and_said_to_be_gone_on_from", () => {
  const attempts = [attempt("a", "ready"), { ...attempt("b", "ready"), number: 2 }];
  const first = { attempts, comparison: { suggested_attempt_id: "b", reason: "r" } } as unknown as Turn;
  const second = { attempts: [attempt("c", "ready")], from_attempt_id: "b" } as unknown as Turn;
  const task = { turns: [first, second] } as unknown as Task;

  expect([undefined, "a"].map((chosen) => shownAttempt(first, chosen)?.id)).toEqual(["b", "a"]);
  expect([first, second].map((turn) => goesOnFrom(task, turn))).toEqual([undefined, 2]);
});

test("a_tab_that_is_not_there_yet_is_not_shown", () => {
  const shown = (state: Attempt["state"], patch: boolean) =>
    [undefined, "log", "answer", "diff"].map((tab) =>
      shownTab(attempt("a", state, patch), readView({ tab }).tab),
    );

  expect(shown("running", false)).toEqual(["log", "log", "log", "log"]);
  expect(shown("ready", false)).toEqual(["answer", "log", "answer", "answer"]);
  expect(shown("ready", true)).toEqual(["answer", "log", "answer", "diff"]);
  expect(shown("failed", false)).toEqual(["log", "log", "log", "log"]);
});

test("a_deep_link_fills_the_draft", () => {
  const draft = draftFrom(
    readPrefill({ environment: "e", repository: "/r", branch: "12", mode: "ask", prompt: "Why?", tab: "x" }),
  );

  expect(draft).toEqual({
    repository: "/r",
    branch: "12",
    environment: "e",
    mode: "ask",
    attempts: 1,
    model: NO_CHOICE,
    prompt: "Why?",
  });
  expect(draftFrom(readPrefill({ mode: "shell" })).mode).toBe("code");
});

test("an_empty_branch_is_not_sent", () => {
  const draft = draftFrom({ repository: " /r ", prompt: " Fix it. " });

  expect(requestOf(draft)).toEqual({
    repository: "/r",
    environment: "default",
    mode: "code",
    attempts: 1,
    prompt: " Fix it. ",
  });
  expect(missingIn(draft)).toBeUndefined();
  expect(missingIn({ ...draft, prompt: " " })).toBe("Say what is to be done first");
});
