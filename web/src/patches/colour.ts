// The colours of a file's patch, line by line: each side of a hunk is coloured as one text, so that a string or a comment
// over several lines is seen as such; then the part of a line that changed is marked.

import { highlightLines, languageOf, type Run } from "./highlight";
import type { FilePatch, Line } from "./parse";
import { changedRanges, type Range } from "./rows";

/** What each line is made of. */
export type Colours = ReadonlyMap<Line, readonly Run[]>;

export function coloursOf(file: FilePatch): Colours {
  const language = languageOf(file.path);
  const colours = new Map<Line, readonly Run[]>();
  for (const hunk of file.hunks) {
    for (const side of ["removed", "added"] as const) {
      const lines = hunk.lines.filter((line) => line.kind === "context" || line.kind === side);
      const runs =
        language === undefined
          ? lines.map((line) => [{ text: line.text, classes: "" }])
          : highlightLines(lines.map((line) => line.text).join("\n"), language);
      for (const [index, line] of lines.entries()) {
        colours.set(line, runs[index] ?? [{ text: line.text, classes: "" }]);
      }
    }
    for (const [line, range] of changedRanges(hunk)) {
      colours.set(line, mark(colours.get(line) ?? [], range));
    }
  }
  return colours;
}

/** Runs with those in the range marked, cut where the range begins and ends. */
export function mark(runs: readonly Run[], [from, to]: Range): Run[] {
  const marked: Run[] = [];
  let at = 0;
  for (const run of runs) {
    const cuts = [0, from - at, to - at, run.text.length]
      .map((cut) => Math.min(Math.max(cut, 0), run.text.length))
      .sort((a, b) => a - b);
    for (let index = 0; index < 3; index += 1) {
      const [begin, end] = [cuts[index] ?? 0, cuts[index + 1] ?? 0];
      if (begin === end) continue;
      const inside = at + begin >= from && at + end <= to;
      marked.push({
        text: run.text.slice(begin, end),
        classes: inside ? `${run.classes} changed`.trim() : run.classes,
      });
    }
    at += run.text.length;
  }
  return marked;
}
