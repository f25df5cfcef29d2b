// One environment at its current version. It is changed on the command line; its cache is reset and hosts are removed here.
import { useQuery } from "@tanstack/react-query";
import { Link, useParams } from "@tanstack/react-router";
import { asProblem } from "../api/problem";
import { environmentQuery } from "../api/queries";
import type { Environment } from "../api/types";
import { Fact, Facts, Script, Secrets, SetupText, Variables } from "../environments/facts";
import { NetworkView } from "../environments/NetworkView";
import { ResetCache } from "../environments/ResetCache";
import { imageOf, limitRows } from "../environments/words";
import { Age } from "../parts/Age";
import { CopyButton } from "../parts/CopyButton";
import { ProblemNotice } from "../parts/Notice";
import { useTitle } from "../parts/title";
import { NotFound } from "./Lost";

export function EnvironmentPage() {
  const { name } = useParams({ from: "/environments/$name" });
  const environment = useQuery(environmentQuery(name));
  if (environment.error !== null && asProblem(environment.error).status === 404) return <NotFound />;
  if (environment.data !== undefined) return <Whole key={name} environment={environment.data} />;
  if (environment.error === null) return <Skeleton />;
  return <ProblemNotice error={environment.error} retry={() => void environment.refetch()} />;
}

function Whole({ environment }: { readonly environment: Environment }) {
  useTitle(environment.name);
  const { name } = environment;
  return (
    <article aria-labelledby="environment">
      <Head environment={environment} />
      <div className="mt-6 space-y-4">
        <Facts title="What it is made of">
          <Fact term="Repositories">
            {environment.repositories.length === 0 ? (
              "any"
            ) : (
              <ul className="font-mono text-xs leading-6">
                {environment.repositories.map((location) => (
                  <li key={location}>{location}</li>
                ))}
              </ul>
            )}
          </Fact>
          <Fact term="Image">
            <span className={environment.image == null ? "" : "font-mono text-xs"}>
              {imageOf(environment)}
            </span>
          </Fact>
          <Fact term="Setup">
            <SetupText setup={environment.setup} />
          </Fact>
          <Fact term="Maintenance">
            <Script text={environment.maintenance_script} none="nothing, or what the repository says" />
          </Fact>
        </Facts>
        <Facts title="Variables and secrets">
          <Fact term="Variables">
            <Variables variables={environment.variables} />
          </Fact>
          <Fact term="Secrets">
            <Secrets secrets={environment.secrets} />
          </Fact>
        </Facts>
        <NetworkView environment={environment} phase="agent" />
        <NetworkView environment={environment} phase="setup" />
        <Facts title="Limits">
          {limitRows(environment.limits).map(([term, value]) => (
            <Fact key={term} term={term}>
              {value}
            </Fact>
          ))}
        </Facts>
        <ResetCache name={name} lifeSeconds={environment.snapshot_life_s} />
      </div>
    </article>
  );
}

function Head({ environment }: { readonly environment: Environment }) {
  const edit = `carrel environment edit ${environment.name}`;
  return (
    <header>
      <p className="text-sm">
        <Link to="/environments" className="rounded text-muted hover:text-accent">
          ← Environments
        </Link>
      </p>
      <div className="mt-2 flex flex-wrap items-baseline gap-x-4 gap-y-1">
        <h1 id="environment" className="min-w-0 font-serif text-2xl">
          {environment.name}
        </h1>
        <p className="text-sm text-muted" data-testid="version">
          version {environment.version} · <span className="sr-only">made </span>
          <Age at={environment.updated_at} />
        </p>
      </div>
      <div className="mt-3 flex flex-wrap items-center gap-2 text-sm">
        <Link to="/" search={{ environment: environment.name }} className="mr-2 text-accent underline">
          Delegate a task in it
        </Link>
        <span className="text-muted">Change it:</span>
        <code className="rounded-lg bg-sunken px-3 py-1.5 font-mono text-xs">{edit}</code>
        <CopyButton label="Copy" text={edit} />
      </div>
    </header>
  );
}

function Skeleton() {
  return (
    <div role="status" aria-label="Loading the environment">
      <div className="skeleton mt-8 h-8 w-1/3" />
      <div className="skeleton mt-6 h-40" />
      <div className="skeleton mt-4 h-24" />
      <div className="skeleton mt-4 h-40" />
    </div>
  );
}
