import { expect, test } from "vitest";
import { reveal } from "./reveal";

test("plain_text_in_any_script_stays_as_it_is", () => {
  for (const text of ["let x = 1;\t// é 修复", "👩‍💻 and 🏳️‍🌈", "שלום"]) {
    expect(reveal(text)).toEqual([{ text, hidden: false }]);
  }
});

test("characters_that_hide_or_reorder_are_shown_by_number", () => {
  expect(reveal("if (a\u202E\u2066)\u200b").map(({ text }) => text)).toEqual([
    "if (a",
    "U+202E",
    "U+2066",
    ")",
    "U+200B",
  ]);
  expect(reveal("ad\u200dmin\x1b")[1]).toEqual({ text: "U+200D", hidden: true });
  expect(reveal("ad\u200dmin\x1b").at(-1)).toEqual({ text: "U+001B", hidden: true });
});
