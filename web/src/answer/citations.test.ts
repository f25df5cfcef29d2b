import { expect, test } from "vitest";
import { countsOf } from "./checks";
import { linesOf, splitCitations } from "./citations";
import { safeHref, setAside } from "./markdown";

test("citations_are_found_among_text", () => {
  expect(splitCitations("See 【F:src/a b.rs†L1-L9】 and 【chunk_1†L3】.")).toEqual([
    "See ",
    { text: "【F:src/a b.rs†L1-L9】", kind: "file", source: "src/a b.rs", from: 1, to: 9 },
    " and ",
    { text: "【chunk_1†L3】", kind: "output", source: "chunk_1", from: 3, to: undefined },
    ".",
  ]);
});

test("what_only_looks_like_a_citation_stays_text", () => {
  for (const text of ["【F:】", "[F:a.rs]", "[a†L1]", "【F:†L1】", "【a†L1-L】", "F:a†L1", "【F:a\nb†L1】"]) {
    expect(splitCitations(text)).toEqual([text]);
  }
});

test("the_ways_in_which_models_write_citations_are_read", () => {
  for (const text of ["【F:a†L1-L9】", "【F:a†L1-9】", "【F:a†1–9】", "[F:a†L1-L9]", "【 F:a† l1 - l9 】"]) {
    expect(splitCitations(text)).toEqual([{ text, kind: "file", source: "a", from: 1, to: 9 }]);
  }
  for (const text of ["【F:a†】", "【F:a】"]) {
    expect(splitCitations(text)).toEqual([
      { text, kind: "file", source: "a", from: undefined, to: undefined },
    ]);
  }
});

test("what_came_of_checking_is_said_in_words", () => {
  const failing = [{ citation: "【F:a†L9】", reason: "there is only 1 line" }];
  expect(countsOf({ holding: 2, failing, unchecked: 3 })).toBe(
    "Citations checked against the files and recorded output: 2 hold, 1 does not hold, 3 not checked",
  );
  expect(countsOf({ holding: 0, failing: [], unchecked: 0 })).toBeUndefined();
});

test("lines_are_written_as_people_do", () => {
  const lines = (from?: number, to?: number) => linesOf({ from, to });
  expect([lines(), lines(3), lines(3, 3), lines(3, 9)]).toEqual(["", "3", "3", "3–9"]);
});

test("markdown_does_not_see_the_underscores_of_a_path", () => {
  const { markdown, citations } = setAside("In 【F:pkg/__init__.py†L1】.");

  expect(markdown).toBe("In \uE0000\uE001.");
  expect(citations).toEqual([
    { text: "【F:pkg/__init__.py†L1】", kind: "file", source: "pkg/__init__.py", from: 1, to: undefined },
  ]);
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
