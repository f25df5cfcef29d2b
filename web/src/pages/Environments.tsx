// All environments of the organization.
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { environmentsQuery } from "../api/queries";
import type { Environment } from "../api/types";
import { imageOf, networkSummary, repositoriesOf } from "../environments/words";
import { Age } from "../parts/Age";
import { CopyButton } from "../parts/CopyButton";
import { Empty, ProblemNotice } from "../parts/Notice";
import { useTitle } from "../parts/title";

const CREATE = "carrel environment create NAME";

export function EnvironmentsPage() {
  useTitle("Environments");
  const environments = useQuery(environmentsQuery);
  const items = environments.data?.items;
  return (
    <section aria-labelledby="environments">
      <h1 id="environments" className="font-serif text-2xl">
        Environments
      </h1>
      <p className="mt-1 text-sm text-muted">
        How sandboxes are made ready, and what they may reach and use.
      </p>
      {environments.isPending && <ListSkeleton />}
      {environments.error !== null && (
        <div className="mt-4">
          <ProblemNotice error={environments.error} retry={() => void environments.refetch()} />
        </div>
      )}
      {items?.length === 0 && (
        <Empty icon="terminal" title="There is no environment yet">
          Without one nothing can be delegated. Make one on the command line, as shown below.
        </Empty>
      )}
      {items !== undefined && items.length > 0 && (
        <ul className="card mt-4 divide-y divide-line overflow-hidden">
          {items.map((environment) => (
            <Row key={environment.id} environment={environment} />
          ))}
        </ul>
      )}
      {items !== undefined && (
        <div className="mt-4 flex flex-wrap items-center gap-2 text-sm text-muted">
          <span>Make one:</span>
          <code className="rounded-lg bg-sunken px-3 py-1.5 font-mono text-xs">{CREATE}</code>
          <CopyButton label="Copy" text={CREATE} />
        </div>
      )}
    </section>
  );
}

function Row({ environment }: { readonly environment: Environment }) {
  return (
    <li className="relative px-4 py-2.5 hover:bg-sunken focus-within:bg-sunken">
      <div className="flex flex-wrap items-baseline gap-x-3">
        <Link
          to="/environments/$name"
          params={{ name: environment.name }}
          className="font-medium after:absolute after:inset-0 focus-visible:after:outline-2 focus-visible:after:-outline-offset-2 focus-visible:after:outline-accent focus-visible:outline-none"
        >
          {environment.name}
        </Link>
        <span className="text-xs text-muted">version {environment.version}</span>
        <span className="ml-auto text-xs text-muted">
          <span className="sr-only">changed </span>
          <Age at={environment.updated_at} />
        </span>
      </div>
      <dl className="mt-0.5 flex flex-wrap gap-x-4 text-xs text-muted">
        <Fact term="For">{repositoriesOf(environment)}</Fact>
        <Fact term="Image">{imageOf(environment)}</Fact>
        <Fact term="Agent">{networkSummary(environment.agent_network)}</Fact>
      </dl>
    </li>
  );
}

function Fact({ term, children }: { readonly term: string; readonly children: string }) {
  return (
    <div className="min-w-0">
      <dt className="inline">{term}: </dt>
      <dd className="inline text-ink">{children}</dd>
    </div>
  );
}

function ListSkeleton() {
  return (
    <div role="status" aria-label="Loading environments" className="card mt-4 divide-y divide-line">
      {[0, 1].map((row) => (
        <div key={row} className="space-y-2 px-4 py-3">
          <div className="skeleton h-4 w-32" />
          <div className="skeleton h-3 w-2/3" />
        </div>
      ))}
    </div>
  );
}
