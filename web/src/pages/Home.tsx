// The first page: delegate something new, and see how everything else is going.
import { useSuspenseQuery } from "@tanstack/react-query";
import { useSearch } from "@tanstack/react-router";
import { meQuery } from "../api/queries";
import { useTitle } from "../parts/title";
import { Composer } from "../tasks/Composer";
import { TaskList } from "../tasks/TaskList";

export function Home() {
  useTitle("");
  const prefill = useSearch({ from: "/" });
  const me = useSuspenseQuery(meQuery).data;
  // Whoever has just been signed out is shown the way in by the frame.
  if (me === null) return null;
  return (
    <>
      <h1 className="sr-only">Carrel</h1>
      {/* Another deep link is another draft. */}
      <Composer key={JSON.stringify(prefill)} me={me} prefill={prefill} />
      <TaskList />
    </>
  );
}
