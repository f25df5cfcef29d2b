// What came of checking an answer's citations, in words.
import type { Citations } from "../api/types";

/** How many hold, do not hold, and were not checked; nothing when there is no citation. */
export function countsOf({ holding, failing, unchecked }: Citations): string | undefined {
  const told = [
    holding > 0 ? `${holding} ${holding === 1 ? "holds" : "hold"}` : "",
    failing.length > 0 ? `${failing.length} ${failing.length === 1 ? "does" : "do"} not hold` : "",
    unchecked > 0 ? `${unchecked} not checked` : "",
  ].filter((part) => part !== "");
  return told.length === 0
    ? undefined
    : `Citations checked against the files and recorded output: ${told.join(", ")}`;
}
