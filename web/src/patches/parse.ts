// Reads a git patch: untrusted text, of which only what is shown is understood. What it cannot read it passes over, so a
// strange patch shows too little and never breaks the page.

export type LineKind = "context" | "added" | "removed";

export interface Line {
  readonly kind: LineKind;
  readonly text: string;
  readonly oldNumber: number | undefined;
  readonly newNumber: number | undefined;
  /** Whether the file ends here without a line's end. */
  readonly unterminated: boolean;
}

export interface Hunk {
  /** What git says the hunk is in, such as a function's head. */
  readonly heading: string;
  readonly oldStart: number;
  readonly newStart: number;
  readonly lines: readonly Line[];
}

export interface FilePatch {
  readonly path: string;
  readonly oldPath: string | undefined;
  readonly kind: "added" | "modified" | "deleted" | "renamed";
  readonly binary: boolean;
  /** `644 → 755` and the like, when the mode changes. */
  readonly modeChange: string | undefined;
  readonly additions: number;
  readonly deletions: number;
  readonly hunks: readonly Hunk[];
}

/** Reads a whole patch, file by file. */
export function parsePatch(patch: string): FilePatch[] {
  const lines = patch.split("\n");
  if (lines.at(-1) === "") lines.pop();
  const files: FilePatch[] = [];
  let at = lines.findIndex((line) => line.startsWith("diff --git "));
  while (at >= 0 && at < lines.length) {
    const [file, next] = parseFile(lines, at);
    files.push(file);
    at = next;
  }
  return files;
}

interface Header {
  path: string | undefined;
  oldPath: string | undefined;
  kind: FilePatch["kind"];
  binary: boolean;
  oldMode: string | undefined;
  newMode: string | undefined;
}

function parseFile(lines: readonly string[], start: number): [FilePatch, number] {
  const [oldName, newName] = namesOf(lines[start] ?? "");
  const header: Header = {
    path: newName,
    oldPath: oldName,
    kind: "modified",
    binary: false,
    oldMode: undefined,
    newMode: undefined,
  };
  const hunks: Hunk[] = [];
  let at = start + 1;
  while (at < lines.length && !(lines[at] ?? "").startsWith("diff --git ")) {
    const line = lines[at] ?? "";
    const hunk = HUNK.exec(line);
    if (hunk === null) {
      readHeader(header, line);
      at += 1;
    } else {
      const [parsed, next] = parseHunk(lines, at, hunk);
      hunks.push(parsed);
      at = next;
    }
  }
  return [assemble(header, hunks), at];
}

function assemble(header: Header, hunks: readonly Hunk[]): FilePatch {
  const path = (header.kind === "deleted" ? header.oldPath : header.path) ?? header.oldPath ?? "";
  const count = (kind: LineKind) =>
    hunks.reduce((sum, hunk) => sum + hunk.lines.filter((line) => line.kind === kind).length, 0);
  return {
    path,
    oldPath: header.kind === "renamed" && header.oldPath !== path ? header.oldPath : undefined,
    kind: header.kind,
    binary: header.binary,
    modeChange:
      header.oldMode !== undefined && header.newMode !== undefined
        ? `${header.oldMode.slice(-3)} → ${header.newMode.slice(-3)}`
        : undefined,
    additions: count("added"),
    deletions: count("removed"),
    hunks,
  };
}

function readHeader(header: Header, line: string): void {
  const rest = (prefix: string) => (line.startsWith(prefix) ? line.slice(prefix.length) : undefined);
  if (line.startsWith("new file mode ")) header.kind = "added";
  else if (line.startsWith("deleted file mode ")) header.kind = "deleted";
  else if (line.startsWith("Binary files ") || line === "GIT binary patch") header.binary = true;
  else {
    const from = rest("rename from ") ?? rest("copy from ");
    const to = rest("rename to ") ?? rest("copy to ");
    if (from !== undefined) {
      header.kind = "renamed";
      header.oldPath = unquote(from);
    }
    if (to !== undefined) header.path = unquote(to);
    header.oldMode = rest("old mode ") ?? header.oldMode;
    header.newMode = rest("new mode ") ?? header.newMode;
    const before = rest("--- ");
    const after = rest("+++ ");
    if (before !== undefined) header.oldPath = nameOf(before) ?? header.oldPath;
    if (after !== undefined) header.path = nameOf(after) ?? header.path;
  }
}

const HUNK = /^@@ -(\d{1,9})(?:,(\d{1,9}))? \+(\d{1,9})(?:,(\d{1,9}))? @@ ?(.*)$/;

function parseHunk(lines: readonly string[], start: number, head: RegExpExecArray): [Hunk, number] {
  const oldStart = Number(head[1]);
  const newStart = Number(head[3]);
  let oldLeft = head[2] === undefined ? 1 : Number(head[2]);
  let newLeft = head[4] === undefined ? 1 : Number(head[4]);
  let oldNumber = oldStart;
  let newNumber = newStart;
  const parsed: Line[] = [];
  let at = start + 1;
  // The counts in the head say where the hunk ends: a removed line may itself look like `-- a/file`.
  for (; at < lines.length; at += 1) {
    const line = lines[at] ?? "";
    if (line.startsWith("\\")) {
      const last = parsed.at(-1);
      if (last !== undefined) parsed[parsed.length - 1] = { ...last, unterminated: true };
      continue;
    }
    if (oldLeft <= 0 && newLeft <= 0) break;
    const kind = kindOf(line);
    if (kind === undefined) break;
    parsed.push({
      kind,
      text: line.slice(1).replace(/\r$/, ""),
      oldNumber: kind === "added" ? undefined : oldNumber++,
      newNumber: kind === "removed" ? undefined : newNumber++,
      unterminated: false,
    });
    if (kind !== "added") oldLeft -= 1;
    if (kind !== "removed") newLeft -= 1;
  }
  return [{ heading: head[5] ?? "", oldStart, newStart, lines: parsed }, at];
}

function kindOf(line: string): LineKind | undefined {
  if (line.startsWith("+")) return "added";
  if (line.startsWith("-")) return "removed";
  // Some programs take the space off an empty context line.
  return line.startsWith(" ") || line === "" ? "context" : undefined;
}

/** Both names of a `diff --git` line; the lines that follow it are to be believed more. */
function namesOf(line: string): [string | undefined, string | undefined] {
  const names = line.slice("diff --git ".length);
  if (names.startsWith('"')) {
    const both = /^("(?:[^"\\]|\\.)*") (.+)$/.exec(names);
    return both === null ? [undefined, undefined] : [nameOf(both[1] ?? ""), nameOf(both[2] ?? "")];
  }
  // Without quotes the names may hold spaces: both are the same but for a rename, which has lines of its own.
  const half = (names.length - 1) / 2;
  if (Number.isInteger(half) && names.slice(2, half) === names.slice(half + 3)) {
    return [nameOf(names.slice(0, half)), nameOf(names.slice(half + 1))];
  }
  const cut = names.indexOf(" b/");
  return cut < 0 ? [undefined, undefined] : [nameOf(names.slice(0, cut)), nameOf(names.slice(cut + 1))];
}

/** A name without its `a/` or `b/`; undefined for `/dev/null`. */
function nameOf(shown: string): string | undefined {
  const name = unquote(shown.replace(/\t.*$/, ""));
  return name === "/dev/null" ? undefined : name.replace(/^[ab]\//, "");
}

const ESCAPES: Readonly<Record<string, number>> = { a: 7, b: 8, t: 9, n: 10, v: 11, f: 12, r: 13 };

/** A name as it is, from git's quoting of it: C escapes, and bytes of UTF-8 in octal. */
export function unquote(name: string): string {
  if (!name.startsWith('"') || !name.endsWith('"') || name.length < 2) return name;
  const bytes: number[] = [];
  const encoder = new TextEncoder();
  const inner = name.slice(1, -1);
  for (const match of inner.matchAll(/\\([0-7]{3})|\\(.)|[^\\]+/gs)) {
    if (match[1] !== undefined) bytes.push(Number.parseInt(match[1], 8) & 0xff);
    else if (match[2] !== undefined) bytes.push(ESCAPES[match[2]] ?? match[2].charCodeAt(0));
    else for (const byte of encoder.encode(match[0])) bytes.push(byte);
  }
  return new TextDecoder().decode(new Uint8Array(bytes));
}
