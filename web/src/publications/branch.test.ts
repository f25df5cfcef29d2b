import { expect, test } from "vitest";
import { branchFor } from "./branch";

test("a_branch_is_made_of_the_titles_words", () => {
  expect(branchFor("Fix the failing test!")).toBe("carrel/fix-the-failing-test");
  expect(branchFor("  Größe & naïve .. ~^: @{x}.lock ")).toBe("carrel/gro-e-naive-x-lock");
});

test("a_long_title_is_cut_between_words", () => {
  const branch = branchFor("one two three four five six seven eight nine ten eleven twelve");
  expect(branch).toBe("carrel/one-two-three-four-five-six-seven-eight-nine-ten");
});

test("a_title_without_latin_letters_has_a_branch_too", () => {
  expect(branchFor("修复测试")).toBe("carrel/changes");
  expect(branchFor("x".repeat(200))).toBe(`carrel/${"x".repeat(48)}`);
});
