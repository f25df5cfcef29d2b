// What of an answer's markdown may reach the page, and how citations pass through it unharmed. The answer is untrusted.
import type { Element, ElementContent, Root, RootContent } from "hast";
import { defaultSchema, type Options } from "rehype-sanitize";
import { type Citation, splitCitations } from "./citations";

/** Elements and attributes that are kept. No images: they would be fetched from wherever the answer says. */
export const SCHEMA: Options = {
  ...defaultSchema,
  tagNames: (defaultSchema.tagNames ?? []).filter((name) => !["img", "picture", "source"].includes(name)),
  protocols: { href: ["http", "https", "mailto"] },
};

const OPEN = "\uE000";
const CLOSE = "\uE001";
const PLACE = /\uE000(\d+)\uE001/g;

/**
 * Takes citations out before markdown sees them, since a path such as `__init__.py` would become emphasis. Each leaves
 * a placeholder of private characters; those that were in the text already are dropped.
 */
export function setAside(text: string): { markdown: string; citations: readonly Citation[] } {
  const citations: Citation[] = [];
  const pieces = splitCitations(text.replaceAll(OPEN, "").replaceAll(CLOSE, ""));
  const markdown = pieces
    .map((piece) => (typeof piece === "string" ? piece : `${OPEN}${citations.push(piece) - 1}${CLOSE}`))
    .join("");
  return { markdown, citations };
}

/** A rehype plugin that turns each placeholder into `<cite data-citation>`; it runs after the sanitizer. */
export function putBack() {
  return (tree: Root) => visit(tree);
}

function visit(parent: Root | Element): void {
  const children: RootContent[] = [];
  for (const child of parent.children) {
    if (child.type === "text") {
      children.push(...split(child.value));
    } else {
      if (child.type === "element") visit(child);
      children.push(child);
    }
  }
  parent.children = children as ElementContent[];
}

function split(text: string): ElementContent[] {
  const parts: ElementContent[] = [];
  let from = 0;
  for (const match of text.matchAll(PLACE)) {
    if (match.index > from) parts.push({ type: "text", value: text.slice(from, match.index) });
    from = match.index + match[0].length;
    parts.push({ type: "element", tagName: "cite", properties: { dataCitation: match[1] }, children: [] });
  }
  if (from < text.length || parts.length === 0) parts.push({ type: "text", value: text.slice(from) });
  return parts;
}

/** An address a link may go to: one that leaves Carrel, by a protocol that runs nothing. */
export function safeHref(href: string | undefined): string | undefined {
  return href !== undefined && /^(https?:\/\/|mailto:)/i.test(href) ? href : undefined;
}
