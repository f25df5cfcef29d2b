import { expect, test } from "vitest";
import { coloursOf, mark } from "./colour";
import { applyCommand } from "./command";
import { parsePatch, unquote } from "./parse";
import { changedRanges, splitRows } from "./rows";

const PATCH = `diff --git a/src/a.rs b/src/a.rs
index 1..2 100644
--- a/src/a.rs
+++ b/src/a.rs
@@ -1,3 +1,3 @@ fn main() {
 let a = 1;
-let b = 2;
+let b = 3;
 let c = 3;
@@ -9 +9 @@
--- not a header
+++ neither is this
\\ No newline at end of file
diff --git a/old name b/new name
similarity index 100%
rename from old name
rename to new name
diff --git a/gone b/gone
deleted file mode 100644
--- a/gone
+++ /dev/null
@@ -1 +0,0 @@
-x
diff --git "a/\\303\\244 \\"q\\"" "b/\\303\\244 \\"q\\""
new file mode 100644
index 0..1
Binary files /dev/null and "b/\\303\\244 \\"q\\"" differ
diff --git a/run.sh b/run.sh
old mode 100644
new mode 100755
`;

test("each_file_of_a_patch_is_read", () => {
  const files = parsePatch(PATCH);

  expect(
    files.map(({ path, oldPath, kind, binary, modeChange }) => ({ path, oldPath, kind, binary, modeChange })),
  ).toEqual([
    { path: "src/a.rs", kind: "modified", binary: false },
    { path: "new name", oldPath: "old name", kind: "renamed", binary: false },
    { path: "gone", kind: "deleted", binary: false },
    { path: 'ä "q"', kind: "added", binary: true },
    { path: "run.sh", kind: "modified", binary: false, modeChange: "644 → 755" },
  ]);
  expect(files.map(({ additions, deletions }) => [additions, deletions])).toEqual([
    [2, 2],
    [0, 0],
    [0, 1],
    [0, 0],
    [0, 0],
  ]);
});

test("a_changed_line_that_looks_like_a_header_is_a_line", () => {
  const lines = parsePatch(PATCH)[0]?.hunks[1]?.lines;

  expect(lines?.map(({ kind, text, unterminated }) => [kind, text, unterminated])).toEqual([
    ["removed", "-- not a header", false],
    ["added", "++ neither is this", true],
  ]);
});

test("text_that_is_no_patch_has_no_files_and_half_a_patch_shows_what_is_there", () => {
  expect(parsePatch("")).toEqual([]);
  expect(parsePatch("hello\n@@ -1 +1 @@\n+x\n")).toEqual([]);
  expect(parsePatch("diff --git a/x b/x\n@@ -1,5 +1,5 @@\n a\n-b")[0]?.hunks[0]?.lines).toHaveLength(2);
  expect(parsePatch("diff --git ")).toHaveLength(1);
});

test("quoted_names_are_read_as_bytes", () => {
  expect(unquote('"tab\\there \\\\ \\360\\237\\246\\200"')).toBe("tab\there \\ 🦀");
  expect(unquote('plain "quotes" inside')).toBe('plain "quotes" inside');
});

test("side_by_side_removed_lines_stand_beside_the_added_ones", () => {
  const hunk = parsePatch(PATCH)[0]?.hunks[0];
  if (hunk === undefined) throw new Error("the patch has a hunk");

  expect(splitRows(hunk).map(({ left, right }) => [left?.text, right?.text])).toEqual([
    ["let a = 1;", "let a = 1;"],
    ["let b = 2;", "let b = 3;"],
    ["let c = 3;", "let c = 3;"],
  ]);
  expect([...changedRanges(hunk).values()]).toEqual([
    [8, 9],
    [8, 9],
  ]);
});

test("colours_keep_every_letter_of_a_line", () => {
  const [file] = parsePatch(PATCH);
  if (file === undefined) throw new Error("the patch has a file");
  const colours = coloursOf(file);

  for (const line of file.hunks.flatMap((hunk) => hunk.lines)) {
    expect(
      colours
        .get(line)
        ?.map((run) => run.text)
        .join(""),
    ).toBe(line.text);
  }
  expect(
    colours.get(file.hunks[0]?.lines[2] ?? neverLine)?.some((run) => run.classes.includes("changed")),
  ).toBe(true);
});

const neverLine = { kind: "context", text: "", oldNumber: 0, newNumber: 0, unterminated: false } as const;

test("a_mark_cuts_the_runs_it_begins_and_ends_in", () => {
  const runs = [
    { text: "abc", classes: "x" },
    { text: "def", classes: "" },
  ];

  expect(mark(runs, [2, 4])).toEqual([
    { text: "ab", classes: "x" },
    { text: "c", classes: "x changed" },
    { text: "d", classes: "changed" },
    { text: "ef", classes: "" },
  ]);
});

test("the_command_ends_at_a_word_the_patch_does_not_have", () => {
  const command = applyCommand("diff --git a/x b/x\nCARREL_PATCH\n");

  expect(command).toContain("<<'CARREL_PATCH_2'\n");
  expect(command.endsWith("\nCARREL_PATCH_2\n")).toBe(true);
});

test("a_patch_that_could_steer_a_terminal_goes_as_base64", () => {
  const hostile = "diff --git a/x b/x\n+\x1b[201~\nrm -rf ~\n";
  const command = applyCommand(hostile);

  expect(command).not.toContain("\x1b");
  expect(command).not.toContain("rm -rf");
  const lines = command.split("\n");
  expect(atob(lines.slice(1, -2).join(""))).toBe(hostile);
});
