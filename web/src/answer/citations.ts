// Citations in an answer: `【F:path†L1-L9】` for files and `【chunk†L1-L9】` for terminal output, in Codex's syntax.

export interface Citation {
  readonly kind: "file" | "output";
  /** The file's path, or the id of the output. */
  readonly source: string;
  readonly from: number | undefined;
  readonly to: number | undefined;
}

export type Piece = string | Citation;

const CITATION = /【(F:)?(?!F:†)([^†【】\n]{1,1024})†(?:L?(\d{1,9})(?:-L?(\d{1,9}))?)?】/g;

/** Takes text apart at its citations. */
export function splitCitations(text: string): Piece[] {
  const pieces: Piece[] = [];
  let from = 0;
  for (const match of text.matchAll(CITATION)) {
    if (match.index > from) pieces.push(text.slice(from, match.index));
    from = match.index + match[0].length;
    pieces.push({
      kind: match[1] === undefined ? "output" : "file",
      source: (match[2] ?? "").trim(),
      from: match[3] === undefined ? undefined : Number(match[3]),
      to: match[4] === undefined ? undefined : Number(match[4]),
    });
  }
  if (from < text.length) pieces.push(text.slice(from));
  return pieces;
}

/** The lines as people write them: `12`, `12–20`, or nothing. */
export function linesOf({ from, to }: Citation): string {
  if (from === undefined) return "";
  return to === undefined || to === from ? String(from) : `${from}–${to}`;
}
