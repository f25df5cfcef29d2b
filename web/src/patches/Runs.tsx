// Coloured text: runs with class names as text nodes and spans.
import { Revealed } from "../parts/Revealed";
import type { Run } from "./highlight";

export function Runs({ runs }: { readonly runs: readonly Run[] }) {
  return runs.map((run, index) =>
    run.classes === "" ? (
      // biome-ignore lint/suspicious/noArrayIndexKey: runs have no name but their place.
      <Revealed key={index} text={run.text} />
    ) : (
      // biome-ignore lint/suspicious/noArrayIndexKey: runs have no name but their place.
      <span key={index} className={run.classes}>
        <Revealed text={run.text} />
      </span>
    ),
  );
}
