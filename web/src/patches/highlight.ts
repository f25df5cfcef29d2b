// Syntax colours as runs of text with class names, by highlight.js's grammars. Loaded only when a patch or a block of
// code is on the page. No HTML is made: the runs become text nodes.
import { common, createLowlight } from "lowlight";

export interface Run {
  readonly text: string;
  readonly classes: string;
}

const lowlight = createLowlight(common);

/** Longer text stays plain: colouring it would hold up the page. */
const LONGEST_CHARS = 400_000;

const BY_EXTENSION: Readonly<Record<string, string>> = {
  bash: "bash",
  c: "c",
  cc: "cpp",
  cjs: "javascript",
  cpp: "cpp",
  cs: "csharp",
  css: "css",
  cts: "typescript",
  cxx: "cpp",
  diff: "diff",
  go: "go",
  gql: "graphql",
  graphql: "graphql",
  h: "c",
  hpp: "cpp",
  htm: "xml",
  html: "xml",
  ini: "ini",
  java: "java",
  js: "javascript",
  json: "json",
  jsx: "javascript",
  kt: "kotlin",
  kts: "kotlin",
  less: "less",
  lua: "lua",
  m: "objectivec",
  md: "markdown",
  mjs: "javascript",
  mk: "makefile",
  mts: "typescript",
  patch: "diff",
  php: "php",
  pl: "perl",
  pm: "perl",
  py: "python",
  pyi: "python",
  r: "r",
  rb: "ruby",
  rs: "rust",
  scss: "scss",
  sh: "bash",
  sql: "sql",
  svg: "xml",
  swift: "swift",
  toml: "ini",
  ts: "typescript",
  tsx: "typescript",
  vb: "vbnet",
  vue: "xml",
  wat: "wasm",
  xml: "xml",
  yaml: "yaml",
  yml: "yaml",
  zsh: "bash",
};

/** The grammar for a file's path or a block's info word; undefined when there is none. */
export function languageOf(name: string): string | undefined {
  const file = (name.split("/").at(-1) ?? name).toLowerCase();
  if (file === "makefile" || file === "gnumakefile") return "makefile";
  const extension = file.split(".").at(-1) ?? "";
  const language = Object.hasOwn(BY_EXTENSION, extension) ? BY_EXTENSION[extension] : extension;
  return language !== undefined && lowlight.registered(language) ? language : undefined;
}

/** Colours text and cuts it at its lines. */
export function highlightLines(text: string, language: string): Run[][] {
  if (text.length > LONGEST_CHARS) return text.split("\n").map((line) => [{ text: line, classes: "" }]);
  const lines: Run[][] = [[]];
  const visit = (node: ReturnType<typeof lowlight.highlight>["children"][number], classes: string) => {
    if (node.type === "element") {
      const own = node.properties.className;
      const inner = Array.isArray(own) ? own.join(" ") : "";
      for (const child of node.children) visit(child, inner === "" ? classes : inner);
    } else if (node.type === "text") {
      for (const [index, part] of node.value.split("\n").entries()) {
        if (index > 0) lines.push([]);
        if (part !== "") lines.at(-1)?.push({ text: part, classes });
      }
    }
  };
  for (const child of lowlight.highlight(language, text).children) visit(child, "");
  return lines;
}
