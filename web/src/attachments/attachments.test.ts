import { expect, test } from "vitest";
import { type Chosen, MAX_FILES, whyUnusable } from "./useAttachments";

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
