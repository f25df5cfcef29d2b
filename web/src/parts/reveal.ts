// Characters that hide or reorder what is read: in untrusted code they make a line look like another ("Trojan Source",
// CVE-2021-42574), so they are shown by their number.

/** Bidirectional controls, zero-width characters, and other controls; a joiner inside an emoji is left alone. */
const HIDDEN =
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for.
  /[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200c\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff]|(?<!\p{Extended_Pictographic}|\p{Emoji_Modifier}|\ufe0f)\u200d/gu;

export interface Piece {
  readonly text: string;
  /** Whether it stands for a character that could not be seen. */
  readonly hidden: boolean;
}

/** Takes text apart at its hidden characters, each replaced by its number, such as `U+202E`. */
export function reveal(text: string): Piece[] {
  const pieces: Piece[] = [];
  let from = 0;
  for (const match of text.matchAll(HIDDEN)) {
    if (match.index > from) pieces.push({ text: text.slice(from, match.index), hidden: false });
    from = match.index + match[0].length;
    const number = match[0].charCodeAt(0).toString(16).toUpperCase().padStart(4, "0");
    pieces.push({ text: `U+${number}`, hidden: true });
  }
  if (from < text.length) pieces.push({ text: text.slice(from), hidden: false });
  return pieces;
}
