// Signing in by the one-time owner link: `/sign-in#<secret>`. The secret leaves the address bar before anything is asked.
import { useQueryClient } from "@tanstack/react-query";
import { Link, useNavigate } from "@tanstack/react-router";
import { useEffect, useState } from "react";
import { createSession, meQuery } from "../api/queries";
import { CopyButton } from "../parts/CopyButton";
import { Icon } from "../parts/Icon";
import { ProblemNotice } from "../parts/Notice";
import { useTitle } from "../parts/title";

/** Taken once, when the program starts: a secret is not left in the address bar, and not read twice. */
let secret = takeSecret();

function takeSecret(): string {
  if (window.location.pathname !== "/sign-in") return "";
  const found = window.location.hash.slice(1);
  if (found !== "") window.history.replaceState(window.history.state, "", "/sign-in");
  return found;
}

export function SignIn() {
  useTitle("Sign in");
  const queries = useQueryClient();
  const navigate = useNavigate();
  const [error, setError] = useState<unknown>(null);
  const [link, setLink] = useState(() => secret);

  // A fresh link pasted over this page changes only what is behind `#`: the browser does not load the page again.
  useEffect(() => {
    const read = () => {
      const found = takeSecret();
      if (found === "") return;
      secret = found;
      setError(null);
      setLink(found);
    };
    window.addEventListener("hashchange", read);
    return () => window.removeEventListener("hashchange", read);
  }, []);

  useEffect(() => {
    if (secret === "") return;
    secret = "";
    createSession(link).then(
      async (me) => {
        queries.setQueryData(meQuery.queryKey, me);
        await navigate({ to: "/", replace: true });
      },
      (thrown: unknown) => setError(thrown),
    );
  }, [link, navigate, queries]);

  if (link === "") return <SignInHelp />;
  if (error === null) {
    return (
      <p role="status" className="breathe py-16 text-center text-muted">
        Signing you in…
      </p>
    );
  }
  return (
    <div className="mx-auto max-w-lg space-y-4">
      <ProblemNotice error={error} />
      <SignInHelp />
    </div>
  );
}

/** What to do when one is not signed in. */
export function SignInHelp() {
  return (
    <section aria-labelledby="sign-in" className="card mx-auto max-w-lg p-6 shadow-card">
      <span className="grid size-11 place-items-center rounded-full bg-accent-soft text-xl text-accent">
        <Icon name="key" />
      </span>
      <h1 id="sign-in" className="mt-4 font-serif text-2xl">
        Sign in
      </h1>
      <p className="mt-2 text-muted">
        Carrel signs its owner in by a link that works once. On the machine where it runs, ask for a fresh one
        and open it here:
      </p>
      <div className="mt-4 flex flex-wrap items-center gap-2">
        <code className="flex-1 rounded-lg bg-sunken px-3 py-2 font-mono text-sm">carrel owner-link</code>
        <CopyButton label="Copy" text="carrel owner-link" />
      </div>
      <p className="mt-4 text-sm text-muted">
        Signed in already?{" "}
        <Link to="/" className="text-accent underline">
          Go to your tasks
        </Link>
        .
      </p>
    </section>
  );
}
