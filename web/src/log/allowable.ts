// Which refusals of the network a click can lift: those that say nothing but that the environment does not list the host.
import type { Body } from "./events";

/** A host that a phase of an environment could be allowed. */
export interface Allowable {
  readonly host: string;
  readonly phase: "agent" | "setup";
}

/** Where an environment's own rules count: on other ports it takes an administrator. */
const WEB_PORTS: readonly number[] = [80, 443];

/** What would be allowed, or undefined when allowing the host would not help. */
export function allowableIn(
  body: Extract<Body, { readonly type: "network.decided" }>,
): Allowable | undefined {
  const { host, port, reason } = body;
  if (body.allowed || !WEB_PORTS.includes(port)) return undefined;
  // The event has no field for it. This is the whole sentence of `crates/egress/src/decide.rs`: refusals of methods, ports,
  // addresses and names that do not resolve are worded otherwise. Where the words change, the story of `web/story` fails.
  const [, environment, phase] =
    /^ is not allowed by the environment `([\w.-]+)` \((agent|setup) phase\)$/.exec(after(host, reason)) ??
    [];
  if (environment === undefined) return undefined;
  return { host, phase: phase === "setup" ? "setup" : "agent" };
}

function after(start: string, text: string): string {
  return start !== "" && text.startsWith(start) ? text.slice(start.length) : "";
}
