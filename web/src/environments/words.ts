// Environments in words for people, and which hosts a network policy allows by name.
import type { Environment, Limits, NetworkPolicy } from "../api/types";

/** Whether the policy allows the host by its own rules. What a preset allows beside them only the service knows. */
export function allows(policy: NetworkPolicy, host: string): boolean {
  return policy.internet === "all" || policy.domains.some((rule) => matches(rule, host));
}

function matches(rule: string, host: string): boolean {
  if (rule.startsWith("*.")) return host.endsWith(rule.slice(1));
  if (rule.startsWith(".")) return host === rule.slice(1) || host.endsWith(rule);
  return host === rule;
}

/** What a rule is about. */
export function reachOf(rule: string): string {
  if (rule.startsWith("*.")) return "hosts below it";
  return rule.startsWith(".") ? "and hosts below it" : "this host alone";
}

const INTERNET: Readonly<Record<NetworkPolicy["internet"], string>> = {
  off: "No internet",
  packages: "Package managers",
  common: "Package managers and common dependencies",
  all: "Everything public",
};

export function internetOf(policy: NetworkPolicy): string {
  return INTERNET[policy.internet];
}

/** The agent's network in a few words. */
export function networkSummary(policy: NetworkPolicy): string {
  const base = INTERNET[policy.internet].toLowerCase();
  const hosts = policy.domains.length;
  if (hosts === 0) return base;
  return `${base} ${policy.internet === "off" ? "but" : "and"} ${hosts} ${hosts === 1 ? "host" : "hosts"}`;
}

export function imageOf(environment: Environment): string {
  return environment.image ?? "as the repository says, or the host";
}

export function repositoriesOf(environment: Environment): string {
  const [first, ...rest] = environment.repositories;
  if (first === undefined) return "any repository";
  return rest.length === 0 ? first : `${first} and ${rest.length} more`;
}

/** The limits, each with its name. */
export function limitRows(limits: Limits): readonly (readonly [string, string])[] {
  const or = (value: number, words: string, none: string) => (value === 0 ? none : words);
  return [
    ["Processors", or(limits.cpu_millis, `${limits.cpu_millis / 1000}`, "no limit, shared evenly")],
    ["Memory", or(limits.memory_bytes, size(limits.memory_bytes), "no limit")],
    ["Disk", or(limits.disk_bytes, size(limits.disk_bytes), "no limit")],
    ["Processes", limits.processes.toLocaleString("en")],
    ["Attempt", or(limits.wall_clock_s, span(limits.wall_clock_s), "as long as the installation allows")],
    ["Setup", span(limits.setup_s)],
    ["Output of a command", size(limits.output_bytes)],
  ];
}

/** `4 GiB`, `1,536 MiB`, `1,000 bytes`: a size in the largest unit that leaves nothing over. */
export function size(bytes: number): string {
  const units = ["TiB", "GiB", "MiB", "KiB"];
  const fits = units.findIndex((_, index) => bytes > 0 && bytes % 1024 ** (units.length - index) === 0);
  if (fits < 0) return `${bytes.toLocaleString("en")} bytes`;
  return `${(bytes / 1024 ** (units.length - fits)).toLocaleString("en")} ${units[fits]}`;
}

/** `12 h`, `90 min`, `61 s`: a span of time in the largest unit that leaves nothing over. */
export function span(seconds: number): string {
  if (seconds > 0 && seconds % 3600 === 0) return `${seconds / 3600} h`;
  if (seconds > 0 && seconds % 60 === 0) return `${seconds / 60} min`;
  return `${seconds} s`;
}
