// Lines of a hunk as rows of a table: one column under the other, or side by side.
import type { Hunk, Line } from "./parse";

export interface SplitRow {
  readonly left: Line | undefined;
  readonly right: Line | undefined;
}

/** Pairs removed lines with the added ones that follow them. */
export function splitRows(hunk: Hunk): SplitRow[] {
  const rows: SplitRow[] = [];
  let removed: Line[] = [];
  let added: Line[] = [];
  const flush = () => {
    for (let at = 0; at < Math.max(removed.length, added.length); at += 1) {
      rows.push({ left: removed[at], right: added[at] });
    }
    removed = [];
    added = [];
  };
  for (const line of hunk.lines) {
    if (line.kind === "removed") {
      if (added.length > 0) flush();
      removed.push(line);
    } else if (line.kind === "added") {
      added.push(line);
    } else {
      flush();
      rows.push({ left: line, right: line });
    }
  }
  flush();
  return rows;
}

/** The part of a line that differs from its partner: [from, to) in UTF-16 units. */
export type Range = readonly [number, number];

/** For each changed line with a partner, the middle in which the two differ; lines that share little have none. */
export function changedRanges(hunk: Hunk): ReadonlyMap<Line, Range> {
  const ranges = new Map<Line, Range>();
  for (const { left, right } of splitRows(hunk)) {
    if (left?.kind !== "removed" || right?.kind !== "added") continue;
    const shorter = Math.min(left.text.length, right.text.length);
    let prefix = 0;
    while (prefix < shorter && left.text[prefix] === right.text[prefix]) prefix += 1;
    let suffix = 0;
    while (
      suffix < shorter - prefix &&
      left.text[left.text.length - 1 - suffix] === right.text[right.text.length - 1 - suffix]
    ) {
      suffix += 1;
    }
    const shared = left.text.slice(0, prefix).trim().length + suffix;
    if (shared * 3 < shorter) continue;
    const from = wordStart(left.text, prefix);
    const kept = Math.min(suffixAtWord(left.text, suffix), suffixAtWord(right.text, suffix));
    ranges.set(left, [from, Math.max(from, left.text.length - kept)]);
    ranges.set(right, [from, Math.max(from, right.text.length - kept)]);
  }
  return ranges;
}

const WORD = /[\p{L}\p{N}_]/u;

/** Where the word that holds this place begins: half a word is not marked. */
function wordStart(text: string, at: number): number {
  let from = at;
  while (from > 0 && WORD.test(text[from - 1] ?? "")) from -= 1;
  return from;
}

/** How much of a shared end is left when it does not begin within a word. */
function suffixAtWord(text: string, suffix: number): number {
  let left = suffix;
  while (
    left > 0 &&
    WORD.test(text[text.length - left - 1] ?? "") &&
    WORD.test(text[text.length - left] ?? "")
  ) {
    left -= 1;
  }
  return left;
}
