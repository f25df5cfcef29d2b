// What a phase of an environment may reach. Hosts are removed here, one by one.
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useRef } from "react";
import { asProblem } from "../api/problem";
import { editEnvironment, environmentQuery, environmentsQuery } from "../api/queries";
import type { Environment } from "../api/types";
import { Button } from "../parts/Button";
import { Fact, Facts } from "./facts";
import { internetOf, reachOf } from "./words";

type Phase = "agent" | "setup";

interface Props {
  readonly environment: Environment;
  readonly phase: Phase;
}

export function NetworkView({ environment, phase }: Props) {
  const policy = phase === "agent" ? environment.agent_network : environment.setup_network;
  return (
    <Facts title={phase === "agent" ? "What the agent may reach" : "What setup and maintenance may reach"}>
      <Fact term="Internet">{internetOf(policy)}</Fact>
      <Fact term="Requests">{policy.methods === "read" ? "only GET, HEAD and OPTIONS" : "every method"}</Fact>
      <Fact term="Hosts">
        <Hosts environment={environment} phase={phase} domains={policy.domains} />
      </Fact>
    </Facts>
  );
}

function Hosts({ environment, phase, domains }: Props & { readonly domains: readonly string[] }) {
  const list = useRef<HTMLDivElement>(null);
  // The button that was pressed goes with its host: the list takes the focus, and the next press of Tab is its first button.
  const removal = useRemoval(environment.name, phase, () => list.current?.focus());
  const said =
    removal.data === undefined
      ? ""
      : `${removal.variables} is not allowed any more, for new attempts from version ${removal.data.version}.`;
  return (
    // biome-ignore lint/a11y/useSemanticElements: a fieldset is for what is filled in.
    <div ref={list} tabIndex={-1} role="group" aria-label="Hosts" className="outline-none">
      {domains.length === 0 && "none"}
      <ul className="divide-y divide-line">
        {domains.map((domain) => (
          <li key={domain} className="flex items-center gap-x-3 py-1">
            <span className="min-w-0 flex-1">
              <span className="mr-3 font-mono text-xs">{domain}</span>
              <span className="text-xs text-muted">{reachOf(domain)}</span>
            </span>
            <span className="shrink-0">
              <Button
                icon="cross"
                aria-label={`Remove ${domain}`}
                onClick={() => removal.mutate(domain)}
                unusable={removal.isPending ? "One host is being removed" : undefined}
              >
                Remove
              </Button>
            </span>
          </li>
        ))}
      </ul>
      <p role="status" className="text-sm text-good">
        {said}
      </p>
      {removal.error !== null && (
        <p role="alert" className="text-sm text-bad first-letter:uppercase">
          {asProblem(removal.error).message}
        </p>
      )}
    </div>
  );
}

function useRemoval(name: string, phase: Phase, onRemoved: () => void) {
  const queries = useQueryClient();
  return useMutation({
    mutationFn: (domain: string) => {
      const change = { domains_remove: [domain] };
      return editEnvironment(name, phase === "agent" ? { agent_network: change } : { setup_network: change });
    },
    onSuccess: (next) => {
      queries.setQueryData(environmentQuery(name).queryKey, next);
      void queries.invalidateQueries({ queryKey: environmentsQuery.queryKey, exact: true });
      onRemoved();
    },
    onError: () => queries.invalidateQueries({ queryKey: environmentQuery(name).queryKey }),
  });
}
