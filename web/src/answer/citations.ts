// Citations in an answer: `【F:path†L1-L9】` for files and `【chunk†L1-L9】` for terminal output, in Codex's syntax.

export interface Citation {
  /** As it stands in the answer: what the service's marks go by. */
  readonly text: string;
  readonly kind: "file" | "output";
  /** The file's path, or the id of the output. */
  readonly source: string;
  readonly from: number | undefined;
  readonly to: number | undefined;
}

export type Piece = string | Citation;

// The service reads them the same way (`crates/domain/src/citation.rs`).
const RANGE = String.raw`[ \t]*(?:[Ll]?(\d{1,9})(?:[ \t]*[-–—‑−][ \t]*[Ll]?(\d{1,9}))?)?[ \t]*`;
const CITATION = new RegExp(
  String.raw`【[ \t]*(F:)?(?!F:)([^†【】\n]{1,1024})†${RANGE}】|【[ \t]*(F:)([^†【】\n]{1,1024})】|\[(F:)([^†[\]\n]{1,1024})†${RANGE}\]`,
  "g",
);

/** Takes text apart at its citations. */
export function splitCitations(text: string): Piece[] {
  const pieces: Piece[] = [];
  let from = 0;
  for (const match of text.matchAll(CITATION)) {
    if (match.index > from) pieces.push(text.slice(from, match.index));
    from = match.index + match[0].length;
    const [citation, file, source, first, last, ofFile, whole, ofPlain, plain, plainFirst, plainLast] = match;
    pieces.push({
      text: citation,
      kind: (file ?? ofFile ?? ofPlain) === undefined ? "output" : "file",
      source: (source ?? whole ?? plain ?? "").trim(),
      from: numberOf(first ?? plainFirst),
      to: numberOf(last ?? plainLast),
    });
  }
  if (from < text.length) pieces.push(text.slice(from));
  return pieces;
}

function numberOf(digits: string | undefined): number | undefined {
  return digits === undefined ? undefined : Number(digits);
}

/** The lines as people write them: `12`, `12–20`, or nothing. */
export function linesOf({ from, to }: Pick<Citation, "from" | "to">): string {
  if (from === undefined) return "";
  return to === undefined || to === from ? String(from) : `${from}–${to}`;
}
