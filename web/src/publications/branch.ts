// The branch a push goes to, when nobody has named one.

const LONGEST = 48;

/** `carrel/<slug>` of a task's title: lower-case ASCII words joined by dashes, cut between words. */
export function branchFor(title: string): string {
  const words = title
    .normalize("NFKD")
    .replace(/[\u0300-\u036f]/g, "")
    .toLowerCase()
    .split(/[^a-z0-9]+/)
    .filter((word) => word !== "");
  let slug = "";
  for (const word of words) {
    const next = slug === "" ? word.slice(0, LONGEST) : `${slug}-${word}`;
    if (next.length > LONGEST) break;
    slug = next;
  }
  return `carrel/${slug === "" ? "changes" : slug}`;
}
