// Allows a host that was refused, in the next version of the environment. Attempts under way keep the version they have.
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { asProblem } from "../api/problem";
import { allowDomain, editEnvironment, environmentQuery, environmentsQuery } from "../api/queries";
import type { Environment } from "../api/types";
import type { Allowable } from "../log/allowable";
import { Button } from "../parts/Button";
import { allows } from "./words";

interface Props {
  readonly allow: Allowable;
  /** The environment's name. */
  readonly environment: string;
}

export function AllowHost({ allow, environment }: Props) {
  const current = useQuery({ ...environmentQuery(environment), staleTime: 30_000 });
  const change = useAllow(allow, environment);
  const allowed = current.data !== undefined && isAllowed(current.data, allow);
  const gone = asProblem(current.error).status === 404;
  const where = allow.phase === "setup" ? `the setup of ${environment}` : environment;
  const done =
    change.data === undefined
      ? `Allowed for new attempts (version ${current.data?.version})`
      : `Allowed for new attempts from version ${change.data.version}`;
  return (
    <div className="mt-1 flex flex-wrap items-center gap-x-3 gap-y-1 pl-6">
      <Button
        {...(allowed ? { icon: "check" } : {})}
        className="max-w-full text-left whitespace-normal!"
        onClick={() => change.mutate()}
        unusable={whyUnusable(allowed, gone, change.isPending, environment)}
      >
        <span>
          {allowed ? "Allowed" : "Allow"} <span className="font-mono text-xs">{allow.host}</span> in {where}
        </span>
      </Button>
      <span role="status" className="text-sm text-good">
        {allowed ? done : ""}
      </span>
      {change.error !== null && (
        <span role="alert" className="text-sm text-bad first-letter:uppercase">
          {asProblem(change.error).message}
        </span>
      )}
    </div>
  );
}

function isAllowed(environment: Environment, { phase, host }: Allowable): boolean {
  return allows(phase === "setup" ? environment.setup_network : environment.agent_network, host);
}

function useAllow({ phase, host }: Allowable, environment: string) {
  const queries = useQueryClient();
  return useMutation({
    mutationFn: () =>
      phase === "setup"
        ? editEnvironment(environment, { setup_network: { domains_add: [host] } })
        : allowDomain(environment, host),
    onSuccess: (next) => {
      queries.setQueryData(environmentQuery(environment).queryKey, next);
      void queries.invalidateQueries({ queryKey: environmentsQuery.queryKey, exact: true });
    },
    onError: () => queries.invalidateQueries({ queryKey: environmentQuery(environment).queryKey }),
  });
}

function whyUnusable(
  allowed: boolean,
  gone: boolean,
  pending: boolean,
  environment: string,
): string | undefined {
  if (allowed) return "It is allowed already";
  if (gone) return `There is no environment ${environment} any more`;
  return pending ? "It is being allowed" : undefined;
}
