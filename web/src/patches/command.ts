// A patch as a command to paste into a shell. The patch is untrusted, and so is what a terminal does with it: text with
// control characters could end a bracketed paste and run, so such a patch goes as base64.

/** The command that applies a patch at the top of the repository one stands in. */
export function applyCommand(patch: string): string {
  const body = patch.endsWith("\n") ? patch : `${patch}\n`;
  const [decode, text] = isPlain(body) ? ["", body] : ["base64 -d | ", encoded(body)];
  const end = delimiterFor(text);
  return `(cd "$(git rev-parse --show-toplevel)" && ${decode}git apply --3way) <<'${end}'\n${text}${end}\n`;
}

/** Whether a terminal takes the text as nothing but text. */
function isPlain(text: string): boolean {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for.
  return !/[\x00-\x08\x0b-\x1f\x7f-\x9f]/.test(text);
}

function encoded(text: string): string {
  let binary = "";
  for (const byte of new TextEncoder().encode(text)) binary += String.fromCharCode(byte);
  return `${btoa(binary).replace(/.{1,76}/g, "$&\n")}`;
}

/** A word that is no line of the text. */
function delimiterFor(text: string): string {
  const lines = new Set(text.split("\n"));
  let word = "CARREL_PATCH";
  for (let number = 2; lines.has(word); number += 1) word = `CARREL_PATCH_${number}`;
  return word;
}
