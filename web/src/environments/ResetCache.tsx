// How long prepared environments are reused, and the button that lets none be.
import { useMutation } from "@tanstack/react-query";
import { asProblem } from "../api/problem";
import { resetCache } from "../api/queries";
import { Button } from "../parts/Button";
import { Fact, Facts } from "./facts";
import { span } from "./words";

interface Props {
  readonly name: string;
  readonly lifeSeconds: number;
}

export function ResetCache({ name, lifeSeconds }: Props) {
  const reset = useMutation({ mutationFn: () => resetCache(name) });
  return (
    <Facts title="Snapshots">
      <Fact term="Reused for">
        {lifeSeconds === 0 ? "no time: each attempt is set up anew" : span(lifeSeconds)}
      </Fact>
      <Fact term="Cache">
        <div className="flex flex-wrap items-center gap-x-3 gap-y-1">
          <Button onClick={() => reset.mutate()} unusable={reset.isPending ? "It is being reset" : undefined}>
            Reset the cache
          </Button>
          <span role="status" className="text-good">
            {reset.data === undefined ? "" : told(reset.data.snapshots)}
          </span>
          {reset.error !== null && (
            <span role="alert" className="text-bad first-letter:uppercase">
              {asProblem(reset.error).message}
            </span>
          )}
        </div>
      </Fact>
    </Facts>
  );
}

function told(snapshots: number): string {
  return snapshots === 0
    ? "There is nothing to reset: no prepared environment is kept."
    : "The next attempt prepares the environment anew.";
}
