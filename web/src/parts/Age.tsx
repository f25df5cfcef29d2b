// How long ago, with the whole date for those who ask.
import { ago, useNow } from "./time";

export function Age({ at }: { readonly at: string }) {
  const now = useNow(30_000);
  const date = new Date(at);
  const said = ago(now - date.getTime());
  return (
    <time dateTime={at} title={date.toLocaleString()} className="whitespace-nowrap tabular-nums">
      {said}
      {said !== "now" && <span className="sr-only"> ago</span>}
    </time>
  );
}
