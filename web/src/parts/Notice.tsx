// Something a person should read: a problem with its way out, or a state with nothing in it.
import type { ReactNode } from "react";
import { asProblem } from "../api/problem";
import { Button } from "./Button";
import { Icon, type IconName } from "./Icon";

export function ProblemNotice({ error, retry }: { readonly error: unknown; readonly retry?: () => void }) {
  const problem = asProblem(error);
  return (
    <div role="alert" className="rounded-lg border border-bad/40 bg-bad-soft px-3 py-2.5 text-sm">
      <div className="flex gap-2">
        <Icon name="warning" className="mt-0.5 text-bad" />
        <div className="min-w-0 flex-1">
          <p className="font-medium first-letter:uppercase">{problem.title}</p>
          {problem.detail !== "" && (
            <p className="mt-0.5 whitespace-pre-wrap first-letter:uppercase">{problem.detail}</p>
          )}
        </div>
        {retry !== undefined && <Button onClick={retry}>Try again</Button>}
      </div>
    </div>
  );
}

interface EmptyProps {
  readonly icon: IconName;
  readonly title: string;
  readonly children: ReactNode;
}

export function Empty({ icon, title, children }: EmptyProps) {
  return (
    <div className="flex flex-col items-center px-4 py-10 text-center">
      <span className="grid size-11 place-items-center rounded-full bg-accent-soft text-xl text-accent">
        <Icon name={icon} />
      </span>
      <p className="mt-3 font-medium">{title}</p>
      <div className="mt-1 max-w-md text-sm text-muted">{children}</div>
    </div>
  );
}
