// Plain SGR colours in a command's output, as spans with class names. Every other escape sequence was taken out by the
// service; whatever is left here is dropped, never interpreted.

export interface Span {
  readonly text: string;
  /** Class names; empty for plain text. */
  readonly classes: string;
}

/** What has been switched on so far. */
interface Style {
  bold: boolean;
  dim: boolean;
  italic: boolean;
  underline: boolean;
  inverse: boolean;
  foreground: number | undefined;
  background: number | undefined;
}

const PLAIN: Style = {
  bold: false,
  dim: false,
  italic: false,
  underline: false,
  inverse: false,
  foreground: undefined,
  background: undefined,
};

// biome-ignore lint/suspicious/noControlCharactersInRegex: escape sequences are what is looked for.
const SEQUENCE = /\x1b\[([0-9;:]{0,64})([@-~])|\x1b|\x9b/g;

/** Takes text apart at its colours. */
export function parseAnsi(text: string): Span[] {
  const spans: Span[] = [];
  let style = PLAIN;
  let from = 0;
  const push = (to: number) => {
    if (to > from) spans.push({ text: text.slice(from, to), classes: classesOf(style) });
  };
  for (const match of text.matchAll(SEQUENCE)) {
    push(match.index);
    from = match.index + match[0].length;
    if (match[2] === "m") style = apply(style, match[1] ?? "");
  }
  push(text.length);
  return spans;
}

function apply(style: Style, parameters: string): Style {
  const codes = parameters.split(/[;:]/).map((code) => (code === "" ? 0 : Number(code)));
  const next = { ...style };
  for (let at = 0; at < codes.length; at += 1) {
    const code = codes[at] ?? 0;
    if (code === 38 || code === 48) {
      const colour = codes[at + 1] === 5 ? paletteColour(codes[at + 2]) : undefined;
      if (code === 38) next.foreground = colour;
      else next.background = colour;
      at += codes[at + 1] === 2 ? 4 : 2;
    } else {
      applyCode(next, code);
    }
  }
  return next;
}

function applyCode(style: Style, code: number): void {
  if (code === 0) Object.assign(style, PLAIN);
  else if (code === 1) style.bold = true;
  else if (code === 2) style.dim = true;
  else if (code === 3) style.italic = true;
  else if (code === 4) style.underline = true;
  else if (code === 7) style.inverse = true;
  else if (code === 22) {
    style.bold = false;
    style.dim = false;
  } else if (code === 23) style.italic = false;
  else if (code === 24) style.underline = false;
  else if (code === 27) style.inverse = false;
  else if (code === 39) style.foreground = undefined;
  else if (code === 49) style.background = undefined;
  else if (code >= 30 && code <= 37) style.foreground = code - 30;
  else if (code >= 90 && code <= 97) style.foreground = code - 90 + 8;
  else if (code >= 40 && code <= 47) style.background = code - 40;
  else if (code >= 100 && code <= 107) style.background = code - 100 + 8;
}

/** The nearest of the sixteen named colours; the rest of the palette of 256 would not be legible on both themes. */
function paletteColour(index: number | undefined): number | undefined {
  if (index === undefined || !Number.isInteger(index) || index < 0 || index > 255) return undefined;
  if (index < 16) return index;
  if (index >= 232) return index < 244 ? 8 : 7;
  const [red, green, blue] = [
    Math.floor((index - 16) / 36),
    Math.floor((index - 16) / 6) % 6,
    (index - 16) % 6,
  ];
  const bit = (level: number) => (level >= 3 ? 1 : 0);
  const named = bit(red) + 2 * bit(green) + 4 * bit(blue);
  return named === 0 ? 8 : named;
}

function classesOf(style: Style): string {
  const classes: string[] = [];
  if (style.bold) classes.push("ansi-bold");
  if (style.dim) classes.push("ansi-dim");
  if (style.italic) classes.push("ansi-italic");
  if (style.underline) classes.push("ansi-underline");
  if (style.inverse) classes.push("ansi-inverse");
  if (style.foreground !== undefined) classes.push(`ansi-fg-${style.foreground}`);
  if (style.background !== undefined) classes.push(`ansi-bg-${style.background}`);
  return classes.join(" ");
}
