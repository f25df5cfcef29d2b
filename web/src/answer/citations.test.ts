import { expect, test } from "vitest";
import { linesOf, splitCitations } from "./citations";
import { safeHref, setAside } from "./markdown";

test("citations_are_found_among_text", () => {
  expect(splitCitations("See 【F:src/a b.rs†L1-L9】 and 【chunk_1†L3】.")).toEqual([
    "See ",
    { kind: "file", source: "src/a b.rs", from: 1, to: 9 },
    " and ",
    { kind: "output", source: "chunk_1", from: 3, to: undefined },
    ".",
  ]);
});

test("what_only_looks_like_a_citation_stays_text", () => {
  for (const text of ["【F:a.rs】", "【F:†L1】", "【a†L1-L】", "F:a†L1", "【F:a\nb†L1】"]) {
    expect(splitCitations(text)).toEqual([text]);
  }
});

test("lines_are_written_as_people_do", () => {
  const lines = (from?: number, to?: number) => linesOf({ kind: "file", source: "a", from, to });
  expect([lines(), lines(3), lines(3, 3), lines(3, 9)]).toEqual(["", "3", "3", "3–9"]);
});

test("markdown_does_not_see_the_underscores_of_a_path", () => {
  const { markdown, citations } = setAside("In 【F:pkg/__init__.py†L1】.");

  expect(markdown).toBe("In \uE0000\uE001.");
  expect(citations).toEqual([{ kind: "file", source: "pkg/__init__.py", from: 1, to: undefined }]);
});

test("a_placeholder_in_the_answer_itself_is_dropped", () => {
  expect(setAside("\uE0000\uE001 x").markdown).toBe("0 x");
});

test("only_links_that_leave_by_a_harmless_protocol_are_links", () => {
  expect(safeHref("https://example.com/a")).toBe("https://example.com/a");
  for (const href of [
    "javascript:alert(1)",
    " javascript:x",
    "data:text/html,x",
    "/api/v1/me",
    "//x",
    undefined,
  ]) {
    expect(safeHref(href)).toBeUndefined();
  }
});
