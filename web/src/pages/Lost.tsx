// Where nothing is, and where something broke.
import { type ErrorComponentProps, Link } from "@tanstack/react-router";
import { asProblem } from "../api/problem";
import { Button } from "../parts/Button";
import { useTitle } from "../parts/title";

export function NotFound() {
  useTitle("Not found");
  return (
    <section className="py-16 text-center">
      <h1 className="font-serif text-3xl">There is nothing here</h1>
      <p className="mt-2 text-muted">The address may be mistyped, or what it named is gone.</p>
      <p className="mt-6">
        <Link to="/" className="text-accent underline">
          Go to your tasks
        </Link>
      </p>
    </section>
  );
}

export function Broken({ error, reset }: ErrorComponentProps) {
  useTitle("Something broke");
  const problem = asProblem(error);
  return (
    <section role="alert" className="mx-auto max-w-xl py-12">
      <h1 className="font-serif text-3xl">This page broke</h1>
      <p className="mt-2 text-muted">
        Your tasks are not affected: they go on without this page. Try again; if it breaks again, this is what
        to report:
      </p>
      <pre className="mt-4 rounded-lg bg-sunken p-3 font-mono text-sm whitespace-pre-wrap">
        {problem.message}
      </pre>
      <div className="mt-4 flex gap-2">
        <Button look="primary" onClick={reset}>
          Try again
        </Button>
        <Button onClick={() => window.location.reload()}>Load the page again</Button>
      </div>
    </section>
  );
}
