import { expect, test } from "vitest";
import { parseAnsi } from "./ansi";

test("plain_text_is_one_span", () => {
  expect(parseAnsi("a <b> & c\n")).toEqual([{ text: "a <b> & c\n", classes: "" }]);
});

test("colours_become_class_names_and_end_at_a_reset", () => {
  expect(parseAnsi("\x1b[1;31merror\x1b[0m: no\x1b[92m ok\x1b[39m.")).toEqual([
    { text: "error", classes: "ansi-bold ansi-fg-1" },
    { text: ": no", classes: "" },
    { text: " ok", classes: "ansi-fg-10" },
    { text: ".", classes: "" },
  ]);
});

test("a_colour_of_the_large_palette_becomes_the_nearest_named_one", () => {
  expect(parseAnsi("\x1b[38;5;196mred\x1b[38;5;9mred\x1b[38;5;250mgrey")).toEqual([
    { text: "red", classes: "ansi-fg-1" },
    { text: "red", classes: "ansi-fg-9" },
    { text: "grey", classes: "ansi-fg-7" },
  ]);
});

test("a_true_colour_is_passed_over_with_its_parameters", () => {
  expect(parseAnsi("\x1b[38;2;31;1;4;1mx")).toEqual([{ text: "x", classes: "ansi-bold" }]);
});

test("other_sequences_and_half_ones_are_dropped", () => {
  expect(parseAnsi("a\x1b[2Jb\x1b[99999999999999999999mc\x1bd\x1b[")).toEqual([
    { text: "a", classes: "" },
    { text: "b", classes: "" },
    { text: "c", classes: "" },
    { text: "d", classes: "" },
    { text: "[", classes: "" },
  ]);
});
