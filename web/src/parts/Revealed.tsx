// Untrusted text with its hidden characters shown.
import { reveal } from "./reveal";

export function Revealed({ text }: { readonly text: string }) {
  return reveal(text).map((piece, index) =>
    piece.hidden ? (
      <span
        // biome-ignore lint/suspicious/noArrayIndexKey: pieces have no name but their place.
        key={index}
        title="a character that cannot be seen"
        className="mx-px rounded bg-bad-soft px-1 text-[0.85em] text-bad"
      >
        {piece.text}
      </span>
    ) : (
      piece.text
    ),
  );
}
