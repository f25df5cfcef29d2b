import { expect, test } from "vitest";
import { submits } from "./PromptBox";

const NONE = { ctrlKey: false, metaKey: false, shiftKey: false, altKey: false, isComposing: false };

test("a prompt is handed over by Ctrl or Cmd and Enter, and begins a new line by Enter", () => {
  expect(submits({ ...NONE, key: "Enter" }, false)).toBe(false);
  expect(submits({ ...NONE, key: "Enter", ctrlKey: true }, false)).toBe(true);
  expect(submits({ ...NONE, key: "Enter", metaKey: true }, false)).toBe(true);
});

test("a message is handed over by Enter too, and begins a new line by Shift and Enter", () => {
  expect(submits({ ...NONE, key: "Enter" }, true)).toBe(true);
  expect(submits({ ...NONE, key: "Enter", ctrlKey: true }, true)).toBe(true);
  expect(submits({ ...NONE, key: "Enter", shiftKey: true }, true)).toBe(false);
  expect(submits({ ...NONE, key: "a" }, true)).toBe(false);
});

test("Enter that ends the composing of a character hands nothing over", () => {
  expect(submits({ ...NONE, key: "Enter", isComposing: true }, true)).toBe(false);
  expect(submits({ ...NONE, key: "Enter", ctrlKey: true, isComposing: true }, false)).toBe(false);
});
