// Which refusals of the network a click can lift: those whose way out is to list the host in the environment.
import type { Body } from "./events";

/** A host that a phase of an environment could be allowed. */
export interface Allowable {
  readonly host: string;
  readonly phase: "agent" | "setup";
}

/** Where an environment's own rules count: on other ports it takes an administrator, too. */
const WEB_PORTS: readonly number[] = [80, 443];

/** The command that lists a host; other ways out, such as to other methods, are other commands. */
const LISTS = /^carrel environment edit [\w.-]+ --(setup-)?allow-domain ([\w.-]+)$/;

/** What would be allowed, or undefined when allowing the host would not help. */
export function allowableIn(
  body: Extract<Body, { readonly type: "network.decided" }>,
): Allowable | undefined {
  const { host, port, allowed, wayOut = "" } = body;
  const [, setup, listed] = LISTS.exec(wayOut) ?? [];
  if (allowed || listed === undefined || listed !== host || !WEB_PORTS.includes(port)) return undefined;
  return { host, phase: setup === undefined ? "agent" : "setup" };
}
