// The frame around every page: skip link, header, main landmark; and the gate for those who are not signed in.
import { useMutation, useQuery } from "@tanstack/react-query";
import { Link, Outlet, useRouterState } from "@tanstack/react-router";
import { useEffect, useRef } from "react";
import { asProblem } from "../api/problem";
import { endSession, meQuery } from "../api/queries";
import type { Me } from "../api/types";
import { SignInHelp } from "../pages/SignIn";
import { Button } from "./Button";
import { ProblemNotice } from "./Notice";

export function Shell() {
  const path = useRouterState({ select: (state) => state.location.pathname });
  const signingIn = path === "/sign-in";
  const me = useQuery({ ...meQuery, enabled: !signingIn, retry: retryPassing });
  return (
    <>
      <a
        href="#main"
        className="fixed top-2 left-2 z-50 -translate-y-20 rounded-lg bg-accent px-3 py-2 text-on-accent focus:translate-y-0"
      >
        Skip to the content
      </a>
      <Header me={signingIn ? undefined : (me.data ?? undefined)} />
      <Main path={path}>
        {signingIn || me.data != null ? (
          <Outlet />
        ) : (
          <Gate signedOut={me.data === null} error={me.error} retry={() => me.refetch()} />
        )}
      </Main>
    </>
  );
}

/** Tries again what may pass, three times; a refusal is final. */
export function retryPassing(count: number, error: unknown): boolean {
  return count < 3 && asProblem(error).passing;
}

function Header({ me }: { readonly me: Me | undefined }) {
  return (
    <header className="border-b border-line">
      <div className="mx-auto flex h-14 max-w-5xl items-center gap-3 px-4">
        <Link to="/" className="flex items-center gap-2.5 rounded font-serif text-xl tracking-tight">
          <img src="/icon.svg" alt="" width="26" height="26" />
          Carrel
        </Link>
        {me !== undefined && (
          <nav aria-label="Main">
            <Link
              to="/environments"
              className="rounded px-1 py-2 text-sm hover:text-accent sm:ml-2"
              activeProps={{ className: "text-ink underline underline-offset-4" }}
              inactiveProps={{ className: "text-muted" }}
            >
              Environments
            </Link>
          </nav>
        )}
        {me !== undefined && (
          <div className="ml-auto flex min-w-0 items-center gap-3 text-sm text-muted">
            <span className="hidden truncate sm:block" title="What tasks get that name no model of their own">
              {me.model == null ? (
                "No model"
              ) : (
                <>
                  Model <span className="font-mono text-xs text-ink">{me.model.name}</span>
                </>
              )}
            </span>
            <SignOut name={me.user.name} />
          </div>
        )}
      </div>
    </header>
  );
}

function SignOut({ name }: { readonly name: string }) {
  const leave = useMutation({ mutationFn: endSession, onSuccess: () => window.location.assign("/") });
  return (
    <>
      {leave.error !== null && (
        <span role="alert" className="text-bad">
          {asProblem(leave.error).title}
        </span>
      )}
      <Button
        onClick={() => leave.mutate()}
        title={`Signed in as ${name}`}
        unusable={leave.isPending ? "You are being signed out" : undefined}
      >
        Sign out
      </Button>
    </>
  );
}

/** The main landmark; it takes the focus when the page changes, so that a screen reader begins there. */
function Main({ path, children }: { readonly path: string; readonly children: React.ReactNode }) {
  const main = useRef<HTMLElement>(null);
  const last = useRef(path);
  useEffect(() => {
    if (last.current !== path) {
      last.current = path;
      main.current?.focus({ preventScroll: true });
    }
  }, [path]);
  return (
    <main id="main" ref={main} tabIndex={-1} className="mx-auto max-w-5xl px-4 pt-6 pb-16 outline-none">
      {children}
    </main>
  );
}

interface GateProps {
  readonly signedOut: boolean;
  readonly error: unknown;
  readonly retry: () => void;
}

function Gate({ signedOut, error, retry }: GateProps) {
  if (signedOut) return <SignInHelp />;
  if (error === null) {
    return (
      <div role="status" aria-label="Loading" className="space-y-3">
        <div className="skeleton h-44" />
        <div className="skeleton h-10" />
        <div className="skeleton h-10" />
      </div>
    );
  }
  return <ProblemNotice error={error} retry={retry} />;
}
