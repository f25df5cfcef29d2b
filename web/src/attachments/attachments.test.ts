import { expect, test } from "vitest";
import { type Chosen, isPatch, MAX_FILES, startFields, whyUnusable } from "./useAttachments";

const uploaded = (key: number): Chosen => ({
  key,
  name: "a.txt",
  sizeBytes: 1,
  attachment: {
    id: `${key}`,
    name: "a.txt",
    size_bytes: 1,
    media_type: null,
    created_at: "2026-11-22T12:00:00Z",
  },
});

test("a_prompt_waits_for_its_files_and_not_for_more_than_may_be", () => {
  const many = Array.from({ length: MAX_FILES }, (_, key) => uploaded(key));

  expect(whyUnusable([])).toBeUndefined();
  expect(whyUnusable(many)).toBeUndefined();
  expect(whyUnusable([...many, uploaded(99)])).toContain("at most");
  expect(whyUnusable([uploaded(1), { key: 2, name: "b", sizeBytes: 1 }])).toContain("being uploaded");
  expect(whyUnusable([{ key: 2, name: "b", sizeBytes: 1, problem: "too large" }])).toContain("Remove");
});

test("a_task_starts_from_the_patch_that_was_chosen_for_it_and_from_no_other_file", () => {
  const start = { ...uploaded(2), name: "fix.patch", isStart: true };

  expect(startFields([uploaded(1), start])).toEqual({ local_changes: "2" });
  expect(startFields([uploaded(1)])).toEqual({});
  expect(startFields([{ key: 3, name: "x.diff", sizeBytes: 1, isStart: true }])).toEqual({});
  expect(["fix.patch", "A.DIFF", "patch.txt"].map(isPatch)).toEqual([true, true, false]);
});
